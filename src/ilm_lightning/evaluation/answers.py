"""Measures of answers that are no prose: tags of an item, ratings, the next item; each beside its baselines."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilm_lightning.evaluation.statistics import paired_bootstrap

Values = NDArray[np.float64]
# A minus after a digit or letter is a hyphen: "3-4", "a B-4".
_NUMBER = re.compile(r"(?:(?<!\w)[-\u2212])?\d+(?:[.,]\d+)?")
CUTOFFS = (1, 5)
ERRORS = ("mae", "rmse", "mae_expected", "rmse_expected")
"""Measures of which less is better."""


@dataclass(frozen=True)
class TagScore:
    """How the tags that a text lists compare with the true ones.

    Attributes:
        precision: share of the listed tags that are true; 0 where none is listed.
        recall: share of the true tags that are listed.
        f1: harmonic mean of both.
        known: share of the listed tags that are in the vocabulary; 0 where none is listed.
    """

    precision: float
    recall: float
    f1: float
    known: float


def tag_score(
    text: str, truth: Collection[str], vocabulary: Collection[str], passed_over: Collection[str] = ()
) -> TagScore:
    """Compare a list of tags with the true ones.

    Args:
        text: tags separated by commas or lines; case and the final stop do not matter, repetitions count once.
        truth: the true tags, in lower case; at least one.
        vocabulary: all tags there are. A listed tag outside it is a wrong one.
        passed_over: tags that count neither for nor against a list; none of them is a true one.

    Returns:
        The scores.

    >>> tag_score("Crime, heist, crime, blue elephants.", {"crime", "heist", "noir", "1970s"}, {"crime", "heist"})
    TagScore(precision=0.6666666666666666, recall=0.5, f1=0.5714285714285715, known=0.6666666666666666)
    """
    listed = {tag for part in re.split(r"[,\n;]", text.lower()) if (tag := part.strip(" .\t"))}
    listed -= set(passed_over)
    right = len(listed & set(truth))
    precision, recall = right / max(len(listed), 1), right / len(truth)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return TagScore(precision, recall, f1, len(listed & set(vocabulary)) / max(len(listed), 1))


def read_rating(text: str, lowest: float, highest: float) -> float | None:
    """Read a rating out of a text: its first number, if it lies on the scale.

    Args:
        text: what was answered.
        lowest: least rating of the scale; below 0 where it has negative ones.
        highest: greatest rating. Both may be single precision: the last digits of a bound do not matter.

    Returns:
        The number as the text has it; None where there is none or it lies outside.

    >>> read_rating("4.5 stars", 0.5, 5), read_rating("3,5", 0.5, 5), read_rating("100", 0.5, 5), read_rating("A", 1, 5)
    (4.5, 3.5, None, None)
    >>> read_rating("-4", -10, 10), read_rating("3-4", -10, 10)
    (-4.0, 3.0)
    """
    found = _NUMBER.search(text)
    if found is None:
        return None
    value = float(found.group().replace(",", ".").replace("\u2212", "-"))
    # single precision keeps seven digits
    slack = 1e-6 * max(abs(lowest), abs(highest))
    return value if lowest - slack <= value <= highest + slack else None


def expected_rating(bits: ArrayLike, scale: ArrayLike) -> float:
    """Average a scale's values, weighted by their probabilities.

    Args:
        bits: ``[k]`` bits that each value costs as an answer.
        scale: ``[k]`` the values.

    Returns:
        The expected rating, which no single answer can be but which has the least squared error.

    >>> round(expected_rating([1, 1, 30], [2, 4, 5]), 6)
    3.0
    """
    costs = np.asarray(bits, dtype=np.float64)
    weights = np.exp2(costs.min() - costs)
    return float(weights @ np.asarray(scale, dtype=np.float64) / weights.sum())


def rank_of_first(scores: ArrayLike) -> int:
    """Rank of the first candidate, the true one, from 1; candidates that tie with it stand before it.

    >>> rank_of_first([0.5, 0.9, 0.5, 0.1])
    3
    """
    values = np.asarray(scores, dtype=np.float64)
    return int((values[1:] >= values[0]).sum()) + 1


def rank_measures(ranks: Sequence[int]) -> dict[str, Values]:
    """Hit rates and reciprocal rank of each example.

    >>> {name: values.tolist() for name, values in rank_measures([1, 4]).items()}
    {'hr1': [1.0, 0.0], 'hr5': [1.0, 1.0], 'mrr': [1.0, 0.25]}
    """
    places = np.asarray(ranks, dtype=np.float64)
    return {**{f"hr{k}": (places <= k).astype(np.float64) for k in CUTOFFS}, "mrr": 1.0 / places}


def chance_measures(counts: Sequence[int]) -> dict[str, Values]:
    """What a random order of so many candidates would give.

    >>> {name: values.round(3).tolist() for name, values in chance_measures([2, 20]).items()}
    {'hr1': [0.5, 0.05], 'hr5': [1.0, 0.25], 'mrr': [0.75, 0.18]}
    """
    sizes = np.asarray(counts, dtype=np.int64)
    harmonic = np.array([np.mean(1.0 / np.arange(1, size + 1)) for size in sizes])
    return {**{f"hr{k}": np.minimum(k / sizes, 1.0) for k in CUTOFFS}, "mrr": harmonic}


def root_mean_square(errors: Values) -> float:
    """Root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(errors))))


def compare(
    values: Mapping[str, Mapping[str, Values]],
    units: Sequence[object],
    main: str,
    *,
    resamples: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Put a task's measures beside each other.

    Args:
        values: per measure and condition one value per example ``[n]``; NaN where it is undefined.
        units: ``[n]`` the movie or user of each example, the unit of resampling.
        main: the measure whose differences are tested; it holds condition "own".
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``main``, ``n`` (examples with the main measure), ``measures`` (means), and ``differences``: by how much the own
        vector is better than each other condition in the main measure, with its 95 % interval.
    """
    sign = -1.0 if main in ERRORS else 1.0
    own = np.asarray(values[main]["own"])
    differences = {}
    for condition, other in values[main].items():
        gap = sign * (own - other)
        kept = np.flatnonzero(np.isfinite(gap))
        if condition != "own" and len(kept):
            names = [units[row] for row in kept.tolist()]
            found = asdict(paired_bootstrap(gap[kept], names, [main] * len(kept), resamples, seed))
            differences[condition] = {key: found[key] for key in ("mean", "low", "high", "p")}
    means = {
        measure: {name: float(np.nanmean(rows)) for name, rows in by.items() if np.isfinite(rows).any()}
        for measure, by in values.items()
    }
    return {"main": main, "n": int(np.isfinite(own).sum()), "measures": means, "differences": differences}
