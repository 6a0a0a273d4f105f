"""OpenP5 examples to token ids: pieces are tokenised once, and an example is put together when it is read."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ilm_lightning.adapters.perceiver import PRESENT
from ilm_lightning.data.openp5 import Indexing, Sequences
from ilm_lightning.evaluation.ranking import NO_ITEM, UNKNOWN_ITEM
from ilm_lightning.lm.batch import PLACEHOLDER_ID
from ilm_lightning.lm.collate import Collator, Slot
from ilm_lightning.lm.pieces import Ids, Ints, PieceTable, Section
from ilm_lightning.lm.prompts import PromptTokenizer, TokenisedExample
from ilm_lightning.tasks.openp5 import Example, Prompt, TrainingIndex
from ilm_lightning.tasks.openp5.windows import window_starts

UserVectors = Callable[[NDArray[np.int64], NDArray[np.int64]], Mapping[str, Tensor]]
"""Users and positions to the vectors of the users as they were before these positions."""
_SPLIT = re.compile(r"(\{user_id\}|\{history\})")
SEPARATOR = " , "


@dataclass(frozen=True)
class RenderSettings:
    """What stands in a prompt.

    Attributes:
        history: the most recent items that a prompt holds.
        item_tokens: soft tokens after each item's id.
        user_tokens: soft tokens after the user's id.
        user_moves: a user's vector is that of the items before the target; False: one vector at all positions.
        block: 0: the window of items slides with the target; else it moves on by so many items at a time.
    """

    history: int = 20
    item_tokens: bool = True
    user_tokens: bool = False
    user_moves: bool = True
    block: int = 0


class Renderer:
    """Turns examples into ids.

    A slot's row is the item's; the user's at position p of the flat sequence array is ``I + p`` (see `UserCollator`).

    Args:
        tokenizer: of the language model.
        sequences: the data.
        indexing: what stands for items and users.
        settings: what stands in a prompt.
        table: pieces that were made before, by `prompt_pieces`; tokenised now if None.
    """

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        sequences: Sequences,
        indexing: Indexing,
        settings: RenderSettings,
        table: PieceTable | None = None,
    ) -> None:
        self.tokenizer, self.sequences, self.indexing, self.settings = tokenizer, sequences, indexing, settings
        self._slot = np.full(tokenizer.num_queries, PLACEHOLDER_ID, np.int32)
        self.table = prompt_pieces(tokenizer, sequences.name, indexing, ()) if table is None else table
        self._first, self._next, self._users = (self.table.section(name) for name in ("first", "next", "users"))
        self._targets: dict[str, Section] = {}
        self._parts: dict[str, list[tuple[str, Ids]]] = {}

    def pieces_of(self, prompts: Sequence[Prompt]) -> PieceTable:
        """A table that holds the literals and targets of prompts as well: the renderer's own, or a new one."""
        needed = {f"input:{prompt.input}" for prompt in prompts} | {f"target:{prompt.output}" for prompt in prompts}
        if not all(name in self.table for name in needed):
            self.table = prompt_pieces(self.tokenizer, self.sequences.name, self.indexing, prompts)
        return self.table

    def targets(self, output: str) -> Section:
        """Token ids of every item as an answer, the end token last.

        Args:
            output: an output template.
        """
        name = f"target:{output}"
        if name in self.table:
            return self.table.section(name)
        if output not in self._targets:
            texts = answer_texts(self.sequences.name, self.indexing, output)
            self._targets[output] = PieceTable.tokenised(self.tokenizer, {name: texts}, ended={name}).section(name)
        return self._targets[output]

    def template(self, question: str) -> list[tuple[str, Ids]]:
        """A template as pairs: literal pieces as an empty name and their ids, slots as their names and no ids."""
        if question not in self._parts:
            parts = _split(self.tokenizer, self.sequences.name, question)
            empty = np.empty(0, np.int32)
            ids = self.tokenizer.pieces(parts)
            self._parts[question] = [
                (part, empty) if _SPLIT.fullmatch(part) else ("", ids[place]) for place, part in enumerate(parts)
            ]
        return self._parts[question]

    def window(self, user: int, position: int) -> NDArray[np.int32]:
        """The items that a prompt shows: the last ones before a position."""
        start = window_starts(np.array([position]), self.settings.history, self.settings.block)[0]
        return self.sequences.items(user)[start:position]

    def windows(self, users: Ints, positions: Ints) -> Ints:
        """The same for many examples: ``[B, history]`` items from the left, -1 where there are no more."""
        starts = window_starts(positions, self.settings.history, self.settings.block)
        place = np.arange(self.settings.history)
        flat = (self.sequences.offsets[users] + starts)[:, None] + place
        shown = place < (positions - starts)[:, None]
        # places behind a short history may lie behind the array
        values = self.sequences.values[np.minimum(flat, len(self.sequences.values) - 1)]
        return np.where(shown, values, -1).astype(np.int64)

    def user_slot(self, user: int, position: int) -> Slot:
        """The slot of a user before a position, or after everything where one vector serves all positions."""
        place = position if self.settings.user_moves else int(self.sequences.lengths[user])
        return (self.sequences.n_items + int(self.sequences.offsets[user]) + place,)

    def user_rows(self, users: Ints, positions: Ints) -> Ints:
        """The rows of such slots ``[B]``."""
        places = positions if self.settings.user_moves else self.sequences.lengths[users]
        rows: Ints = self.sequences.n_items + self.sequences.offsets[users] + places
        return rows

    def __call__(self, example: Example, with_target: bool = True) -> TokenisedExample:
        """Put an example together.

        Args:
            example: which.
            with_target: False leaves the answer out.

        Returns:
            The ids; the slots in reading order.
        """
        user, position = example.user, example.position
        parts: list[Ids] = [self.tokenizer.start_ids]
        slots: list[Slot] = []
        for kind, ids in self.template(example.prompt.input):
            if kind == "{user_id}":
                parts.append(self._users[user])
                if self.settings.user_tokens:
                    parts.append(self._slot)
                    slots.append(self.user_slot(user, position))
            elif kind == "{history}":
                rows = self.window(user, position).tolist()
                for place, row in enumerate(rows):
                    parts.append(self._next[row] if place else self._first[row])
                    if self.settings.item_tokens:
                        parts.append(self._slot)
                if self.settings.item_tokens:
                    slots += [(row,) for row in rows]
            else:
                parts.append(ids)
        target = np.empty(0, np.int32)
        if with_target:
            target = self.targets(example.prompt.output)[int(self.sequences.items(user)[position])]
        return TokenisedExample(example.name(self.sequences), np.concatenate(parts), target, tuple(slots))

    def lengths(self, index: TrainingIndex) -> NDArray[np.int32]:
        """Tokens of every training example ``[len(index)]``, without putting one together."""
        users, positions = index.places(np.arange(index.n_targets))
        targets = self.sequences.values[self.sequences.offsets[users] + positions]
        sizes = {"{user_id}": self.user_tokens(users), "{history}": self.history_tokens(users, positions)}
        result = np.empty((index.n_targets, len(index.prompts)), np.int32)
        for column, prompt in enumerate(index.prompts):
            result[:, column] = len(self.tokenizer.start_ids) + self.answer_tokens(prompt.output)[targets]
            for kind, ids in self.template(prompt.input):
                result[:, column] += sizes[kind] if kind else len(ids)
        return result.reshape(-1)

    def user_tokens(self, users: NDArray[np.int64]) -> NDArray[np.int32]:
        """Tokens of users' ids, with their soft tokens ``[len(users)]``."""
        sizes = self._users.sizes()[users] + (len(self._slot) if self.settings.user_tokens else 0)
        return np.asarray(sizes, dtype=np.int32)

    def history_tokens(self, users: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int32]:
        """Tokens of the histories that prompts show users at positions ``[len(users)]``."""
        first, later = self._first.sizes(), self._next.sizes()
        values = self.sequences.values
        per_item = later[values] + (len(self._slot) if self.settings.item_tokens else 0)
        total = np.concatenate([[0], np.cumsum(per_item)])
        begins = self.sequences.offsets[users]
        starts = begins + window_starts(positions, self.settings.history, self.settings.block)
        opening = values[starts]
        sizes = total[begins + positions] - total[starts] - later[opening] + first[opening]
        return np.asarray(sizes, dtype=np.int32)

    def answer_tokens(self, output: str) -> NDArray[np.int32]:
        """Tokens of every item as an answer ``[I]``, the end token included."""
        return np.asarray(self.targets(output).sizes(), dtype=np.int32)


def template_parts(renderer: Renderer, question: str) -> list[str]:
    """Split a prompt in the tokenizer's frame into literals and slots, which take turns; literals may be empty."""
    return _split(renderer.tokenizer, renderer.sequences.name, question)


def _split(tokenizer: PromptTokenizer, dataset: str, question: str) -> list[str]:
    before, after = tokenizer.frame
    return _SPLIT.split(before + question.replace("{dataset}", dataset) + after)


def answer_texts(dataset: str, indexing: Indexing, output: str) -> Iterator[str]:
    """What the model is to say for each item."""
    frame = output.replace("{dataset}", dataset)
    return (frame.replace("{target}", f"item_{one}") for one in indexing.items)


def prompt_pieces(
    tokenizer: PromptTokenizer, dataset: str, indexing: Indexing, prompts: Collection[Prompt]
) -> PieceTable:
    """Tokenise all that prompts are put together from.

    Args:
        tokenizer: of the language model.
        dataset: its name in prompts.
        indexing: what stands for items and users.
        prompts: the templates.

    Returns:
        Sections ``users``, ``first`` (items without a comma before them), ``next`` (with one), and for each template
        ``input:…`` (its literals) and ``target:…`` (every item's answer, the end token last).
    """
    texts: dict[str, Iterable[str]] = {
        "users": indexing.users,
        "first": (f"item_{one}" for one in indexing.items),
        "next": (f"{SEPARATOR}item_{one}" for one in indexing.items),
    }
    for prompt in prompts:
        texts[f"input:{prompt.input}"] = _split(tokenizer, dataset, prompt.input)[::2]
        texts[f"target:{prompt.output}"] = answer_texts(dataset, indexing, prompt.output)
    return PieceTable.tokenised(tokenizer, texts, ended={name for name in texts if name.startswith("target:")})


class UserCollator(Collator):
    """A collator whose rows beyond the items are users as they were before a place of the flat sequence array.

    Args:
        vectors: per source the items' vectors ``[I, d_s]``.
        sequences: the data.
        users: vectors of users before positions.
    """

    def __init__(self, vectors: Mapping[str, Tensor], sequences: Sequences, users: UserVectors) -> None:
        super().__init__(vectors)
        self.sequences, self.users = sequences, users

    def slot_sources(self, slots: Sequence[Slot]) -> dict[str, Tensor]:
        """Return the vectors of items and users, in the order of the slots; see `Collator.slot_sources`."""
        rows = np.array([slot[0] for slot in slots], dtype=np.int64)
        return self.row_sources(rows) if bool((rows >= self.n_items).any()) else super().slot_sources(slots)

    def row_sources(self, rows: Ints) -> dict[str, Tensor]:
        """The same for rows of items and users ``[n]``."""
        is_user = rows >= self.n_items
        if not is_user.any():
            return super().row_sources(rows)
        places = rows[is_user] - self.n_items
        # a user's place may be one past the last item (after everything), so offsets are searched from the left
        owners = np.searchsorted(self.sequences.offsets, places, side="left") - 1
        found = self.users(owners, places - self.sequences.offsets[owners])
        items, chosen = super().row_sources(rows[~is_user]), torch.from_numpy(is_user)
        sources = {}
        for name, vectors in found.items():
            joined = torch.zeros(len(rows), *vectors.shape[1:])
            joined[chosen] = vectors.float()
            # among histories an item is a history of one, its place the last
            rest = joined[~chosen]
            (rest[:, -1] if name == PRESENT or vectors.ndim == 3 else rest)[:] = items.get(name, torch.ones(()))
            joined[~chosen] = rest
            sources[name] = joined
        return sources


def prompts_of(renderer: Renderer, examples: Sequence[Example]) -> Iterator[TokenisedExample]:
    """Examples without their answers, for decoding."""
    return (renderer(example, with_target=False) for example in examples)


def shared_output(prompts: Sequence[Prompt]) -> str:
    """The one output template of prompts, which a tree of items is built from.

    Raises:
        ValueError: they differ.
    """
    outputs = {prompt.output for prompt in prompts}
    if len(outputs) != 1:
        raise ValueError(f"prompts that are decoded together need one output template, not {sorted(outputs)}")
    return outputs.pop()


def item_finder(indexing: Indexing) -> Callable[[str], int]:
    r"""Make the function that reads the item out of a free text: the paper's pattern, ``.*item_(\d+)$``.

    Where an indexing's ids are not all digits (``<CI3><CI7>``), the id is whatever stands there up to a blank.

    Args:
        indexing: the items' text ids.

    Returns:
        Text to catalogue row; `NO_ITEM` for a text that does not match, which the paper takes out of the list;
        `UNKNOWN_ITEM` for one that matches but names no item of the catalogue, which keeps its place.
    """
    rows = {one: row for row, one in enumerate(indexing.items)}
    form = r"\d+" if all(one.isdecimal() for one in rows) else r"\S+"
    pattern = re.compile(rf".*item_({form})$", re.DOTALL)

    def find(text: str) -> int:
        match = pattern.match(text.strip())
        return rows.get(match.group(1), UNKNOWN_ITEM) if match else NO_ITEM

    return find
