"""What a run says at its end can be copied into the shell that started it."""

import sys
from pathlib import Path

import pytest

from ilm_lightning.engine.screen import python_here


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment in the working folder, not activated."""
    binary = tmp_path / "my project" / ".venv" / "bin" / "python"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(binary))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return binary


def test_an_environment_that_is_not_activated_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment.parents[2])
    assert python_here() == ".venv/bin/python"
    monkeypatch.chdir(environment.parents[3])
    assert python_here() == "'my project/.venv/bin/python'"
    monkeypatch.chdir("/")
    assert python_here().endswith(".venv/bin/python'")


def test_of_an_activated_one_python_will_do(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment.parent}:/usr/bin")
    assert python_here() == "python"
