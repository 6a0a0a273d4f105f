"""The one split of the catalogue that everything which sees text obeys."""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from ilm_lightning.data.errors import DataError, LeakError
from ilm_lightning.data.tables import ItemCatalog

SPLITS = ("train", "validation", "test")


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
    catalog: ItemCatalog, seed: int = 0, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> np.ndarray:
    """Assign every item to train, validation or test.

    The assignment hashes the item's group, so it depends neither on the other items nor on their order, and
    duplicates of one film always fall together.

    Args:
        catalog: I items.
        seed: seed of the split.
        fractions: expected shares of train, validation and test; they sum to 1.

    Returns:
        [I] array of ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        DataError: fractions that are negative or do not sum to 1.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise DataError(f"split fractions {tuple(fractions)}: give three shares >= 0 that sum to 1, as (0.8, 0.1, 0.1)")
    positions = np.array([group_position(group, seed) for group in catalog.frame["group"]], dtype=np.float64)
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
