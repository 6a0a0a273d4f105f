"""The split that everything which sees text obeys: of movies (strict, cold) or of each task's examples (paper)."""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from ilm_lightning.data.errors import DataError, LeakError
from ilm_lightning.data.tables import Interactions, ItemCatalog

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
RULES: dict[str, str] = {
    "strict": "movies are split once, for all tasks and for phase 1",
    "paper": "each task has its own split and phase 1 reads the texts of all movies, held-out ones included",
    "cold": "as strict, and nobody's interactions with held-out movies are known: their behavioral vector is zero",
}
"""Rules of ``data.split``; strict is the headline, numbers of the others are marked."""


def group_position(group: str, seed: int) -> float:
    """Map a group to a fixed position in [0, 1), from a hash of the group and the seed.

    Args:
        group: the item's ``group`` (normalised title and year).
        seed: another seed gives another split.

    Returns:
        The position; equal on every machine and in every catalogue.

    >>> group_position("heat|1995", 0) == group_position("heat|1995", 0) != group_position("heat|1995", 1)
    True
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=6).digest()
    return float(int.from_bytes(digest, "big") / 2**48)


def split_items(
    catalog: ItemCatalog,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    rule: str = "strict",
) -> np.ndarray:
    """Assign every item to train, validation or test.

    The assignment hashes the item's group, so it depends neither on the other items nor on their order, and
    duplicates of one film always fall together.

    Args:
        catalog: I items.
        seed: seed of the split.
        fractions: expected shares of train, validation and test; they sum to 1.
        rule: one of `RULES`; under ``"paper"`` no movie as such is held out, only examples (see `split_task`).

    Returns:
        [I] array of ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        DataError: fractions that are negative or do not sum to 1.
    """
    if rule == "paper":
        return np.full(len(catalog), "train", dtype="<U10")
    return split_keys(catalog.frame["group"], seed, fractions)


def split_task(
    catalog: ItemCatalog, task: str, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS
) -> np.ndarray:
    """Assign every item to train, validation or test of one task alone, as ELM and the paper do.

    Args:
        catalog: I items.
        task: name of the task; another one has another split.
        seed: seed of the split.
        fractions: as in `split_items`.

    Returns:
        [I] array of split names; duplicates of one film fall together.
    """
    return split_keys((f"{task}:{group}" for group in catalog.frame["group"]), seed, fractions)


def split_keys(keys: Iterable[str], seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> np.ndarray:
    """Assign keys (groups of items, users) to train, validation or test, each by its own hash.

    Args:
        keys: any strings.
        seed: seed of the split.
        fractions: expected shares of train, validation and test.

    Returns:
        One split name a key.

    Raises:
        DataError: fractions that are negative or do not sum to 1.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise DataError(f"split fractions {tuple(fractions)}: give three shares >= 0 that sum to 1, as (0.8, 0.1, 0.1)")
    positions = np.array([group_position(key, seed) for key in keys], dtype=np.float64)
    bounds = np.cumsum(np.asarray(fractions))[:-1]
    return np.asarray(SPLITS)[np.searchsorted(bounds, positions, side="right")]


def assert_no_text_leak(
    split: Sequence[str] | np.ndarray, rows_used_in_training: Iterable[int], catalog: ItemCatalog | None = None
) -> None:
    """Check that a training stage sees no text of a validation or test item.

    Args:
        split: [I] the items' splits.
        rows_used_in_training: catalogue rows whose text the stage reads.
        catalog: gives the offending row its title, and finds duplicates of held-out films; optional.

    Raises:
        LeakError: naming the first offending item.
    """
    rows = np.unique(np.fromiter(rows_used_in_training, dtype=np.int64))
    parts = np.asarray(split)
    if rows.size and (rows[0] < 0 or rows[-1] >= len(parts)):
        raise LeakError(f"training uses catalogue rows outside 0..{len(parts) - 1}: the split is of another catalogue")
    leaked = rows[parts[rows] != "train"]
    if leaked.size:
        row = int(leaked[0])
        name = f"row {row}" if catalog is None else catalog[row].label
        raise LeakError(
            f"the text of {name}, a {parts[row]} item, would enter training ({leaked.size} such items): "
            "build training examples from rows whose split is 'train' only"
        )
    if catalog is None:
        return
    groups = catalog.frame["group"].to_numpy()
    held_out = set(groups[parts != "train"])
    for row in rows:
        if groups[row] in held_out:
            raise LeakError(
                f"{catalog[int(row)].label} is in training and a duplicate of it is held out: split with split_items"
            )


def assert_no_example_leak(tasks: Sequence[str], units: Sequence[object], parts: Sequence[str] | np.ndarray) -> None:
    """Check that no task trains on a movie (or user) that it is scored on; all that the ``paper`` rule promises.

    Args:
        tasks: [N] the examples' tasks.
        units: [N] what each example is about: the group of its first movie, or its user.
        parts: [N] the examples' splits.

    Raises:
        LeakError: naming the first offending task and unit.
    """
    train = np.asarray(parts) == "train"
    seen = {(task, unit) for task, unit, trained in zip(tasks, units, train, strict=True) if trained}
    for task, unit, trained in zip(tasks, units, train, strict=True):
        if not trained and (task, unit) in seen:
            raise LeakError(
                f"task {task!r} would train on {unit} and be scored on it: give each movie and user one split a task"
            )


def visible_interactions(interactions: Interactions, split: Sequence[str] | np.ndarray, rule: str) -> Interactions:
    """Keep the interactions that vectors and phase 1 may see.

    Args:
        interactions: all of them.
        split: [I] the items' splits.
        rule: under ``"cold"`` interactions with validation and test movies go; under other rules all stay.

    Returns:
        The interactions, over the same users and items.
    """
    if rule != "cold":
        return interactions
    kept = (np.asarray(split) == "train")[interactions.frame["item"].to_numpy()]
    return Interactions(interactions.frame.filter(kept), interactions.user_ids, interactions.n_items)
