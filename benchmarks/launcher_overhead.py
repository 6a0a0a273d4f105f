"""Time what a sweep adds to each of its jobs, beyond the time of the job's own process; the bar is 1 s.

python benchmarks/launcher_overhead.py [--jobs 20]

The sweep is the real one: Hydra composes each job, it is checked, started in a process tree of its own, watched, and
its result is read. In the jobs' place stands a program that writes a result and ends. The same program is started as
often without a sweep. What comes before the first job is left out: the difference of two sweeps' lengths counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial

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


def timed_sweep(jobs: int) -> float:
    """Seconds of a whole sweep."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--inner", folder, "--jobs", str(jobs)]
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def timed_alone(jobs: int) -> float:
    """Seconds of so many programs without a sweep."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for _ in range(jobs):
            subprocess.run([sys.executable, "-c", PROGRAM, folder], check=True)
        return time.perf_counter() - start


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
        "seconds_a_job_in_the_sweep": round(job, 3),
        "seconds_of_the_process_alone": round(process, 3),
        "overhead_seconds": round(job - process, 3),
        "load_at_the_end": os.getloadavg()[0],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
