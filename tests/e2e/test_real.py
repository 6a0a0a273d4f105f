"""The main job on real weights and data, cut to minutes; needs the embedded assets (a package mirror or a cache)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ilm_lightning.chat import open_chat

pytestmark = pytest.mark.slow


def test_main_job_on_real_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ilm_lightning.train", "experiment=ilm_qformer_vg_lora", "budget=tiny", "run=real"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "outputs" / "real"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n_tasks"] == 24
    assert metrics["protocol"]["language_model"] == "SmolLM2-135M-Instruct, dequantised from Q4_1"
    assert "GroupLens" in (run / "model" / "README.md").read_text()
    report = json.loads(next(tmp_path.glob("artifacts/prepare/*/manifest.json")).read_text())["report"]
    assert sum(report["split"].values()) == 3496
    chat = open_chat(run, max_new_tokens=8)
    assert chat.prompt("Pitch [Heat (1995)].")[0] == "Pitch {item}."
    assert isinstance(chat.answer("Pitch [Heat (1995)]."), str)
