"""Examples of the 24 tasks: one per (task, movie), with every choice made by a hash."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.data.item import Item
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.progress import track
from ilm_lightning.tasks.elm.facts import CatalogContext
from ilm_lightning.tasks.elm.grammar import Written
from ilm_lightning.tasks.elm.names import INTERPOLATION, NEIGHBOUR_TASKS, PAIR_TASKS, TASKS
from ilm_lightning.tasks.elm.prompts import phrasings
from ilm_lightning.tasks.elm.teacher import TEACHER_VERSION, FactsTeacher, pick

EXAMPLE_SCHEMA: Mapping[str, Any] = {
    "example_id": pl.String,
    "task": pl.String,
    "split": pl.String,
    "phrasing": pl.Int32,
    "prompt": pl.String,
    "slots": pl.List(pl.List(pl.Int64)),
    "items": pl.List(pl.Int64),
    "target": pl.String,
}
NO_PARTNER = "no other movie in its split"
DUPLICATE = "another row of the same movie is scored"
_ROWS_AT_ONCE = 1024


def nearest_neighbours(
    vectors: np.ndarray, split: Sequence[str] | np.ndarray, groups: Sequence[str] | None = None
) -> np.ndarray:
    """Find each item's nearest neighbour by cosine within its own split.

    Args:
        vectors: [I, d] item vectors of one fixed space.
        split: [I] split names.
        groups: [I] names of duplicates; an item is never its duplicate's neighbour. None: no duplicates.

    Returns:
        [I] int64 catalogue rows, -1 where the split holds no other movie.

    Raises:
        ValueError: Lengths that do not agree, or vectors that are not finite.
    """
    matrix = np.asarray(vectors, dtype=np.float32)
    parts = np.asarray(split)
    if matrix.ndim != 2 or len(matrix) != len(parts):
        raise ValueError(
            f"vectors of shape {matrix.shape} do not fit a split of {len(parts)} items: give one row an item"
        )
    if not np.isfinite(matrix).all():
        raise ValueError("vectors hold NaN or infinite values; build the item vectors again")
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    twins = _twins(np.arange(len(parts)) if groups is None else np.asarray(groups))
    place = np.empty(len(parts), dtype=np.int64)
    neighbours = np.full(len(parts), -1, dtype=np.int64)
    for name in np.unique(parts):
        rows = np.flatnonzero(parts == name)
        place[rows] = np.arange(len(rows))
        table = unit[rows].T
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            mine = rows[start : start + _ROWS_AT_ONCE]
            scores = unit[mine] @ table
            scores[np.arange(len(mine)), place[mine]] = -np.inf
            for at in np.flatnonzero([row in twins for row in mine]):
                same = twins[int(mine[at])]
                scores[at, place[same[parts[same] == name]]] = -np.inf
            best = scores.argmax(axis=1)
            found = np.isfinite(scores[np.arange(len(mine)), best])
            neighbours[mine[found]] = rows[best[found]]
    return neighbours


def _twins(groups: np.ndarray) -> dict[int, np.ndarray]:
    """For each row that shares its group with others, all rows of the group."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.r_[groups[order][1:] != groups[order][:-1], True]) + 1
    parts = np.split(order, ends[:-1])
    return {int(row): rows for rows in parts if len(rows) > 1 for row in rows}


@dataclass(frozen=True)
class Draft:
    """An example before its target is written.

    Attributes:
        task: one of `TASKS`.
        row: catalogue row of the movie.
        other: row of the second movie of a pair task, None otherwise.
        split: the split that the example belongs to.
    """

    task: str
    row: int
    other: int | None
    split: str

    @property
    def rows(self) -> list[int]:
        """The rows of all its movies."""
        return [self.row] if self.other is None else [self.row, self.other]

    def example_id(self, items: Sequence[Item]) -> str:
        """Task and the movie's id."""
        return f"{self.task}:{items[self.row].item_id}"


Write = Callable[[Draft], Written | str]
"""Gives the target of a draft, or the reason why there is none."""


def draft_examples(
    catalog: ItemCatalog,
    split: Sequence[str] | np.ndarray,
    neighbours: np.ndarray | None,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[Draft], dict[str, Counter[str]]]:
    """Lay out one example per task and movie; of duplicates in a held-out split only the most-rated one has examples.

    Args:
        catalog: I movies.
        split: [I] split names; the two movies of a pair share theirs.
        neighbours: [I] rows from `nearest_neighbours`, -1 for none; None where no task asks for neighbours.
        seed: Chooses random partners.
        tasks: Which of `TASKS`; None for all.
        labels: per task [I] split names of the examples by their first movie, where each task has its own split;
            None: `split`.

    Returns:
        The drafts, task by task, and per task the movies left out and why.

    Raises:
        ValueError: An unknown task, lengths that do not agree, or a neighbour outside the movie's split.
    """
    parts = np.asarray(split)
    chosen = TASKS if tasks is None else tuple(tasks)
    _check(catalog, parts, neighbours, chosen)
    frame = catalog.frame
    surplus = surplus_rows(catalog)
    partners = _random_partners(frame["group"].to_list(), frame["item_id"].to_list(), parts, seed)
    drafts: list[Draft] = []
    left_out: dict[str, Counter[str]] = {task: Counter() for task in chosen}
    for task in chosen:
        seconds = neighbours if task in NEIGHBOUR_TASKS else partners if task in PAIR_TASKS else None
        own = parts if labels is None else labels[task]
        for row in range(len(catalog)):
            other = None if seconds is None else int(seconds[row])
            if surplus[row] and own[row] != "train":
                left_out[task][DUPLICATE] += 1
            elif other == -1:
                left_out[task][NO_PARTNER] += 1
            else:
                drafts.append(Draft(task, row, other, str(own[row])))
    return drafts, left_out


def build_examples(
    catalog: ItemCatalog,
    split: Sequence[str] | np.ndarray,
    neighbours: np.ndarray | None,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
    interpolation: str = "mean",
    teacher: str = TEACHER_VERSION,
    write: Write | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Build one example per task and movie, see `draft_examples`.

    Args:
        catalog: I movies.
        split: [I] split names; the two movies of a pair share theirs.
        neighbours: [I] rows from `nearest_neighbours`, -1 for none; None where no task asks for neighbours.
        seed: Chooses phrasings and random partners; the targets' sentence plans do not depend on it.
        tasks: Which of `TASKS`; None for all.
        labels: per task [I] split names of the examples by their first movie, where each task has its own split;
            None: `split`.
        interpolation: "mean" shows one slot with the vector between two movies, "two_items" both movies.
        teacher: The teacher's name, for the report.
        write: Gives the targets; None for the `facts` teacher.

    Returns:
        The examples, with the columns of `EXAMPLE_SCHEMA` (a slot of two rows means the vector between the two),
        and a report: teacher, movies, examples per task, movies left out per task and reason.

    Raises:
        ValueError: An unknown task, lengths that do not agree, or a neighbour outside the movie's split.
    """
    drafts, left_out = draft_examples(catalog, split, neighbours, seed, tasks, labels)
    items = list(catalog)
    write = write or _by_facts(items)
    rows: list[dict[str, Any]] = []
    for draft in track(drafts, len(drafts), "writing targets"):
        written = write(draft)
        if isinstance(written, str):
            left_out[draft.task][written] += 1
            continue
        rows.append(_row(draft, items, written.text, seed, interpolation))
    frame = pl.DataFrame(rows, schema=EXAMPLE_SCHEMA)
    counts = Counter(row["task"] for row in rows)
    report = {
        "teacher": teacher,
        "movies": len(items),
        "examples": {task: counts[task] for task in left_out},
        "left_out": {task: dict(sorted(reasons.items())) for task, reasons in left_out.items()},
    }
    return frame, report


def _row(draft: Draft, items: Sequence[Item], target: str, seed: int, interpolation: str) -> dict[str, Any]:
    """A row of `EXAMPLE_SCHEMA`: one of the task's phrasings, chosen by hash, and the target."""
    blended = draft.task == INTERPOLATION and interpolation == "mean"
    slots = [draft.rows] if blended else [[row] for row in draft.rows]
    prompts = phrasings(draft.task, len(slots))
    phrasing = pick(len(prompts), "phrasing", seed, draft.task, items[draft.row].item_id)
    return {
        "example_id": draft.example_id(items),
        "task": draft.task,
        "split": draft.split,
        "phrasing": phrasing,
        "prompt": prompts[phrasing],
        "slots": slots,
        "items": draft.rows,
        "target": target,
    }


def _by_facts(items: Sequence[Item]) -> Write:
    writer = FactsTeacher(CatalogContext.from_items(items))
    return lambda draft: writer.write(draft.task, items[draft.row], None if draft.other is None else items[draft.other])


def _check(catalog: ItemCatalog, parts: np.ndarray, neighbours: np.ndarray | None, tasks: Sequence[str]) -> None:
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    if neighbours is None:
        neighbours = np.full(len(catalog), -1)
        if asking := [task for task in tasks if task in NEIGHBOUR_TASKS]:
            raise ValueError(f"task {asking[0]!r} asks for neighbours: give those of nearest_neighbours")
    if len(parts) != len(catalog) or len(neighbours) != len(catalog):
        raise ValueError(
            f"{len(catalog)} movies, {len(parts)} splits and {len(neighbours)} neighbours: give one of each a movie"
        )
    rows = np.flatnonzero(np.asarray(neighbours) >= 0)
    crossing = rows[parts[rows] != parts[np.asarray(neighbours)[rows]]]
    if crossing.size:
        raise ValueError(f"the neighbour of movie row {crossing[0]} lies in another split; use nearest_neighbours")


def surplus_rows(catalog: ItemCatalog) -> np.ndarray:
    """Mark all but the most-rated row of each movie that the catalogue holds more than once."""
    ordered = catalog.frame.select("index", "group", "n_ratings").sort("n_ratings", "index", descending=[True, False])
    kept = ordered.unique("group", keep="first", maintain_order=True)["index"].to_numpy()
    marks = np.ones(len(catalog), dtype=np.bool_)
    marks[kept] = False
    return marks


def _random_partners(groups: list[str], ids: list[str], parts: np.ndarray, seed: int) -> np.ndarray:
    """Give each movie another one of its split, by hash, never itself or a duplicate; -1 where there is none."""
    partners = np.full(len(ids), -1, dtype=np.int64)
    for name in np.unique(parts):
        rows = [int(row) for row in np.flatnonzero(parts == name)]
        for row in rows:
            start = pick(len(rows), "partner", seed, ids[row])
            candidates = (rows[(start + step) % len(rows)] for step in range(len(rows)))
            partners[row] = next((other for other in candidates if groups[other] != groups[row]), -1)
    return partners
