"""Claim 7: quality over the number of soft tokens, rising and then falling (Figure 3)."""

from collections.abc import Sequence

from ilm_lightning.evaluation.statistics import holm
from ilm_lightning.reporting.comparison import SIGNIFICANCE
from ilm_lightning.reporting.decide import (
    LEAST_SEEDS,
    MARGIN,
    Part,
    Reading,
    Verdict,
    few_seeds,
    judge,
    to_move,
    what_it_takes,
)
from ilm_lightning.reporting.groups import Column, Group
from ilm_lightning.reporting.tables import measure_name
from ilm_lightning.reporting.variants import COMMANDS

QUERIES = (1, 2, 4, 8, 16, 32)
CURVES = (("ILM-QFormer-random", 1), ("ILM-QFormer-random", 4), ("ILM-MLP", 1))
"""Adapter and S of each curve the claim speaks of; the MLP matched to the Q-Former with S = 4 stands beside."""
ENCODER = "combined"


def decide_sweep(group: Group | None, measures: tuple[str, ...]) -> list[Part]:
    """Whether some interior number of soft tokens beats both ends.

    Args:
        group: runs of one protocol.
        measures: the first and the second scorer's measure.

    Returns:
        One part per curve. Yes: some interior number lies above 1 and above 32, after Holm over the interior ones. No:
        every interior one lies below an end, or equals it within half a point.
    """
    return [_curve(group, name, source_tokens, measures) for name, source_tokens in CURVES]


def _curve(group: Group | None, name: str, source_tokens: int, measures: tuple[str, ...]) -> Part:
    text = f"{name}, S={source_tokens}, {ENCODER} vectors: some interior number of soft tokens beats 1 and 32"
    columns = {} if group is None else _columns(group, name, source_tokens, measures[0])
    shared = "" if group is None else group.shared_overrides
    missing = tuple(
        f"{q} {'query' if q == 1 else 'queries'}: python -m ilm_lightning.train {COMMANDS[name]} encoder={ENCODER} "
        f"adapter.source_tokens={source_tokens} adapter.num_queries={q}{shared}"
        for q in QUERIES
        if q not in columns
    )
    if missing or group is None:
        return Part(text, Verdict.UNDECIDED, (), "these runs are missing", missing)
    if len({columns[q].budget for q in QUERIES}) > 1:
        return Part(text, Verdict.UNDECIDED, (), "their phase-2 budgets differ")
    readings = []
    for measure in measures:
        if any(not columns[q].values(measure) for q in QUERIES):
            continue
        says, numbers = _read(group, columns, measure)
        readings.append(Reading(measure_name(group, measure), says, numbers))
    verdict, why = judge(readings)
    seeds = min(len(columns[q].scores) for q in QUERIES)
    if seeds < LEAST_SEEDS:
        verdict, why = Verdict.UNDECIDED, few_seeds(seeds)
    if verdict is Verdict.UNDECIDED and readings:
        waited = [measure for measure in measures if measure_name(group, measure) in to_move(readings)]
        why = "; ".join([why, *filter(None, (_takes(group, columns, measure) for measure in waited))])
    return Part(text, verdict, tuple(readings), why)


def _columns(group: Group, name: str, source_tokens: int, measure: str) -> dict[int, Column]:
    """The main column of each number of soft tokens."""
    found: dict[int, Column] = {}
    for column in sorted(group.columns, key=lambda c: (bool(c.apart), -len(c.seeds))):
        variant = column.variant
        wanted = (variant.name, variant.encoder, variant.source_tokens) == (name, ENCODER, source_tokens)
        if wanted and column.scores and column.values(measure):
            found.setdefault(variant.queries, column)
    return found


def _read(group: Group, columns: dict[int, Column], measure: str) -> tuple[str, str]:
    ends, interior = (columns[QUERIES[0]], columns[QUERIES[-1]]), QUERIES[1:-1]
    p_values = []
    for q in interior:
        against = [group.compare(columns[q], end, measure) for end in ends]
        if any(found is None for found in against):
            return "open", "no seed that all numbers of tokens share"
        # both have to hold, so the larger p counts; a mean that is not above is no support at all
        p_values.append(max(1.0 if f.difference.mean <= 0 else f.p for f in against if f is not None))
    adjusted = dict(zip(interior, holm(p_values).tolist(), strict=True))
    means = ", ".join(f"{q}: {_mean(columns[q].values(measure)):.2f}" for q in QUERIES)
    best = min(adjusted, key=lambda q: (adjusted[q], -_mean(columns[q].values(measure))))
    numbers = f"{means}; strongest interior number {best}, p = {adjusted[best]:.3f} after Holm"
    if adjusted[best] < SIGNIFICANCE:
        return "yes", numbers
    if all(any(_not_above(group, columns[q], end, measure) for end in ends) for q in interior):
        return "no", numbers
    return "open", numbers


def _not_above(group: Group, column: Column, end: Column, measure: str) -> bool:
    found = group.compare(column, end, measure)
    return found is not None and (found.high < 0 or found.within(MARGIN))


def _takes(group: Group, columns: dict[int, Column], measure: str) -> str:
    """Sizes for the best interior number against the better end, at Holm's first step over the interior ones."""
    best = max(QUERIES[1:-1], key=lambda q: _mean(columns[q].values(measure)))
    end = max((QUERIES[0], QUERIES[-1]), key=lambda q: _mean(columns[q].values(measure)))
    found = group.compare(columns[best], columns[end], measure)
    if found is None or len(found.seeds) < 2:
        return ""
    takes = what_it_takes(found, None, SIGNIFICANCE / len(QUERIES[1:-1]))
    return f"{measure_name(group, measure)}, {best} against {end} tokens: {takes}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
