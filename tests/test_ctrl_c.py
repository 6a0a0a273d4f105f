"""Ctrl-C ends every command with one line, also while it is still importing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("assets", "baselines", "chat", "doctor", "embed", "engine.job", "prepare", "queue", "recommend", "train")


def run(tmp_path: Path, error: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # what every command imports first of what is not ours
    for name in ("hydra", "rich"):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_command_says_so_on_one_line(command: str, tmp_path: Path) -> None:
    ended = run(tmp_path, "KeyboardInterrupt", "-m", f"ilm_lightning.{command}")
    # to a shell 130
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "interrupted\n")


def test_other_errors_keep_their_trace(tmp_path: Path) -> None:
    ended = run(tmp_path, "ZeroDivisionError", "-m", "ilm_lightning.doctor")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_a_program_that_uses_the_package_keeps_its_own_way(tmp_path: Path) -> None:
    ended = run(tmp_path, "KeyboardInterrupt", "-c", "import ilm_lightning; raise KeyboardInterrupt")
    assert "Traceback" in ended.stderr
