"""Shared-history training: which examples read one history together, and which of them a step trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.lm.collate import MEGA_BATCH
from ilm_lightning.lm.recommendation import Renderer
from ilm_lightning.tasks.openp5 import Example, Prompt, TrainingIndex
from ilm_lightning.tasks.openp5.windows import Windows, runs_of, same_start

HISTORY, USER = "{history}", "{user_id}"


@dataclass(frozen=True)
class Family:
    """Prompts that say the same before the history, and the windows in which they share it.

    Attributes:
        prompts: the templates.
        windows: each is read once, with a branch for every position and prompt.
        tokens: ``[len(windows)]``, int32; tokens of each window with all its branches.
    """

    prompts: tuple[Prompt, ...]
    windows: Windows
    tokens: NDArray[np.int32]

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Examples of each window."""
        return (self.windows.sizes * len(self.prompts)).astype(np.int32)


def families(renderer: Renderer, index: TrainingIndex) -> list[Family]:
    """Sort the trained prompts by what stands before the history.

    A prompt without history is shared as a whole, by up to ``history`` positions of a user. Where a user's vector
    stands before the history and moves with the target, positions have nothing in common and stay apart.

    Args:
        renderer: of the training examples.
        index: the examples.
    """
    groups: dict[tuple[bool, tuple[tuple[str, bytes], ...]], list[Prompt]] = {}
    for prompt in index.prompts:
        parts = renderer.template(prompt.input)[: _shared_parts(renderer, prompt)]
        key = _has_history(renderer, prompt), tuple((kind, ids.tobytes()) for kind, ids in parts)
        groups.setdefault(key, []).append(prompt)
    settings = renderer.settings
    shared = same_start(index, settings.history, settings.block)
    plain, single = runs_of(index, settings.history), runs_of(index, 1)
    found = []
    for (has_history, before_history), prompts in groups.items():
        windows = shared if has_history else plain
        if settings.user_tokens and settings.user_moves and USER in dict(before_history):
            windows = single
        found.append(Family(tuple(prompts), windows, _tokens(renderer, prompts, windows)))
    return found


def _has_history(renderer: Renderer, prompt: Prompt) -> bool:
    return any(kind == HISTORY for kind, _ in renderer.template(prompt.input))


def _shared_parts(renderer: Renderer, prompt: Prompt) -> int:
    """Parts of a template before its history; all of them where there is none."""
    kinds = [kind for kind, _ in renderer.template(prompt.input)]
    return kinds.index(HISTORY) if HISTORY in kinds else len(kinds)


def _tokens(renderer: Renderer, prompts: Sequence[Prompt], windows: Windows) -> NDArray[np.int32]:
    """Tokens of windows: what is shared once, and the rest of the prompt and the answer for every branch."""
    sequences, users = renderer.sequences, renderer.user_tokens(windows.users)
    cut = _shared_parts(renderer, prompts[0])
    result = np.full(len(windows), len(renderer.tokenizer.start_ids), np.int64)
    for kind, ids in renderer.template(prompts[0].input)[:cut]:
        result += users if kind else len(ids)
    if _has_history(renderer, prompts[0]):
        result += renderer.history_tokens(windows.users, windows.last)
    begins = sequences.offsets[windows.users]
    for prompt in prompts:
        answers = np.concatenate([[0], np.cumsum(renderer.answer_tokens(prompt.output)[sequences.values])])
        result += answers[begins + windows.last + 1] - answers[begins + windows.first]
        for kind, ids in renderer.template(prompt.input)[cut:]:
            if kind != HISTORY:
                result += windows.sizes * (users if kind else len(ids))
    return result.astype(np.int32)


class SharedBatches:
    """The training examples of each step, a function of (seed, step), those that share a history side by side.

    Windows are permuted and sorted by length within stretches of 50 batches; a step takes the next ``batch_size``
    examples, so that windows at its borders are cut in two.

    Args:
        found: prompts and windows, from `families`.
        batch_size: examples a step.
        seed: of the order.
    """

    def __init__(self, found: Sequence[Family], batch_size: int, seed: int) -> None:
        self.families = tuple(found)
        self.sizes = np.concatenate([family.sizes for family in self.families])
        self.tokens = np.concatenate([family.tokens for family in self.families])
        self._bounds = np.cumsum([0, *(len(family.windows) for family in self.families)])
        self.n_examples = int(self.sizes.sum(dtype=np.int64))
        self.batch_size, self.seed = min(batch_size, self.n_examples), seed
        self._epoch, self._order, self._ends = -1, np.empty(0, np.int32), np.empty(0, np.int64)
        self._mega: tuple[int, int] = (-1, -1)
        self._batches = np.empty((0, 0, 2), np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the examples."""
        return self.n_examples // self.batch_size

    @property
    def mean_tokens(self) -> float:
        """Tokens that an example costs, where no window is cut."""
        return float(self.tokens.sum(dtype=np.int64)) / self.n_examples

    def largest(self) -> int:
        """Tokens of the largest batch of the first stretch; of a window that is cut, its examples' part."""
        self(0)
        windows = self._batches[:, :, 0]
        return int((self.tokens[windows] / self.sizes[windows]).sum(1).max())

    def __call__(self, step: int) -> list[list[Example]]:
        """The examples of a step, grouped by what they share."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order, self._epoch = rng.permutation(len(self.sizes)).astype(np.int32), epoch
            self._ends = np.cumsum(self.sizes[self._order], dtype=np.int64)
        mega, row = divmod(place, MEGA_BATCH)
        if (epoch, mega) != self._mega:
            self._batches, self._mega = self._grouped(epoch, mega), (epoch, mega)
        batch = self._batches[row]
        cuts = np.flatnonzero(np.diff(batch[:, 0])) + 1
        return [self._examples(int(part[0, 0]), part[:, 1]) for part in np.split(batch, cuts)]

    def _examples(self, window: int, members: NDArray[np.int64]) -> list[Example]:
        number = int(np.searchsorted(self._bounds, window, side="right")) - 1
        family, row = self.families[number], window - int(self._bounds[number])
        user, first = int(family.windows.users[row]), int(family.windows.first[row])
        places = [divmod(int(member), len(family.prompts)) for member in members]
        return [Example(user, first + offset, family.prompts[prompt]) for offset, prompt in places]

    def _grouped(self, epoch: int, mega: int) -> NDArray[np.int64]:
        """The batches of a stretch of an epoch: windows and members ``[batches, batch_size, 2]``."""
        size = MEGA_BATCH * self.batch_size
        start, end = mega * size, min((mega + 1) * size, self.steps_per_epoch * self.batch_size)
        low, high = np.searchsorted(self._ends, [start, end - 1], side="right")
        windows, ends = self._order[low : high + 1].astype(np.int64), self._ends[low : high + 1]
        begins = ends - self.sizes[windows]
        # members of the stretch, where it begins or ends within a window
        firsts, counts = np.maximum(start - begins, 0), np.minimum(end, ends) - np.maximum(start, begins)
        order = np.argsort(self.tokens[windows], kind="stable")
        windows, firsts, counts = windows[order], firsts[order], counts[order]
        members = np.arange(end - start) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(firsts, counts)
        rows = np.stack([np.repeat(windows, counts), members], axis=1).reshape(-1, self.batch_size, 2)
        return np.asarray(np.random.default_rng([self.seed, epoch, mega]).permutation(rows))
