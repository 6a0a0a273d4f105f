"""Examples of the tasks of Figure 1 and of user profiles."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.genome import GenomeScores
from ilm_lightning.data.item import Item
from ilm_lightning.data.judged import user_ratings
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.progress import track
from ilm_lightning.tasks.elm.build import DUPLICATE, EXAMPLE_SCHEMA, surplus_rows
from ilm_lightning.tasks.elm.facts import CatalogContext
from ilm_lightning.tasks.elm.teacher import TEACHER_VERSION, FactsTeacher, pick
from ilm_lightning.tasks.figure1.genres import genre_tags
from ilm_lightning.tasks.figure1.names import FIGURE1_TASKS, GENOME_TAGS, LONG_SUMMARY, USER_PROFILE, USER_TASKS
from ilm_lightning.tasks.figure1.profile import Traits, Typical
from ilm_lightning.tasks.figure1.prompts import FIGURE1_PROMPTS, with_title
from ilm_lightning.tasks.figure1.users import UserWriter

FIGURE1_SCHEMA: Mapping[str, Any] = {
    **EXAMPLE_SCHEMA,
    "user": pl.Int64,
    "about": pl.Int64,
    "reads": pl.List(pl.Int64),
    "value": pl.Float64,
    "candidates": pl.List(pl.String),
    "candidate_items": pl.List(pl.Int64),
}
"""What examples about users say beside `EXAMPLE_SCHEMA`: the user; the item that is judged or next; further items whose
text the target holds; the true rating; texts to choose from, and their items. A slot's row ``I + u`` is user ``u``."""
NO_TITLE = "no title"
NO_GENOME = "no genome tag but its genres is relevant enough"
MOST_TAGS = 10
RELEVANT = 0.5
"""Genome tags of an item: the ten most relevant ones of at least this relevance that name none of its genres (ours)."""


@dataclass(frozen=True)
class Ratings:
    """What tasks about users read.

    Attributes:
        history: interactions that vectors and prompts may see.
        judged: each user's judged ratings.
        users: per task [U] split names of the users.
    """

    history: Interactions
    judged: Interactions
    users: Mapping[str, NDArray[np.str_]]


def build_figure1(
    catalog: ItemCatalog,
    split: Sequence[str] | np.ndarray,
    tasks: Sequence[str],
    *,
    labels: Mapping[str, np.ndarray] | None = None,
    genome: GenomeScores | None = None,
    ratings: Ratings | None = None,
    length: int = 8,
    candidates: int = 20,
    seed: int = 0,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Build the examples of tasks of Figure 1.

    Args:
        catalog: I items.
        split: [I] split names of the items; what training examples show and tell is of training items alone.
        tasks: which of `FIGURE1_TASKS`.
        labels: per item task [I] split names of its examples, where each task has its own split; None: `split`.
        genome: relevance of tags, for ``genome_tags``.
        ratings: for the tasks about users.
        length: items of a history in a prompt.
        candidates: items to choose the next one from, the true one among them.
        seed: chooses phrasings, judged ratings and candidates.

    Returns:
        The examples, with the columns of `FIGURE1_SCHEMA`, and a report: who wrote them, examples per task, and what
        was left out.

    Raises:
        ValueError: an unknown task, or one without the data it reads.
    """
    unknown = [task for task in tasks if task not in FIGURE1_TASKS]
    if unknown:
        raise ValueError(f"unknown task {unknown[0]!r}; choose from {', '.join(FIGURE1_TASKS)}")
    parts, items = np.asarray(split), list(catalog)
    left_out: dict[str, Counter[str]] = {task: Counter() for task in tasks}
    rows: list[dict[str, Any]] = []
    for task in tasks:
        if task in USER_TASKS:
            if ratings is None:
                raise ValueError(f"{task} reads ratings: give history and judged ratings")
            rows += _about_users(task, items, parts, ratings, left_out[task], (length, candidates, seed))
        else:
            if task == GENOME_TAGS and genome is None:
                raise ValueError(f"{task} reads genome scores: give data that has a tag genome (data=ml_25m)")
            own = parts if labels is None else labels[task]
            targets = _long_summaries(items) if task == LONG_SUMMARY else _tags(items, genome)
            rows += _about_items(task, catalog, items, own, targets, left_out[task], seed)
    counts = Counter(row["task"] for row in rows)
    report = {
        # tags, ratings and titles are the data's own; prose is the facts teacher's
        "teacher": TEACHER_VERSION,
        "examples": {task: counts[task] for task in tasks},
        "left_out": {task: dict(sorted(left_out[task].items())) for task in tasks},
    }
    return pl.DataFrame(rows, schema=FIGURE1_SCHEMA), report


def _about_items(
    task: str,
    catalog: ItemCatalog,
    items: Sequence[Item],
    parts: np.ndarray,
    targets: Iterable[tuple[str | None, str]],
    left_out: Counter[str],
    seed: int,
) -> Iterator[dict[str, Any]]:
    prompts, surplus = FIGURE1_PROMPTS[task], surplus_rows(catalog)
    for row, (target, reason) in enumerate(targets):
        training = parts[row] == "train"
        if target is None or (surplus[row] and not training):
            left_out[reason if target is None else DUPLICATE] += 1
            continue
        item = items[row]
        place = pick(len(prompts), "phrasing", seed, task, item.item_id) if training else 0
        yield {
            "example_id": f"{task}:{item.item_id}",
            "task": task,
            "split": str(parts[row]),
            "phrasing": place,
            "prompt": with_title(prompts[place], item.label),
            "slots": [[row]],
            "items": [row],
            "target": target,
            "about": row,
        }


def _long_summaries(items: Sequence[Item]) -> Iterator[tuple[str | None, str]]:
    """The facts teacher's long description of each item that has a title, or why there is none."""
    teacher = FactsTeacher(CatalogContext.from_items(items))
    for item in track(items, len(items), "writing long summaries"):
        written = teacher.write("long_description", item) if item.title else NO_TITLE
        yield (None, written) if isinstance(written, str) else (written.text, "")


def _tags(items: Sequence[Item], genome: GenomeScores | None) -> Iterator[tuple[str | None, str]]:
    assert genome is not None
    relevant = dict(genome.best(len(genome.tags), RELEVANT).iter_rows())
    for row, item in enumerate(items):
        told = genre_tags(item.genres, relevant.get(row, ()))
        tags = [tag for tag in relevant.get(row, ()) if tag not in told][:MOST_TAGS]
        yield ", ".join(tags) or None, NO_GENOME


def _about_users(
    task: str,
    items: Sequence[Item],
    parts: np.ndarray,
    ratings: Ratings,
    left_out: Counter[str],
    settings: tuple[int, int, int],
) -> Iterator[dict[str, Any]]:
    length, candidates, seed = settings
    labels = ratings.users[task]
    trained = parts == "train"
    traits = Traits.of_all(items) if task == USER_PROFILE else []
    writer = UserWriter(
        items,
        trained,
        sorted(set(ratings.judged.frame["rating"].drop_nans().to_list())),
        traits,
        _typical(traits, trained, ratings.history.frame, labels),
        _pool(items, parts, ratings.judged),
        length,
        candidates,
        seed,
    )
    users = ratings.judged.frame["user"].n_unique()
    for user in track(user_ratings(ratings.history, ratings.judged), users, f"writing {task}"):
        made = writer.write(task, user, str(labels[user.user]))
        if isinstance(made, str):
            left_out[made] += 1
        else:
            yield from made


def _typical(
    traits: Sequence[Traits], trained: NDArray[np.bool_], known: pl.DataFrame, labels: NDArray[np.str_]
) -> Typical:
    """The training users on training items."""
    if not traits:
        return Typical(0.0)
    rows, item = known["user"].to_numpy(), known["item"].to_numpy()
    learned = known.filter((labels == "train")[rows] & trained[item]).select("item", "rating")
    return Typical.of([(traits[row], rating) for row, rating in learned.iter_rows()])


def _pool(items: Sequence[Item], parts: np.ndarray, judged: Interactions) -> NDArray[np.int64]:
    """Rows of the judged ratings that may be a next item: training items with a title."""
    rows = judged.frame["item"].to_numpy().astype(np.int64)
    titled = np.array([bool(item.title) for item in items], dtype=np.bool_)
    kept: NDArray[np.int64] = rows[(parts[rows] == "train") & titled[rows]]
    return kept
