"""Claim 7: quality over the number of soft tokens, rising and then falling (Figure 3)."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ilm_lightning.evaluation.claims import too_few
from ilm_lightning.evaluation.statistics import holm
from ilm_lightning.reporting.columns import Column, alike
from ilm_lightning.reporting.comparison import SIGNIFICANCE
from ilm_lightning.reporting.decide import (
    UNPAIRED,
    Part,
    Reading,
    Verdict,
    few_seeds,
    judge,
    not_above,
    same_blind,
    to_move,
    unpaired,
)
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.machines import several
from ilm_lightning.reporting.pairing import LEAST_SEEDS, command, differently, shared, there
from ilm_lightning.reporting.sizes import what_it_takes
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
    rows = [] if group is None else _rows(group, name, source_tokens)
    absent = [q for q in QUERIES if q not in {column.variant.queries for column in rows}]
    if absent or group is None:
        return _missing(text, group, name, source_tokens, rows, absent)
    measured = [column for column in rows if column.seeds_with(measures[0])]
    columns = alike(measured)
    if unmeasured := [q for q in QUERIES if q not in {column.variant.queries for column in measured}]:
        blind = " (the blind control was not run for all)" if "item" in measures[0] else ""
        why = f"no run of {_tokens(unmeasured)} has {measure_name(group, measures[0])}{blind}"
        return Part(text, Verdict.UNDECIDED, (), why)
    text += "".join(f"; {_tokens([q])} with {columns[q].apart}" for q in sorted(columns) if columns[q].apart)
    if apart := [column for column in measured if column.variant.queries not in columns]:
        pair = f"{_tokens([apart[0].variant.queries])} beside {_tokens(sorted(columns))}"
        return Part(text, Verdict.UNDECIDED, (), f"{pair}: {differently(apart[0], next(iter(columns.values())))}")
    seeds = set.intersection(*(column.seeds_with(measures[0]) for column in columns.values()))
    if not seeds:
        return _missing(text, group, name, source_tokens, list(columns.values()), [])
    common = {q: columns[q].only(seeds) for q in sorted(columns)}
    if machines := several([(_tokens([q]), column.runs) for q, column in common.items()]):
        text += f"; on several processors: {machines}"
    text += same_blind(list(common.values()), measures[0])
    part = _decided(text, group, common, measures, len(seeds))
    if len(seeds) < LEAST_SEEDS:
        made = _to_run(group, name, source_tokens, list(columns.values()), QUERIES, sorted(seeds))
        part = replace(part, missing=made)
    return replace(part, columns=tuple(columns[q] for q in sorted(columns)))


def _decided(text: str, group: Group, columns: dict[int, Column], measures: tuple[str, ...], seeds: int) -> Part:
    readings = []
    for measure in measures:
        if all(not column.seeds_with(measure) for column in columns.values()):
            continue
        says, numbers = _read(group, columns, measure)
        readings.append(Reading(measure_name(group, measure), says, numbers))
    verdict, why = judge(readings)
    if seeds < LEAST_SEEDS:
        verdict, why = Verdict.UNDECIDED, few_seeds(seeds)
    ends = group.compare(columns[QUERIES[0]], columns[QUERIES[-1]], measures[0])
    if few := too_few(ends.difference.n_movies) if ends else "":
        verdict, why = Verdict.UNDECIDED, few
    if verdict is Verdict.UNDECIDED and readings:
        waited = [measure for measure in measures if measure_name(group, measure) in to_move(readings)]
        why = "; ".join([why, *filter(None, (_takes(group, columns, measure) for measure in waited))])
    return Part(text, verdict, tuple(readings), why, seeds=seeds)


def _missing(
    text: str, group: Group | None, name: str, source_tokens: int, rows: Sequence[Column], absent: Sequence[int]
) -> Part:
    """Numbers of tokens without a run, or without a seed that most others have, with what makes them."""
    counts = Counter(seed for column in rows for seed in column.scores)
    wanted = [seed for seed, _ in counts.most_common(LEAST_SEEDS)]
    lacking = absent or [column.variant.queries for column in rows if not set(wanted) <= set(column.scores)]
    why = "these runs are missing" if absent else "no seed that all numbers of tokens share; these runs are missing"
    return Part(text, Verdict.UNDECIDED, (), why, _to_run(group, name, source_tokens, rows, lacking, wanted))


def _to_run(
    group: Group | None,
    name: str,
    source_tokens: int,
    rows: Sequence[Column],
    lacking: Sequence[int],
    seeds: Sequence[int],
) -> tuple[str, ...]:
    """One command for all numbers of tokens that lack runs, but for those that another protocol holds."""
    by_place: dict[str, list[int]] = {}
    for q in sorted(lacking):
        by_place.setdefault(_there(group, name, source_tokens, q), []).append(q)
    made = f"{COMMANDS[name]} encoder={ENCODER} adapter.source_tokens={source_tokens}"
    like = "".join(f" {shlex.quote(word)}" for word in map(_without_blind, shlex.split(shared(group, rows))))
    axes = {place: f"adapter.num_queries={','.join(map(str, found))}" for place, found in by_place.items()}
    return tuple(
        f"{name}, S={source_tokens}, {_tokens(by_place[place])}{place}: {command(f'{made} {axis}{like}', seeds)}"
        for place, axis in axes.items()
    )


def _without_blind(word: str) -> str:
    """Figure 3's rows have no blind control, which would be another training for each number of tokens."""
    key, _, value = word.partition("=")
    kept = [condition for condition in value.strip("[]").split(",") if condition != "blind"]
    return f"{key}=[{','.join(kept)}]" if key == "evaluation.conditions" else word


def _there(group: Group | None, name: str, source_tokens: int, queries: int) -> str:
    return there(group, lambda one: any(c.variant.queries == queries for c in _rows(one, name, source_tokens)))


def _tokens(queries: Sequence[int]) -> str:
    return f"{', '.join(map(str, queries))} {'query' if list(queries) == [1] else 'queries'}"


def _rows(group: Group, name: str, source_tokens: int) -> list[Column]:
    """Columns of a curve; the main settings first."""
    found = [
        column
        for column in group.columns
        if (column.variant.name, column.variant.encoder, column.variant.source_tokens) == (name, ENCODER, source_tokens)
        and column.variant.queries in QUERIES
        and column.scores
    ]
    return sorted(found, key=lambda c: (bool(c.apart), -len(c.seeds)))


def _read(group: Group, columns: dict[int, Column], measure: str) -> tuple[str, str]:
    ends, interior = (columns[QUERIES[0]], columns[QUERIES[-1]]), QUERIES[1:-1]
    p_values = []
    if any(column.seeds_with(measure) != set(column.seeds) for column in columns.values()):
        return UNPAIRED, "not all runs that are compared have it"
    for q in interior:
        against = [group.compare(columns[q], end, measure) for end in ends]
        if any(found is None for found in against):
            return UNPAIRED, unpaired(list(columns.values()), measure)
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
    return found is not None and not_above(group, found, measure)


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
