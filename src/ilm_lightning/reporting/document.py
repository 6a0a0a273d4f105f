"""Everything a report says, before it is written as Markdown, LaTeX, CSV or HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilm_lightning.reporting.columns import Column, alike
from ilm_lightning.reporting.groups import Group, gather
from ilm_lightning.reporting.ranking_tables import Rankings, rankings
from ilm_lightning.reporting.runs import Problem, read_runs
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Table, available, tables

# repeated from evaluation.summary, which loads torch; a test holds both together
CONDITIONS = ("own", "shuffled", "hard_shuffled", "blind", "constant", "knn_copy", "title", "facts")
CONTROLS = ("shuffled", "blind", "constant")
"""What own vectors have to beat; ``best_control`` of the evaluation."""
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
class Controls:
    """One column against what its own vectors have to beat.

    Attributes:
        label: the column.
        sc: condition -> mean over seeds.
        best: mean of own minus the best of shuffled, blind and constant; None where it was not run.
        of: the controls that it is the best of, where these are not all three; empty where they are.
        beaten: seeds in which that difference's interval lies above zero.
        seeds: seeds with that difference.
        agreed: seeds in which a second measure says the same.
        below_copy: whether own lies below kNN copy in the mean.
        retrieval: R@1, chance, MRR, chance; None where it was not measured.
        bits: bits a target costs less than with the blind control.
    """

    label: str
    sc: Mapping[str, float]
    best: float | None
    of: str
    beaten: int
    seeds: int
    agreed: int
    below_copy: bool
    retrieval: tuple[float, float, float, float] | None
    bits: float | None

    @property
    def named(self) -> str:
        """The column, with the controls that were there where some were not."""
        return f"{self.label} (of {self.of} alone)" if self.of else self.label


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
    controls = [_controls(column, group) for column in group.columns]
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


def full_label(column: Column, group: Group) -> str:
    """A column's name with all that sets it apart in its group."""
    variant = column.variant
    parts = [variant.encoder]
    if variant.queries != (1 if variant.name == "ELM" else group.queries):
        parts.append(f"q={variant.queries}")
    if variant.source_tokens != 1:
        parts.append(f"S={variant.source_tokens}")
    if column.apart:
        parts.append(column.apart)
    return f"{variant.name} ({', '.join(parts)})"


def _controls(column: Column, group: Group) -> Controls:
    all_metrics = [column.runs[seed].metrics for seed in column.seeds]
    tables_of = [metrics["all"]["sc"] for metrics in all_metrics]
    sc = {
        key: float(np.mean([table[key] for table in tables_of]))
        for key in CONDITIONS
        if all(table.get(key) is not None for table in tables_of)
    }
    rows = [metrics.get("differences", {}).get("sc", {}).get("best_control") for metrics in all_metrics]
    known = [row for row in rows if row]
    return Controls(
        label=full_label(column, group),
        sc=sc,
        best=float(np.mean([row["mean"] for row in known])) if known else None,
        of=_chosen_from([metrics for metrics, row in zip(all_metrics, rows, strict=True) if row]),
        beaten=sum(row["low"] > 0 for row in known),
        seeds=len(known),
        agreed=sum(_verdict(metrics) == "confirmed" for metrics in all_metrics),
        below_copy="knn_copy" in sc and sc["own"] < sc["knn_copy"],
        retrieval=_retrieval(all_metrics),
        bits=_bits(all_metrics),
    )


def _chosen_from(all_metrics: Sequence[Mapping[str, Any]]) -> str:
    """What the best control was the best of, over seeds; empty where that is all of them, or there is none."""
    found = []
    for metrics in all_metrics:
        # an older run does not say it: what was generated was there to choose from
        told = metrics.get("controls", {}).get("best_control") or metrics["all"]["sc"]
        found.append(tuple(key for key in CONTROLS if key in told))
    if set(found) <= {CONTROLS}:
        return ""
    return "; or of ".join(dict.fromkeys(" and ".join(keys) for keys in found))


def _verdict(metrics: Mapping[str, Any]) -> str | None:
    """What the run itself says of its own vectors against the best control, a second scorer heard."""
    row = metrics.get("claims", {}).get("best_control", {})
    return row.get("verdict") if isinstance(row, Mapping) else None


def _retrieval(all_metrics: Sequence[Mapping[str, Any]]) -> tuple[float, float, float, float] | None:
    rows = [metrics.get("retrieval", {}).get("own", {}).get("all") for metrics in all_metrics]
    if not all(rows):
        return None
    first, chance, mrr, chance_mrr = (
        float(np.mean([row[key] for row in rows])) for key in ("r1", "chance_r1", "mrr", "chance_mrr")
    )
    return first, chance, mrr, chance_mrr


def _bits(all_metrics: Sequence[Mapping[str, Any]]) -> float | None:
    rows = [metrics.get("differences", {}).get("bits", {}).get("blind") for metrics in all_metrics]
    return float(np.mean([row["mean"] for row in rows])) if rows and all(rows) else None
