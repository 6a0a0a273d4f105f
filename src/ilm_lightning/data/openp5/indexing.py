"""Item and user indexings of OpenP5: which text stands for an item in a prompt.

``random`` numbers shuffled items, ``sequential`` numbers items in the order in which training meets them, and
``collaborative`` clusters items that occur with the same users, recursively; a path of cluster tokens is the id.
(Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023.)
"""

import logging
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from ilm_lightning.data.delimited import utf8_text
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.openp5.sequences import Sequences

log = logging.getLogger("ilm_lightning")

FIRST_ID = 1001
RANDOM_SEED = 2023
KINDS = ("random", "sequential", "collaborative")
_FILES = {
    "random": "item_random_indexing.txt",
    "sequential": "item_sequential_indexing_original.txt",
    "collaborative": "item_collaborative_indexing_*_sequential.txt",
}


@dataclass(frozen=True)
class Indexing:
    """Texts of items and users.

    Attributes:
        kind: ``random``, ``sequential`` or ``collaborative``.
        items: [I] text id of each row of the sequences, without the ``item_`` before it; all different.
        users: [U] text id of each user, without the ``user_`` before it; all different.
        source: the file, or "written anew".
    """

    kind: str
    items: list[str]
    users: list[str]
    source: str

    def __post_init__(self) -> None:
        for what, ids in (("item", self.items), ("user", self.users)):
            twice = _first_duplicate(ids)
            if twice is not None:
                raise DataError(f"{self.source}: {what} index {twice!r} is given twice; every {what} needs its own")


def _first_duplicate(ids: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return one
        seen.add(one)
    return None


def read_indexing(folder: Path, kind: str, sequences: Sequences) -> Indexing | None:
    """Read an indexing that lies beside the sequences.

    Args:
        folder: a data set in OpenP5's format.
        kind: one of `KINDS`.
        sequences: the data set's sequences.

    Returns:
        The indexing, or None where the folder holds no file of this kind.

    Raises:
        DataError: an unknown kind, several files of the kind, a broken line, duplicate ids, an item or user of the
            sequences without index.
    """
    if kind not in KINDS:
        raise DataError(f"unknown indexing {kind!r}; choose one of {', '.join(KINDS)}")
    found = sorted(Path(folder).glob(_FILES[kind]))
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{folder}: several {kind} indexings ({', '.join(p.name for p in found)}); keep one")
    items = _read_table(found[0], "item")
    user_file = Path(folder) / "user_indexing.txt"
    users = _read_table(user_file, "user") if user_file.is_file() else None
    user_ids = _lookup(users, sequences.user_ids, user_file, "user") if users is not None else number_users(sequences)
    return Indexing(kind, _lookup(items, sequences.item_ids, found[0], "item"), user_ids, found[0].name)


def _read_table(path: Path, what: str) -> dict[str, str]:
    """Each id's index, in the order of the file: every line holds one id, so an id's place is its line."""
    table: dict[str, str] = {}
    for number, line in enumerate(utf8_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            raise DataError(f"{path}, line {number}: the line is empty; take it out")
        if len(fields) != 2:
            raise DataError(
                f"{path}, line {number}: {line!r} is no pair of {what} id and index; write both with a space between "
                f"them, as in '{fields[0]} {FIRST_ID}'"
            )
        if fields[0] in table:
            raise DataError(f"{path}, line {number}: {what} {fields[0]!r} has an index already; keep one line for it")
        table[fields[0]] = fields[1]
    return table


def _lookup(table: dict[str, str], ids: Sequence[str], path: Path, what: str) -> list[str]:
    missing = [one for one in ids if one not in table]
    if missing:
        raise DataError(
            f"{path}: {what} {missing[0]!r} occurs in the sequences but has no index ({len(missing)} such); add its "
            "line, or remove the file and an indexing is written anew"
        )
    owners: dict[str, str] = {}
    for one in ids:
        owner = owners.setdefault(table[one], one)
        if owner != one:
            lines = {known: number for number, known in enumerate(table, start=1)}
            first, second = sorted((owner, one), key=lines.__getitem__)
            raise DataError(
                f"{path}, lines {lines[first]} and {lines[second]}: {what} index {table[one]!r} is given twice, to "
                f"{first!r} and {second!r}; every {what} needs its own"
            )
    return [table[one] for one in ids]


def number_users(sequences: Sequences) -> list[str]:
    """OpenP5's user ids: "1", "2", ... in the order of the file."""
    return [str(user + 1) for user in range(len(sequences))]


def make_indexing(
    sequences: Sequences, kind: str, clusters: int = 20, token_size: int = 500, seed: int = RANDOM_SEED
) -> Indexing:
    """Write an indexing anew, as OpenP5 defines it.

    Args:
        sequences: the data set.
        kind: one of `KINDS`.
        clusters: collaborative: clusters each split makes.
        token_size: collaborative: clusters of at most this many items are not split again.
        seed: of the random indexing.

    Returns:
        The indexing. Nothing of a validation or test item's place is read from held-out interactions.

    Raises:
        DataError: an unknown kind or settings that cannot be used.
    """
    if kind == "random":
        items = _numbered(_shuffled(sequences.n_items, seed), sequences.n_items)
    elif kind == "sequential":
        items = _numbered(_order_of_training(sequences), sequences.n_items)
    elif kind == "collaborative":
        items = _collaborative(sequences, clusters, token_size)
    else:
        raise DataError(f"unknown indexing {kind!r}; choose one of {', '.join(KINDS)}")
    return Indexing(kind, items, number_users(sequences), "written anew")


def _shuffled(count: int, seed: int) -> list[int]:
    rows = list(range(count))
    random.Random(seed).shuffle(rows)
    return rows


def _order_of_training(sequences: Sequences) -> list[int]:
    """Rows in order of first appearance over the users' training items, then the rest in order of the file."""
    training = sequences.values[sequences.training_mask]
    first = training[np.sort(np.unique(training, return_index=True)[1])]
    met = set(first.tolist())
    return [*first.tolist(), *(row for row in range(sequences.n_items) if row not in met)]


def _numbered(rows: Sequence[int], count: int) -> list[str]:
    ids = [""] * count
    for place, row in enumerate(rows):
        ids[row] = str(FIRST_ID + place)
    return ids


def _collaborative(sequences: Sequences, clusters: int, token_size: int) -> list[str]:
    if clusters < 2 or token_size < clusters:
        raise DataError(
            f"collaborative indexing needs clusters >= 2 and token_size >= clusters, got {clusters} and {token_size}"
        )
    together = sequences.training_interactions().matrix()
    counts = (together.T @ together).tolil()
    counts.setdiag(0)
    counts = counts.tocsr()
    paths: list[list[int]] = [[] for _ in range(sequences.n_items)]
    order = _order_of_training(sequences)
    waiting = [np.array(order, dtype=np.int64)]
    while waiting:
        rows = waiting.pop()
        labels = _spectral(counts[rows][:, rows], clusters)
        for label in np.unique(labels):
            part = rows[labels == label]
            for row in part:
                paths[row].append(int(label))
            # a cluster that would not split further ends here, whatever its size
            if len(part) > token_size and len(part) < len(rows):
                waiting.append(part)
            else:
                for place, row in enumerate(part):
                    paths[row].append(place)
    return ["".join(f"<CI{token}>" for token in path) for path in paths]


def _spectral(counts: sparse.csr_matrix, clusters: int) -> np.ndarray:
    # heavy, and needed only here
    from sklearn.cluster import SpectralClustering

    if counts.shape[0] <= clusters:
        return np.arange(counts.shape[0])
    with warnings.catch_warnings():
        # items that occur with no other make the graph fall apart; spectral clustering only warns about it
        warnings.simplefilter("ignore", UserWarning)
        model = SpectralClustering(
            n_clusters=clusters, assign_labels="cluster_qr", random_state=0, affinity="precomputed"
        )
        labels: np.ndarray = model.fit(counts.toarray().astype(np.float64)).labels_
    return labels
