"""Training histories that runs leave: step, seconds, name, value."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilm_lightning.reporting.runs import Run

STAGES = ("pretrain", "tune")


@dataclass(frozen=True)
class Curve:
    """One logged value over the steps of a stage.

    Attributes:
        stage: pretrain, tune, …
        name: such as ``val/loss``.
        steps: rising.
        values: one per step.
        seconds: since the stage began; starts anew where a run was resumed.
    """

    stage: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def last(self) -> float:
        """Value at the last step."""
        return self.values[-1]

    @property
    def best(self) -> float:
        """Lowest value."""
        return min(self.values)

    def at(self, step: float) -> float:
        """Value at a step; between two measured ones on the line between them, outside the nearest one's.

        >>> Curve("pretrain", "val/itg", (100, 200), (4.0, 3.0), (1.0, 2.0)).at(140)
        3.6
        """
        return float(np.interp(step, self.steps, self.values))


def histories(run: Run) -> list[Curve]:
    """All curves of a run; none where its artefacts were not kept.

    A step that was logged twice (a resumed run) keeps its last value. A damaged line is passed over.
    """
    curves: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}
    for stage, path in _files(run):
        for step, seconds, name, value in _rows(path):
            curves.setdefault((stage, name), {})[step] = (value, seconds)
    return [
        Curve(
            stage,
            name,
            tuple(sorted(points)),
            tuple(points[step][0] for step in sorted(points)),
            tuple(points[step][1] for step in sorted(points)),
        )
        for (stage, name), points in curves.items()
    ]


def curve(run: Run, stage: str, *names: str) -> Curve | None:
    """The first of several names that a run logged."""
    known = {(c.stage, c.name): c for c in histories(run)}
    return next((known[stage, name] for name in names if (stage, name) in known), None)


def _files(run: Run) -> Iterator[tuple[str, Path]]:
    """History files in the run folder, else in the artefacts that the run was made from."""
    if not run.path.is_dir():
        return
    own = sorted(run.path.glob("history*.csv"))
    if own:
        yield from ((_stage(path), path) for path in own)
        return
    root = str(run.setting("artifacts", "artifacts"))
    roots = (Path(root), run.path.parent.parent / root, run.path.parent / root)
    made = run.facts.get("artifacts")
    for entry in made if isinstance(made, list) else ():
        stage = str(entry).partition("/")[0]
        if stage not in STAGES or ".." in str(entry):
            continue
        folder = next((base / str(entry) for base in roots if (base / str(entry)).is_dir()), None)
        if folder is not None:
            yield from ((_stage(path), path) for path in sorted(folder.glob("history*.csv")))


def _stage(path: Path) -> str:
    return path.stem.removeprefix("history").strip("-_") or "train"


def _rows(path: Path) -> Iterator[tuple[int, float, str, float]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                try:
                    yield int(row["step"]), float(row["seconds"]), str(row["name"]), float(row["value"])
                except (KeyError, TypeError, ValueError):
                    continue
    except (OSError, csv.Error):
        return
