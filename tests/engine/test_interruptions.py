"""Signals: the handlers in small programs, a fit that saves before it leaves, and whole runs that continue."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ilm_lightning.engine.interruptions import (
    StoppedError,
    StopSignals,
    active_signals,
    closed_pipe,
    exit_status,
    leave,
    state_of,
    stop_signals,
)

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75, signal.SIGHUP: 129}
STATES = {signal.SIGINT: "interrupted", signal.SIGTERM: "preempted", signal.SIGUSR1: "preempted"}

FIT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import EVERY, Tiny, run
from ilm_lightning.engine.interruptions import leave, stop_signals

class Slow(Tiny):
    def training_step(self, batch, batch_idx):
        print("step", self.global_step, flush=True)
        time.sleep({pause})
        return super().training_step(batch, batch_idx)

try:
    with stop_signals():
        run(Path({folder!r}), Slow())
except KeyboardInterrupt as error:
    sys.exit(leave(error))
"""
WAIT = """
import sys, time
from ilm_lightning.engine.interruptions import leave, stop_signals
try:
    with stop_signals():
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            {cleanup}
except KeyboardInterrupt as error:
    sys.exit(leave(error))
"""


def start(code: str, ignored: bool = False) -> "subprocess.Popen[str]":
    # ignored: as a shell without job control starts a command in the background
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: inherited(ignored),  # noqa: PLW1509
    )


def inherited(ignored: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
    # the tests themselves may run under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for_line(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(process.communicate()[1])


def fit_program(folder: Path, pause: float = 0.05) -> str:
    return FIT.format(tests=str(Path(__file__).parent), folder=str(folder), pause=pause)


@pytest.mark.parametrize("number", CODES)
def test_a_stage_that_does_not_train_leaves_at_once(number: signal.Signals) -> None:
    process = start(WAIT.format(cleanup="pass"))
    wait_for_line(process, "ready")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == CODES[number]
    assert f"by {number.name}: what was finished is kept" in errors
    assert "Traceback" not in errors


def test_ctrl_c_counts_where_the_shell_ignored_it() -> None:
    process = start(WAIT.format(cleanup="pass"), ignored=True)
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_second_signal_does_not_wait_for_a_stuck_end() -> None:
    process = start(WAIT.format(cleanup="print('stuck', flush=True); time.sleep(60)"))
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "stuck")
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_fit_finishes_its_step_saves_and_ends_the_same(number: signal.Signals, tmp_path: Path) -> None:
    import torch
    from test_training import STEPS, Tiny, run

    process = start(fit_program(tmp_path / "stopped"))
    wait_for_line(process, "step 5")
    process.send_signal(number)
    left, errors = process.communicate(timeout=60)
    assert process.returncode == CODES[number], errors
    assert f"{number.name}: finishes this step, and the validation where one is due, and saves" in errors
    # on a slow machine the signal may meet the next step
    done = 6 + left.count("step")
    saved = torch.load(tmp_path / "stopped/checkpoints/tiny/last.ckpt", weights_only=True)
    assert saved["global_step"] == done < STEPS
    whole, resumed = run(tmp_path / "whole", Tiny()), run(tmp_path / "stopped", Tiny())
    assert whole[0] == resumed[0]
    assert all(torch.equal(resumed[1][name], tensor) for name, tensor in whole[1].items())
    assert dict(whole[2]) == dict(resumed[2])


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_the_step(tmp_path: Path) -> None:
    process = start(fit_program(tmp_path / "left", pause=30))
    wait_for_line(process, "step 0")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not list(tmp_path.rglob("last.ckpt"))


def test_only_a_fit_has_time_to_save() -> None:
    signals = StopSignals()
    assert signals.idle
    with signals.saving_first():
        assert not signals.idle
    assert signals.idle
    signals.pending = signal.SIGINT
    assert not signals.idle


def test_names_and_codes() -> None:
    assert {number: exit_status(number) for number in CODES} == CODES
    assert {number: state_of(StoppedError(number)) for number in STATES} == STATES
    assert leave(KeyboardInterrupt()) == 130


def test_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in CODES}
    with stop_signals() as outer, stop_signals() as inner:
        assert outer is inner is active_signals()
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in CODES} == before
    active_signals().install_again()
    assert {number: signal.getsignal(number) for number in CODES} == before


@pytest.mark.parametrize(
    "command",
    ["prepare --help", "train --cfg job", "recommend --help", "chat --help", "doctor", "report --help", "assets"],
)
def test_a_command_whose_reader_left_ends_quietly(command: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-m", *f"ilm_lightning.{command}".split()]
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(arguments, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    if command.startswith(("prepare", "train")):
        assert done.returncode == 128 + signal.SIGPIPE


def test_another_broken_pipe_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError, match="worker"), closed_pipe():
        raise BrokenPipeError("a worker is gone")
