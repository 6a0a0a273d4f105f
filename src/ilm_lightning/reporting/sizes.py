"""How many movies, users or seeds a test would need to decide, in words."""

from dataclasses import replace

from ilm_lightning.evaluation.claims import LEAST_MOVIES
from ilm_lightning.evaluation.components import Components, needed
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.pairing import LEAST_SEEDS

MARGIN = 0.5
"""Differences below half a point of SC do not matter."""


def what_it_takes(found: Comparison, margin: float | None, alpha: float = 0.05) -> str:
    """How many movies or seeds would decide at a level, with a power of 80 %."""
    mean, parts = found.difference.mean, found.parts
    if margin is not None:
        texts = [f"to show an equality within {margin}, were the truth 0: {sizes(parts, 0.0, margin, alpha=alpha)}"]
        beyond = abs(mean) - margin
        if beyond >= 0.005:
            told = f"to tell the measured {mean:+.2f} from an equality within {margin}"
            texts.insert(0, f"{told}: {sizes(parts, beyond, None, alpha=alpha)}")
        elif beyond < 0:
            told = f"to show an equality within {margin} at the measured {mean:+.2f}"
            texts.insert(0, f"{told}: {sizes(parts, mean, margin, alpha=alpha)}")
        return "; ".join(texts)
    texts = [f"to tell a difference of {MARGIN} from 0: {sizes(parts, MARGIN, None, alpha=alpha)}"]
    if abs(mean) >= 0.005:
        texts.insert(0, f"to tell the measured {mean:+.2f} from 0: {sizes(parts, mean, None, alpha=alpha)}")
    return "; ".join(texts)


def sizes(parts: Components, effect: float, margin: float | None, unit: str = "movies", alpha: float = 0.05) -> str:
    """Numbers of units and of seeds at which a test would decide, in words; see ``components.needed``.

    Only such as a verdict may rest on: at least ``LEAST_SEEDS`` seeds and ``LEAST_MOVIES`` units. For two runs or more:
    one tells nothing of the spread over trainings.
    """
    ready = replace(parts, n_runs=max(parts.n_runs, LEAST_SEEDS), n_movies=max(parts.n_movies, LEAST_MOVIES))
    found = needed(ready, effect, margin, alpha)
    if found.runs is None and found.movies is None:
        return f"neither more {unit} nor more seeds alone would do"
    runs = "no number of seeds" if found.runs is None else f"about {max(found.runs, LEAST_SEEDS):,} seeds"
    seeds = f"{runs} with {ready.n_movies:,} {unit}"
    if parts.n_runs < LEAST_SEEDS and found.runs is not None:
        return seeds
    units = f"no number of {unit}" if found.movies is None else f"about {max(found.movies, LEAST_MOVIES):,} {unit}"
    return f"{units} with {ready.n_runs} seeds, or {seeds}"
