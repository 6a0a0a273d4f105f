"""The numbers that the paper prints, as data: table, row, column -> value, misprints noted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

# our task -> the paper's row; the paper lists 23 of its 24 tasks, negative review is the one it leaves out
TASK_ROWS: Mapping[str, str] = {
    "summary": "summary",
    "positive_review": "positive review",
    "negative_review": "negative review",
    "neutral_review": "neutral review",
    "five_positive_characteristics": "five pos char.",
    "five_negative_characteristics": "five neg char.",
    "long_description": "long description",
    "funnier": "funnier",
    "sadder": "sadder",
    "scarier": "scarier",
    "improve": "improve",
    "movie_to_viewer": "movie to viewer",
    "pitch": "pitch",
    "criticize": "criticize",
    "convince1": "convince1",
    "convince2": "convince2",
    "convince3": "convince3",
    "dissuade1": "dissuade1",
    "dissuade2": "dissuade2",
    "similarities": "similarities",
    "interpolation": "interpolation",
    "why_like_nn": "why like nn",
    "diff_than_nn": "diff than nn",
    "common_with_nn": "common with nn",
}
ALL = "all"
UNPRINTED = "negative review"
"""Inferred as 24 times the mean less the 23 printed rows, within 0.25."""
ENCODER_TABLES: Mapping[str, str] = {"combined": "3", "semantic": "9", "behavioral": "10"}


class PaperError(ValueError):
    """A table, row or column that the paper does not print."""


@dataclass(frozen=True)
class PaperTable:
    """One printed table.

    Attributes:
        number: as the paper counts.
        metric: what the numbers are.
        item_embedding: the encoder, where one holds for the whole table.
        rows: row -> column -> value; OpenP5 tables have the dataset between them, joined to the column: ``ML1M HR@5``.
        implied: column -> value of the task that is not printed, within 0.25.
        notes: misprints and readings.
    """

    number: str
    metric: str
    item_embedding: str
    rows: Mapping[str, Mapping[str, float]]
    implied: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the printed order."""
        return tuple(next(iter(self.rows.values())))

    def value(self, row: str, column: str) -> float:
        """Look up one number.

        Args:
            row: as printed, ``"all"`` for the mean.
            column: as printed.

        Returns:
            The number; for the unprinted task the implied one.

        Raises:
            PaperError: the table has no such row or column.

        >>> table("3").value("all", "ILM-QFormer")
        82.34
        """
        values = self.implied if row == UNPRINTED and row not in self.rows else self.rows.get(row)
        if not values:
            raise PaperError(f"Table {self.number} has no row {row!r}; its rows are {', '.join(self.rows)}")
        if column not in values:
            raise PaperError(f"Table {self.number} has no column {column!r}; its columns are {', '.join(self.columns)}")
        return values[column]

    def find(self, row: str, column: str) -> float | None:
        """The same, None where there is no such number."""
        try:
            return self.value(row, column)
        except PaperError:
            return None


@cache
def _document() -> Mapping[str, Any]:
    text = resources.files("ilm_lightning.reporting").joinpath("paper_tables.json").read_text(encoding="utf-8")
    document: Mapping[str, Any] = json.loads(text)
    return document


def source() -> str:
    """Where the numbers were read."""
    return str(_document()["source"])


def table_numbers() -> tuple[str, ...]:
    """The tables there are, by the paper's numbers."""
    return tuple(entry["table"] for entry in _document()["tables"].values() if "table" in entry)


@cache
def table(number: str) -> PaperTable:
    """One of the paper's tables.

    Args:
        number: ``"2"`` to ``"10"``.

    Raises:
        PaperError: there is no such table.
    """
    entry = _document()["tables"].get(f"table{number}")
    if entry is None:
        raise PaperError(f"the paper has no Table {number} with numbers; there are {', '.join(table_numbers())}")
    return PaperTable(
        number=entry["table"],
        metric=entry.get("metric", "HR@K and NDCG@K" if number in ("4", "6", "7") else "counts"),
        item_embedding=entry.get("item_embedding", "behavioral"),
        rows={row: _flat(values) for row, values in entry["rows"].items()},
        implied=entry.get("implied_24th", {}),
        notes=tuple(entry.get("notes", ())),
    )


def openp5_baselines() -> Mapping[str, Mapping[str, float]]:
    """OpenP5's own table: method -> ``ML1M HR@5`` -> value, sequential recommendation."""
    names = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
    rows = _document()["tables"]["openp5_published"]["rows"]
    return {
        method: {
            f"{data} {name}": value for data, values in cells.items() for name, value in zip(names, values, strict=True)
        }
        for method, cells in rows.items()
    }


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key} {name}": number for name, number in value.items()}
        else:
            flat[key] = value
    return flat
