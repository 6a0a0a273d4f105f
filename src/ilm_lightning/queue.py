"""Many small runs in order of importance: ``python -m ilm_lightning.queue PLAN.yaml --hours 12``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ilm_lightning.engine.artifacts import write_json
from ilm_lightning.engine.command import setup_logging
from ilm_lightning.engine.command_line import open_mapping
from ilm_lightning.engine.launcher.jobs import BEFORE, FAILED, FINISHED, WAITING, Job, as_rows, plan
from ilm_lightning.engine.launcher.plan import Budget, Plan, configure, expand, labels, read_plan
from ilm_lightning.engine.launcher.runner import Runner, RunnerSettings, outcome
from ilm_lightning.engine.launcher.sweep import show_jobs
from ilm_lightning.progress import clock
from ilm_lightning.reporting.records import keep_record
from ilm_lightning.reporting.runs import METRICS

log = logging.getLogger("ilm_lightning")
STATE = "queue.json"


class Queue:
    """The runs of a plan and what is known of them.

    Args:
        path: the plan file.
        hours: the budget from now on; None for none.

    Raises:
        ValueError: the plan cannot be read, or the hours are none.
    """

    def __init__(self, path: Path, hours: float | None) -> None:
        if hours is not None and not hours > 0:
            raise ValueError(f"--hours {hours:g} must be above 0; leave it out for no limit")
        self.plan: Plan = read_plan(path)
        expanded = [(o, entry.minutes) for entry in self.plan.entries for o in expand(entry, self.plan.common)]
        runs = [overrides for overrides, _ in expanded]
        self.jobs = plan(list(zip(runs, configure(runs), strict=True)))
        self.budget = Budget(hours, {i: minutes for i, (_, minutes) in enumerate(expanded)})
        self.common = [open_mapping(override) for override in self.plan.common]
        self._labels = labels(self.jobs, self.plan.common)
        self._numbers = {id(job): number for number, job in enumerate(self.jobs)}

    def may_start(self, job: Job) -> bool:
        """Ask the budget; say why where it refuses."""
        number = self._numbers[id(job)]
        if self.budget.fits(number, self.jobs):
            return True
        seconds = self.budget.forecast(number, self.jobs)
        wants = "its time unknown" if seconds is None else f"about {clock(seconds)}"
        log.info("%s waits: %s, and %s are left", job.name, wants, clock(max(0.0, self.budget.left())))
        return False

    def keep(self, jobs: Sequence[Job]) -> None:
        """Write how the queue stands, and each finished run's record into the folder of results."""
        self.plan.results.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            if job.state in (FINISHED, BEFORE) and job.twin is None:
                keep_record(job.folder, self.plan.results / self._labels[self._numbers[id(job)]])
        write_json(self.plan.results / STATE, as_rows(jobs, self.common))

    def forecasts(self) -> list[float | None]:
        """Per run the seconds that it will take; None where nothing is known, and for one that repeats another."""
        return [
            None if job.twin is not None else self.budget.forecast(number, self.jobs)
            for number, job in enumerate(self.jobs)
        ]

    def show_forecast(self) -> None:
        """Say what is left to do and how long it will take."""
        known = [
            seconds
            for seconds, job in zip(self.forecasts(), self.jobs, strict=True)
            if job.state == WAITING and job.twin is None
        ]
        total = sum(seconds for seconds in known if seconds is not None)
        unknown = sum(seconds is None for seconds in known)
        more = f", and {unknown} of unknown length" if unknown else ""
        log.info("queue     %s; about %s to go%s", outcome(self.jobs), clock(total), more)
        waiting = [name for number, name in self._labels.items() if self.jobs[number].state == WAITING]
        kept = sum((self.plan.results / name / METRICS).is_file() for name in waiting)
        if kept:
            told = "records   %d of the %d that wait have one in %s; without a finished run here they are made anew"
            log.info(told, kept, len(waiting), self.plan.results)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m ilm_lightning.queue", description=__doc__)
    made.add_argument("plan", type=Path, help="YAML file with the runs, the most important first")
    made.add_argument("--hours", type=float, help="start no run that would not end within so many hours from now")
    made.add_argument("--jobs", type=int, default=1, help="runs at a time")
    made.add_argument("--list", action="store_true", help="show the runs and what they will take, and start none")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 where a run failed, 130 after an interruption."""
    options = parser().parse_args(arguments)
    setup_logging()
    try:
        settings = RunnerSettings(at_once=options.jobs)
        queue = Queue(options.plan, options.hours)
    except ValueError as error:
        log.error("error: %s", error)
        return 1
    queue.show_forecast()
    try:
        if not options.list:
            Runner(queue.jobs, settings, on_change=queue.keep, may_start=queue.may_start).run()
    except KeyboardInterrupt:
        log.error("interrupted: what was finished is kept; the same command continues")
        return 130
    finally:
        show_jobs(queue.jobs, queue.common, queue.forecasts())
    return 1 if any(job.state == FAILED for job in queue.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
