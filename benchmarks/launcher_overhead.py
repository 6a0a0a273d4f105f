"""Time what a sweep adds to each of its jobs, beyond the time of the job's own process; the bar is 1 s.

python benchmarks/launcher_overhead.py [--jobs 20]

The sweep is the real one: Hydra composes each job, it is checked, started in a process tree of its own, watched, and
its result is read. In the jobs' place stands a program that writes a result and ends. The same program is started as
often without a sweep. What comes before the first job is left out: the difference of two sweeps' lengths counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial

import numpy as np
from numpy.typing import NDArray

PROGRAM = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "metrics.json").write_text("{}")
(folder / "status.json").write_text(json.dumps({"state": "finished", "objective": 1.0}))
"""
FEW = 2


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
        return clocks() - start


def timed_alone(jobs: int) -> NDArray[np.float64]:
    """The same of so many programs without a sweep."""
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        for _ in range(jobs):
            subprocess.run([sys.executable, "-c", PROGRAM, folder], check=True)
        return clocks() - start


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--jobs", type=int, default=20)
    options.add_argument("--inner", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inner:
        sweep(given.jobs, given.inner)
    # taken in turns, so that a busy machine slows all alike
    few, alone, many = timed_sweep(FEW), timed_alone(given.jobs), timed_sweep(given.jobs + FEW)
    process, job = alone / given.jobs, (many - few) / given.jobs
    result = {
        "jobs": given.jobs,
        "seconds_a_job_in_the_sweep": round(job[0], 3),
        "seconds_of_the_process_alone": round(process[0], 3),
        "overhead_seconds": round(job[0] - process[0], 3),
        # of the processor: what is left of the time above on a machine with nothing else to do
        "overhead_cpu_seconds": round(job[1] - process[1], 3),
        "load_at_the_end": os.getloadavg()[0],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
