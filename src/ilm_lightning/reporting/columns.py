"""Runs of one protocol sorted into columns, whose runs differ by seed alone, and in what two columns are unlike."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ilm_lightning.reporting.machines import processor_of, repeated, several
from ilm_lightning.reporting.runs import Problem, Run
from ilm_lightning.reporting.scores import INSTEAD, ITEM_OF, MEASURES, SC, Scores
from ilm_lightning.reporting.variants import (
    Variant,
    budget_of,
    differing,
    settings_of,
    shown,
    told_apart,
    trained_as,
    variant_of,
)


@dataclass(frozen=True, eq=False)
class Column:
    """Runs of one variant with one set of settings, one run a seed.

    Attributes:
        variant: what they are.
        apart: settings in which it differs from the main column of its variant; empty for the main one.
        runs: by seed.
        scores: by seed, for runs with predictions.
    """

    variant: Variant
    apart: str
    runs: Mapping[int, Run]
    scores: Mapping[int, Scores]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, sorted."""
        return tuple(sorted(self.runs))

    @property
    def label(self) -> str:
        """Name with what sets it apart."""
        return f"{self.variant.name} ({self.apart})" if self.apart else self.variant.name

    @property
    def tried(self) -> int | None:
        """Configurations that were tried on validation for this variant, the most any run tells."""
        counts = [run.metrics["protocol"].get("configurations_tried") for run in self.runs.values()]
        known = [int(count) for count in counts if isinstance(count, int)]
        return max(known, default=None)

    @property
    def budget(self) -> tuple[int, int] | None:
        """Phase-2 steps and batch size."""
        return budget_of(next(iter(self.runs.values())))

    @cached_property
    def trained(self) -> Mapping[str, Any]:
        """How its runs were trained."""
        return trained_as(next(iter(self.runs.values())))

    @property
    def said(self) -> Mapping[str, Any]:
        """What the configuration of its runs says, with settings that do nothing in them."""
        return next(iter(self.runs.values())).flat

    def seeds_with(self, measure: str) -> set[int]:
        """Seeds whose predictions have the measure."""
        return {seed for seed, scores in self.scores.items() if measure in scores.sums}

    def only(self, seeds: Collection[int]) -> "Column":
        """The same with these seeds alone."""
        runs = {seed: run for seed, run in self.runs.items() if seed in seeds}
        return replace(self, runs=runs, scores={seed: found for seed, found in self.scores.items() if seed in seeds})

    def values(self, measure: str, task: str | None = None) -> list[float]:
        """One number per seed: the mean of task means, or of one task; empty where a run lacks the measure."""
        if not self.scores:
            return self._metrics_values(measure, task)
        found = []
        for seed in self.seeds:
            scores = self.scores[seed]
            if measure not in scores.sums or (task is not None and task not in scores.tasks):
                return []
            place = None if task is None else scores.tasks.index(task)
            value = scores.mean(measure) if place is None else float(scores.task_means(measure)[place])
            if not np.isfinite(value):
                return []
            found.append(value)
        return found

    def _metrics_values(self, measure: str, task: str | None) -> list[float]:
        """Means that a metrics file states, for runs whose predictions are not there."""
        found = []
        for seed in self.seeds:
            metrics = self.runs[seed].metrics
            table = metrics["all"] if task is None else metrics["tasks"].get(task, {})
            base = measure if measure in ITEM_OF else next(m for m, item in ITEM_OF.items() if item == measure)
            values = table.get(SC if base == SC else INSTEAD[base], {})
            own, blind = values.get("own"), values.get("blind")
            value = own if measure in ITEM_OF else None if own is None or blind is None else own - blind
            if value is None:
                return []
            found.append(float(value))
        return found


def unlike(first: Column, second: Column) -> str:
    """Say in what two columns were trained differently, beside what makes them two rows and their budgets.

    Adapters of two kinds have settings of their own, phase 1 those of rows that both have it, an encoder those of the
    vectors it reads; learning rates may differ, in as many trials.

    Args:
        first: a column.
        second: another of the same group.

    Returns:
        Settings with both values; empty where the two are alike.
    """
    ours, theirs = (
        {name: value for name, value in column.trained.items() if not _by_design(name, first, second)}
        for column in (first, second)
    )
    sides = ((ours, first.said), (theirs, second.said))
    return ", ".join(
        "{} {} against {}".format(name, *("none" if (v := shown(name, *side)) is None else v for side in sides))
        for name in told_apart((ours, theirs), (first.said, second.said))
    )


def alike(columns: Sequence[Column]) -> dict[int, Column]:
    """One curve over the number of soft tokens: columns that were all trained alike, for as long.

    Args:
        columns: of one adapter, encoder and S; of several with one number of tokens the first counts.

    Returns:
        By number of tokens; of several sets of settings the one with most numbers, then with most seeds in common.
    """
    curves = []
    for chosen in columns:
        same = [c for c in columns if c.budget == chosen.budget and not unlike(c, chosen)]
        curves.append({c.variant.queries: c for c in reversed(same)})
    common = [len(set.intersection(*(set(c.seeds) for c in curve.values()))) for curve in curves]
    ordered = sorted(range(len(curves)), key=lambda place: (-len(curves[place]), -common[place]))
    return curves[ordered[0]] if curves else {}


def _by_design(name: str, first: Column, second: Column) -> bool:
    """Whether a setting differs with the rows themselves."""
    pair = (first.variant, second.variant)
    if name == "adapter.source_tokens":
        return "ELM" in {variant.name for variant in pair}
    if name.startswith("adapter."):
        return len({variant.adapter for variant in pair}) > 1
    if name.startswith("pretraining."):
        return not all(any(key.startswith("pretraining.") for key in column.trained) for column in (first, second))
    encoders = {variant.encoder for variant in pair}
    if name.startswith("encoder.als."):
        return len(encoders) > 1 and "semantic" in encoders
    return name.startswith("encoder.text_") and len(encoders) > 1 and "behavioral" in encoders


def columns_of(runs: Sequence[Run], scores: Mapping[int, Scores]) -> tuple[list[Column], list[Problem]]:
    """Sort runs of one protocol into columns.

    Args:
        runs: of one protocol.
        scores: by the ``id`` of a run, for runs with predictions.

    Returns:
        Columns in the order of their names, and what stands apart or was left out.
    """
    problems: list[Problem] = []
    by_variant: dict[Variant, dict[tuple[tuple[str, Any], ...], list[Run]]] = {}
    for run in runs:
        by_variant.setdefault(variant_of(run), {}).setdefault(settings_of(run), []).append(run)
    columns = []
    for variant, by_settings in by_variant.items():
        # the settings that most runs have are the main ones; others stand beside, named by what differs
        ordered = sorted(by_settings, key=lambda settings: (-len(by_settings[settings]), repr(settings)))
        said = {settings: by_settings[settings][0].flat for settings in ordered}
        for settings in ordered:
            chosen, more = _one_a_seed(by_settings[settings], scores)
            problems += more
            known = {seed: scores[id(run)] for seed, run in chosen.items() if id(run) in scores}
            apart = differing({0: ordered[0], 1: settings}, {0: said[ordered[0]], 1: said[settings]})[1]
            columns.append(Column(variant, apart, chosen, known))
            problems += [*_mixed(columns[-1]), *_copies(columns[-1])]
        if len(ordered) > 1:
            told = differing(dict(enumerate(ordered)), dict(enumerate(said.values())))
            names = "; ".join(f"{', '.join(r.name for r in by_settings[s])}: {told[i]}" for i, s in enumerate(ordered))
            what = f"runs with different settings, not averaged, those of the first the main ones: {names}"
            problems.append(Problem(f"{variant.name}, {variant.encoder}", what))
    columns.sort(key=lambda c: (c.variant.name, c.variant.encoder, c.variant.queries, c.variant.source_tokens, c.apart))
    return columns, problems


def _one_a_seed(runs: Sequence[Run], scores: Mapping[int, Scores]) -> tuple[dict[int, Run], list[Problem]]:
    """Of several runs with one seed the one with most measures, then of most seeds' processor; the others are named."""
    problems: list[Problem] = []
    chosen: dict[int, Run] = {}
    seeds = Counter(processor for _, processor in {(run.seed, processor_of(run)) for run in runs})
    for run in sorted(runs, key=lambda run: (-_measured(run, scores), -seeds[processor_of(run)], str(run.path))):
        taken = chosen.setdefault(run.seed, run)
        if taken is not run:
            problems.append(repeated(run, taken))
    return chosen, problems


def _mixed(column: Column) -> list[Problem]:
    """Whether seeds of one row ran on several processors: beside the seed, so did what the spread over them holds."""
    told = several([(column.label, column.runs)])
    what = f"seeds of one row from several processors, so that their spread is not that of seeds alone: {told}"
    return [Problem(f"{column.variant.name}, {column.variant.encoder}", what)] if told else []


def copies(column: Column) -> list[tuple[int, int]]:
    """Pairs of seeds with the very same texts: one run under other seeds, which tells nothing of the spread."""
    pairs, known = [], dict[object, int]()
    for seed, found in sorted(column.scores.items()):
        # scores of one text differ by rounding where it was scored anew
        first = known.setdefault(found.texts.get("own") or found.sums[SC].tobytes(), seed)
        if first != seed:
            pairs.append((first, seed))
    return pairs


def _copies(column: Column) -> list[Problem]:
    return [
        Problem(
            f"{column.runs[first].name}, {column.runs[seed].name}",
            f"seeds {first} and {seed} gave the very same texts, as if one were a copy of the other: run seed {seed} "
            "anew or take it out; until then the spread over seeds is not known and no claim on this row is decided",
        )
        for first, seed in copies(column)
    ]


def _measured(run: Run, scores: Mapping[int, Scores]) -> int:
    known = scores.get(id(run))
    return sum(measure in known.sums for measure in MEASURES) if known else 0
