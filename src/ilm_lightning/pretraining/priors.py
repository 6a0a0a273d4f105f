"""Where a loss of phase 1 rests as long as it tells nothing apart."""

from __future__ import annotations

from collections.abc import Mapping

from ilm_lightning.pretraining.losses import ITM_PRIOR
from ilm_lightning.pretraining.settings import PretrainingSettings

ITM_WITHIN = 0.01
"""Nats below the prior that a held-out ITM loss must fall before something counts as learned."""
SHARE_WITHIN = 0.02
"""The same for the other losses, as a share of the prior."""


def prior(loss: str, settings: PretrainingSettings) -> float | None:
    """Value of a loss that knows how often each answer is right, and nothing else.

    With the pair loss that is every pair at distance m/2: m^2/8 over as many related as unrelated pairs, m^2/4 where
    the two sorts are averaged apart.

    Args:
        loss: itm, iic or uic; itc's is the logarithm of the batch size, and the others have none.
        settings: of phase 1.

    Returns:
        The value, or None.

    Example:
        >>> prior("iic", PretrainingSettings(margin=2.0)), prior("itg", PretrainingSettings())
        (0.5, None)
    """
    if loss == "itm":
        return ITM_PRIOR
    if loss in ("iic", "uic") and settings.pair_mode != "infonce":
        return settings.margin**2 / (8 if settings.pair_mode == "margin" else 4)
    return None


def nothing_learned(means: Mapping[str, float], settings: PretrainingSettings) -> dict[str, float]:
    """Held-out losses that are not below their priors.

    Args:
        means: held-out value of each loss; `itc_prior` where itc is among them.
        settings: of phase 1.

    Returns:
        The prior of each such loss.

    Example:
        >>> nothing_learned({"itm": 0.634, "iic": 0.11}, PretrainingSettings())
        {'itm': 0.6365}
    """
    found = {}
    for loss in settings.losses:
        rest = means.get(f"{loss}_prior", prior(loss, settings))
        if rest is not None and loss in means:
            within = ITM_WITHIN if loss == "itm" else SHARE_WITHIN * rest
            if means[loss] > rest - within:
                found[loss] = rest
    return found
