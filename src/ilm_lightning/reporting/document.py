"""Everything a report says, before it is written as Markdown, LaTeX, CSV or HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilm_lightning.reporting.columns import Column, alike
from ilm_lightning.reporting.controls import Controls, controls_of
from ilm_lightning.reporting.groups import Group, gather
from ilm_lightning.reporting.ranking_tables import Rankings, rankings
from ilm_lightning.reporting.runs import Problem, read_runs
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Table, available, tables

FIGURE_ADAPTERS = ("ILM-QFormer-random", "ILM-MLP", "ILM-QFormer")


@dataclass(frozen=True)
class Point:
    """Quality at a number of soft tokens."""

    queries: int
    mean: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Series:
    """One curve of Figure 3.

    Attributes:
        label: adapter, encoder and S.
        measure: key of the measure.
        points: by number of soft tokens.
        columns: the runs behind each point.
    """

    label: str
    measure: str
    points: tuple[Point, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Section:
    """What one protocol's runs give.

    Attributes:
        group: the runs.
        tables: measure -> tables.
        figure: curves of Figure 3.
        controls: per column.
        absent: tables without any run.
    """

    group: Group
    tables: Mapping[str, Sequence[Table]]
    figure: Sequence[Series]
    controls: Sequence[Controls]
    absent: Sequence[str]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    folders: tuple[str, ...]
    sections: tuple[Section, ...]
    problems: tuple[Problem, ...]
    runs: int
    resamples: int
    rankings: Rankings | None = None

    @property
    def main(self) -> Section | None:
        """The protocol that claims rest on: on test the one with most runs, if there is anything to test on."""
        first = self.sections[0].group if self.sections else None
        return self.sections[0] if first and first.testable and not first.protocol.validation else None


def check_resamples(resamples: int) -> None:
    """Refuse a number of draws that gives no interval.

    Raises:
        ValueError: fewer than 100.
    """
    if resamples < 100:
        raise ValueError(f"--resamples {resamples} is too few for an interval; the protocol asks for 5000")


def build(folders: Sequence[str | Path], resamples: int = 5000) -> Document:
    """Read runs and lay out all that can be said about them.

    Args:
        folders: run folders, or folders that hold them.
        resamples: of the bootstrap; the protocol asks for at least 5,000.

    Returns:
        The report.

    Raises:
        RunError: a folder is not there.
    """
    runs, ranked, problems = read_runs(folders)
    groups, more = gather(runs, resamples)
    sections = tuple(_section(group) for group in groups)
    n_runs = len(runs) + len(ranked)
    recommended = rankings(ranked)
    problems = [*problems, *more, *(recommended.problems if recommended else ())]
    return Document(tuple(map(str, folders)), sections, tuple(problems), n_runs, resamples, recommended)


def _section(group: Group) -> Section:
    made = {measure: tables(group, measure) for measure in available(group)}
    numbers = {table.number for table in made.get(SC, [])}
    figure = [series for measure in (SC, ITEM) for series in figure_3(group, measure)]
    absent = [f"Table {number}" for number in ("2", "3", "9", "10") if number not in numbers]
    if not figure:
        absent.append("Figure 3")
    controls = [controls_of(column, group) for column in group.columns]
    return Section(group, made, figure, controls, absent)


def figure_3(group: Group, measure: str) -> list[Series]:
    """Curves of quality over the number of soft tokens, those with at least two points.

    Args:
        group: runs of one protocol.
        measure: what is drawn.
    """
    curves: dict[tuple[str, str, int], list[Column]] = {}
    for column in group.columns:
        variant = column.variant
        if variant.name in FIGURE_ADAPTERS and column.values(measure):
            curves.setdefault((variant.name, variant.encoder, variant.source_tokens), []).append(column)
    found = []
    for (name, encoder, source_tokens), every in sorted(curves.items()):
        curve = alike(sorted(every, key=lambda c: (bool(c.apart), -len(c.seeds))))
        if len(curve) < 2:
            continue
        columns = [curve[queries] for queries in sorted(curve)]
        label = f"{name}, {encoder}" + (f", S={source_tokens}" if source_tokens != 1 else "")
        points = []
        for column in columns:
            values = column.values(measure)
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            points.append(Point(column.variant.queries, float(np.mean(values)), sd, len(values)))
        found.append(Series(label, measure, tuple(points), tuple(columns)))
    return found
