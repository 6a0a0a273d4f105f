"""Runs sorted into groups that may be compared, and in each group into columns whose runs differ by seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.evaluation.components import components
from ilm_lightning.evaluation.resampling import SharedDraws
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.protocol import Protocol, letters, protocol_of
from ilm_lightning.reporting.runs import Problem, Run, RunError, shared_overrides
from ilm_lightning.reporting.scores import INSTEAD, ITEM_OF, MEASURES, SC, SECOND, THIRD, Scores, read_scores
from ilm_lightning.reporting.variants import Variant, budget_of, differing, settings_of, variant_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """Runs of one variant with one set of settings, one run a seed.

    Attributes:
        variant: what they are.
        apart: settings in which it differs from other columns of the same variant; empty for the main one.
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


@dataclass(eq=False)
class Group:
    """All runs of one protocol.

    Attributes:
        letter: short name.
        protocol: what they share.
        columns: in the order of their names.
        resamples: of the bootstrap.
    """

    letter: str
    protocol: Protocol
    columns: tuple[Column, ...]
    resamples: int = 5000
    _draws: dict[bytes, SharedDraws] = field(default_factory=dict)
    _known: dict[Any, Comparison | None] = field(default_factory=dict)

    @property
    def testable(self) -> bool:
        """Whether predictions are there to test on."""
        return any(column.scores for column in self.columns)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names."""
        for column in self.columns:
            for scores in column.scores.values():
                return scores.tasks
        return tuple(sorted(next(iter(self.columns[0].runs.values())).metrics["tasks"]))

    @cached_property
    def shared_overrides(self) -> str:
        """What its runs' commands share beside the row: a missing row run without it would be of another protocol."""
        return shared_overrides([run for column in self.columns for run in column.runs.values()])

    @property
    def seconds(self) -> dict[str, str]:
        """Measures beside SC and their names: a second scorer, or ROUGE-L and slot accuracy in its place."""
        metrics = [run.metrics for column in self.columns for run in column.runs.values()]
        if any(scores.second_scorer for column in self.columns for scores in column.scores.values()):
            names = {str(m["second_scorer"]) for m in metrics if m.get("second_scorer")}
            return {SECOND: f"SC ({', '.join(sorted(names)) or 'second scorer'})"}
        return {SECOND: "ROUGE-L", THIRD: "slot accuracy"}

    @property
    def queries(self) -> int:
        """Soft tokens of the tables' columns: what most Q-Former columns have, 8 (the paper) among equals."""
        counts: dict[int, int] = {}
        for column in self.columns:
            if column.variant.adapter == "qformer":
                counts[column.variant.queries] = counts.get(column.variant.queries, 0) + 1
        return max(counts, key=lambda q: (counts[q], q == 8, q), default=8)

    def compare(self, first: Column, second: Column, measure: str) -> Comparison | None:
        """First minus second, over the seeds that both have.

        Args:
            first: a column of this group.
            second: another.
            measure: one of ``MEASURES``.

        Returns:
            The comparison; None where no seed of both has the measure.
        """
        key = (id(first), id(second), measure)
        if key not in self._known:
            self._known[key] = self._compare(first, second, measure)
        return self._known[key]

    def differences(self, first: Column, second: Column, measure: str) -> "Differences | None":
        """Differences per movie and task over the seeds that both columns have; None where there are none."""
        seeds = tuple(
            seed
            for seed in sorted(set(first.scores) & set(second.scores))
            if measure in first.scores[seed].sums and measure in second.scores[seed].sums
        )
        counts = [column.scores[seed].counts[measure] for column in (first, second) for seed in seeds]
        if not seeds or any(not np.array_equal(other, counts[0]) for other in counts[1:]):
            return None
        asked = counts[0].sum(0) > 0
        sums = np.stack([first.scores[seed].sums[measure] - second.scores[seed].sums[measure] for seed in seeds])
        tasks = tuple(task for task, kept in zip(self.tasks, asked, strict=True) if kept)
        return Differences(seeds, sums[:, :, asked], counts[0][:, asked], tasks)

    def _compare(self, first: Column, second: Column, measure: str) -> Comparison | None:
        rows = self.differences(first, second, measure)
        if rows is None:
            return None
        key = rows.counts.tobytes()
        if key not in self._draws:
            self._draws[key] = SharedDraws(rows.counts, rows.tasks, self.resamples)
        found, inner = self._draws[key].difference(rows.sums)
        return Comparison(rows.seeds, found, inner, components(rows.sums, rows.counts))


@dataclass(frozen=True)
class Differences:
    """First column minus second.

    Attributes:
        seeds: ``R`` that both have.
        sums: ``[R, M, T]``.
        counts: ``[M, T]`` examples.
        tasks: ``T`` that have examples.
    """

    seeds: tuple[int, ...]
    sums: Floats
    counts: Floats
    tasks: tuple[str, ...]


def gather(runs: Sequence[Run], resamples: int = 5000) -> tuple[list[Group], list[Problem]]:
    """Sort runs into groups and columns; nothing is averaged over but the seed.

    Args:
        runs: finished runs.
        resamples: of the bootstrap.

    Returns:
        Groups, the one with most runs first, and what was left out or stands apart.
    """
    problems: list[Problem] = []
    scores: dict[int, Scores] = {}
    by_protocol: dict[Protocol, list[Run]] = {}
    for place, run in enumerate(runs):
        if run.predictions is not None:
            try:
                scores[place] = read_scores(run.predictions)
                problems += [Problem(run.name, remark) for remark in scores[place].remarks]
            except RunError as error:
                problems.append(Problem(run.name, f"{error}; its means are shown, but nothing can be tested on them"))
        mark = scores[place].fingerprint if place in scores else None
        by_protocol.setdefault(protocol_of(run, mark), []).append(run)
    place_of = {id(run): place for place, run in enumerate(runs)}
    # groups that can be tested first, then by number of runs, then by number of movies
    ordered = sorted(
        by_protocol,
        key=lambda protocol: (
            not any(place_of[id(run)] in scores for run in by_protocol[protocol]),
            -len(by_protocol[protocol]),
            -max(run.metrics.get("n_movies") or 0 for run in by_protocol[protocol]),
            protocol,
        ),
    )
    names = letters(ordered)
    groups = []
    for protocol in ordered:
        known = {id(run): scores[place_of[id(run)]] for run in by_protocol[protocol] if place_of[id(run)] in scores}
        columns, more = _columns(by_protocol[protocol], known)
        problems += more
        groups.append(Group(names[protocol], protocol, tuple(columns), resamples))
    for group in groups[1:]:
        folders = ", ".join(run.name for column in group.columns for run in column.runs.values())
        what = f"another protocol than {groups[0].letter}: {group.protocol.differences(groups[0].protocol)}"
        problems.append(Problem(folders, f"{what}; reported apart as protocol {group.letter}"))
    return groups, problems


def _columns(runs: Sequence[Run], scores: Mapping[int, Scores]) -> tuple[list[Column], list[Problem]]:
    problems: list[Problem] = []
    by_variant: dict[Variant, dict[tuple[tuple[str, Any], ...], list[Run]]] = {}
    for run in runs:
        by_variant.setdefault(variant_of(run), {}).setdefault(settings_of(run), []).append(run)
    columns = []
    for variant, by_settings in by_variant.items():
        # the settings that most runs have are the main ones; others stand beside, named by what differs
        ordered = sorted(by_settings, key=lambda settings: (-len(by_settings[settings]), repr(settings)))
        apart = differing(dict(enumerate(ordered)))
        for place, settings in enumerate(ordered):
            chosen, more = _one_a_seed(by_settings[settings], scores)
            problems += more
            known = {seed: scores[id(run)] for seed, run in chosen.items() if id(run) in scores}
            columns.append(Column(variant, apart[place], chosen, known))
        if len(ordered) > 1:
            names = "; ".join(f"{', '.join(r.name for r in by_settings[s])}: {apart[i]}" for i, s in enumerate(ordered))
            problems.append(
                Problem(f"{variant.name}, {variant.encoder}", f"runs with different settings, not averaged: {names}")
            )
    columns.sort(key=lambda c: (c.variant.name, c.variant.encoder, c.variant.queries, c.variant.source_tokens, c.apart))
    return columns, problems


def _one_a_seed(runs: Sequence[Run], scores: Mapping[int, Scores]) -> tuple[dict[int, Run], list[Problem]]:
    """Of several runs with one seed the one with most measures; the others are named."""
    problems: list[Problem] = []
    chosen: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (-_measured(run, scores), str(run.path))):
        if run.seed in chosen:
            problems.append(Problem(run.name, f"the same settings and seed as {chosen[run.seed].name}; left out"))
        else:
            chosen[run.seed] = run
    return chosen, problems


def _measured(run: Run, scores: Mapping[int, Scores]) -> int:
    known = scores.get(id(run))
    return sum(measure in known.sums for measure in MEASURES) if known else 0
