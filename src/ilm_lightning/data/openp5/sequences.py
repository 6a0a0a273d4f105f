"""Users' item sequences in OpenP5's format, and what is counted from them.

A line of ``user_sequence.txt`` is a user's id and then the items in the order of time, separated by spaces. Each user's
last item is for test, the one before for validation, the rest for training.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ilm_lightning.data.delimited import BROKEN
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.tables import Interactions

MIN_ITEMS = 3
"""A user needs one item to train on, one to validate and one to test."""
HELD_OUT = 2
SEEN_PROMPTS = 20
"""Ten seen sequential and ten seen straightforward prompts."""
FILES = ("user_sequence.txt", "user_sequence.txt.gz", "user_sequence.reconstructed.txt.gz")

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class Sequences:
    """Every user's items in order of time.

    Attributes:
        name: the data set's name, as it stands in prompts.
        user_ids: [U] ids as in the file.
        item_ids: [I] ids as in the file, in order of first appearance: the rows of the catalogue.
        offsets: [U + 1] int64; user u's items are ``values[offsets[u]:offsets[u + 1]]``.
        values: [N] int32 rows of ``item_ids``.
        reconstructed: True where the order of equal timestamps is not OpenP5's own.
        tied: [U] bool, True where a user's last two items have the same time, so that which is the test item was
            chance; None where times are not known.
    """

    name: str
    user_ids: list[str]
    item_ids: list[str]
    offsets: NDArray[np.int64]
    values: Rows
    reconstructed: bool = False
    tied: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """I, the number of items."""
        return len(self.item_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[U] items of each user, held-out ones included."""
        return np.diff(self.offsets)

    def items(self, user: int) -> Rows:
        """All items of a user in order of time, [n]."""
        return self.values[self.offsets[user] : self.offsets[user + 1]]

    def target_position(self, split: str) -> int:
        """Place of a user's target from the end: test -1, validation -2."""
        return {"test": -1, "validation": -2}[split]

    @property
    def n_training_targets(self) -> int:
        """N - 3U: positions with an item before them among the first n - 2 of each user."""
        return len(self.values) - (HELD_OUT + 1) * len(self)

    def check_trainable(self) -> None:
        """See that there is something to train on.

        Raises:
            DataError: no user has a training item after another one.
        """
        if self.n_training_targets == 0:
            raise DataError(
                f"{self.name}: every user has {MIN_ITEMS} items, one each to train, validate and test on, so no "
                f"training item follows another; users with at least {MIN_ITEMS + 1} are needed"
            )

    def targets(self, split: str) -> Rows:
        """[U] each user's target item of ``validation`` or ``test``."""
        return self.values[self.offsets[1:] + self.target_position(split)]

    def tied_at(self, split: str, users: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """`tied` of some users; None for validation targets, which may also be tied with the item before."""
        return None if self.tied is None or split != "test" else self.tied[users]

    @cached_property
    def training_mask(self) -> NDArray[np.bool_]:
        """[N] True for the first n - 2 items of each user."""
        mask = np.ones(len(self.values), dtype=np.bool_)
        for back in range(1, HELD_OUT + 1):
            mask[self.offsets[1:] - back] = False
        return mask

    @cached_property
    def users_of_values(self) -> NDArray[np.int64]:
        """[N] the user of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def training_interactions(self) -> Interactions:
        """The user-item pairs of phase 1 and of ALS: N - 2U, nothing held out among them."""
        mask = self.training_mask
        frame = pl.DataFrame(
            {
                "user": self.users_of_values[mask],
                "item": self.values[mask],
                "rating": np.full(int(mask.sum()), np.nan, dtype=np.float32),
                # only the order is known
                "timestamp": (np.arange(len(mask)) - self.offsets[self.users_of_values])[mask],
            }
        )
        return Interactions(frame, self.user_ids, self.n_items)

    def item_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The item-item pairs of phase 1: ordered consecutive pairs within the first n - 2 items.

        Returns:
            Distinct pairs as rows ``[P, 2]``, sorted, and how often each occurs ``[P]``.
        """
        mask = self.training_mask
        both = mask[:-1] & mask[1:] & (self.users_of_values[:-1] == self.users_of_values[1:])
        left, right = self.values[:-1][both].astype(np.int64), self.values[1:][both].astype(np.int64)
        codes, counts = np.unique(left * self.n_items + right, return_counts=True)
        return np.stack([codes // self.n_items, codes % self.n_items], axis=1), counts

    def transition_counts(self) -> sparse.csr_matrix:
        """[I, I] float32: how often an item follows another in training (the Markov baseline's table)."""
        pairs, counts = self.item_pairs()
        shape = (self.n_items, self.n_items)
        return sparse.csr_matrix((counts.astype(np.float32), (pairs[:, 0], pairs[:, 1])), shape=shape)

    def popularity(self) -> NDArray[np.int64]:
        """[I] training interactions of each item."""
        return np.bincount(self.values[self.training_mask], minlength=self.n_items)

    def seen(self, split: str) -> sparse.csr_matrix:
        """[U, I] bool: items before each user's target of ``validation`` or ``test``."""
        keep = np.ones(len(self.values), dtype=np.bool_)
        for back in range(1, 1 - self.target_position(split)):
            keep[self.offsets[1:] - back] = False
        pairs = (self.users_of_values[keep], self.values[keep])
        matrix = sparse.csr_matrix((np.ones(int(keep.sum()), np.bool_), pairs), shape=(len(self), self.n_items))
        matrix.sum_duplicates()
        return matrix

    def statistics(self) -> dict[str, int]:
        """Count what Table 5 counts (see PROTOCOL.md 3).

        Returns:
            users, items, interactions, phase2_train ((N - 3U) * 20), phase2_test (2U), user_item_pairs (N - 2U) and
            item_item_pairs, both before the 90/10 draw, and texts (one an item).
        """
        users, total = len(self), len(self.values)
        return {
            "users": users,
            "items": self.n_items,
            "interactions": total,
            "item_item_pairs": len(self.item_pairs()[0]),
            "user_item_pairs": total - HELD_OUT * users,
            "texts": self.n_items,
            "phase2_train": self.n_training_targets * SEEN_PROMPTS,
            "phase2_test": 2 * users,
        }


def sequence_file(folder: Path) -> Path:
    """Find the file of sequences in a folder of OpenP5's format.

    Raises:
        DataError: there is none.
    """
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: {FILES[0]} is missing; a data set in OpenP5's format has it there")


def read_sequences(folder: Path, name: str | None = None) -> Sequences:
    """Read ``user_sequence.txt``.

    Args:
        folder: a data set in OpenP5's format.
        name: as it stands in prompts; None takes the folder's name.

    Returns:
        The sequences; users and items keep the order of the file.

    Raises:
        DataError: no file, an empty line, one that is not UTF-8, a user twice or with fewer than three items; names the
            line.
    """
    path = sequence_file(Path(folder))
    user_ids: list[str] = []
    known_users: dict[str, int] = {}
    known_items: dict[str, int] = {}
    lengths: list[int] = []
    values: list[NDArray[np.int32]] = []
    for number, fields in _lines(path):
        user, items = fields[0], fields[1:]
        if user in known_users:
            raise DataError(
                f"{path}, line {number}: user {user!r} is on line {known_users[user]} already; join both lines"
            )
        if len(items) < MIN_ITEMS:
            raise DataError(
                f"{path}, line {number}: user {user!r} has {len(items)} items; each needs at least {MIN_ITEMS} (to "
                "train, validate and test on), so take the line out"
            )
        known_users[user] = number
        user_ids.append(user)
        lengths.append(len(items))
        values.append(np.array([known_items.setdefault(item, len(known_items)) for item in items], dtype=np.int32))
    if not user_ids:
        raise DataError(f"{path}: the file is empty; each line holds a user's id and the items' ids")
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(
        name or Path(folder).name,
        user_ids,
        list(known_items),
        offsets,
        np.concatenate(values),
        "reconstructed" in path.name,
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines as fields; an empty line is an error, since it may be a lost user."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.split()
                if not fields:
                    raise DataError(f"{path}, line {number}: the line is empty; take it out")
                yield number, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {_first_foreign_line(path)}: not UTF-8; save the file as UTF-8") from error
    except BROKEN as error:
        raise DataError(f"{path}: not readable ({error}); fetch the file again") from error


def _first_foreign_line(path: Path) -> int:
    """Number of the first line of a file that is not UTF-8; the file is known to hold one."""
    # text is decoded in blocks, so an error there knows no line
    opener = gzip.open if path.suffix == ".gz" else open
    number = 1
    with opener(path, "rb") as lines:
        for line in lines:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
            number += 1
    return number
