"""Time what a sweep adds to each of its jobs, beyond the time of the job's own process; the bar is 1 s.

python benchmarks/launcher_overhead.py [--jobs 10] [--rounds 5] [--out benchmarks/results/launcher_overhead.json]

The sweep is the real one: Hydra composes each job, it is checked, started in a process tree of its own, watched, and
its result is read. In the jobs' place stands a program that writes a result and ends; the same program is started as
often without a sweep. What comes before the first job is left out: the difference between a long and a short sweep
counts.

Every round runs all three one after another, every second round backwards, and the median of the rounds counts: a busy
machine slows all three alike, and what it slows once does not count. Wall time holds what others took from this
process, so it is an upper bound there; the processor's time holds what the work costs, but not the waiting.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import commit, machine
from numpy.typing import NDArray

PROGRAM = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "metrics.json").write_text("{}")
(folder / "status.json").write_text(json.dumps({"state": "finished", "objective": 1.0}))
"""
FEW, BAR_S = 2, 1.0


def sweep(jobs: int, folder: str) -> None:
    """Run a sweep of programs that end at once, in this process."""
    from ilm_lightning.engine.command import hydra_command
    from ilm_lightning.engine.launcher import sweep as module
    from ilm_lightning.engine.launcher.runner import Runner

    module.Runner = partial(Runner, command=lambda job: [sys.executable, "-c", PROGRAM, str(job.folder)])  # type: ignore[misc,assignment]
    sys.argv = ["train", "-m", "experiment=ilm_mlp", f"seed=range(0,{jobs})", f"outputs={folder}/outputs"]
    sys.argv += [f"artifacts={folder}/artifacts", "trainer.accelerator=cpu"]
    sys.exit(hydra_command("train", lambda config: 0.0))


def clocks() -> NDArray[np.float64]:
    """The time, and the processor time of all processes that were started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def timed_sweep(jobs: int) -> NDArray[np.float64]:
    """Seconds of a whole sweep, and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        command = [sys.executable, __file__, "--inner", folder, "--jobs", str(jobs)]
        subprocess.run(command, check=True, capture_output=True)
        took = clocks() - start
        ended = len(list(Path(folder).glob("outputs/*/metrics.json")))
        assert ended == jobs, f"{ended} of {jobs} jobs ended"
        return took


def timed_alone(jobs: int) -> NDArray[np.float64]:
    """The same of so many programs without a sweep."""
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        for _ in range(jobs):
            subprocess.run([sys.executable, "-c", PROGRAM, folder], check=True)
        return clocks() - start


def one_round(jobs: int, backwards: bool) -> NDArray[np.float64]:
    """Seconds that a job takes in the sweep and alone, each by the clock and by the processor; shape (2, 2)."""
    ways: dict[str, Callable[[], NDArray[np.float64]]] = {
        "few": partial(timed_sweep, FEW),
        "alone": partial(timed_alone, jobs),
        "many": partial(timed_sweep, jobs + FEW),
    }
    took = {name: ways[name]() for name in (reversed(ways) if backwards else ways)}
    return np.stack([took["many"] - took["few"], took["alone"]]) / jobs


def summary(rounds: NDArray[np.float64]) -> dict[str, Any]:
    """Medians over the rounds of shape (rounds, 2, 2), and the rounds themselves."""
    over = rounds[:, 0] - rounds[:, 1]
    wall, cpu = (median(over[:, clock].tolist()) for clock in (0, 1))
    return {
        "seconds_a_job_in_the_sweep": round(median(rounds[:, 0, 0].tolist()), 3),
        "seconds_of_the_process_alone": round(median(rounds[:, 1, 0].tolist()), 3),
        "overhead_seconds": round(wall, 3),
        "overhead_seconds_rounds": over[:, 0].round(3).tolist(),
        "overhead_cpu_seconds": round(cpu, 3),
        "overhead_cpu_seconds_rounds": over[:, 1].round(3).tolist(),
        "bar_seconds": BAR_S,
        "met": wall <= BAR_S,
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--jobs", type=int, default=10)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--out", type=Path)
    options.add_argument("--inner", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inner:
        sweep(given.jobs, given.inner)
    load = os.getloadavg()[0]
    rounds = np.stack([one_round(given.jobs, place % 2 == 1) for place in range(given.rounds)])
    result = {
        "command": f"python benchmarks/launcher_overhead.py --jobs {given.jobs} --rounds {given.rounds}",
        "commit": commit(),
        "jobs": given.jobs,
        **summary(rounds),
        "machine": machine() | {"load": [round(load, 1), round(os.getloadavg()[0], 1)]},
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
