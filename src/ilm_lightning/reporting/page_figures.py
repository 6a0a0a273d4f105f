"""Curves and bars of the HTML page."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ilm_lightning.reporting.charts import Line, bars, legend, line_chart
from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.controls import full_label
from ilm_lightning.reporting.document import Section
from ilm_lightning.reporting.histories import Curve, histories
from ilm_lightning.reporting.paper import TASK_ROWS
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.scores import SC
from ilm_lightning.reporting.tables import measure_name
from ilm_lightning.reporting.text import html

SHOWN = (
    "val/loss", "train/loss", "val/sc", "val/hr10", "val/itg_nll", "val/itg", "val/itc", "val/itm", "val/iic",
    "val/uic", "val/vg", "train/gradient_norm", "train/lr_adapter",
)  # fmt: skip
MOST_PANELS, MOST_LINES = 12, 8


def figure_3(section: Section, measure: str) -> str:
    """Quality over the number of soft tokens; empty without a sweep."""
    curves = [series for series in section.figure if series.measure == measure]
    if not curves:
        return ""
    lines = [
        Line(
            series.label,
            place,
            [math.log2(p.queries) for p in series.points],
            [p.mean for p in series.points],
            [p.sd for p in series.points],
        )
        for place, series in enumerate(curves)
    ]
    queries = sorted({p.queries for series in curves for p in series.points})
    title = f"Figure 3: {measure_name(section.group, measure)}"
    note = "mean over tasks and seeds, bars ± sd over seeds; the paper prints a plot without numbers"
    chart = line_chart(title, note, lines, "soft tokens", [(math.log2(q), str(q)) for q in queries])
    return f'<div class="card">{chart}</div>'


def bars_of(section: Section) -> str:
    """SC per task for each column of the tables."""
    group = section.group
    shown = table_columns(section)
    columns = shown[:MOST_PANELS]
    if not columns:
        return ""
    tasks = [task for task in TASK_ROWS if task in group.tasks]
    cards = []
    for place, column in enumerate(columns):
        rows = []
        for task in tasks:
            values = column.values(SC, task)
            if values:
                blind, copied = (_condition(column, task, name) for name in ("blind", "knn_copy"))
                rows.append((TASK_ROWS[task], float(np.mean(values)), blind, copied))
        cards.append(
            f'<div class="card"><strong>{html(full_label(column, group))}</strong>{bars(rows, place, 100)}</div>'
        )
    more = f" {len(shown) - len(columns)} more columns are in the tables." if len(shown) > len(columns) else ""
    return (
        "<h3>SC per task</h3><p class=muted>Bar: own vectors. Where a run has them, solid tick: the blind control, "
        f'dotted tick: kNN copy. Full width is 100.{more}</p><div class="grid">{"".join(cards)}</div>'
    )


def table_columns(section: Section) -> list[Column]:
    """Columns of the tables, each once; those of Tables 3, 9 and 10 before what Table 2 alone has."""
    shown: dict[int, Column] = {}
    made = section.tables.get(SC, ())
    for table in sorted(made, key=lambda table: table.number == "2"):
        for heading in table.headings:
            if heading.column is not None:
                shown.setdefault(id(heading.column), heading.column)
    return list(shown.values())


def _condition(column: Column, task: str, name: str) -> float | None:
    values = [run.metrics["tasks"].get(task, {}).get(SC, {}).get(name) for run in column.runs.values()]
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def loss_curves(section: Section) -> str:
    """Losses of a section's columns over the steps of each stage."""
    columns = table_columns(section) or list(section.group.columns)
    return training_curves([(full_label(column, section.group), list(column.runs.values())) for column in columns])


def training_curves(named: Sequence[tuple[str, Sequence[Run]]]) -> str:
    """Losses over the steps of each stage: mean over seeds, one line a label.

    Args:
        named: label and its runs, one a seed.
    """
    drawn = named[:MOST_LINES]
    found: dict[tuple[str, str], list[Line]] = {}
    for place, (label, runs) in enumerate(drawn):
        for key, curves in _by_name(runs).items():
            found.setdefault(key, []).extend(_lines(label, place, curves))
    cards = [
        line_chart(f"{stage}: {name}", "", found[stage, name], "step", with_legend=False)
        for stage, name in sorted(found, key=lambda key: (key[0], SHOWN.index(key[1])))
    ]
    shown = "".join(f'<div class="card">{card}</div>' for card in cards if card)
    if not shown:
        return "<h3>Training</h3><p class=muted>These runs left no training history.</p>"
    names = legend([(label, place) for place, (label, _) in enumerate(drawn)])
    more = f" {len(named) - len(drawn)} more columns are not drawn." if len(named) > len(drawn) else ""
    note = f"<p class=muted>Mean over seeds; thin: each seed.{more}</p>"
    return f'<h3>Training</h3>{note}{names}<div class="grid" style="margin-top:.6rem">{shown}</div>'


def _by_name(runs: Sequence[Run]) -> Mapping[tuple[str, str], list[Curve]]:
    found: dict[tuple[str, str], list[Curve]] = {}
    for run in runs:
        for curve in histories(run):
            if curve.name in SHOWN:
                found.setdefault((curve.stage, curve.name), []).append(curve)
    return found


def _lines(label: str, place: int, curves: Sequence[Curve]) -> list[Line]:
    if len(curves) == 1:
        return [Line(label, place, curves[0].steps, curves[0].values)]
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    tables = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    mean = [float(np.mean([table[step] for table in tables])) for step in steps]
    thin = [Line("", place, curve.steps, curve.values, faint=True) for curve in curves]
    return [Line(label, place, steps, mean), *thin]
