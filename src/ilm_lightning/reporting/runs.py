"""Finished runs found under folders: configuration, metrics, predictions; what cannot be used is named."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ilm_lightning.older import renamed
from ilm_lightning.reporting.shapes import CONFIG as CONFIG_SHAPE
from ilm_lightning.reporting.shapes import LANGUAGE, RECOMMENDATION, fitted

CONFIG, METRICS, PREDICTIONS, STATUS = "config.yaml", "metrics.json", "predictions.parquet", "status.json"
ARTEFACT = "manifest.json"
"""Tells the folder of a stage's artefact."""
DEPTH = 5
"""How far below a folder runs are looked for."""
RANKING = "ranking"
"""Key that tells metrics of a recommendation run."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RunError(ValueError):
    """A folder that cannot be reported on, and what to do."""


@dataclass(frozen=True)
class Problem:
    """Something that was left out or is missing, and what to do about it.

    Attributes:
        where: folder, file or row.
        what: in words.
    """

    where: str
    what: str


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        name: folder name, unique within a report.
        path: the run folder, or the committed metrics file.
        config: the run's configuration, plain; empty for a committed metrics file without one.
        metrics: what ``metrics.json`` holds.
        predictions: the parquet file, None where only the metrics are there.
    """

    name: str
    path: Path
    config: Mapping[str, Any] = field(repr=False)
    metrics: Mapping[str, Any] = field(repr=False)
    predictions: Path | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        stated = self.metrics["protocol"].get("seed")
        return int(self.config.get("seed") or 0) if stated is None else int(stated)

    def setting(self, key: str, default: Any = None) -> Any:
        """A dotted key of the configuration."""
        node: Any = self.config
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return default
            node = node[part]
        return node

    @property
    def is_control(self) -> bool:
        """Whether phase 1 read shuffled pairs: the control of claim 6, no row of its own."""
        return bool(self.setting("pretraining.shuffled_pairs"))

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the run tells of its making: times, memory, command; empty where an older file has another form."""
        facts = self.metrics.get("run")
        return facts if isinstance(facts, Mapping) else {}

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, as measured."""
        told = self.facts.get("seconds")
        known = told.items() if isinstance(told, Mapping) else ()
        return {str(stage): float(value) for stage, value in known if isinstance(value, int | float) and value >= 0}

    @property
    def commits(self) -> set[str]:
        """Commits of the code that made its artefacts."""
        built, versions = (self.facts.get(key) for key in ("built_with", "versions"))
        stages = built.values() if isinstance(built, Mapping) else ()
        known = [*stages, versions.get("commit") if isinstance(versions, Mapping) else None]
        return {commit for commit in known if isinstance(commit, str)}

    @property
    def hardware(self) -> str:
        """Processor, cores and GPUs; empty where the run does not tell."""
        told = self.facts.get("hardware")
        if not isinstance(told, Mapping) or "processor" not in told:
            return ""
        gpus = told.get("gpus")
        named = map(str, gpus) if isinstance(gpus, list) else ()
        cores = told.get("cores", "?")
        return ", ".join([str(told["processor"]), f"{cores} core{'' if cores == 1 else 's'}", *named])

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The configuration with dotted keys; lists as tuples."""
        return dict(_flatten(self.config, ""))


def read_runs(folders: Sequence[str | Path]) -> tuple[list[Run], list[Run], list[Problem]]:
    """Find and read runs.

    Args:
        folders: run folders, folders that hold them, or committed metrics files.

    Returns:
        Finished runs on language tasks, finished recommendation runs, both in the order of their paths; and what was
        left out.

    Raises:
        RunError: a folder that is not there.
    """
    runs, problems = _read_all(folders)
    return [r for r in runs if RANKING not in r.metrics], [r for r in runs if RANKING in r.metrics], problems


def _read_all(folders: Sequence[str | Path]) -> tuple[list[Run], list[Problem]]:
    runs: list[Run] = []
    problems: list[Problem] = []
    seen: set[Path] = set()
    for folder in map(Path, folders):
        if not folder.exists():
            raise RunError(
                f"{folder}: there is no such folder; give a run folder or one that holds runs, like outputs/"
            )
        found = False
        for path in _candidates(folder):
            found = True
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                run = _read_run(path, problems) if path.is_dir() else _read_result(path, problems)
            except RunError as error:
                problems.append(Problem(str(path), str(error)))
                continue
            if run is not None:
                runs.append(run)
        if not found:
            problems.append(Problem(str(folder), f"holds no run: no folder with {CONFIG} and no metrics file in it"))
    return _unique_names(runs), problems


def _candidates(folder: Path) -> Iterator[Path]:
    """Run folders and, beside none, committed metrics files; below a run nothing is looked for."""
    if folder.is_file():
        yield folder
        return

    def walk(at: Path, depth: int) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(at), key=lambda entry: entry.name)
        except OSError:
            return
        names = {entry.name for entry in entries}
        if ARTEFACT in names:
            return  # as where artefacts lie below the folder of results
        if names & {CONFIG, STATUS, METRICS}:
            yield at
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < DEPTH:
                    yield from walk(Path(entry.path), depth + 1)
            elif entry.name.endswith(".json") and _looks_like_metrics(Path(entry.path)):
                yield Path(entry.path)

    yield from walk(folder, 0)


def _looks_like_metrics(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return '"protocol"' in text and ('"tasks"' in text or f'"{RANKING}"' in text)


def _read_run(folder: Path, problems: list[Problem]) -> Run | None:
    status = (
        _read_json(folder / STATUS, "its state is unknown") if (folder / STATUS).is_file() else {"state": "finished"}
    )
    if status.get("state") != "finished":
        state, why = status.get("state", "unknown"), status.get("error")
        # who stopped a run has nothing to mend
        told = f"{why}; once that is mended, " if why and state == "failed" else ""
        problems.append(
            Problem(str(folder), f"unfinished run (state {state}): {told}resume={folder.name} continues it")
        )
        return None
    if not (folder / METRICS).is_file():
        problems.append(Problem(str(folder), f"unfinished run: no {METRICS}; resume={folder.name} continues it"))
        return None
    metrics = _metrics(folder / METRICS, problems)
    config = _config(folder / CONFIG)
    predictions: Path | None = folder / PREDICTIONS
    if RANKING in metrics and not metrics[RANKING]:
        return Run(folder.name, folder, config, metrics, None)
    if not (folder / PREDICTIONS).is_file():
        problems.append(
            Problem(str(folder), f"no {PREDICTIONS}: its means are shown, but nothing can be tested on them")
        )
        predictions = None
    return Run(folder.name, folder, config, metrics, predictions)


def _read_result(path: Path, problems: list[Problem]) -> Run:
    """A committed metrics file: means without predictions."""
    return Run(path.stem, path, {}, _metrics(path, problems), None)


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(
            f"{CONFIG} cannot be read ({error}); the run's settings are unknown, so it is left out"
        ) from error
    if not isinstance(config, Mapping):
        raise RunError(f"{CONFIG} holds no settings; the run is left out")
    found = renamed(config)
    if fault := fitted(found, CONFIG_SHAPE)[2]:
        raise RunError(f"{CONFIG} cannot be read ({fault[0]}); the run's settings are unknown, so it is left out")
    return found


def _metrics(path: Path, problems: list[Problem]) -> Mapping[str, Any]:
    """Metrics with every part that is read in the form in which it is read; parts that were left out are problems."""
    anew = "the training command writes it anew"
    metrics = _read_json(path, anew)
    ranked = RANKING in metrics
    if not ranked and _without_prose(metrics):
        raise RunError(
            f"{path.name} holds no semantic consistency of own vectors: a run of other tasks has no place here"
        )
    kept, fault, left_out = fitted(metrics, RECOMMENDATION if ranked else LANGUAGE)
    if fault:
        raise RunError(f"{path.name} is damaged or of another version: {fault}; {anew}")
    problems += [
        Problem(str(path), f"a part of it is damaged or of another version and left out: {what}; {anew}")
        for what in left_out
    ]
    recipe = kept.get("recipe")
    return {**kept, "recipe": renamed(recipe)} if isinstance(recipe, Mapping) else kept


def _without_prose(metrics: Mapping[str, Any]) -> bool:
    """Whether these are whole metrics of tasks that are not answered in prose."""
    means = metrics.get("all")
    whole = isinstance(means, Mapping) and all(isinstance(metrics.get(key), Mapping) for key in ("tasks", "protocol"))
    return whole and "own" not in (means.get("sc") or {})  # type: ignore[union-attr]


def _read_json(path: Path, consequence: str) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path.name} is damaged ({error}); {consequence}") from error
    if not isinstance(value, Mapping):
        raise RunError(f"{path.name} is damaged (no JSON object); {consequence}")
    return value


def _flatten(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def _unique_names(runs: Sequence[Run]) -> list[Run]:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.name] = counts.get(run.name, 0) + 1
    named = []
    for run in runs:
        name = run.name if counts[run.name] == 1 else f"{run.path.parent.name}/{run.name}"
        named.append(Run(name, run.path, run.config, run.metrics, run.predictions))
    return named
