"""Parquet that would end the process is read first by another process, which may die of it.

A page's header says how many values it holds. polars asks for that much memory before it looks at the page, and where
there is not so much Rust ends the process: no error can be caught. So a file whose bytes nobody has compared with a
checksum is read twice, the first time by a worker that is started once and again after each death.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

_LOCK = threading.Lock()
_workers: dict[int, "subprocess.Popen[str]"] = {}
"""By the process that started it: after a fork the pipes belong to the parent."""
_survived: set[tuple[str, int, int]] = set()


def check_parquet(path: Path) -> None:
    """Find out whether a parquet file can be read without ending this process.

    Args:
        path: a file; one that is merely not parquet passes, its reader says what is wrong with it.

    Raises:
        OSError: reading it kills a process, or the file cannot be looked at.
    """
    stat = path.stat()
    state = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    with _LOCK:
        if state in _survived:
            return
        worker = _worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        answer = ""
        # a worker that dies closes both ends
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(state[0]) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        if not answer:
            stop()
            raise OSError("damaged inside: reading it kills the process")
        _survived.add(state)


def _worker() -> "subprocess.Popen[str]":
    worker = _workers.get(os.getpid())
    if worker is None or worker.poll() is not None:
        # -P: its own folder holds modules with common names; a session of its own: Ctrl-C is for the run
        worker = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        _workers[os.getpid()] = worker
    return worker


@atexit.register
def stop() -> None:
    """End this process's worker, if there is one."""
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        worker.kill()
        worker.communicate()


def _serve() -> None:
    """The worker: read each file named on a line, and answer if that was survived."""
    import polars as pl

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        with contextlib.suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            pl.read_parquet(json.loads(line))
        sys.stdout.write("read\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
