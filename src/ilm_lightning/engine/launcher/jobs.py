"""The jobs of a sweep: what each computes, where, and how it stands."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.input_files import input_digests
from ilm_lightning.engine.runs import computed, holds_other, read_status, run_folder
from ilm_lightning.reporting.text import redact

WAITING, RUNNING, FINISHED, FAILED, INTERRUPTED = "waiting", "running", "finished", "failed", "interrupted"
PREEMPTED = "preempted"
"""What a run says of itself after SIGTERM or SIGUSR1; an interruption to the sweep."""
BEFORE = "finished before"
ENDED = (FINISHED, BEFORE, FAILED, INTERRUPTED)
LOG = "job.log"


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        overrides: what distinguishes it, as on the command line.
        config: what it computes; None where the configuration was refused.
        folder: where; fixed before it starts.
        state: waiting, running, finished, finished before, failed or interrupted.
        objective: the run's one number once finished: semantic consistency, HR@10, or a task's own measure.
        error: why it failed.
        seconds: how long it ran.
        twin: an earlier job with the same configuration, whose result is this one's too.
    """

    overrides: tuple[str, ...]
    config: Config | None
    folder: Path
    state: str = WAITING
    objective: float | None = None
    error: str = ""
    seconds: float | None = None
    twin: "Job | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / LOG

    @property
    def command(self) -> str:
        """The single command that gives the same run."""
        return shlex.join(["python", "-m", "ilm_lightning.train", *self.overrides])

    def refuse(self, error: str) -> None:
        """Mark it as failed before it began."""
        self.state, self.error = FAILED, error

    def read_end(self, exit_status: int) -> None:
        """Take over what the run says of itself after its process ended."""
        status = read_status(self.folder)
        state = status.get("state")
        if exit_status == 0 and state == FINISHED:
            self.state, self.objective = FINISHED, _number(status.get("objective"))
            return
        self.state = INTERRUPTED if state in (INTERRUPTED, PREEMPTED) else FAILED
        how = f"ended by signal {-exit_status}" if exit_status < 0 else f"ended with status {exit_status}"
        self.error = str(status.get("error") or last_line(self.log) or how) if state in (FAILED, INTERRUPTED) else how


def plan(configured: Sequence[tuple[Sequence[str], Config | str]], rerun: bool = False) -> list[Job]:
    """Fix each job's folder and find out which need not run.

    Args:
        configured: per job its overrides, and its configuration or why that was refused.
        rerun: start finished jobs as well.

    Returns:
        The jobs, in order: waiting, finished before, or failed.
    """
    jobs: list[Job] = []
    by_folder: dict[Path, Job] = {}
    for overrides, config in configured:
        if isinstance(config, str):
            jobs.append(Job(tuple(overrides), None, Path("-"), FAILED, error=config))
            continue
        job = Job(tuple(overrides), config, run_folder(config))
        twin = by_folder.setdefault(job.folder, job)
        if twin is not job:
            assert twin.config is not None
            if computed(twin.config) == computed(config):
                job.twin = twin
            else:
                job.refuse(f"run={config.run} names one folder for several configurations; leave it out")
        elif error := _taken(job.folder, config):
            job.refuse(error)
        elif not rerun:
            _skip_if_finished(job)
        jobs.append(job)
    return jobs


def _taken(folder: Path, config: Config) -> str:
    """Why a job cannot run in its folder; empty where it can."""
    try:
        other = holds_other(folder, config)
    except ValueError as error:
        return str(error)
    return f"{folder} holds another configuration; choose another name with run=NAME" if other else ""


def _skip_if_finished(job: Job) -> None:
    status = read_status(job.folder)
    # the folder's configuration was compared before: it is this job's
    if status.get("state") == FINISHED and (job.folder / "metrics.json").is_file() and _has_read(job, status):
        job.state, job.objective, job.seconds = BEFORE, _number(status.get("objective")), _number(status.get("seconds"))


def _has_read(job: Job, status: dict[str, Any]) -> bool:
    """Whether the files that a job names are still those that its finished run has read."""
    assert job.config is not None
    try:
        return bool(status.get("inputs", {}) == input_digests(job.config))
    except (OSError, ValueError, RuntimeError):
        # the run itself says what is wrong with one of them
        return False


def follow_twins(jobs: Sequence[Job]) -> None:
    """Give jobs with an equal configuration the result of the one that ran."""
    for job in jobs:
        if job.twin is not None:
            job.state, job.objective, job.error = job.twin.state, job.twin.objective, job.twin.error


def last_line(log: Path, since: int = 0) -> str:
    """The last line of words that a job wrote, not the border of a table, shortened; empty without one.

    Args:
        log: what the job writes to.
        since: bytes that an earlier start had written.
    """
    try:
        with log.open("rb") as stream:
            stream.seek(max(since, log.stat().st_size - 4096))
            lines = stream.read().decode("utf-8", errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    shown = [line.strip() for line in lines if any(map(str.isalnum, line))]
    return shown[-1][:200] if shown else ""


def distinct_overrides(jobs: Sequence[Job], common: Sequence[str] = ()) -> list[list[str]]:
    """Per job the overrides that not all jobs have, without those that are called common."""
    # of one job alone nothing says what is common
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [[override for override in job.overrides if override not in {*shared, *common}] for job in jobs]


def as_rows(jobs: Sequence[Job], common: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The jobs as plain data, for the table on screen and the sweep's file; what looks like a key is masked.

    Args:
        jobs: of a sweep or a queue.
        common: overrides that need no telling.
    """
    return [
        {
            "name": job.name,
            "overrides": [redact(override) for override in overrides],
            "state": job.state,
            "sc": job.objective,
            "seconds": None if job.seconds is None else round(job.seconds, 1),
            "folder": str(job.folder),
            "error": redact(job.error),
            "command": redact(job.command),
        }
        for job, overrides in zip(jobs, distinct_overrides(jobs, common), strict=True)
    ]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
