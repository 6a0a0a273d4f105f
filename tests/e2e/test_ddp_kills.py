"""Runs of two processes from the command line, killed: the end is told, nothing is left running, the same goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch

pytestmark = pytest.mark.faults
JOBS = 4


QUICK = ["evaluation.conditions=[own]", "evaluation.losses=false", "trainer=ddp", "trainer.accelerator=cpu"]
STANDALONE = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(settings: list[str], folder: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable, "-m", "ilm_lightning.train", "-m", "experiment=ilm_mlp,ilm_qformer_random",
        "adapter.num_queries=1,2", *(s for s in settings if not s.startswith("adapter.num_queries")),
        *QUICK, "tuning.steps=4", "tuning.val_every=2", "hydra.launcher.report_s=1",
        f"outputs={folder}/outputs", f"artifacts={folder}/artifacts",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder)


def processes(folder: Path) -> list[str]:
    """Command lines of all processes that name a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def states(folder: Path) -> list[str]:
    (file,) = (folder / "outputs").glob("sweep-*.json")
    return [row["state"] for row in json.loads(file.read_text())]


def wait_until(folder: Path, finished: int, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sweeps = list((folder / "outputs").glob("sweep-*.json"))
        if sweeps and states(folder).count("finished") >= finished and "running" in states(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"no {finished} jobs finished within {seconds} s")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_of_runs_with_two_processes(number: signal.Signals, tiny_settings: list[str], tmp_path: Path) -> None:
    sweep = start(tiny_settings, tmp_path)
    try:
        wait_until(tmp_path, finished=2)
        # into the third run, when both of its processes are there
        end = time.monotonic() + 60
        while sum("engine.job" in line for line in processes(tmp_path)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(sweep.pid, number)
        _, errors = sweep.communicate(timeout=180)
        assert sweep.returncode == (-9 if number == signal.SIGKILL else 130), errors
        end = time.monotonic() + 10
        while processes(tmp_path) and time.monotonic() < end:
            time.sleep(0.1)
        assert processes(tmp_path) == []
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").glob("*/metrics.json")}
        assert len(done) == 2
        again = start(tiny_settings, tmp_path)
        _, errors = again.communicate(timeout=900)
        assert again.returncode == 0, errors
    finally:
        sweep.kill()
    assert processes(tmp_path) == []
    assert sorted(states(tmp_path)) == ["finished", "finished", "finished before", "finished before"]
    folders = [path.parent for path in (tmp_path / "outputs").glob("*/metrics.json")]
    assert len(folders) == JOBS
    for folder in folders:
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
        own = pl.read_parquet(folder / "predictions.parquet")
        assert own["example_id"].n_unique() == len(own)
    # what was finished was not touched again
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    # each artefact once, nothing half made, whatever the runs share
    assert not list((tmp_path / "artifacts").rglob("*.part"))
    assert not list((tmp_path / "artifacts").rglob("*.damaged-*"))
    counts = {
        stage.name: len([p for p in stage.iterdir() if p.is_dir()]) for stage in (tmp_path / "artifacts").iterdir()
    }
    assert counts["prepare"] == counts["embed"] == counts["tasks"] == 1
    assert counts["tune"] == counts["evaluate"] == JOBS


def start_run(settings: list[str], folder: Path, with_torchrun: bool) -> "subprocess.Popen[str]":
    starter = STANDALONE if with_torchrun else []
    command = [
        sys.executable, *starter, "-m", "ilm_lightning.train", "experiment=ilm_mlp", *settings, *QUICK,
        "tuning.steps=400", "tuning.val_every=100", "tuning.checkpoint_every_s=0.5", "run=killed",
        f"outputs={folder}/outputs", f"artifacts={folder}/artifacts",
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
    )


def rank_of(pid: int) -> str | None:
    """Number of a running process among those of a run; None for the one that started the others, and for strangers."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((entry[5:].decode() for entry in entries if entry.startswith(b"RANK=")), None)


def numbers(folder: Path) -> dict[str | None, int]:
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and b"torch.distributed.run" not in line:
            found[rank_of(int(place.name))] = int(place.name)
    return found


def wait_for_checkpoint(folder: Path, newer_than: int = 0, seconds: float = 300) -> Path:
    """The last state of phase 2, once it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in folder.glob("artifacts/tune/*.part/checkpoints/tune/last.ckpt"):
            if path.stat().st_mtime_ns > newer_than:
                return path
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint within {seconds} s")


def test_signals_end_all_ranks_with_the_status_of_one_process(tiny_settings: list[str], tmp_path: Path) -> None:
    saved, step = 0, 0
    # Ctrl-C reaches all of a terminal's processes, a scheduler's signal the first, or another one of them
    for target, number, status in (
        ("all", signal.SIGINT, 130), ("first", signal.SIGTERM, 143), ("other", signal.SIGUSR1, 75),
    ):  # fmt: skip
        process = start_run(tiny_settings, tmp_path, with_torchrun=False)
        try:
            last = wait_for_checkpoint(tmp_path, saved)
            if target == "all":
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid if target == "first" else numbers(tmp_path)["1"], number)
            _, errors = process.communicate(timeout=180)
        finally:
            process.kill()
        assert process.returncode == status, errors
        assert errors.count("what was finished is kept") == 1
        assert processes(tmp_path) == []
        state = torch.load(last, weights_only=True)["global_step"]
        assert state > step
        saved, step = last.stat().st_mtime_ns, state
        told = json.loads((tmp_path / "outputs" / "killed" / "status.json").read_text())["state"]
        assert told == ("interrupted" if number == signal.SIGINT else "preempted")


@pytest.mark.parametrize(("starter", "victim"), [("itself", 1), ("itself", 0), ("torchrun", 1), ("torchrun", 0)])
def test_a_killed_rank_ends_the_run_and_the_same_command_finishes_it(
    starter: str, victim: int, tiny_settings: list[str], tmp_path: Path
) -> None:
    process = start_run(tiny_settings, tmp_path, starter == "torchrun")
    try:
        wait_for_checkpoint(tmp_path)
        ranks = numbers(tmp_path)
        # the first rank is the process that started the other, unless torchrun started both
        os.kill(ranks.get(str(victim), process.pid), signal.SIGKILL)
        killed = time.monotonic()
        _, errors = process.communicate(timeout=180)
        while processes(tmp_path) and time.monotonic() < killed + 60:
            time.sleep(0.1)
        assert processes(tmp_path) == []
    finally:
        process.kill()
    assert process.returncode == (-9 if (starter, victim) == ("itself", 0) else 1), errors
    status = json.loads((tmp_path / "outputs" / "killed" / "status.json").read_text())
    if starter == "itself":
        assert status["state"] == "failed"
        cause = "rank 0 of 2 is gone without a word" if victim == 0 else "rank 1 of 2: ended by SIGKILL"
        assert cause in status["error"]
        assert victim == 0 or cause in errors
    else:
        assert "SIGKILL" in errors
        assert f"rank      : {victim}" in errors
    again = start_run(tiny_settings, tmp_path, starter == "torchrun")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "continues from step" in errors
    folder = tmp_path / "outputs" / "killed"
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert pl.read_parquet(folder / "predictions.parquet")["example_id"].is_unique().all()
