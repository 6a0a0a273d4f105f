"""Examples as trees: what they begin with in common is a trunk, what each goes on with a branch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ilm_lightning.lm.attention import Branches
from ilm_lightning.lm.batch import PLACEHOLDER_ID
from ilm_lightning.lm.collate import Slot
from ilm_lightning.lm.prompts import TokenisedExample

Ints = NDArray[np.int64]
SLACK = 1.2
"""How much more attention may be computed for reading several trees at once, in turn for fewer operations."""


@dataclass(frozen=True)
class Tree:
    """One group of examples: ids, positions and ends of the tokens, and each example's path through them."""

    ids: Ints
    positions: Ints
    ends: Ints
    trunk: int
    joins: list[int]
    """Per branch, the tokens of the trunk that it sees."""
    lengths: list[int]
    """Per branch, its own tokens."""
    paths: list[Ints]
    slots: list[Slot]


def common_prefix(left: Ints, right: Ints) -> int:
    """How many entries two arrays begin with in common.

    >>> common_prefix(np.array([4, 5, 6]), np.array([4, 5, 7, 8]))
    2
    """
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size


def grow(examples: Sequence[TokenisedExample], known: dict[Slot, int]) -> Tree:
    """Lay examples out as one tree.

    Args:
        examples: the last tokens of their targets predict nothing and are left out.
        known: numbers of slots; new ones are added.

    Returns:
        The tree: the trunk's tokens, then those of one branch after another, those that join last coming first.
    """
    rows = [np.concatenate([e.prompt_ids, e.target_ids[:-1]]).astype(np.int64) for e in examples]
    soft = [row == PLACEHOLDER_ID for row in rows]
    # soft tokens are the same where their slots are
    codes = [_codes(row, mask, example.slots, known) for row, mask, example in zip(rows, soft, examples, strict=True)]
    longest = max(range(len(rows)), key=lambda place: len(rows[place]))
    joins = [common_prefix(code, codes[longest]) for code in codes]
    trunk = len(rows[longest])
    ids, positions, slots = [rows[longest]], [np.arange(trunk)], list(examples[longest].slots)
    ends = np.empty(sum(map(len, rows)), np.int64)
    paths: list[Ints] = [np.arange(trunk)] * len(rows)
    kept: list[tuple[int, int]] = []
    start = trunk
    # the last to join comes first, so that what descends from a token lies behind it in one piece
    for place in sorted(range(len(rows)), key=lambda place: -joins[place]):
        join, length = joins[place], len(rows[place]) - joins[place]
        paths[place] = np.concatenate([np.arange(join), np.arange(start, start + length)])
        if length == 0 or place == longest:
            continue
        ids.append(rows[place][join:])
        positions.append(np.arange(join, join + length))
        given = examples[place].slots
        slots += given[int(soft[place][:join].sum()) * len(given) // max(int(soft[place].sum()), 1) :]
        ends[start : start + length] = start + length - 1
        kept.append((join, length))
        start += length
    tokens = np.concatenate(ids)
    ends = ends[: len(tokens)]
    # a trunk's token is seen by the branches that join after it: the first so many
    after = np.array([join for join, _ in kept], np.int64)
    bounds = trunk + np.concatenate([[0], np.cumsum([length for _, length in kept])]).astype(np.int64)
    ends[:trunk] = bounds[np.searchsorted(-after, -np.arange(trunk), side="left")] - 1
    return Tree(tokens, np.concatenate(positions), ends, trunk, after.tolist(), [n for _, n in kept], paths, slots)


def _codes(row: Ints, soft: NDArray[np.bool_], slots: Sequence[Slot], known: dict[Slot, int]) -> Ints:
    """Token ids, with a number below 0 of its own for every distinct slot."""
    if not slots:
        return row
    numbers = np.array([known.setdefault(slot, len(known)) for slot in slots])
    codes = row.copy()
    codes[soft] = -1 - np.repeat(numbers, int(soft.sum()) // len(slots))
    return codes


def lay_branches(trees: Sequence[Tree], starts: Ints) -> Branches:
    """Write down which tokens of a row are trunks and which are branches, trees of similar size together."""
    parts: list[tuple[Ints, Ints, NDArray[np.float32]]] = []
    back, laid = np.empty(sum(len(tree.ids) for tree in trees), np.int64), 0
    for stack in stacks([_size(tree) for tree in trees]):
        width, most, longest = np.max([_size(trees[number]) for number in stack], axis=0).tolist()
        trunks = np.zeros((len(stack), width), np.int64)
        branches = np.zeros((len(stack), most, longest), np.int64)
        cut = np.full((len(stack), most, width), -np.inf, np.float32)
        for row, number in enumerate(stack):
            tree, start = trees[number], int(starts[number])
            trunks[row, : tree.trunk] = np.arange(start, start + tree.trunk)
            back[start : start + tree.trunk] = laid + row * width + np.arange(tree.trunk)
            start += tree.trunk
            for place, (join, length) in enumerate(zip(tree.joins, tree.lengths, strict=True)):
                branches[row, place, :length] = np.arange(start, start + length)
                cut[row, place, :join] = 0
                back[start : start + length] = laid + trunks.size + (row * most + place) * longest + np.arange(length)
                start += length
        laid += trunks.size + branches.size
        parts.append((trunks, branches, cut))
    trunks_of, branches_of, cuts = (tuple(map(torch.from_numpy, part)) for part in zip(*parts, strict=True))
    return Branches(trunks_of, branches_of, cuts, torch.from_numpy(back))


def _size(tree: Tree) -> tuple[int, int, int]:
    """Tokens of the trunk, branches, tokens of the longest branch."""
    return tree.trunk, len(tree.joins), max(tree.lengths, default=0)


def stacks(sizes: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """Put trees together whose attention, padded to common sizes, is at most ``SLACK`` times what it is apart.

    Args:
        sizes: per tree, tokens of the trunk, branches, and tokens of the longest branch.

    Returns:
        The trees' numbers, each once.

    >>> stacks([(100, 0, 0), (30, 4, 9), (98, 0, 0), (31, 4, 9)])
    [[1, 3], [2, 0]]
    """
    found: list[list[int]] = []
    widest, apart = (0, 0, 0), 0
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number][1], sizes[number][0])):
        size = sizes[number]
        together = (max(widest[0], size[0]), max(widest[1], size[1]), max(widest[2], size[2]))
        if found and (len(found[-1]) + 1) * _pairs(*together) <= SLACK * (apart + _pairs(*size)):
            found[-1].append(number)
            widest, apart = together, apart + _pairs(*size)
        else:
            found.append([number])
            widest, apart = size, _pairs(*size)
    return found


def _pairs(trunk: int, branches: int, length: int) -> int:
    """Scores of a tree: its trunk on itself, its branches on the trunk and on themselves."""
    return trunk * trunk + branches * length * (trunk + length)
