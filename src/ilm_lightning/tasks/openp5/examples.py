"""Which user, position and prompt an example is; no list of examples is ever in memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.data.openp5.sequences import HELD_OUT, Sequences
from ilm_lightning.tasks.openp5.prompts import Prompt

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One example: recommend ``items[position]`` to a user who has met ``items[:position]``.

    Attributes:
        user: row of the user.
        position: place of the target among the user's items.
        prompt: the template.
    """

    user: int
    position: int
    prompt: Prompt

    def name(self, sequences: Sequences) -> str:
        """Readable id, such as ``sequential:seen:A1YJ:4``."""
        kind = "seen" if self.prompt.seen else "unseen"
        return f"{self.prompt.task}:{kind}:{sequences.user_ids[self.user]}:{self.position}"


class TrainingIndex:
    """Numbers all training examples: every position from 1 of each user's first n - 2 items, with every seen prompt.

    Args:
        sequences: the data.
        prompts: the templates that are trained on.
    """

    def __init__(self, sequences: Sequences, prompts: Collection[Prompt]) -> None:
        self.prompts = tuple(prompts)
        # positions 1 to n - 3 of each user
        self._ends = np.cumsum(sequences.lengths - HELD_OUT - 1)
        self._starts = np.concatenate([[0], self._ends])

    def __len__(self) -> int:
        """(N - 3U) times the number of seen prompts."""
        return self.n_targets * len(self.prompts)

    @property
    def n_targets(self) -> int:
        """N - 3U: training positions of all users."""
        return int(self._ends[-1])

    def places(self, targets: Ints) -> tuple[Ints, Ints]:
        """Users and positions of targets numbered from 0 to ``n_targets - 1``."""
        users = np.searchsorted(self._ends, targets, side="right")
        return users, targets - self._starts[users] + 1

    def split(self, numbers: Ints) -> tuple[Ints, Ints, Ints]:
        """Users, positions and prompts (as numbers) of examples."""
        targets, prompts = np.divmod(numbers, len(self.prompts))
        return *self.places(targets), prompts

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        target, prompt = divmod(index, len(self.prompts))
        users, positions = self.places(np.array([target]))
        return Example(int(users[0]), int(positions[0]), self.prompts[prompt])


def held_out_examples(sequences: Sequences, prompt: Prompt, split: str, users: Sequence[int] | Ints) -> list[Example]:
    """One example a user: the last item (``test``) or the one before (``validation``) is the target."""
    back = sequences.target_position(split)
    return [Example(int(user), int(sequences.lengths[user]) + back, prompt) for user in users]


def chosen_users(n_users: int, count: int, seed: int = 0) -> Ints:
    """A fixed random sample of users, in ascending order; all where ``count`` is 0 or not below their number."""
    if count <= 0 or count >= n_users:
        return np.arange(n_users)
    return np.sort(np.random.default_rng([seed, n_users]).choice(n_users, count, replace=False))
