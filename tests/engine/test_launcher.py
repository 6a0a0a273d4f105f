"""Jobs of a sweep with small programs in place of runs: order, shares, failures, ends."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.launcher.jobs import (
    BEFORE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Job,
    as_rows,
    last_line,
    plan,
)
from ilm_lightning.engine.launcher.processes import ProcessTree, stop
from ilm_lightning.engine.launcher.resources import THREADS, Resources, job_environment
from ilm_lightning.engine.launcher.runner import Runner, RunnerSettings, outcome
from ilm_lightning.engine.launcher.sweep import in_group
from ilm_lightning.engine.runs import computed, read_status, run_folder, run_id, store_config, write_status
from warm import run_command

TRAIN = "ilm_lightning.train"

END = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
print("threads", os.environ.get("ILM_THREADS"), "command", os.environ["ILM_COMMAND"])
(folder / "metrics.json").write_text("{}")
(folder / "status.json").write_text(json.dumps({"state": "finished", "objective": 40.5}))
"""
# what a run says at its end, with the digests of its files
END_AS_A_RUN = """
import pathlib, sys
from ilm_lightning.engine.input_files import input_digests
from ilm_lightning.engine.runs import stored_config, write_status
folder = pathlib.Path(sys.argv[1])
(folder / "metrics.json").write_text("{}")
write_status(folder, "finished", objective=40.5, inputs=input_digests(stored_config(folder)))
"""
CRASH = "import sys; print('out of luck'); sys.exit(3)"
VANISH = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
# a job with a child that would go on for a minute, and says its number
FAMILY = """
import os, pathlib, signal, subprocess, sys, time
from ilm_lightning.engine.launcher.processes import end_with_starter
end_with_starter()
# a suite in the background of a shell ignores it, and so would whatever it starts
signal.signal(signal.SIGINT, signal.default_int_handler)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
part = pathlib.Path(sys.argv[1]) / "pids.part"
part.write_text(f"{os.getpid()} {child.pid}")
part.rename(pathlib.Path(sys.argv[1]) / "pids")
child.wait()
"""


def config_of(folder: Path, seed: int) -> Config:
    return replace(composed("name=demo", "trainer.accelerator=cpu"), seed=seed, outputs=str(folder / "outputs"))


def planned(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Job]:
    return plan([(["experiment=demo", f"seed={seed}"], config_of(folder, seed)) for seed in seeds])


def run(jobs: list[Job], programs: dict[int, str], at_once: int = 1) -> list[str]:
    order: list[str] = []

    def command(job: Job) -> list[str]:
        order.append(job.overrides[1])
        assert job.config is not None
        return [sys.executable, "-c", programs.get(job.config.seed, END), str(job.folder)]

    Runner(jobs, RunnerSettings(at_once=at_once, grace_s=5.0), command=command).run()
    return order


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait_for(done: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return done()


def test_a_failed_job_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = planned(tmp_path)
    order = run(jobs, {0: CRASH, 1: VANISH})
    assert order == ["seed=0", "seed=1", "seed=2"]
    assert [job.state for job in jobs] == [FAILED, FAILED, FINISHED]
    assert jobs[0].error == "ended with status 3"
    assert jobs[1].error == "ended by signal 9"
    assert jobs[2].objective == 40.5
    assert "out of luck" in jobs[0].log.read_text()
    # what a killed process could not write itself
    assert read_status(jobs[1].folder) == {"state": "failed", "error": "ended by signal 9"}
    assert outcome(jobs) == "3 jobs: 1 finished, 2 failed"
    rows = as_rows(jobs)
    assert [row["overrides"] for row in rows] == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert rows[2]["command"] == "python -m ilm_lightning.train experiment=demo seed=2"
    assert "command python -m ilm_lightning.train experiment=demo seed=2" in jobs[2].log.read_text()


def test_a_key_on_the_command_line_stays_out_of_the_sweeps_table(tmp_path: Path) -> None:
    typed = ["++teacher.body.api_key=topsecret99", "seed=0"]
    jobs = plan([(typed, config_of(tmp_path, 0)), (["seed=1"], "teacher.body.api_key=topsecret99 is unknown")])
    text = json.dumps(as_rows(jobs))
    assert "topsecret99" not in text
    assert text.count("api_key=***") == 3
    # the process itself is started with what was typed
    assert "topsecret99" in jobs[0].command


def test_a_repeated_sweep_runs_what_is_missing(tmp_path: Path) -> None:
    run(planned(tmp_path), {1: CRASH})
    again = planned(tmp_path)
    assert [job.state for job in again] == [BEFORE, WAITING, BEFORE]
    assert run(again, {}) == ["seed=1"]
    assert [job.objective for job in again] == [40.5] * 3
    everything = plan([(["a", "seed=0"], config_of(tmp_path, 0))], rerun=True)
    assert run(everything, {}) == ["seed=0"]


def test_a_result_without_its_files_is_made_again(tmp_path: Path) -> None:
    first = planned(tmp_path, (0,))
    run(first, {})
    (first[0].folder / "metrics.json").unlink()
    assert planned(tmp_path, (0,))[0].state == WAITING


def reading(folder: Path, what: str) -> tuple[Config, Path]:
    """A run that reads a file of the user's, and that file."""
    config = config_of(folder, 0)
    if what == "tasks.file":
        file = folder / "tasks.yaml"
        file.write_text("tasks:\n  ask:\n    phrasings: ['what about {item}?']\n    target: '{title}'\n")
        return replace(config, tasks=replace(config.tasks, file=str(file))), file
    if what == "data.items":
        files = {name: folder / f"{name}.csv" for name in ("interactions", "items")}
        for file in files.values():
            file.write_text("id\n1\n")
        paths = {name: str(file) for name, file in files.items()}
        return replace(config, data=replace(config.data, kind="custom", **paths)), files["items"]
    if what == "data.path":
        (folder / "raw").mkdir()
        file = folder / "raw" / "ratings.csv"
        file.write_text("1,1,3.5\n")
        return replace(config, data=replace(config.data, path=str(folder / "raw"))), file
    if what == "adapter":
        file = folder / "my_launched_adapter.py"
        file.write_text("from ilm_lightning.adapters import MLPAdapter\nclass Mine(MLPAdapter, kind='launched'): ...\n")
        mine = replace(config.adapter, kind="custom", _target_="my_launched_adapter.Mine")
        return replace(config, adapter=mine), file
    model = folder / "model"
    model.mkdir()
    file = model / "config.json"
    file.write_text("{}")
    if what == "assets":
        return replace(config, assets={"smollm2-135m-instruct": str(model)}), file
    return replace(config, lm=replace(config.lm, name=str(model))), file


# each starts several processes; the others differ in nothing but what is hashed
LONG = [pytest.param(what, marks=pytest.mark.slow) for what in ("data.items", "data.path", "adapter", "lm.name")]


@pytest.mark.parametrize("what", ["tasks.file", "assets", *LONG])
def test_a_finished_run_whose_files_changed_is_run_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    config, file = reading(tmp_path, what)
    configured = [(["experiment=demo", "seed=0"], config)]
    run(plan(configured), {0: END_AS_A_RUN})
    again = plan(configured)
    assert [(job.state, job.objective) for job in again] == [(BEFORE, 40.5)]
    assert again[0].seconds is not None
    # as an editor does: other bytes under the same name
    file.write_text(file.read_text() + "\n")
    assert [job.state for job in plan(configured)] == [WAITING]
    run(plan(configured), {0: END_AS_A_RUN})
    assert [job.state for job in plan(configured)] == [BEFORE]
    # of a run of an older version nobody knows what it has read
    run(plan(configured, rerun=True), {})
    assert [job.state for job in plan(configured)] == [WAITING]
    # where the file is gone the run says so
    file.unlink()
    assert [job.state for job in plan(configured)] == [WAITING]


def test_a_run_keeps_what_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # not above: processes that tests start import this file, and torch with it
    from ilm_lightning.engine import pipeline

    config, file = reading(tmp_path, "tasks.file")

    def stages(*_: object) -> float:
        # too late for this run, which may have read it before
        file.write_text(file.read_text() + "\n")
        return 40.5

    config = replace(config, outputs=str(tmp_path / "outputs"), artifacts=str(tmp_path / "artifacts"))
    monkeypatch.setattr(pipeline, "_stages", lambda *_: 40.5)
    pipeline.run_pipeline(config)
    folder = run_folder(config)
    (folder / "metrics.json").write_text("{}")
    assert set(read_status(folder)["inputs"]) == {"tasks.file"}
    assert [job.state for job in plan([([], config)])] == [BEFORE]
    monkeypatch.setattr(pipeline, "_stages", stages)
    pipeline.run_pipeline(config)
    assert [job.state for job in plan([([], config)])] == [WAITING]


def test_equal_jobs_run_once_and_a_name_holds_one_configuration(tmp_path: Path) -> None:
    named = [config_of(tmp_path, seed) for seed in (0, 0, 1)]
    for config in named:
        config.run = "mine"
    jobs = plan([(["x", f"seed={c.seed}", f"again={i}"], c) for i, c in enumerate(named)])
    assert run(jobs, {}) == ["seed=0"]
    assert [job.state for job in jobs] == [FINISHED, FINISHED, FAILED]
    assert "one folder for several configurations" in jobs[2].error
    later = config_of(tmp_path, 5)
    later.run = "mine"
    assert "holds another configuration" in plan([([], later)])[0].error


def test_a_damaged_configuration_in_a_named_folder_is_a_failed_job(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path, 0), run="mine")
    (store_config(config) / "config.yaml").write_text("a: [1\nb: }")
    jobs = plan([(["seed=0"], config), (["seed=1"], config_of(tmp_path, 1))])
    assert [job.state for job in jobs] == [FAILED, WAITING]
    assert "config.yaml cannot be read" in jobs[0].error


def test_refused_configuration_is_a_failed_job(tmp_path: Path) -> None:
    jobs = plan([(["a=1"], "a=1 is not known"), (["x", "seed=2"], config_of(tmp_path, 2))])
    run(jobs, {})
    assert [job.state for job in jobs] == [FAILED, FINISHED]
    assert jobs[0].error == "a=1 is not known"


def test_a_job_that_cannot_be_started_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = planned(tmp_path, (0, 1))
    jobs[0].log.mkdir(parents=True)
    assert run(jobs, {}) == ["seed=0", "seed=1"]
    assert [job.state for job in jobs] == [FAILED, FINISHED]
    assert "job.log" in jobs[0].error
    assert read_status(jobs[0].folder)["state"] == "failed"


def test_jobs_at_once_share_the_cores(tmp_path: Path) -> None:
    meet = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[1])
(here / "up").touch()
end = time.time() + 10
while len(list(here.parent.glob("*/up"))) < 2 and time.time() < end:
    time.sleep(0.01)
sys.exit(0 if len(list(here.parent.glob("*/up"))) >= 2 else 1)
"""
    jobs = planned(tmp_path, (0, 1))
    # each waits for the other, so both end well only if they ran together
    run(jobs, {0: meet + END, 1: meet + END}, at_once=2)
    # the program exits before it could write its status
    assert [job.error for job in jobs] == ["ended with status 0"] * 2
    environment = Resources(2, (), 8).take(0, TrainerConfig())
    assert environment == {THREADS: "4"}


def test_gpus_are_handed_out_and_taken_back() -> None:
    pool = Resources(3, ("0", "1", "2", "3"), 16)
    two = TrainerConfig(accelerator="gpu", devices=2)
    first, second = pool.take(0, two), pool.take(1, two)
    assert first is not None
    assert second is not None
    assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("0,1", "2,3")
    assert pool.take(2, two) is None
    assert "CUDA_VISIBLE_DEVICES" not in (pool.take(3, TrainerConfig(accelerator="cpu", devices=8)) or {"": ""})
    pool.give_back(3)
    pool.give_back(0)
    third = pool.take(2, two)
    assert third is not None
    assert third["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_job_does_not_inherit_a_place_among_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("ILM_LOG_LEVEL", "DEBUG")
    environment = job_environment({"A": "b"}, "c")
    assert "LOCAL_RANK" not in environment
    assert (environment["A"], environment["ILM_COMMAND"], environment["ILM_LOG_LEVEL"]) == ("b", "c", "DEBUG")


def family(tmp_path: Path) -> tuple[ProcessTree, list[int]]:
    tree = ProcessTree([sys.executable, "-c", FAMILY, str(tmp_path)], tmp_path / "log", dict(os.environ))
    assert wait_for((tmp_path / "pids").exists), (tmp_path / "log").read_text()
    return tree, [int(pid) for pid in (tmp_path / "pids").read_text().split()]


def test_stopping_ends_children_of_children(tmp_path: Path) -> None:
    tree, pids = family(tmp_path)
    assert stop([tree], grace_s=5.0) == []
    assert wait_for(lambda: all(gone(pid) for pid in pids))


def test_a_job_that_ends_leaves_no_child(tmp_path: Path) -> None:
    tree, (leader, child) = family(tmp_path)
    os.kill(leader, signal.SIGKILL)
    assert wait_for(lambda: tree.poll() is not None)
    assert wait_for(lambda: gone(child))


DEAF = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "ready").write_text("")
time.sleep(60)
"""


def test_an_interrupted_sweep_says_whom_it_waits_for_and_what_it_ends_by_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = planned(tmp_path, (0,))

    def end(jobs: Sequence[Job]) -> None:
        if jobs[0].state == RUNNING:
            assert wait_for((job.folder / "ready").exists)
            raise KeyboardInterrupt

    caplog.set_level(logging.INFO, logger="ilm_lightning")
    command = [sys.executable, "-c", DEAF, str(job.folder)]
    runner = Runner([job], RunnerSettings(grace_s=0.3), command=lambda job: command, on_change=end)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    first, *_, last = caplog.messages[1:]
    assert first == "stopping 1 job: waiting up to 0.3s for what they save"
    assert last == f"{job.folder}: ended by force, continues from its last checkpoint"
    assert read_status(job.folder)["state"] == INTERRUPTED


SWEEP = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_launcher import FAMILY, planned
from ilm_lightning.engine.launcher.runner import Runner, RunnerSettings
command = lambda job: [sys.executable, "-c", FAMILY, str(job.folder)]
Runner(planned(Path({folder!r}), (0, 1)), RunnerSettings(at_once=2, grace_s=2.0), command=command).run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_sweep_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    code = SWEEP.format(tests=[str(folder) for folder in Path(__file__).parents[:2]], folder=str(tmp_path))
    sweep = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    folders = [job.folder for job in planned(tmp_path, (0, 1))]
    assert wait_for(lambda: all((folder / "pids").is_file() for folder in folders))
    pids = [int(pid) for folder in folders for pid in (folder / "pids").read_text().split()]
    assert not any(gone(pid) for pid in pids)
    sweep.send_signal(number)
    assert sweep.wait(60) != 0
    assert wait_for(lambda: all(gone(pid) for pid in pids))
    if number != signal.SIGKILL:
        assert [read_status(folder)["state"] for folder in folders] == [INTERRUPTED] * 2


def test_multirun_starts_processes_and_tells_every_refused_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ProcessLauncher" in run_command(TRAIN, "--cfg", "hydra", "-p", "hydra.launcher", cwd=tmp_path).stdout
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    done = run_command(TRAIN, "-m", "experiment=ilm_mlp", "adapter.num_queries=0,-1", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: adapter.num_queries=0: adapter.num_queries=0 must be above 0" in done.stderr
    assert "2 of 2 jobs failed; none of them could start" in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr
    # nothing else, such as Hydra's own copy with keys as they were typed
    (kept,) = (tmp_path / "outputs").iterdir()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [row["state"] for row in json.loads(kept.read_text())] == ["failed", "failed"]
    # what the launcher itself stumbles on is told in one line, too
    kept.unlink()
    (kept / "in the way").mkdir(parents=True)
    stuck = run_command(TRAIN, "-m", "experiment=ilm_mlp", "adapter.num_queries=0,-1", cwd=tmp_path)
    assert stuck.returncode == 1
    assert "Traceback" not in stuck.stderr
    assert re.search(rf"^error: .*{kept.name}", stuck.stderr, flags=re.M), stuck.stderr


@pytest.mark.parametrize(("chosen", "group"), [(None, "sweep-01234567"), ("table3", "table3-01234567")])
def test_the_jobs_of_a_sweep_are_one_group(chosen: str | None, group: str, tmp_path: Path) -> None:
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    master = OmegaConf.create({"hydra": {"runtime": {"choices": {"sweep": chosen}}, "sweeper": sweeper}})
    config = config_of(tmp_path, 0)
    found = in_group(config, master, "sweep-01234567")
    assert isinstance(found, Config)
    assert found.logger.group == group
    # the folder and what is computed stay the same
    assert (run_id(found), computed(found)) == (run_id(config), computed(config))
    mine = replace(config, logger=replace(config.logger, group="mine"))
    assert in_group(mine, master, "sweep-01234567") is mine
    assert in_group("refused", master, "sweep-01234567") == "refused"


def test_the_trials_of_a_search_are_one_group(tmp_path: Path) -> None:
    def group(batch: str, typed: list[str]) -> str | None:
        hydra = {"runtime": {"choices": {}}, "sweeper": {"_target_": "some.Search"}, "overrides": {"task": typed}}
        found = in_group(config_of(tmp_path, 0), OmegaConf.create({"hydra": hydra}), batch)
        assert isinstance(found, Config)
        return found.logger.group

    typed = ["experiment=ilm_mlp", "tuning.adapter_lr=tag(log,interval(1e-4,1e-2))"]
    first = group("sweep-01234567", typed)
    assert first is not None
    assert first.startswith("search-")
    assert group("sweep-76543210", typed) == first
    assert group("sweep-01234567", typed[:1]) != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=1,2", "outputs=/dev/null/x"], "outputs=/dev/null/x cannot be written"),
        (["outputs=/dev/null/x"], "outputs=/dev/null/x cannot be written"),
        (["artifacts=/dev/null/x"], "artifacts=/dev/null/x cannot be written"),
        (["-m", "seed=1,2", "hydra.launcher.jobs=0"], "hydra.launcher.jobs=0 must be above 0"),
        (["-m", "experiment=ilm_mlp,nope"], "error: experiment=nope: there is no such choice; there are elm, ilm_it"),
        (["-m", "seed=0,", "1"], "error: seed=0, has no value after its comma; write a sweep's without spaces"),
        (["sweep=tabel3"], "error: sweep=tabel3: there is no such choice; did you mean table3"),
        # told once, and before the jobs are composed
        (["-m", "sweep=table3", "trainer.accelerator=gpu"], "error: trainer.accelerator=gpu: no GPU is visible here"),
        (["-m", "sweep=table3", "logger=wandb"], "error: logger=wandb: nobody is logged in"),
        (["-m", "sweep=table3", "adapter.num_queries=0"], "error: all 5 jobs: adapter.num_queries=0 must be above 0"),
        (["-m", "seed=1,abc"], "error: seed must be a whole number, got 'abc'"),
        # options may stand anywhere
        (["experiment=ilm_mlp", "-m", "seed=0,abc", "--config-dir", "."], "error: seed must be a whole number"),
        (["-m", "hydra.launcher.jobz=2", "seed=1,2"], "error: Could not override 'hydra.launcher.jobz'.\nKey 'jobz'"),
        (["trainer.accelerator=cpu", "trainer.devices=4000"], "trainer.devices=4000: each is a process"),
        (["trainer.accelerator=gpu", "trainer.devices=4000"], "no GPU is visible here"),
    ],
)
def test_bad_sweeps_are_refused_at_once(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    # where nobody is logged in
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    done = run_command(TRAIN, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.heavy
    assert not list(tmp_path.rglob("config.yaml"))
    assert done.stderr.count(message) == 1
    # neither Hydra's advice to programmers nor its copy of the sweep
    assert "HYDRA_FULL_ERROR" not in done.stderr
    assert not list(tmp_path.rglob("multirun.yaml"))


def test_a_programmer_gets_the_stack_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in run_command(TRAIN, "seed=abc", cwd=tmp_path).stderr


def test_a_control_that_is_off_leaves_a_runs_name_as_it_was(tmp_path: Path) -> None:
    config = config_of(tmp_path, 0)
    assert "shuffled_pairs" not in computed(config)["pretraining"]
    control = replace(config, pretraining=replace(config.pretraining, shuffled_pairs=True))
    assert computed(control)["pretraining"]["shuffled_pairs"] is True
    assert run_id(control) != run_id(config)


def test_settings_name_the_key() -> None:
    with pytest.raises(ValueError, match=r"hydra.launcher.jobs=0 must be above 0"):
        RunnerSettings(at_once=0)


def test_status_of_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    folder = store_config(config_of(tmp_path, 0))
    write_status(folder, "finished", objective=1.0)
    (folder / "metrics.json").write_text("{}")
    assert planned(tmp_path, (0,))[0].state == BEFORE
    (folder / "status.json").write_text("[1, 2")
    assert planned(tmp_path, (0,))[0].state == WAITING
    assert json.loads((folder / "metrics.json").read_text()) == {}


def test_the_status_line_shows_words_and_no_border(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    assert last_line(log) == ""
    log.write_text("│ adapter │ 12,822,336 │\n└─────────┴────────────┘\n\n")
    assert last_line(log) == "│ adapter │ 12,822,336 │"
    log.write_text("step 1 of 9\rstep 2 of 9")
    assert last_line(log) == "step 2 of 9"


def test_the_last_line_is_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("tune step 3/9\ninterrupted by SIGINT\n")
    before = log.stat().st_size
    assert last_line(log) == "interrupted by SIGINT"
    assert last_line(log, before) == ""
    with log.open("a") as more:
        more.write("tune step 4/9\n")
    assert last_line(log, before) == "tune step 4/9"
