"""Target retrieval: does a generated text find its movie's own target among all test targets of the task?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# two targets nearer than this in cosine count as equal: a matrix product's own noise
TIE = 1e-6


@dataclass(frozen=True)
class Retrieval:
    """How well generated texts find their targets, as shares from 0 to 1, with what chance gives beside.

    Attributes:
        r1: own target is the nearest.
        r5: own target is among the five nearest.
        mrr: mean reciprocal rank of the own target.
        chance_r1: ``r1`` of a text that says nothing.
        chance_r5: the same for ``r5``.
        chance_mrr: the same for ``mrr``.
        n: number of texts, and of targets.
    """

    r1: float
    r5: float
    mrr: float
    chance_r1: float
    chance_r5: float
    chance_mrr: float
    n: int


def target_retrieval(generated: Floats, targets: Floats) -> Retrieval:
    """Rank each text's own target among all targets of its task.

    Equal targets share their ranks: each measure is its expectation under a random order of the equal ones, so that
    texts which say nothing score what chance gives.

    Args:
        generated: ``[n, d]`` embeddings of unit length, or zero.
        targets: ``[n, d]`` embeddings of the own targets, one per movie.

    Returns:
        The measures; all 0 without texts.

    Raises:
        ValueError: not as many texts as targets.
    """
    if generated.shape != targets.shape:
        raise ValueError(f"generated texts {generated.shape} and targets {targets.shape} must be of one shape")
    n = len(targets)
    if n == 0:
        return Retrieval(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    cosines = generated.astype(np.float64) @ targets.astype(np.float64).T
    own = np.diagonal(cosines)[:, None]
    above = (cosines > own + TIE).sum(1)
    tied = (np.abs(cosines - own) <= TIE).sum(1)  # itself included
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])
    chances = [min(k, n) / n for k in (1, 5)]
    return Retrieval(
        r1=float(np.clip((1 - above) / tied, 0, 1).mean()),
        r5=float(np.clip((5 - above) / tied, 0, 1).mean()),
        mrr=float(((harmonic[above + tied] - harmonic[above]) / tied).mean()),
        chance_r1=chances[0],
        chance_r5=chances[1],
        chance_mrr=float(harmonic[n] / n),
        n=n,
    )
