"""Tables of the tasks that are not measured by semantic consistency, each measure beside its baselines."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    "known": "tags in the vocabulary",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "mae_expected": "MAE of the expectation",
    "rmse_expected": "RMSE of the expectation",
    "readable": "answers that are a rating",
    "hr1": "true title first",
    "hr5": "among the first five",
    "mrr": "mean reciprocal rank",
    "exact": "text is the true title",
    "named": "text is a title at all",
    "bc": "behavioral consistency",
}


def answer_tables(figure1: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Lay out one table a task.

    Args:
        figure1: per task what ``evaluation.answers.compare`` returns.

    Yields:
        Measures as columns, the own vector and its controls and baselines as rows, and below what the own vector wins.
    """
    for task, found in figure1.items():
        more = f", {found['candidates']:.0f} candidates" if "candidates" in found else ""
        table = Table(
            title=f"{TITLES.get(task, task)}, {found['n']} examples{more}",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("", no_wrap=True)
        names = [name for name in MEASURES if name in found["measures"]]
        for name in names:
            table.add_column(MEASURES[name], justify="right")
        table.add_column(f"own better by ({MEASURES[found['main']]})", justify="right")
        for condition in dict.fromkeys(key for name in names for key in found["measures"][name]):
            cells = [found["measures"][name].get(condition) for name in names]
            table.add_row(
                condition.replace("_", " "),
                *("" if value is None else f"{value:.3f}" for value in cells),
                _gap(found["differences"].get(condition)),
            )
        note = "95 % intervals over users and movies; where it spans 0 the vector has won nothing"
        yield Group(table, Text(note, style="dim"))


def _gap(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{row['mean']:+.3f} [{row['low']:.3f}, {row['high']:.3f}]"
