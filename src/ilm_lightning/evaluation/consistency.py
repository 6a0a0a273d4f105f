"""Behavioral consistency (ELM's BC): do preferences read out of a generated text rank items as the user does?"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]


def spearman(left: ArrayLike, right: ArrayLike) -> float:
    """Correlate two rankings; equal values share the mean of their ranks (Spearman's rho).

    Args:
        left: ``[n]`` predicted values.
        right: ``[n]`` true values.

    Returns:
        From -1 to 1; 0 where ``left`` is constant (it predicts no order), NaN where ``right`` is, or where there are
        fewer than two values: no order is there to be predicted.

    Raises:
        ValueError: lists of different lengths.

    >>> round(spearman([0.9, 0.5, 0.1], [5.0, 4.0, 4.0]), 4), spearman([1, 1], [2, 3])
    (0.866, 0.0)
    """
    predicted, true = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape:
        raise ValueError(f"{predicted.shape} predicted values, {true.shape} true ones: give one of each per item")
    if len(true) < 2 or (true == true[0]).all():
        return float("nan")
    if (predicted == predicted[0]).all():
        return 0.0
    ours, theirs = (rankdata(values) - (len(true) + 1) / 2 for values in (predicted, true))
    return float(np.clip(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)), -1.0, 1.0))


def behavioral_consistency(
    text_embeddings: Floats, item_embeddings: Floats, ratings: Sequence[Mapping[int, float]]
) -> Scores:
    """Rank each user's judged items by their cosine to the user's generated text, and compare with the truth.

    ELM (arXiv 2310.04475) leaves the ranker open; ours is the cosine between the embedding of the text and those of
    the items' own texts, by one sentence encoder. The judged items must be unknown to the vector that the text was
    generated from, or the measure rewards copying.

    Args:
        text_embeddings: ``[U, d]`` embeddings of the generated texts, of any length; zero for an empty text.
        item_embeddings: ``[I, d]`` embeddings of the items in the same space.
        ratings: per user, item row -> preference (a rating, a count, an ALS score): higher is better.

    Returns:
        ``[U]`` Spearman's rho; 0 for a text that orders nothing, NaN for a user whose preferences hold no order
        (fewer than two judged items, or all equal). Report the mean over the others with their number.

    Raises:
        ValueError: not one text per user, embeddings of different widths, or an item that is not there.

    >>> texts = np.float32([[1, 0], [1, 0], [0, 0]])
    >>> items = np.float32([[2, 0], [1, 1], [0, 3]])
    >>> truth = [{0: 5.0, 1: 3.0, 2: 1.0}, {0: 1.0, 2: 4.0}, {0: 5.0, 2: 1.0}]
    >>> behavioral_consistency(texts, items, truth).round(6).tolist()
    [1.0, -1.0, 0.0]
    """
    if len(text_embeddings) != len(ratings):
        raise ValueError(f"{len(text_embeddings)} texts, {len(ratings)} users with ratings: give one text per user")
    if text_embeddings.ndim != 2 or text_embeddings.shape[1:] != item_embeddings.shape[1:]:
        raise ValueError(
            f"texts {text_embeddings.shape} and items {item_embeddings.shape} must be embedded by one encoder"
        )
    result = np.full(len(ratings), np.nan)
    items = _unit(item_embeddings)
    for user, judged in enumerate(ratings):
        rows = np.fromiter(judged, dtype=np.int64, count=len(judged))
        if len(rows) and (rows.min() < 0 or rows.max() >= len(items)):
            raise ValueError(f"user {user} judged item {rows.max()}, but there are embeddings of {len(items)} items")
        predicted = items[rows] @ text_embeddings[user].astype(np.float64)
        result[user] = spearman(predicted, [judged[row] for row in judged])
    return result


def _unit(rows: Floats) -> Scores:
    norms = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float64)
    return np.asarray(rows / np.maximum(norms, 1e-12))
