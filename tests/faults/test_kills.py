"""``kill -9`` at random moments of a whole run: what was done stays, and the end is that of an unbroken run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.faults
KILLS = 6


def start(settings: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "ilm_lightning.train", "experiment=ilm_qformer_vg_lora", *settings,
        "evaluation.conditions=[own,shuffled]", "tuning.steps=12", "tuning.val_every=4",
        "tuning.checkpoint_every_s=0.5",
        f"artifacts={folder}/artifacts", f"outputs={folder}/outputs", "run=killed",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder)


def results(folder: Path) -> tuple[object, dict[str, object]]:
    run = folder / "outputs" / "killed"
    table = pl.read_parquet(run / "predictions.parquet").sort("example_id", "condition", "generated")
    weights = load_file(run / "model" / "model.safetensors")
    metrics = json.loads((run / "metrics.json").read_text())
    return (table.to_dicts(), metrics["all"]), {name: tensor.tolist() for name, tensor in weights.items()}


def test_killed_runs_end_like_the_unbroken_one(tiny_settings: list[str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    begin = time.monotonic()
    first = start(tiny_settings, whole)
    _, errors = first.communicate()
    seconds = time.monotonic() - begin
    assert first.returncode == 0, errors
    draw = random.Random(0)
    killed = 0
    for kill in range(KILLS):
        process = start(tiny_settings, broken)
        try:
            process.communicate(timeout=draw.uniform(0.3, 0.7) * seconds / (1 + 0.2 * kill))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    last = start(tiny_settings, broken)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    assert killed > 0
    assert not list(broken.glob("artifacts/*/*.damaged-*"))
    assert results(broken) == results(whole)
