"""Vectors of items that were not there when a run was trained: from their text, their ratings, or both."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from ilm_lightning.embeddings.behavioral import fold_in
from ilm_lightning.embeddings.semantic import average_texts
from ilm_lightning.embeddings.vectors import Floats, ItemVectors
from ilm_lightning.sentences import SentenceEncoder


def new_item_vectors(
    known: ItemVectors,
    texts: Sequence[Sequence[str]],
    raters: Sequence[Sequence[int]],
    encoder: SentenceEncoder | None,
    regularization: float,
    alpha: float,
) -> ItemVectors:
    """Place new items in the space of a run's items; nothing of the run changes.

    A source of which an item says nothing holds the mean of the training items, and the flag of that source is down:
    as for items of the training data without text or without ratings.

    Args:
        known: the run's items and users; its sources are those that are built.
        texts: per new item the texts that are encoded apart, perhaps none.
        raters: per new item the rows of the users who rated it, perhaps none.
        encoder: the run's sentence encoder; needed where there are texts.
        regularization: of the run's ALS.
        alpha: of the run's ALS.

    Returns:
        The new items' vectors, in the run's units, without users.

    Raises:
        ValueError: texts without an encoder, or a run without user factors.
    """
    has_text = np.array([bool(own) for own in texts], dtype=np.bool_)
    has_ratings = np.array([bool(own) for own in raters], dtype=np.bool_)
    sources: dict[str, Floats] = {}
    for name, width in known.dims.items():
        if name == "behavioral":
            sources[name] = fold_in_items(known, raters, regularization, alpha)
            sources[name][~has_ratings] = 0.0
            continue
        rows = np.zeros((len(texts), width), dtype=np.float32)
        if has_text.any():
            if encoder is None:
                raise ValueError("texts need the run's sentence encoder")
            rows = known.scaling[name].apply(average_texts(texts, encoder))
        # the centre of the training items with text is their mean, which is what an item without text holds
        rows[~has_text] = 0.0
        sources[name] = rows
    return ItemVectors(sources, {}, has_text, dict(known.scaling), has_ratings)


def fold_in_items(known: ItemVectors, raters: Sequence[Sequence[int]], regularization: float, alpha: float) -> Floats:
    """Solve ALS for items with the users fixed, which is what the last half-step of ``fit_als`` does for its own items.

    After ``fit_spark`` it only comes near: Spark's penalty grows with a row's interactions, and it solves users last.

    Args:
        known: the run's vectors, with users.
        raters: per item the rows of the users who rated it.
        regularization: of the run's ALS.
        alpha: of the run's ALS.

    Returns:
        ``[n, k]`` in the run's units.

    Raises:
        ValueError: the run kept no user factors.
    """
    if "behavioral" not in known.user_sources:
        raise ValueError("the run kept no user factors; run its training command again")
    scaling = known.scaling["behavioral"]
    users = scaling.invert(known.user_sources["behavioral"])
    ends = np.concatenate([[0], np.cumsum([len(own) for own in raters])])
    columns = np.array([user for own in raters for user in own], dtype=np.int64)
    ones = np.ones(len(columns), dtype=np.float32)
    item_users = csr_matrix((ones, columns, ends), shape=(len(raters), len(users)))
    # users and items are alike in ALS: an item is folded in as a user is, with the sides exchanged
    return scaling.apply(fold_in(users, item_users, regularization, alpha))


def nearest_items(known: ItemVectors, new: ItemVectors, count: int = 3) -> Mapping[str, list[list[tuple[int, float]]]]:
    """Find the run's items nearest to new ones, source by source.

    Args:
        known: the run's items.
        new: the new items, with the same sources.
        count: how many.

    Returns:
        Per source and new item the rows of the nearest items with their cosines; none where the source says nothing.
    """
    found: dict[str, list[list[tuple[int, float]]]] = {}
    for name, rows in new.sources.items():
        said = new.has_ratings if name == "behavioral" else new.has_text
        theirs = known.sources[name]
        unit = theirs / np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-12)
        found[name] = []
        for row, speaks in zip(rows, said, strict=True):
            cosines = unit @ (row / max(float(np.linalg.norm(row)), 1e-12))
            best = np.argsort(-cosines, kind="stable")[: count if speaks else 0]
            found[name].append([(int(place), float(cosines[place])) for place in best])
    return found
