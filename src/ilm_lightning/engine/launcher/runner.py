"""Run jobs, some at a time, each as a process tree; a failed one does not stop the others."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ilm_lightning.engine.launcher.jobs import (
    BEFORE,
    ENDED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Job,
    distinct_overrides,
    follow_twins,
    last_line,
)
from ilm_lightning.engine.launcher.processes import ProcessTree, signals_as_interrupt, stop
from ilm_lightning.engine.launcher.resources import Resources, job_environment
from ilm_lightning.engine.runs import read_status, store_config, write_status
from ilm_lightning.progress import clock
from ilm_lightning.reporting.text import redact

log = logging.getLogger("ilm_lightning")
POLL_S = 0.05


@dataclass(frozen=True)
class RunnerSettings:
    """How jobs are run.

    Attributes:
        at_once: how many at a time.
        rerun: start finished jobs as well.
        grace_s: seconds between Ctrl-C and the end by force.
        report_s: seconds between two lines about the jobs where the screen is no terminal.
    """

    at_once: int = 1
    rerun: bool = False
    grace_s: float = 30.0
    report_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("at_once", "grace_s", "report_s"):
            if getattr(self, name) <= 0:
                key = "jobs" if name == "at_once" else name
                raise ValueError(f"hydra.launcher.{key}={getattr(self, name)} must be above 0")


def job_command(job: Job) -> list[str]:
    """The process that runs a job from the configuration in its folder."""
    return [sys.executable, "-m", "ilm_lightning.engine.job", str(job.folder)]


class Runner:
    """Runs jobs in order.

    Args:
        jobs: planned jobs; their states are kept up to date.
        settings: how.
        resources: cores and GPUs; by default this machine's.
        on_change: called after each start and end.
        may_start: asked before each start; False leaves the job and all after it waiting.
        command: what a job starts.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        settings: RunnerSettings,
        resources: Resources | None = None,
        on_change: Callable[[Sequence[Job]], None] = lambda jobs: None,
        may_start: Callable[[Job], bool] = lambda job: True,
        command: Callable[[Job], list[str]] = job_command,
    ) -> None:
        self.jobs = jobs
        self.settings = settings
        self.resources = resources or Resources.of_this_machine(settings.at_once)
        self.on_change = on_change
        self.may_start = may_start
        self.command = command
        self._waiting = [i for i, job in enumerate(jobs) if job.state == WAITING and job.twin is None]
        self._running: dict[int, tuple[ProcessTree, float]] = {}
        # what earlier starts had left in the logs
        self._written: dict[int, int] = {}
        self._labels = [" ".join(o) or job.name for o, job in zip(distinct_overrides(jobs), jobs, strict=True)]
        self._reported = time.monotonic()

    def run(self) -> None:
        """Run until no job is left to start and none runs.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM, with all processes ended.
        """
        with signals_as_interrupt():
            try:
                while self._start_what_fits() or self._running:
                    self._reap()
                    self._report()
                    time.sleep(POLL_S)
            finally:
                self._stop_all()
                follow_twins(self.jobs)
                self.on_change(self.jobs)

    def _start_what_fits(self) -> bool:
        while self._waiting:
            number = self._waiting[0]
            job = self.jobs[number]
            assert job.config is not None
            if not self.may_start(job):
                self._waiting.clear()
                break
            share = self.resources.take(number, job.config.trainer)
            if share is None:
                # with nothing running, nothing will ever be given back
                assert self._running, "validation refuses a job that asks for more devices than there are"
                break
            self._waiting.pop(0)
            self._start(number, job, share)
        return bool(self._waiting)

    def _start(self, number: int, job: Job, share: dict[str, str]) -> None:
        assert job.config is not None
        try:
            store_config(job.config)
            write_status(job.folder, RUNNING)
            written = job.log.stat().st_size if job.log.is_file() else 0
            tree = ProcessTree(self.command(job), job.log, job_environment(share, job.command))
        except (OSError, ValueError) as error:
            self._refuse(number, job, str(error))
            return
        self._running[number] = (tree, time.monotonic())
        self._written[number] = written
        job.state = RUNNING
        self._say("[%d/%d] %s: started, output in %s", number + 1, len(self.jobs), self._labels[number], job.log)
        self.on_change(self.jobs)

    def _refuse(self, number: int, job: Job, error: str) -> None:
        job.refuse(error)
        self.resources.give_back(number)
        if read_status(job.folder).get("state") == RUNNING:
            write_status(job.folder, job.state, error=error)
        self._say("[%d/%d] %s: not started: %s", number + 1, len(self.jobs), self._labels[number], error)
        self.on_change(self.jobs)

    def _reap(self) -> None:
        for number, (tree, start) in list(self._running.items()):
            status = tree.poll()
            if status is None:
                continue
            del self._running[number]
            self.resources.give_back(number)
            job = self.jobs[number]
            job.seconds = time.monotonic() - start
            job.read_end(status)
            self._complete_status(job)
            result = f", score {job.objective:.4g}" if job.objective is not None else ""
            how = f"{job.state} after {clock(job.seconds)}{result}" + (f": {job.error}" if job.error else "")
            self._say("[%d/%d] %s: %s", number + 1, len(self.jobs), self._labels[number], how)
            follow_twins(self.jobs)
            self.on_change(self.jobs)

    @staticmethod
    def _complete_status(job: Job) -> None:
        """Add what a process cannot say itself: how long it took in all, or that it was killed."""
        if job.state == FINISHED:
            assert job.seconds is not None
            said = {**read_status(job.folder), "objective": job.objective, "seconds": round(job.seconds, 1)}
            said.pop("state", None)
            write_status(job.folder, FINISHED, **said)
        elif job.state != INTERRUPTED:
            write_status(job.folder, job.state, error=job.error)

    def _stop_all(self) -> None:
        if not self._running:
            return
        count = f"{len(self._running)} job{'s' if len(self._running) > 1 else ''}"
        self._say("stopping %s: waiting up to %gs for what they save", count, self.settings.grace_s)
        try:
            forced = stop([tree for tree, _ in self._running.values()], self.settings.grace_s)
            for job in (self.jobs[n] for n, (tree, _) in self._running.items() if tree in forced):
                self._say("%s: ended by force, continues from its last checkpoint", job.folder)
        finally:
            for number in self._running:
                self.jobs[number].state = INTERRUPTED
                write_status(self.jobs[number].folder, INTERRUPTED, error="KeyboardInterrupt")
            self._running.clear()

    def _report(self) -> None:
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if not self._running or now - self._reported < (1.0 if terminal else self.settings.report_s):
            return
        self._reported = now
        done = sum(job.state in ENDED for job in self.jobs)
        texts = [f"{self._labels[n]}: {last_line(self.jobs[n].log, self._written[n])}" for n in self._running]
        line = f"{done} of {len(self.jobs)} done, {len(self._running)} running | " + " | ".join(texts)
        if terminal:
            # no log line, whose filter would mask keys
            sys.stderr.write(f"\r\033[K{redact(line)[:150]}")
            sys.stderr.flush()
        else:
            log.info("%s", line)

    @staticmethod
    def _say(message: str, *arguments: object) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        log.info(message, *arguments)


def outcome(jobs: Sequence[Job]) -> str:
    """One line about all jobs: how many are done, were done before, failed or are left."""
    counts = {state: sum(job.state == state for job in jobs) for state in (FINISHED, BEFORE, *ENDED, WAITING)}
    total = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
    return f"{total}: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n)
