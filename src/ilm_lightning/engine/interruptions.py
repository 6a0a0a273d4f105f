"""Signals that end a run: what each does, and the exit status that tells a launcher whether to start it again.

Outside training a signal ends the run at once. Inside a fit it is only noted: the step in progress is finished and
saved first (`LastCheckpoint`), because everything else that a run makes is kept batch by batch anyway.
"""

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger("ilm_lightning")

EX_TEMPFAIL = 75
"""sysexits.h: a temporary failure, try again; the exit status after SIGUSR1."""
REPEAT_S = 0.5
"""Signals nearer than this are one: wrappers such as ``timeout`` send the same one to the process and to its group."""


def _numbers(*names: str) -> tuple[int, ...]:
    return tuple(number for name in names if (number := getattr(signal, name, None)) is not None)


SIGNALS = _numbers("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
PREEMPTING = _numbers("SIGTERM", "SIGUSR1")
"""Sent by schedulers that need the machine; the others come from the user."""


class StoppedError(KeyboardInterrupt):
    """A signal ended the run.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def state_of(error: BaseException) -> str:
    """What a run's status file calls its end: ``preempted``, ``interrupted`` or ``failed``.

    >>> state_of(StoppedError(signal.SIGTERM)), state_of(KeyboardInterrupt()), state_of(ValueError())
    ('preempted', 'interrupted', 'failed')
    """
    if isinstance(error, StoppedError) and error.number in PREEMPTING:
        return "preempted"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def exit_status(number: int) -> int:
    """Exit status after a signal: 75 after SIGUSR1, else 128 and the signal's number as shells have it.

    >>> exit_status(signal.SIGINT), exit_status(signal.SIGTERM)
    (130, 143)
    """
    return EX_TEMPFAIL if number in _numbers("SIGUSR1") else 128 + number


def leave(error: KeyboardInterrupt) -> int:
    """Say how the run ended.

    Args:
        error: what ended it.

    Returns:
        The exit status.
    """
    number = error.number if isinstance(error, StoppedError) else int(signal.SIGINT)
    name = signal.Signals(number).name
    log.error("%s by %s: what was finished is kept; the same command continues", state_of(error), name)
    return exit_status(number)


@contextmanager
def closed_pipe() -> Iterator[None]:
    """End a command quietly in this block once whoever reads its output has left, as ``head`` does.

    Raises:
        SystemExit: its reader has left; with the status that shells give to a command which SIGPIPE ended.
        BrokenPipeError: another pipe than standard output broke, which is a real error.
    """
    if sys.stdout is None:  # closed before the start
        yield
        return
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()
            raise
        # what is still buffered would fail when the interpreter ends, where nothing can be caught
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_left():
            raise
        # the interpreter flushes once more on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(exit_status(int(signal.SIGPIPE))) from None


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file of the system, as in a notebook
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


class StopSignals:
    """The signals of one process.

    Attributes:
        pending: signal that asks the fit in progress to save and leave; None without.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._waiting = False
        self._hurried = False
        self._last = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def install(self) -> None:
        """Set the handlers.

        SIGINT is taken even where it was ignored, as in what a script starts with ``&``; a process started with nohup
        goes on ignoring SIGHUP. Lightning sets its own SIGTERM handler, which ends a fit with status 0 and without a
        checkpoint, so a fit sets ours again.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number in _numbers("SIGHUP") and before == signal.SIG_IGN:
                continue
            self._before.setdefault(number, before)
            signal.signal(number, self._handle)

    def install_again(self) -> None:
        """Set the handlers over those that somebody else has set since; nothing without `install` before."""
        if self._before:
            self.install()

    def restore(self) -> None:
        """Set the handlers as they were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def saving_first(self) -> Iterator[None]:
        """Only note signals in this block, which looks at `pending` at its own pace."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    @property
    def idle(self) -> bool:
        """Whether no signal came and none would be kept for a fit: the next one ends what is being done."""
        return self.pending is None and not self._waiting

    def check(self) -> None:
        """Leave if a signal was noted.

        Raises:
            StoppedError: one was.
        """
        if self.pending is not None:
            raise StoppedError(self.pending)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        repeated = now - self._last < REPEAT_S
        self._last = now
        if self.pending is None:
            self.pending = number
            if self._waiting:
                told = "finishes this step, and the validation where one is due, and saves; Ctrl-C leaves at once"
                log.warning("%s: %s", signal.Signals(number).name, told)
                return
            raise StoppedError(number)
        if repeated:
            return
        if not self._waiting or self._hurried:
            # on its way out already, or stuck there: nothing that is kept is written in place
            os._exit(exit_status(number))
        if number == signal.SIGINT:
            self._hurried = True
            self.pending = number
            raise StoppedError(number)


_active: list[StopSignals] = []


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Handle signals in a ``with`` block; those of an enclosing one are handled by it."""
    if _active:
        yield _active[-1]
        return
    signals = StopSignals()
    signals.install()
    _active.append(signals)
    try:
        yield signals
    finally:
        _active.remove(signals)
        signals.restore()


def active_signals() -> StopSignals:
    """The signals that this process handles; without handlers, ones that never come."""
    return _active[-1] if _active else StopSignals()
