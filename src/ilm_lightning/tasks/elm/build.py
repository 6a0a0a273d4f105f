"""Examples of the 24 tasks: one per (task, movie), with every choice made by a hash."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.progress import track
from ilm_lightning.tasks.elm.facts import CatalogContext
from ilm_lightning.tasks.elm.names import INTERPOLATION, NEIGHBOUR_TASKS, PAIR_TASKS, TASKS
from ilm_lightning.tasks.elm.prompts import PROMPTS
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
    same = np.unique(np.arange(len(parts)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    neighbours = np.full(len(parts), -1, dtype=np.int64)
    for name in np.unique(parts):
        rows = np.flatnonzero(parts == name)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            mine = rows[start : start + _ROWS_AT_ONCE]
            scores = unit[mine] @ unit[rows].T
            scores[same[mine][:, None] == same[rows][None, :]] = -np.inf
            best = scores.argmax(axis=1)
            found = np.isfinite(scores[np.arange(len(mine)), best])
            neighbours[mine[found]] = rows[best[found]]
    return neighbours


def build_examples(
    catalog: ItemCatalog,
    split: Sequence[str] | np.ndarray,
    neighbours: np.ndarray,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    teacher: str = "facts",
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Build one example per task and movie.

    Args:
        catalog: I movies.
        split: [I] split names.
        neighbours: [I] rows from `nearest_neighbours`, -1 for none.
        seed: Chooses phrasings and random partners; the targets' sentence plans do not depend on it.
        tasks: Which of `TASKS`; None for all.
        teacher: Only "facts".

    Returns:
        The examples, with the columns of `EXAMPLE_SCHEMA` (a slot of two rows means the vector between the two),
        and a report: teacher, movies, examples per task, movies left out per task and reason.

    Raises:
        ValueError: An unknown task or teacher, lengths that do not agree, or a neighbour outside the movie's split.
    """
    parts = np.asarray(split)
    chosen = TASKS if tasks is None else tuple(tasks)
    _check(catalog, parts, neighbours, chosen, teacher)
    items = list(catalog)
    writer = FactsTeacher(CatalogContext.from_items(items))
    partners = _random_partners([item.group for item in items], [item.item_id for item in items], parts, seed)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, Counter[str]] = {task: Counter() for task in chosen}
    for task in track(chosen, len(chosen), "writing targets"):
        for row, item in enumerate(items):
            other = int(neighbours[row] if task in NEIGHBOUR_TASKS else partners[row]) if task in PAIR_TASKS else None
            if other == -1:
                left_out[task][NO_PARTNER] += 1
                continue
            written = writer.write(task, item, None if other is None else items[other])
            if isinstance(written, str):
                left_out[task][written] += 1
                continue
            about = [row] if other is None else [row, other]
            phrasing = pick(len(PROMPTS[task]), "phrasing", seed, task, item.item_id)
            rows.append(
                {
                    "example_id": f"{task}:{item.item_id}",
                    "task": task,
                    "split": str(parts[row]),
                    "phrasing": phrasing,
                    "prompt": PROMPTS[task][phrasing],
                    "slots": [about] if task == INTERPOLATION else [[one] for one in about],
                    "items": about,
                    "target": written.text,
                }
            )
    frame = pl.DataFrame(rows, schema=EXAMPLE_SCHEMA)
    counts = Counter(row["task"] for row in rows)
    report = {
        "teacher": TEACHER_VERSION,
        "movies": len(items),
        "examples": {task: counts[task] for task in chosen},
        "left_out": {task: dict(sorted(left_out[task].items())) for task in chosen},
    }
    return frame, report


def _check(catalog: ItemCatalog, parts: np.ndarray, neighbours: np.ndarray, tasks: Sequence[str], teacher: str) -> None:
    if teacher != "facts":
        raise ValueError(f"unknown teacher {teacher!r}; choose 'facts'")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}")
    if len(parts) != len(catalog) or len(neighbours) != len(catalog):
        raise ValueError(
            f"{len(catalog)} movies, {len(parts)} splits and {len(neighbours)} neighbours: give one of each a movie"
        )
    rows = np.flatnonzero(np.asarray(neighbours) >= 0)
    crossing = rows[parts[rows] != parts[np.asarray(neighbours)[rows]]]
    if crossing.size:
        raise ValueError(f"the neighbour of movie row {crossing[0]} lies in another split; use nearest_neighbours")


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
