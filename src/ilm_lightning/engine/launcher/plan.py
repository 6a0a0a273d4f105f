"""A queue's plan: runs in order of importance, what each costs, and what fits into the time that is left."""

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ilm_lightning.engine.command import check_data
from ilm_lightning.engine.command_line import check_settings, open_mapping, told
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.launcher.jobs import BEFORE, FINISHED, Job
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.progress import track


class PlanError(ValueError):
    """A plan that cannot be read, and how to mend it."""


@dataclass(frozen=True)
class Entry:
    """One line of a plan: one run, or several where values are listed with commas.

    Attributes:
        overrides: as on the command line; ``seed=0,1,2`` makes three runs.
        minutes: what one of its runs costs, measured or guessed; None where nobody knows.
        note: what it is for.
    """

    overrides: tuple[str, ...]
    minutes: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan file.

    Attributes:
        common: overrides of all runs.
        entries: in order of importance.
        results: where each run's metrics are copied to.
    """

    common: tuple[str, ...]
    entries: tuple[Entry, ...]
    results: Path


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Args:
        path: a YAML file with ``runs``, a list of ``overrides`` (one string), ``minutes`` and ``note``; and perhaps
            ``common``, overrides of all runs, and ``results``, a folder (by default ``results`` beside the file).

    Raises:
        PlanError: names the file and what is wrong.
    """
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise PlanError(f"{path}: there is no such plan") from None
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # yaml's errors share no base that is ours to import
        raise PlanError(f"{path} is no YAML: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("runs"), list) or not found["runs"]:
        raise PlanError(f"{path} must hold a list `runs`, each with `overrides`")
    _only(path, "the plan", found, {"common", "runs", "results"})
    common = _words(path, "common", found.get("common", ""))
    entries = tuple(_entry(path, number, entry, common) for number, entry in enumerate(found["runs"], 1))
    return Plan(common, entries, Path(str(found.get("results", path.parent / "results"))))


def _entry(path: Path, number: int, found: Any, common: Sequence[str]) -> Entry:
    if not isinstance(found, dict) or "overrides" not in found:
        raise PlanError(f"{path}: run {number} needs `overrides: experiment=…`")
    _only(path, f"run {number}", found, {"overrides", "minutes", "note"})
    minutes = found.get("minutes")
    if minutes is not None and (not isinstance(minutes, int | float) or minutes <= 0):
        raise PlanError(f"{path}: run {number}: minutes={minutes} must be a number above 0")
    return Entry(_words(path, f"run {number}", found["overrides"], common), minutes, str(found.get("note", "")))


def _words(path: Path, where: str, value: Any, common: Sequence[str] = ()) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise PlanError(f"{path}: {where}: write the overrides as one line, as on the command line")
    words = tuple(shlex.split(value))
    try:
        check_settings(words, common)
    except ConfigError as error:
        raise PlanError(f"{path}: {where}: {error}") from error
    return words


def _only(path: Path, where: str, found: Mapping[Any, Any], known: set[str]) -> None:
    if unknown := sorted(str(key) for key in set(found) - known):
        raise PlanError(f"{path}: {where} has the unknown key {unknown[0]}; known are {', '.join(sorted(known))}")


def expand(entry: Entry, common: Sequence[str]) -> list[list[str]]:
    """The runs of one entry, as Hydra's sweeps have them: the last listed value changes fastest."""
    arguments = [open_mapping(argument) for argument in (*common, *entry.overrides)]
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(arguments), None)[0]


def configure(runs: Sequence[Sequence[str]]) -> list[Config | str]:
    """Per run its configuration, or why it cannot run."""
    return [_configure(overrides) for overrides in track(runs, len(runs), "reading the plan's runs")]


def _configure(overrides: Sequence[str]) -> Config | str:
    try:
        config = composed(*overrides)
        validate(config)
        check_data(config)
    except HydraException as error:
        return told(error)
    except ValueError as error:
        return str(error)
    return config


def label(job: Job, common: Sequence[str]) -> str:
    """Name of a run's results: the row, what distinguishes it, the seed.

    ``ilm_mlp-semantic-num_queries_4-seed0``.
    """
    assert job.config is not None
    parts = [job.config.name]
    for override in job.overrides:
        key, _, value = override.lstrip("+").partition("=")
        if override in common or key in ("experiment", "seed", "budget"):
            continue
        short = key.split(".")[-1]
        parts.append(value if "." not in key else f"{short}_{value}")
    return _joined(parts) + f"-seed{job.config.seed}"


def labels(jobs: Sequence[Job], common: Sequence[str]) -> dict[int, str]:
    """A name of its own for each run of a plan, or one would overwrite the other's results.

    Args:
        jobs: all of the plan.
        common: overrides of all runs.

    Returns:
        By place in the plan, of runs that can run and are no repetition of another: the ``label``; where several have
        one, with what each does not share with the others of them, as ``ilm_mlp-seed0-budget_long``.
    """
    named = {i: label(job, common) for i, job in enumerate(jobs) if job.config is not None and job.twin is None}
    for shared in _same(named):
        overrides = [set(jobs[i].overrides) for i in shared]
        everywhere = set.intersection(*overrides)
        for i in shared:
            own = [override.lstrip("+") for override in jobs[i].overrides if override not in everywhere]
            named[i] = "-".join(filter(None, (named[i], _joined(own))))
    # overrides may differ in order alone, or in signs that no name holds
    for shared in _same(named):
        for i in shared:
            named[i] += f"-{jobs[i].name.rpartition('-')[2]}"
    return named


def _same(named: Mapping[int, str]) -> list[list[int]]:
    """Places that have one name, where several have it."""
    found: dict[str, list[int]] = {}
    for place, name in named.items():
        found.setdefault(name, []).append(place)
    return [places for places in found.values() if len(places) > 1]


def _joined(parts: Sequence[str]) -> str:
    return "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts)


@dataclass
class Budget:
    """Says which run still fits into the time that is left.

    A run is forecast by its plan's minutes, times how much longer or shorter the finished runs took than planned; where
    nobody planned, by the median of what ran.

    Attributes:
        hours: from now on; None for no limit.
        minutes: per job its planned minutes.
        now: the clock, in seconds.
    """

    hours: float | None
    minutes: Mapping[int, float | None]
    now: Callable[[], float] = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.now()

    def left(self) -> float:
        """Seconds."""
        return float("inf") if self.hours is None else self.hours * 3600 - (self.now() - self._start)

    def forecast(self, number: int, jobs: Sequence[Job]) -> float | None:
        """Seconds that a job will take; None where nothing is known."""
        ran = [(i, job.seconds) for i, job in enumerate(jobs) if job.state in (FINISHED, BEFORE) and job.seconds]
        planned = self.minutes.get(number)
        if planned is None:
            return median(seconds for _, seconds in ran) if ran else None
        ratios = [seconds / (60 * m) for i, seconds in ran if (m := self.minutes.get(i))]
        return 60 * planned * (median(ratios) if ratios else 1.0)

    def fits(self, number: int, jobs: Sequence[Job]) -> bool:
        """Whether a job may start: it will end in time, or nothing is known of it and time is left."""
        seconds = self.forecast(number, jobs)
        return self.left() > 0 if seconds is None else seconds <= self.left()
