"""Examples of the user's own tasks, and their phrasings among those of the 24 tasks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.data.custom import read_columns_of
from ilm_lightning.data.item import Item
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.tasks.elm.build import DUPLICATE, EXAMPLE_SCHEMA, NO_PARTNER, surplus_rows
from ilm_lightning.tasks.elm.facts import CatalogContext, Film
from ilm_lightning.tasks.elm.grammar import Lookup, render
from ilm_lightning.tasks.elm.own import COLUMNS, OwnTask, OwnTasks
from ilm_lightning.tasks.elm.prompts import SLOT, phrasings
from ilm_lightning.tasks.elm.teacher import pick
from ilm_lightning.tasks.elm.wording import listing

NO_TARGET = "no target in the file"
CROSSING = "the two items lie in different splits"
LACKING = "lacks what the target's first sentence needs"
_COUNTS = ("oscars_won", "oscar_nominations", "n_ratings")
Answer = Callable[[Item, Item | None], str | None]


def target_columns(path: Path, items: int) -> pl.DataFrame:
    """Open a file of ready targets far enough to see that its columns are there.

    Args:
        path: CSV or parquet.
        items: 1 (columns item and target) or 2 (other, the second item's id, too).

    Returns:
        No rows, the columns as text.

    Raises:
        DataError: a missing column or an unreadable file.
    """
    return read_columns_of(path, ("item", "other", "target") if items == 2 else ("item", "target"), rows=0)


def ready_targets(task: OwnTask) -> dict[str, tuple[str | None, str]]:
    """Read a file of ready targets.

    Args:
        task: one with ``targets``.

    Returns:
        Per item id the second item's id (None for tasks of one item) and the target; rows without a target are passed
        over.

    Raises:
        ValueError: an item twice, or no target at all.
    """
    assert task.targets is not None
    names = ("item", "other", "target") if task.items == 2 else ("item", "target")
    frame = read_columns_of(task.targets, names).filter(pl.col("target").str.strip_chars() != "")
    twice = frame.filter(pl.col("item").is_duplicated())["item"]
    if twice.len():
        raise ValueError(f"{task.targets}: item {twice[0]!r} has more than one target; keep one row per item")
    if frame.height == 0:
        raise ValueError(f"{task.targets}: there is no target in it")
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
        The examples, with the columns of `EXAMPLE_SCHEMA`, and a report: examples and items left out by task.

    Raises:
        ValueError: ready targets of which none is about an item of the catalogue.
    """
    parts = np.asarray(split)
    items = list(catalog)
    writer = _Writer(items, catalog, parts, neighbours, seed)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, dict[str, int]] = {}
    chosen = [task for name, task in own.tasks.items() if not names or name in names]
    for task in chosen:
        made, reasons = writer.examples(task, parts if labels is None else labels[task.name])
        rows += made
        left_out[task.name] = dict(sorted(reasons.items()))
    counts = Counter(row["task"] for row in rows)
    report = {"examples": {task.name: counts[task.name] for task in chosen}, "left_out": left_out}
    return pl.DataFrame(rows, schema=EXAMPLE_SCHEMA), report


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

    def examples(self, task: OwnTask, parts: np.ndarray) -> tuple[list[dict[str, Any]], Counter[str]]:
        ready = ready_targets(task) if task.targets is not None else None
        if ready is not None and not ready.keys() & self.row_of.keys():
            theirs, ours = next(iter(ready)), self.items[0].item_id
            raise ValueError(
                f"{task.targets}: no item of it is in the catalogue ({theirs!r} there, {ours!r} here); use its ids"
            )
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
