"""Tables of the tasks that are not measured by semantic consistency, each measure beside its baselines."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ilm_lightning.evaluation.summary import CONDITIONS
from ilm_lightning.reporting.blocks import Blocks

TITLES = {
    "genome_tags": "Genome tags of an item",
    "rating": "Rating of an item from a user's history",
    "next_item": "Next item",
    "user_profile": "User profile: rank correlation of the text with judged ratings",
}
MEASURES = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "known": "known",
    "mae": "MAE",
    "rmse": "RMSE",
    "mae_expected": "MAE exp.",
    "rmse_expected": "RMSE exp.",
    "readable": "readable",
    "mrr": "MRR",
    "hr1": "HR@1",
    "hr5": "HR@5",
    "exact": "exact",
    "named": "named",
    "bc": "BC",
    "bc_facts": "BC facts",
}
GAP = "gap"
LEGENDS = {
    "genome_tags": "known: tags of the vocabulary; popular: the most frequent tags of training movies",
    "rating": "exp.: of the expectation over the scale; readable: texts that hold a rating; means are of known ratings",
    "next_item": "ranks by the model's probability of each title; exact, named: texts that are the true, or any, title",
    "user_profile": "BC: films ranked by cosine to the text; facts: by the likes and dislikes it names; "
    "target: the teacher's own text",
}


def answer_tables(figure1: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Lay out one table a task.

    Args:
        figure1: per task what ``evaluation.answers.compare`` returns.

    Yields:
        Measures as columns; the own vector, its controls, then baselines as rows; last what the own vector wins.
    """
    for task, found in figure1.items():
        more = f", {found['candidates']:.0f} candidates" if "candidates" in found else ""
        # a title of its own: one of the table would be broken at the table's width
        title = Text(f"{TITLES.get(task, task)}, {found['n']} examples{more}", style="bold")
        names = [name for name in MEASURES if name in found["measures"]]
        table = Blocks([*names, GAP], partial(_table, found))
        yield Group(title, table, Text(f"{LEGENDS.get(task, '')}; 95 % intervals over users and movies", style="dim"))


def _table(found: Mapping[str, Any], columns: Sequence[str], first: bool) -> Table:
    """Some of a task's columns; all conditions that any measure has, the own vector and its controls first."""
    del first  # the title stands above
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in columns:
        heading = f"own better ({MEASURES[found['main']]})" if name == GAP else MEASURES[name]
        table.add_column(heading, justify="right", no_wrap=True)
    given = {key for values in found["measures"].values() for key in values}
    for condition in [*(key for key in CONDITIONS if key in given), *sorted(given - set(CONDITIONS))]:
        gap = _gap(found["differences"].get(condition))
        values = {name: _number(row.get(condition)) for name, row in found["measures"].items()}
        table.add_row(condition.replace("_", " "), *(gap if name == GAP else values[name] for name in columns))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _gap(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{row['mean']:+.3f} [{row['low']:.3f}, {row['high']:.3f}]"
