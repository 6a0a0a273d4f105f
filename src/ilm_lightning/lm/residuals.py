"""Residual weighting: target tokens count by what a blind model loses on them, so that format words do not dominate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def residual_weights(
    losses: Sequence[NDArray[np.float32]], lowest: float = 0.1, highest: float = 5.0
) -> list[NDArray[np.float32]]:
    """Turn a blind model's losses into weights of mean 1.

    A token that a model without any vector predicts says nothing about the item. The lowest weight keeps the format in
    training, the highest keeps a rare name from outweighing the rest.

    Args:
        losses: per example the losses ``[t]`` of its target tokens under the blind model, in nats.
        lowest: losses below count as this much.
        highest: losses above count as this much.

    Returns:
        Per example the weights ``[t]``; their mean over all tokens of all examples is 1.

    Raises:
        ValueError: if the bounds are not 0 < lowest <= highest, a loss is not finite, or there is no token.

    Example:
        Format words at 0 and 0.02 nats, a genre at 1.9 nats, a name at 9:

        >>> one, two = residual_weights([np.array([0.0, 1.9]), np.array([0.02, 9.0])], 0.1, 5.0)
        >>> [[round(float(weight), 3) for weight in row] for row in (one, two)]
        [[0.056, 1.07], [0.056, 2.817]]
    """
    if not 0 < lowest <= highest:
        raise ValueError(f"the bounds of residual weights are {lowest} and {highest}; give 0 < lowest <= highest")
    whole = np.concatenate([*losses, np.empty(0, np.float32)]).astype(np.float64)
    if len(whole) == 0 or not np.isfinite(whole).all():
        raise ValueError("residual weights need at least one target token, and finite losses of the blind model")
    mean = whole.clip(lowest, highest).mean()
    return [(row.clip(lowest, highest) / mean).astype(np.float32) for row in losses]
