"""Pieces of token ids back to back in one array: what prompts are put together from.

Saved once, they are read from disk where they lie: processes and loader workers share them, and a start tokenises
nothing. Ten million items take some hundred megabytes of address space and no memory until they are read.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.lm.batch import PLACEHOLDER_ID

if TYPE_CHECKING:
    from ilm_lightning.lm.prompts import PromptTokenizer

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
IDS, BOUNDS, SECTIONS = "pieces.ids.npy", "pieces.bounds.npy", "pieces.json"
CHUNK = 1 << 16
"""Texts tokenised in one call."""
EMPTY, START, SLOT = "empty", "start", "slot"
"""Sections that every table has: one piece each, nothing, the tokenizer's start token, and a slot's placeholders."""


class PieceTable:
    """Numbered pieces in named sections; piece 0 is empty.

    Args:
        ids: ``[N]``, all pieces one after another.
        bounds: ``[P + 1]``; piece ``p`` is ``ids[bounds[p]:bounds[p + 1]]``.
        sections: number of each section's first piece, in order.
    """

    def __init__(self, ids: Ids, bounds: Ints, sections: Mapping[str, int]) -> None:
        self.ids, self.bounds, self.sections = ids, bounds, dict(sections)

    @classmethod
    def tokenised(
        cls, tokenizer: "PromptTokenizer", texts: Mapping[str, Iterable[str]], ended: Collection[str] = ()
    ) -> "PieceTable":
        """Tokenise texts; no special tokens are added.

        Args:
            tokenizer: of the language model.
            texts: by section; each may be a generator, of which a part at a time is held.
            ended: sections whose pieces end with the end token.
        """
        slot = np.full(tokenizer.num_queries, PLACEHOLDER_ID, np.int32)
        parts: list[Ids] = [tokenizer.start_ids, slot]
        sizes: list[Ids] = [np.array([0, len(tokenizer.start_ids), len(slot)], np.int32)]
        sections, count = {EMPTY: 0, START: 1, SLOT: 2}, 3
        for name, own in texts.items():
            sections[name] = count
            for chunk in _chunks(own):
                rows = tokenizer.tokenizer(chunk, add_special_tokens=False).input_ids
                if name in ended:
                    rows = [[*row, tokenizer.eos_id] for row in rows]
                sizes.append(np.fromiter(map(len, rows), np.int32, len(rows)))
                parts.append(np.fromiter((token for row in rows for token in row), np.int32, int(sizes[-1].sum())))
                count += len(chunk)
        bounds = np.concatenate([[0], np.cumsum(np.concatenate(sizes), dtype=np.int64)])
        return cls(np.concatenate(parts), bounds, sections)

    def save(self, folder: Path) -> None:
        """Write three files into a folder."""
        np.save(folder / IDS, self.ids)
        np.save(folder / BOUNDS, self.bounds)
        (folder / SECTIONS).write_text(json.dumps(self.sections), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "PieceTable":
        """Open what `save` wrote, mapped into memory and not read."""
        ids, bounds = (np.load(folder / name, mmap_mode="r") for name in (IDS, BOUNDS))
        return cls(ids, bounds, json.loads((folder / SECTIONS).read_text(encoding="utf-8")))

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.bounds) - 1

    def __contains__(self, name: object) -> bool:
        """Whether there is a section of this name."""
        return name in self.sections

    def piece(self, number: int) -> Ids:
        """The ids of a piece."""
        return self.ids[self.bounds[number] : self.bounds[number + 1]]

    def section(self, name: str) -> "Section":
        """The pieces of a section as a sequence."""
        first = self.sections[name]
        ends = [start for start in self.sections.values() if start > first]
        return Section(self, first, min(ends, default=len(self)) - first)

    def sizes(self, numbers: Ints) -> Ints:
        """Tokens of each of the pieces, in the shape of ``numbers``."""
        sizes: Ints = self.bounds[numbers + 1] - self.bounds[numbers]
        return sizes

    def lay(self, numbers: Ints) -> tuple[Ids, Ints, Ints]:
        """Put rows of pieces together.

        Args:
            numbers: ``[B, P]`` pieces of each row in order; 0 for none.

        Returns:
            The rows' ids ``[B, T]``, anything behind their ends; their lengths ``[B]``; of these, the last piece's.
        """
        begins = self.bounds[numbers]
        sizes = self.bounds[numbers + 1] - begins
        lengths = sizes.sum(1)
        width = int(lengths.max(initial=0))
        # what follows a row's end counts as a piece as well, so that all rows are read in one go
        flat = np.concatenate([sizes, width - lengths[:, None]], axis=1).ravel()
        begins = np.concatenate([begins, np.zeros_like(lengths)[:, None]], axis=1).ravel()
        # each token's place in the table: its piece's start, and its place within the piece
        where = np.repeat(begins - (np.cumsum(flat) - flat), flat)
        where += np.arange(len(where))
        return self.ids.take(where, mode="clip").reshape(len(numbers), width), lengths, sizes[:, -1]


class Section(Sequence[Ids]):
    """A section of a table as a sequence of pieces.

    Attributes:
        first: number of its first piece in the table.
    """

    def __init__(self, table: PieceTable, first: int, count: int) -> None:
        self.table, self.first, self._count = table, first, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> Ids: ...
    @overload
    def __getitem__(self, row: slice) -> list[Ids]: ...
    def __getitem__(self, row: int | slice) -> Ids | list[Ids]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(self._count))]
        if not -self._count <= row < self._count:
            raise IndexError(f"piece {row} of {self._count}")
        return self.table.piece(self.first + row % self._count)

    def sizes(self) -> Ints:
        """Tokens of each piece."""
        sizes: Ints = np.diff(self.table.bounds[self.first : self.first + self._count + 1])
        return sizes


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
