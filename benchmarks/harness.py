"""Ways of doing the same work, timed in turns within one process.

pytest-benchmark and asv time one function to the end and then the next: on a machine that others use, the ratio of two
ways is then mostly the ratio of two moments. Here every round runs every way once, so that all see the same machine,
and the least of the rounds counts. Process CPU time tells what the work costs, wall time what a user waits.
"""

import contextlib
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """One way: least process CPU and wall seconds of the rounds, and bytes that one run adds at its peak."""

    cpu_s: float
    wall_s: float
    peak_bytes: int | None
    cpu_rounds: tuple[float, ...]
    wall_rounds: tuple[float, ...]


@dataclass
class Rung:
    """One step of the ladder.

    Attributes:
        name: of the rung.
        peer: the way people use today, a key of ``ways``.
        ours: the way that is held against it.
        bar: the ratio that ours must reach; None where there is none.
        ways: timings by name.
        setting: sizes, data, threads: all that another needs to repeat it.
        measure: ``cpu_s`` or ``wall_s``, what the ratio is taken of.
        exact: how the two were found to give the same.
        same: whether they do, as far as they can; what gives something else meets no bar.
        cannot: why the bar cannot hold on this machine, where it cannot.
    """

    name: str
    peer: str
    ours: str
    bar: float | None
    ways: dict[str, Timing]
    setting: dict[str, Any] = field(default_factory=dict)
    measure: str = "cpu_s"
    exact: str = ""
    same: bool = True
    cannot: str = ""

    def ratio(self, way: str | None = None) -> float:
        """How many times less ours (or another way) takes than the peer."""
        taken = {name: getattr(self.ways[name], self.measure) for name in (self.peer, way or self.ours)}
        return float(taken[self.peer] / taken[way or self.ours])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the ratio of every way among them."""
        ratios = {name: round(self.ratio(name), 2) for name in self.ways}
        met = self.same and (self.bar is None or self.ratio() >= self.bar)
        return {**asdict(self), "ratios": ratios, "met": met}


def interleave(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Run every way in every round, after ``warm_up`` rounds that do not count and one that measures memory.

    Without rounds that one counts: for what takes minutes.
    """
    for _ in range(warm_up):
        for way in ways.values():
            way()
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}

    def timed(name: str) -> None:
        gc.collect()
        began, started = time.perf_counter(), time.process_time()
        ways[name]()
        cpu[name].append(time.process_time() - started)
        wall[name].append(time.perf_counter() - began)

    peaks = {name: _peak(lambda name=name: timed(name)) for name in ways}  # type: ignore[misc]
    for turn in range(rounds):
        for name in ways:
            if turn == 0:
                # memory that was handed back before is slower to take
                cpu[name], wall[name] = [], []
            timed(name)
    return {
        name: Timing(min(cpu[name]), min(wall[name]), peaks[name], tuple(cpu[name]), tuple(wall[name])) for name in ways
    }


def _peak(way: Callable[[], object]) -> int | None:
    """Bytes by which a run raises this process's resident memory at its peak; None where Linux does not tell."""
    gc.collect()
    # what was freed before goes back to the system, or it would hide what the run takes
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        REFS.write_text("5", encoding="ascii")  # the mark of the highest use starts anew
        before = _status("VmRSS")
    except OSError:
        way()
        return None
    way()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {key}")


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    import torch
    import transformers

    from ilm_lightning.hardware import cpu_bf16, usable_cores

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": usable_cores(),
        "bf16": cpu_bf16(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def commit() -> str:
    """The checkout's commit, with a mark where files were changed since; ``unknown`` outside of a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def report(rungs: list[Rung], out: Path | None = None) -> None:
    """Print rungs as one JSON list, the form in which the ladder reads them, and save them with what they need."""
    rows = [rung.to_dict() for rung in rungs]
    if out is not None:
        save(out, {"rows": rows})
    json.dump(rows, sys.stdout, indent=2)
    sys.stdout.write("\n")


def save(out: Path, found: Mapping[str, Any]) -> None:
    """Write results with the command, the commit and the machine."""
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *_shown_arguments()])
    about = {"command": command, "commit": commit(), "machine": machine()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, **found}, indent=1) + "\n", encoding="utf-8")


def _shown_arguments() -> list[str]:
    """The command's arguments; of paths that are not relative the last part, for they are another's elsewhere."""
    return [f"…/{Path(word).name}" if word.startswith("/") else word for word in sys.argv[1:]]
