"""Which training positions of a user read the same history: the windows that shared-history training keeps together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.tasks.openp5.examples import TrainingIndex

Ints = NDArray[np.int64]


def window_starts(positions: Ints, history: int, block: int = 0) -> Ints:
    """Place of the first item that a prompt shows.

    Args:
        positions: places of the targets among the user's items.
        history: the most items that a prompt holds.
        block: 0 for windows that slide with the target; else a window moves on by this many items at a time and holds
            between ``history - block + 1`` and ``history`` of them (ours).

    >>> window_starts(np.array([1, 4, 5, 6, 7]), history=4).tolist()
    [0, 0, 1, 2, 3]
    >>> window_starts(np.array([1, 4, 5, 6, 7]), history=4, block=2).tolist()
    [0, 0, 2, 2, 4]
    """
    over = np.maximum(positions - history, 0)
    return np.asarray(over if block == 0 else -(-over // block) * block, dtype=np.int64)


@dataclass(frozen=True)
class Windows:
    """Runs of a user's training positions.

    Attributes:
        users: ``[W]`` the user of each.
        first: ``[W]`` its first target's place.
        last: ``[W]`` its last target's place.
    """

    users: Ints
    first: Ints
    last: Ints

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.users)

    @property
    def sizes(self) -> Ints:
        """Targets of each window."""
        return self.last - self.first + 1


def same_start(index: TrainingIndex, history: int, block: int = 0) -> Windows:
    """Positions whose windows begin at the same item; see `window_starts`."""
    users, positions = _places(index)
    return _runs(users, positions, window_starts(positions, history, block))


def runs_of(index: TrainingIndex, size: int) -> Windows:
    """Consecutive positions of a user, up to ``size`` together: for prompts that show no history."""
    users, positions = _places(index)
    return _runs(users, positions, (positions - 1) // size)


def _places(index: TrainingIndex) -> tuple[Ints, Ints]:
    return index.places(np.arange(index.n_targets))


def _runs(users: Ints, positions: Ints, keys: Ints) -> Windows:
    """Cut where the user or the key changes."""
    new = np.concatenate([[True], (np.diff(users) != 0) | (np.diff(keys) != 0)])
    starts = np.flatnonzero(new)
    ends = np.concatenate([starts[1:], [len(users)]]) - 1
    return Windows(users[starts], positions[starts], positions[ends])
