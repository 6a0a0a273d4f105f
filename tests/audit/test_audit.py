"""An audit that could not look says so, and is none that passed."""

import os
import subprocess
import sys
from typing import Any

import pytest

from audit import run

FINE: dict[str, Any] = {"name": "numpy", "version": "2.4", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0+cpu)"}
BAD = {"name": "polars", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2.0"]}, {"id": "CVE-2"}]}


def test_all_fine_but_one_that_is_not_known() -> None:
    status, lines = run.verdict({"dependencies": [FINE, UNKNOWN]})
    assert (status, lines) == (0, ["not looked up: torch", "audit: 1 of 2 packages looked up, fine"])


def test_a_vulnerable_package() -> None:
    status, lines = run.verdict({"dependencies": [FINE, BAD]})
    assert status == 1
    assert lines[:2] == [
        "VULNERABLE polars 1.0: CVE-1, mended in 1.1, 2.0",
        "VULNERABLE polars 1.0: CVE-2, not mended yet",
    ]


@pytest.mark.parametrize("packages", [[UNKNOWN], []])
def test_nothing_looked_up_is_no_pass(packages: list[Any]) -> None:
    status, lines = run.verdict({"dependencies": packages})
    assert status == 2
    assert lines[0].startswith("audit NOT RUN: none of")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import sys; print('ERROR: cannot reach pypi.org', file=sys.stderr); sys.exit(1)", "cannot reach pypi.org"),
        ("pass", "said nothing"),
        ("print('{}')", "said nothing"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_an_audit_that_fails(
    script: str, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "COMMAND", [sys.executable, "-S", "-c", script])
    if "sleep" in script:
        monkeypatch.setattr(run, "LIMIT_S", 0.2)
    with caplog.at_level("INFO"):
        assert run.main() == 2
    assert "audit NOT RUN" in caplog.text
    assert says in caplog.text


def test_the_slow_checks_run_the_audit_last_and_fail_with_it(tmp_path: Any) -> None:
    # a make of the recipe alone, in which every command but the audit succeeds
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\ncase "$1" in *audit*) exit 2;; esac\n')
    python.chmod(0o755)
    for mark in (".dev", ".torch", ".train"):
        (tmp_path / mark).touch()
    root = run.__file__.rsplit("/tests/", 1)[0]
    done = subprocess.run(
        ["make", "-C", root, "-o", f"{tmp_path}/.dev", "test-slow", f"VENV={tmp_path}"],
        capture_output=True, text=True, check=False, env={**os.environ, "MAKEFLAGS": ""},
    )  # fmt: skip
    assert done.returncode != 0
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert ["slow" in calls[0], "tests/properties" in calls[1], "audit" in calls[2]] == [True] * 3
