"""Training batches of OpenP5 examples: which a step reads, put together from pieces for all of them at once."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ilm_lightning.lm.batch import IGNORE_INDEX, PromptBatch
from ilm_lightning.lm.collate import MEGA_BATCH, Collator
from ilm_lightning.lm.pieces import EMPTY, SLOT, START, Ints
from ilm_lightning.lm.recommendation import Renderer, RenderSettings, template_parts
from ilm_lightning.lm.shuffle import shuffled
from ilm_lightning.tasks.openp5 import Example, Prompt, TrainingIndex

USER, HISTORY = "{user_id}", "{history}"
NONE = -1


class Assembler:
    """Turns numbers of training examples into a batch: what `Renderer` and a collator make of them one by one.

    A row is laid out in fixed columns, of which those that an example has not hold the empty piece: start, literal,
    user and slot, literal, the history's items and slots, literal, user and slot, literal, target.

    Args:
        renderer: knows pieces and settings.
        index: numbers the examples.
        collator: knows the vectors of slots; its rows beyond the items are users, see `UserCollator`.
    """

    def __init__(self, renderer: Renderer, index: TrainingIndex, collator: Collator) -> None:
        self.renderer, self.index, self.collator = renderer, index, collator
        self.table = renderer.pieces_of(index.prompts)
        self._columns = _Columns(renderer.settings)
        rows = [self._template(prompt) for prompt in index.prompts]
        self._literals = np.array([row[0] for row in rows])
        self._user_before, self._user_after, self._has_history = (
            np.array([row[place] for row in rows]) for place in (1, 2, 3)
        )
        self._targets = np.array([self.table.section(f"target:{prompt.output}").first for prompt in index.prompts])
        self._names = [f"{prompt.task}:{'seen' if prompt.seen else 'unseen'}:" for prompt in index.prompts]

    def _template(self, prompt: Prompt) -> tuple[list[int], bool, bool, bool]:
        """Numbers of the four literals, and what stands between them: user before or after the history, history."""
        parts = template_parts(self.renderer, prompt.input)
        first = self.table.section(f"input:{prompt.input}").first
        literals = [self.table.sections[EMPTY]] * 4
        literals[0] = first
        place, kinds = 0, parts[1::2]
        for number, kind in enumerate(kinds, start=1):
            place = 2 if kind == HISTORY else 1 if HISTORY not in kinds[:number] else 3
            literals[place] = first + number
        before = USER in kinds and (HISTORY not in kinds or kinds.index(USER) < kinds.index(HISTORY))
        return literals, before, USER in kinds and not before, HISTORY in kinds

    def __call__(self, numbers: NDArray[np.integer]) -> PromptBatch:
        """Put examples together.

        Args:
            numbers: ``[B]`` examples of the index.

        Returns:
            The batch, padded on the right; its distinct slots are in the order of their rows.
        """
        users, positions, prompts, windows = self._split(numbers)
        laid, lengths, answers = self.table.lay(self._pieces(users, positions, prompts, windows))
        mask = np.arange(laid.shape[1]) < lengths[:, None]
        laid *= mask
        ids, labels = laid.astype(np.int64), np.full(laid.shape, IGNORE_INDEX, np.int64)
        # few positions are targets
        back = np.arange(-int(answers.max()), 0)
        row, column = np.nonzero(back >= -answers[:, None])
        column = lengths[row] + back[column]
        labels[row, column] = ids[row, column]
        rows, slot_index = np.unique(self._slots(users, positions, prompts, windows), return_inverse=True)
        sources = self.collator.row_sources(rows)
        names = self._example_ids(users, positions, prompts)
        given, real, wanted = map(torch.from_numpy, (ids, mask.astype(np.int64), labels))
        return PromptBatch(given, real, wanted, sources, torch.tensor(slot_index), names)

    def lengths(self, numbers: NDArray[np.integer]) -> Ints:
        """Tokens of examples ``[B]``, without putting them together."""
        users, positions, prompts, windows = self._split(numbers)
        sizes = self.table.sizes(self._pieces(users, positions, prompts, windows))
        return np.asarray(sizes.sum(1), dtype=np.int64)

    def mean_length(self, most: int = 20_000) -> float:
        """Mean tokens of an example, over at most so many, evenly spaced."""
        count = len(self.index)
        return float(self.lengths(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).mean())

    def _split(self, numbers: NDArray[np.integer]) -> tuple[Ints, Ints, Ints, Ints]:
        users, positions, prompts = self.index.split(np.asarray(numbers, dtype=np.int64))
        windows = self.renderer.windows(users, positions)
        windows[~self._has_history[prompts]] = NONE
        return users, positions, prompts, windows

    def _pieces(self, users: Ints, positions: Ints, prompts: Ints, windows: Ints) -> Ints:
        """Numbers of pieces ``[B, P]``."""
        at, settings, sections = self._columns, self.renderer.settings, self.table.sections
        sequences = self.renderer.sequences
        pieces = np.zeros((len(users), at.width), np.int64)
        pieces[:, at.start] = sections[START]
        pieces[:, at.literals] = self._literals[prompts]
        for column, present in ((at.user_before, self._user_before), (at.user_after, self._user_after)):
            pieces[:, column] = np.where(present[prompts], sections["users"] + users, 0)
            if settings.user_tokens:
                pieces[:, column + 1] = np.where(present[prompts], sections[SLOT], 0)
        shown = windows != NONE
        items = np.where(shown, sections["next"] + windows, 0)
        # only the first item has no comma before it
        items[:, 0] = np.where(shown[:, 0], sections["first"] + windows[:, 0], 0)
        pieces[:, at.items] = items
        if settings.item_tokens:
            pieces[:, at.item_slots] = np.where(shown, sections[SLOT], 0)
        pieces[:, at.target] = self._targets[prompts] + sequences.values[sequences.offsets[users] + positions]
        return pieces

    def _slots(self, users: Ints, positions: Ints, prompts: Ints, windows: Ints) -> Ints:
        """Rows of all slots in reading order."""
        settings = self.renderer.settings
        rows = np.full((len(users), windows.shape[1] + 2), NONE, np.int64)
        if settings.item_tokens:
            rows[:, 1:-1] = windows
        if settings.user_tokens:
            own = self.renderer.user_rows(users, positions)
            rows[:, 0] = np.where(self._user_before[prompts], own, NONE)
            rows[:, -1] = np.where(self._user_after[prompts], own, NONE)
        return np.asarray(rows[rows != NONE], dtype=np.int64)

    def _example_ids(self, users: Ints, positions: Ints, prompts: Ints) -> list[str]:
        names, user_ids = self._names, self.renderer.sequences.user_ids
        triples = zip(users.tolist(), positions.tolist(), prompts.tolist(), strict=True)
        return [f"{names[prompt]}{user_ids[user]}:{position}" for user, position, prompt in triples]


class _Columns:
    """Columns of a row of pieces."""

    def __init__(self, settings: RenderSettings) -> None:
        each = 2 if settings.item_tokens else 1
        begin, end = 5, 5 + each * settings.history
        self.start, self.user_before, self.user_after, self.target = 0, 2, end + 1, end + 4
        self.literals = [1, 4, end, end + 3]
        self.items, self.item_slots = slice(begin, end, each), slice(begin + 1, end, each)
        self.width = end + 5


class StepBatches:
    """The training batch of each step, a function of (seed, step): a permutation, cut and grouped by length.

    Nothing is stored: the permutation is computed where it is read, so that 20 million examples start at once.

    Args:
        index: numbers the examples.
        lengths: numbers of examples to their tokens.
        batch_size: examples a step.
        seed: of the order.
    """

    def __init__(self, index: TrainingIndex, lengths: Callable[[Ints], Ints], batch_size: int, seed: int) -> None:
        self.index, self.lengths, self.batch_size, self.seed = index, lengths, min(batch_size, len(index)), seed
        self._mega, self._batches = (-1, -1), np.empty((0, 0), np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the examples."""
        return len(self.index) // self.batch_size

    def numbers(self, step: int) -> Ints:
        """The examples of a step as numbers ``[batch_size]``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        mega, row = divmod(place, MEGA_BATCH)
        if (epoch, mega) != self._mega:
            self._batches, self._mega = self._grouped(epoch, mega), (epoch, mega)
        return np.asarray(self._batches[row], dtype=np.int64)

    def largest(self) -> int:
        """Tokens of the largest batch of the first stretch, padding included."""
        stretch = self._grouped(0, 0)
        return int(self.lengths(stretch.reshape(-1)).reshape(stretch.shape).max(1).max()) * self.batch_size

    def __call__(self, step: int) -> list[Example]:
        """The examples of a step."""
        return [self.index[int(number)] for number in self.numbers(step)]

    def _grouped(self, epoch: int, mega: int) -> Ints:
        size = MEGA_BATCH * self.batch_size
        last = self.steps_per_epoch * self.batch_size
        part = shuffled(np.arange(mega * size, min((mega + 1) * size, last)), len(self.index), (self.seed, epoch))
        ordered = part[np.argsort(self.lengths(part), kind="stable")].reshape(-1, self.batch_size)
        return np.asarray(np.random.default_rng([self.seed, epoch, mega]).permutation(ordered))
