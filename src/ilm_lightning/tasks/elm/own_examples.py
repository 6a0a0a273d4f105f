"""Examples of the user's own tasks, and their phrasings among those of the 24 tasks."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.data.custom import read_columns_of
from ilm_lightning.data.delimited import unread_fault
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.item import Item
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.tasks.elm.build import DUPLICATE, EXAMPLE_SCHEMA, NO_PARTNER, surplus_rows
from ilm_lightning.tasks.elm.facts import CatalogContext, Film
from ilm_lightning.tasks.elm.grammar import Lookup, render
from ilm_lightning.tasks.elm.own import COLUMNS, OwnTask, OwnTasks
from ilm_lightning.tasks.elm.prompts import SLOT, phrasings
from ilm_lightning.tasks.elm.teacher import pick
from ilm_lightning.tasks.elm.wording import listing

log = logging.getLogger("ilm_lightning")
NO_TARGET = "no target in the file"
CROSSING = "the two items lie in different splits"
LACKING = "lacks what the target's first sentence needs"
_COUNTS = ("oscars_won", "oscar_nominations", "n_ratings")
Answer = Callable[[Item, Item | None], str | None]


def read_targets(path: Path, items: int) -> pl.DataFrame:
    """Read a file of ready targets.

    Args:
        path: CSV or parquet.
        items: 1 (columns item and target) or 2 (other, the second item's id, too).

    Returns:
        The columns as text, without the rows that have no target.

    Raises:
        DataError: a missing column, an unreadable file or row, an item twice, or no target at all; with the place.
    """
    frame = read_columns_of(path, ("item", "other", "target") if items == 2 else ("item", "target"))
    csv = not path.name.lower().endswith(".parquet")
    fault = unread_fault(path) if csv else None
    if fault is not None:
        raise DataError(f"{path}: {fault}; correct it")
    if frame.height == 0:
        raise DataError(f"{path}: there is no row{' below the header' * csv}; give one row per item")
    # as a spreadsheet counts, where the header is row 1
    rows = frame.with_row_index("row", offset=2 if csv else 1).filter(pl.col("target").str.strip_chars() != "")
    if rows.height == 0:
        raise DataError(f"{path}: the column 'target' is empty in every row ({frame.height}); fill it")
    twice = rows.filter(pl.col("item").is_duplicated())
    if twice.height:
        item = twice["item"][0]
        first, second = twice.filter(pl.col("item") == item)["row"][:2]
        where = f"in rows {first} and {second}" + (", the header being row 1" if csv else "")
        raise DataError(f"{path}: item {item!r} has more than one target, {where}; keep one row per item")
    return rows.drop("row")


def ready_targets(task: OwnTask) -> dict[str, tuple[str | None, str]]:
    """Read the ready targets of a task.

    Args:
        task: one with ``targets``.

    Returns:
        Per item id the second item's id (None for tasks of one item) and the target; rows without a target are passed
        over.

    Raises:
        DataError: as in `read_targets`.
    """
    assert task.targets is not None
    frame = read_targets(task.targets, task.items)
    others = frame["other"].to_list() if task.items == 2 else [None] * frame.height
    rows = zip(frame["item"].to_list(), others, frame["target"].to_list(), strict=True)
    return {item: (other, " ".join(target.split())) for item, other, target in rows}


def own_examples(
    own: OwnTasks,
    catalog: ItemCatalog,
    split: Sequence[str] | np.ndarray,
    neighbours: np.ndarray | None,
    seed: int = 0,
    names: Sequence[str] = (),
    labels: Mapping[str, np.ndarray] | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Build one example per own task and item; held-out examples have the first phrasing.

    Args:
        own: from `read_own_tasks`.
        catalog: I items.
        split: [I] split names; the two items of a pair share theirs.
        neighbours: [I] rows of nearest neighbours, -1 for none; None where no own task asks for them.
        seed: chooses phrasings and random partners.
        names: which tasks; empty for all.
        labels: per task [I] split names of the examples, where each task has its own split; None: `split`.

    Returns:
        The examples, with the columns of `EXAMPLE_SCHEMA`, and a report: examples and items left out by task, and by
        task how many ids of ready targets name no item of the catalogue.

    Raises:
        ValueError: ready targets of which none is about an item of the catalogue.
    """
    parts = np.asarray(split)
    items = list(catalog)
    writer = _Writer(items, catalog, parts, neighbours, seed)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, dict[str, int]] = {}
    unknown: dict[str, int] = {}
    chosen = [task for name, task in own.tasks.items() if not names or name in names]
    for task in chosen:
        ready = None if task.targets is None else ready_targets(task)
        if ready is not None:
            unknown[task.name] = len(ids := writer.unknown(task, ready))
            if ids:
                log.warning("own task %s: %s", task.name, _unknown_told(task, ids))
        made, reasons = writer.examples(task, parts if labels is None else labels[task.name], ready)
        rows += made
        left_out[task.name] = dict(sorted(reasons.items()))
    counts = Counter(row["task"] for row in rows)
    report: dict[str, Any] = {"examples": {task.name: counts[task.name] for task in chosen}, "left_out": left_out}
    report["unknown_ids"] = unknown
    return pl.DataFrame(rows, schema=EXAMPLE_SCHEMA), report


def _unknown_told(task: OwnTask, ids: Sequence[str]) -> str:
    assert task.targets is not None
    more = ", ..." if len(ids) > 1 else ""
    return f"{len(ids)} of the ids in {task.targets.name} name no item of this run's catalogue ({ids[0]!r}{more})"


class _Writer:
    """What all own tasks of a run share."""

    def __init__(
        self, items: list[Item], catalog: ItemCatalog, parts: np.ndarray, neighbours: np.ndarray | None, seed: int
    ) -> None:
        self.items, self.parts, self.neighbours, self.seed = items, parts, neighbours, seed
        self.context = CatalogContext.from_items(items)
        self.surplus = surplus_rows(catalog)
        self.row_of = {item.item_id: row for row, item in enumerate(items)}
        self.rows_of_part = {str(name): np.flatnonzero(parts == name) for name in np.unique(parts)}
        self.films: dict[int, Film] = {}

    def unknown(self, task: OwnTask, ready: Mapping[str, tuple[str | None, str]]) -> list[str]:
        """The ids in a file of ready targets that name no item of the catalogue, in its order."""
        if not ready.keys() & self.row_of.keys():
            theirs, ours = next(iter(ready)), self.items[0].item_id
            raise ValueError(
                f"{task.targets}: no item of it is in the catalogue ({theirs!r} there, {ours!r} here); use its ids"
            )
        named = (one for item, (other, _) in ready.items() for one in (item, other) if one is not None)
        return [one for one in dict.fromkeys(named) if one not in self.row_of]

    def examples(
        self, task: OwnTask, parts: np.ndarray, ready: Mapping[str, tuple[str | None, str]] | None
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        made: list[dict[str, Any]] = []
        left_out: Counter[str] = Counter()
        for row in range(len(self.items)):
            found = self._example(task, row, str(parts[row]), ready)
            if isinstance(found, str):
                left_out[found] += 1
            else:
                made.append(found)
        return made, left_out

    def _example(
        self, task: OwnTask, row: int, part: str, ready: Mapping[str, tuple[str | None, str]] | None
    ) -> dict[str, Any] | str:
        item = self.items[row]
        if self.surplus[row] and part != "train":
            return DUPLICATE
        if ready is not None and item.item_id not in ready:
            return NO_TARGET
        about = [row]
        if task.items == 2:
            other = self.row_of.get(str(ready[item.item_id][0]), -1) if ready is not None else self._partner(task, row)
            if other == -1 or other == row:
                return NO_PARTNER
            if self.parts[other] != self.parts[row]:
                return CROSSING
            about.append(other)
        target = self._render(task, about) if ready is None else ready[item.item_id][1]
        if target is None:
            return LACKING
        phrasing = pick(len(task.phrasings), "phrasing", self.seed, task.name, item.item_id) if part == "train" else 0
        return {
            "example_id": f"{task.name}:{item.item_id}",
            "task": task.name,
            "split": part,
            "phrasing": phrasing,
            "prompt": task.phrasings[phrasing],
            "slots": [[one] for one in about],
            "items": about,
            "target": target,
        }

    def _partner(self, task: OwnTask, row: int) -> int:
        if task.partner == "nearest":
            assert self.neighbours is not None
            return int(self.neighbours[row])
        rows = self.rows_of_part[str(self.parts[row])]
        start = pick(len(rows), "own partner", self.seed, task.name, self.items[row].item_id)
        turned = (int(rows[(start + step) % len(rows)]) for step in range(len(rows)))
        return next((other for other in turned if self.items[other].group != self.items[row].group), -1)

    def _render(self, task: OwnTask, about: Sequence[int]) -> str | None:
        lookups = [self._lookup(row) for row in about]

        def of_two(name: str) -> tuple[str, frozenset[str]] | None:
            side, _, slot = name.partition(".")
            return lookups[int(side) - 1](slot)

        written = render(task.template, lookups[0] if len(about) == 1 else of_two)
        return None if written is None else written.text

    def _lookup(self, row: int) -> Lookup:
        item = self.items[row]

        def look(name: str) -> tuple[str, frozenset[str]] | None:
            if name in COLUMNS:
                text = column_text(item, name)
                return None if text is None else (text, frozenset())
            if row not in self.films:
                self.films[row] = Film.of(item, self.context)
            return self.films[row].pieces.get(name)

        return look


def column_text(item: Item, name: str) -> str | None:
    """A column of an item as words, None where it says nothing.

    >>> column_text(Item(0, "6", "Heat", 1995, genres=("Crime", "Drama")), "genres")
    'Crime and Drama'
    """
    if name == "name":
        return item.label if item.title else None
    value = getattr(item, name)
    if isinstance(value, tuple):
        return listing(value) if value else None
    if value is None or value == "" or (name in _COUNTS and value == 0):
        return None
    return str(value)


def with_phrasings(frame: pl.DataFrame, own: OwnTasks, seed: int = 0) -> pl.DataFrame:
    """Let training examples of the 24 tasks draw from the user's phrasings too; what is scored stays as it is.

    Args:
        frame: examples of the 24 tasks.
        own: the user's phrasings.
        seed: chooses them.

    Returns:
        The frame with other prompts; every phrasing, built in or own, is as likely as any other.
    """
    prompts, numbers = frame["prompt"].to_list(), frame["phrasing"].to_list()
    for place, (name, task, part, slots) in enumerate(frame.select("example_id", "task", "split", "slots").iter_rows()):
        more = [text for text in own.phrasings.get(task, ()) if text.count(SLOT) == len(slots)]
        if part != "train" or not more:
            continue
        built_in = len(phrasings(task, len(slots)))
        chosen = pick(built_in + len(more), "own phrasing", seed, name) - built_in
        if chosen >= 0:
            prompts[place], numbers[place] = more[chosen], built_in + chosen
    return frame.with_columns(
        pl.Series("prompt", prompts, dtype=pl.String), pl.Series("phrasing", numbers, dtype=pl.Int32)
    )
