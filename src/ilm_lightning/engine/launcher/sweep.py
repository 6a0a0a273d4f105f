"""A sweep from Hydra's side: job overrides to configurations, to processes, to results."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.table import Table
from rich.text import Text

from ilm_lightning.engine.artifacts import fingerprint, write_json
from ilm_lightning.engine.command import check_data
from ilm_lightning.engine.config import Config, as_config
from ilm_lightning.engine.config_logger import LoggerConfig
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.launcher.jobs import (
    BEFORE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    WAITING,
    Job,
    as_rows,
    distinct_overrides,
    plan,
)
from ilm_lightning.engine.launcher.runner import Runner, RunnerSettings, outcome
from ilm_lightning.engine.screen import console
from ilm_lightning.engine.validate import ConfigError, check_writable, validate
from ilm_lightning.engine.validate_logger import check_logger
from ilm_lightning.engine.validate_machine import check_devices
from ilm_lightning.engine.validate_openp5 import validate_tasks
from ilm_lightning.progress import clock

log = logging.getLogger("ilm_lightning")
BASIC_SWEEPER = "BasicSweeper"


class SweepError(CompactHydraException):
    """Jobs of a sweep failed, or it cannot begin; told as one line."""


def check_sweep(config: DictConfig, settings: Mapping[str, Any]) -> None:
    """Refuse what no job of a sweep could work with, before the first of them is composed.

    Args:
        config: of the sweep itself, in which what the jobs vary has its default.
        settings: of the runner.

    Raises:
        SweepError: names the key.
    """
    trainer, logger = (OmegaConf.to_object(config[group]) for group in ("trainer", "logger"))
    assert isinstance(trainer, TrainerConfig)
    assert isinstance(logger, LoggerConfig)
    try:
        RunnerSettings(**settings)
        check_writable("outputs", str(config.outputs))
        check_writable("artifacts", str(config.artifacts))
        check_devices(trainer)
        check_logger(logger)
    except ValueError as error:
        raise SweepError(str(error)) from None


def move_hydras_copy(config: DictConfig) -> "tempfile.TemporaryDirectory[str] | None":
    """Have Hydra's plain sweeper write its ``multirun.yaml`` into a folder that goes with this process.

    It would lie in ``outputs`` even after a sweep that was refused, and hold keys as they were typed.

    Args:
        config: of the sweep itself; its ``hydra.sweep.dir`` is changed, which our jobs do not use.

    Returns:
        The folder; None with other sweepers, whose files are results.
    """
    if not _is_plain(config):
        return None
    folder = tempfile.TemporaryDirectory(prefix="ilm-sweep-", ignore_cleanup_errors=True)
    with read_write(config.hydra.sweep):
        config.hydra.sweep.dir = folder.name
    return folder


def launch(
    context: HydraContext,
    master: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    settings: Mapping[str, Any],
) -> list[JobReturn]:
    """Run the jobs of a sweep.

    Args:
        context: composes configurations.
        master: the sweep's own configuration.
        job_overrides: per job what distinguishes it.
        first: number of the first job.
        settings: of the runner.

    Returns:
        Per job its objective, or its failure, for sweepers that go on from there.

    Raises:
        SweepError: jobs failed in a plain sweep, or all are refused for one reason.
        KeyboardInterrupt: after Ctrl-C, with all jobs ended.
    """
    composed = [_compose(context, master, overrides, first + i) for i, overrides in enumerate(job_overrides)]
    name = f"sweep-{fingerprint([list(o) for o in job_overrides])[:8]}"
    checked = [_checked(node) for node in composed]
    reasons = {found for found in checked if isinstance(found, str)}
    if len(reasons) == 1 and all(isinstance(found, str) for found in checked):
        raise SweepError(f"{f'all {len(checked)} jobs: ' if len(checked) > 1 else ''}{reasons.pop()}")
    jobs = plan(
        [(o, in_group(found, master, name)) for o, found in zip(job_overrides, checked, strict=True)],
        settings["rerun"],
    )
    runner_settings = RunnerSettings(**settings)
    folder = Path(str(master.outputs))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    log.info("sweep     %s: %s", path, outcome(jobs))
    for job, shown in zip(jobs, distinct_overrides(jobs), strict=True):
        if job.state == FAILED:
            log.error("error: %s: %s", " ".join(shown), job.error)
    try:
        Runner(jobs, runner_settings, on_change=lambda jobs: write_json(path, as_rows(jobs))).run()
    finally:
        show_jobs(jobs)
    failed = [job for job in jobs if job.state in (FAILED, INTERRUPTED)]
    if failed and _is_plain(master):
        refused = all(job.config is None for job in failed)
        fix = "none of them could start: see above" if refused else "the same command runs them again"
        raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed; {fix}")
    return [_result(job, node) for job, node in zip(jobs, composed, strict=True)]


def _is_plain(master: DictConfig) -> bool:
    """Whether all jobs are known beforehand, and nobody goes on from their results."""
    return BASIC_SWEEPER in str(master.hydra.sweeper.get("_target_", ""))


def _compose(context: HydraContext, master: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    composed = context.config_loader.load_sweep_config(master, list(overrides))
    with read_write(composed.hydra.job), open_dict(composed.hydra.job):
        composed.hydra.job.id = composed.hydra.job.num = number
    return composed


def _checked(node: DictConfig) -> Config | str:
    """The typed configuration, or why it cannot run."""
    try:
        task = deepcopy(node)
        with read_write(task), open_dict(task):
            del task["hydra"]
        config = as_config(task)
        if config.resume is not None:
            raise ConfigError("resume continues one run; leave it out of a sweep, which skips what is finished")
        validate(config)
        validate_tasks(config)
        check_data(config)
    except (ValueError, OSError) as error:
        return str(error)
    return config


def in_group(config: Config | str, master: DictConfig, name: str) -> Config | str:
    """The jobs of a sweep are one group to W&B, named like the sweep's file, or by the table it gives.

    A search hands its jobs over a few at a time; they are named by its own command.
    """
    if isinstance(config, str) or config.logger.group:
        return config
    table = master.hydra.runtime.choices.get("sweep")
    group = name if table is None else name.replace("sweep", str(table), 1)
    if not _is_plain(master):
        group = f"search-{fingerprint(list(master.hydra.overrides.task))[:8]}"
    return replace(config, logger=replace(config.logger, group=group))


def _result(job: Job, node: DictConfig) -> JobReturn:
    """What a sweeper reads."""
    done = job.state in (FINISHED, BEFORE)
    HydraConfig.instance().set_config(node)
    found = JobReturn(overrides=job.overrides, cfg=node, hydra_cfg=node, task_name=job.name)
    found.status = JobStatus.COMPLETED if done else JobStatus.FAILED
    found.return_value = job.objective if done else SweepError(f"{job.name}: {job.error or job.state}")
    return found


def show_jobs(jobs: Sequence[Job], common: Sequence[str] = (), forecasts: Sequence[float | None] = ()) -> None:
    """Print the table of jobs, without overrides that are common to them.

    Args:
        jobs: of a sweep or a queue.
        common: overrides that need no telling.
        forecasts: per job the seconds that it will take, shown of those that wait; None where nobody knows.
    """
    table = Table(title=outcome(jobs), title_justify="left")
    for heading in ("run", "overrides", "state", "score", "time", "error"):
        table.add_column(heading, justify="right" if heading in ("score", "time") else "left", overflow="fold")
    for row, forecast in zip_longest(as_rows(jobs, common), forecasts):
        score = "" if row["sc"] is None else f"{row['sc']:.4g}"
        seconds = "" if row["seconds"] is None else clock(row["seconds"])
        if row["state"] == WAITING and forecast is not None:
            seconds = f"~{clock(forecast)}"
        cells = (row["folder"], " ".join(row["overrides"]), row["state"], score, seconds, row["error"])
        # as text: square brackets are no markup here
        table.add_row(*(Text(cell) for cell in cells))
    console().print(table)
