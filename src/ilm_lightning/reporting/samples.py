"""Texts of several columns for the same examples, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ilm_lightning.data.files import UNREADABLE
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.groups import Group

COLUMNS = ("example_id", "task", "movie", "condition", "target", "generated")


@dataclass(frozen=True)
class Sample:
    """One example.

    Attributes:
        task: its task.
        item: the item's title where the run folder holds the catalogue, else its row. The model never saw it.
        prompt: as the model saw it, with slots.
        target: the teacher's text.
        texts: column -> text and SC.
        controls: ``another movie's vector`` and ``blind`` of the first column -> text.
    """

    task: str
    item: str
    prompt: str
    target: str
    texts: Mapping[str, tuple[str, float | None]]
    controls: Mapping[str, str]


def pick_samples(group: Group, columns: Mapping[str, Column], count: int = 6) -> list[Sample]:
    """Pick examples spread over tasks and movies: the same ones for the same runs.

    Args:
        group: runs of one protocol, so that all have the same examples.
        columns: label -> column; those without predictions are left out.
        count: how many.

    Returns:
        Samples with every column's text of its first seed.
    """
    paths = {label: _predictions(column) for label, column in columns.items()}
    known = {label: path for label, path in paths.items() if path is not None and _has_texts(path)}
    if not known:
        return []
    first = next(iter(known.values()))
    chosen = _choose(first, count)
    frames = {label: _rows(path, chosen) for label, path in known.items()}
    titles = titles_in(first.parent)
    samples = []
    for key in chosen:
        base = frames[next(iter(known))].filter(pl.col("example_id") == key)
        row = base.filter(pl.col("condition") == "own").row(0, named=True)
        texts = {label: found for label, frame in frames.items() if (found := _text(frame, key)) is not None}
        controls = {
            name: str(part["generated"][0])
            for name, condition in (("another movie's vector", "shuffled"), ("blind", "blind"))
            if (part := base.filter(pl.col("condition") == condition)).height and part["generated"][0] is not None
        }
        item = titles.get(row["movie"], f"item {row['movie']}")
        samples.append(Sample(row["task"], item, str(row.get("prompt") or ""), row["target"], texts, controls))
    return samples


def _predictions(column: Column) -> Path | None:
    for seed in column.seeds:
        if seed in column.scores:
            return column.runs[seed].predictions
    return None


def _has_texts(path: Path) -> bool:
    """Whether predictions hold what is shown; tests need less of them."""
    schema = pl.read_parquet_schema(path)
    return all(name in schema for name in COLUMNS)


def _choose(path: Path, count: int) -> list[str]:
    """One example of each of some tasks, each of another movie."""
    own = (
        pl.scan_parquet(path)
        .filter((pl.col("condition") == "own") & pl.col("generated").is_not_null())
        .select("example_id", "task", "movie")
        .collect()
        .sort("task", "example_id")
    )
    tasks = own["task"].unique(maintain_order=True).to_list()
    count = min(count, len(tasks))
    chosen: list[str] = []
    movies: set[object] = set()
    for place in range(count):
        part = own.filter(pl.col("task") == tasks[place * len(tasks) // count])
        rows = part.rows(named=True)
        start = place * len(rows) // count
        row = next((r for r in rows[start:] + rows[:start] if r["movie"] not in movies), rows[0])
        movies.add(row["movie"])
        chosen.append(row["example_id"])
    return chosen


def _rows(path: Path, chosen: Sequence[str]) -> pl.DataFrame:
    schema = pl.read_parquet_schema(path)
    names = [name for name in (*COLUMNS, "prompt", "sc") if name in schema]
    wanted = pl.col("example_id").is_in(list(chosen)) & pl.col("condition").is_in(["own", "shuffled", "blind"])
    return pl.scan_parquet(path).filter(wanted).select(names).collect()


def _text(frame: pl.DataFrame, key: str) -> tuple[str, float | None] | None:
    part = frame.filter((pl.col("example_id") == key) & (pl.col("condition") == "own"))
    if not part.height or part["generated"][0] is None:
        return None
    return str(part["generated"][0]), part["sc"][0]


def titles_in(folder: Path) -> dict[object, str]:
    """Title and year of each item, by row, where a run folder holds the catalogue."""
    path = folder / "items" / "items.parquet"
    try:
        check_parquet(path)
        frame = pl.read_parquet(path, columns=["index", "title", "year"])
    except UNREADABLE:
        return {}
    return {i: f"{title} ({year})" if year else str(title) for i, title, year in frame.iter_rows()}
