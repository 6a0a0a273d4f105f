"""How a run ends when another of its processes is gone and the first one waits where Python runs nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ilm_lightning.engine.runs import read_status

# a first process that hangs in native code, as in waiting for the others; the other one leaves with a status of its own
STUCK = """
import ctypes, sys, threading
from pathlib import Path
from ilm_lightning.engine import distributed
from ilm_lightning.engine.command import setup_logging
from ilm_lightning.engine.interruptions import stop_signals

class Tree:
    def poll(self): return int(sys.argv[2])
    def kill(self): pass

setup_logging()
distributed.GRACE_S, distributed.SIGNALLED_GRACE_S = float(sys.argv[3]), 0.1
others = object.__new__(distributed._Others)
others.place, others._folder = distributed.Place(0, 0, 2, "", 0), Path(sys.argv[1])
others._trees, others._failed, others._done = {1: Tree()}, None, threading.Event()
with stop_signals():
    threading.Thread(target=others._watch, daemon=True).start()
    ctypes.CDLL(None).pause()
"""


def ended(folder: Path, status: int, grace_s: float) -> tuple[int, str]:
    (folder / "rank1.log").write_text("error: no disk\n")
    arguments = [str(folder), str(status), str(grace_s)]
    done = subprocess.run(
        [sys.executable, "-c", STUCK, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs pause()")
@pytest.mark.parametrize(
    ("status", "code", "state", "said"),
    [
        (130, 130, "interrupted", "interrupted by SIGINT: what was finished is kept"),
        (143, 143, "preempted", "preempted by SIGTERM"),
        (75, 75, "preempted", "preempted by SIGUSR1"),
        (1, 1, "failed", "error: rank 1 of 2: no disk"),
        (-signal.SIGKILL, 1, "failed", "error: rank 1 of 2: ended by SIGKILL"),
    ],
)
def test_a_signal_to_all_ends_the_first_process_where_it_waits(
    status: int, code: int, state: str, said: str, tmp_path: Path
) -> None:
    # only what a signal ended may end so soon
    found, told = ended(tmp_path, status, 60.0 if code > 1 else 0.1)
    assert (found, read_status(tmp_path)["state"]) == (code, state)
    assert said in told
    assert "Traceback" not in told
