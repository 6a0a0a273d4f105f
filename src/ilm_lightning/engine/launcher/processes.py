"""A command as a process tree: in a session of its own, ended as a whole, and never outliving who started it."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ilm_lightning.engine.interruptions import StoppedError

LIFELINE = "ILM_LIFELINE"
"""Number of a pipe's reading end; it ends when the process that holds the writing end is gone, however it went."""
SIGNALS = tuple(s for name in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None)


class ProcessTree:
    """A running command with all that it starts.

    Args:
        command: program and arguments.
        log: file that its output is added to; None leaves the output where this process's goes.
        environment: of the command.
        own_session: False leaves it in this process's group, so that Ctrl-C on the terminal reaches it.
    """

    def __init__(
        self, command: Sequence[str], log: Path | None, environment: Mapping[str, str], own_session: bool = True
    ) -> None:
        read, self._lifeline = os.pipe()
        output = log.open("ab") if log is not None else None
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                env={**environment, LIFELINE: str(read)},
                pass_fds=(read,),
                start_new_session=own_session,
            )
        finally:
            os.close(read)
            if output is not None:
                output.close()
        self.pid = self._process.pid
        self._own_session = own_session

    def poll(self) -> int | None:
        """Exit status once the command has ended (negative: the signal that ended it); then nothing of it is left."""
        status = self._process.poll()
        if status is not None:
            self.kill()
        return status

    def interrupt(self) -> None:
        """Ask all of it to end, as Ctrl-C does."""
        self._send(signal.SIGINT)

    def kill(self) -> None:
        """End all of it at once."""
        self._send(signal.SIGKILL)
        self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _send(self, number: int) -> None:
        # the group may outlive its first process; a process that has been waited for must not be signalled
        with contextlib.suppress(ProcessLookupError):
            if self._own_session:
                os.killpg(self.pid, number)
            elif self._process.poll() is None:
                self._process.send_signal(number)


def stop(trees: Iterable[ProcessTree], grace_s: float) -> list[ProcessTree]:
    """Interrupt process trees and end by force what is still there after a while.

    Args:
        trees: those to end.
        grace_s: seconds that they have to say goodbye.

    Returns:
        Those that were ended by force.
    """
    left = list(trees)
    try:
        for tree in left:
            tree.interrupt()
        end = time.monotonic() + grace_s
        while left and time.monotonic() < end:
            left = [tree for tree in left if tree.poll() is None]
            time.sleep(0.05)
    finally:
        # also after a second Ctrl-C
        for tree in left:
            tree.kill()
    return left


def end_with_starter(farewell: Callable[[], None] = lambda: None) -> None:
    """Watch the pipe of the process that started this one, and end with it: by SIGKILL to all that was started here.

    Args:
        farewell: called before.
    """
    number = os.environ.pop(LIFELINE, None)
    if number is None:
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(int(number), 1)
        with contextlib.suppress(Exception):
            farewell()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


class signals_as_interrupt:  # noqa: N801 - reads as a statement
    """Turn SIGTERM and SIGHUP into ``KeyboardInterrupt`` in a ``with`` block, and SIGINT even where it was ignored."""

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> None:
        """Set the handlers; a process started with nohup goes on ignoring SIGHUP."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number == signal.SIGINT or before != signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._raise)

    def __exit__(self, *error: object) -> None:
        """Set the handlers as they were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @staticmethod
    def _raise(number: int, frame: FrameType | None) -> None:
        raise StoppedError(number)
