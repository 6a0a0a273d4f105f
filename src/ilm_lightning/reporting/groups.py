"""Runs sorted into groups that may be compared, and in each group into columns whose runs differ by seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.evaluation.components import components
from ilm_lightning.evaluation.resampling import SharedDraws
from ilm_lightning.reporting.columns import Column, columns_of
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.overrides import shared_overrides
from ilm_lightning.reporting.protocol import WITHOUT, Protocol, first_alone, letters, protocol_of
from ilm_lightning.reporting.runs import Problem, Run, RunError
from ilm_lightning.reporting.scores import SECOND, THIRD, Scores, read_scores

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Group:
    """All runs of one protocol.

    Attributes:
        letter: short name.
        protocol: what they share.
        columns: in the order of their names.
        resamples: of the bootstrap.
        beside: the groups of other protocols.
    """

    letter: str
    protocol: Protocol
    columns: tuple[Column, ...]
    resamples: int = 5000
    beside: tuple["Group", ...] = ()
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

    def overrides_like(self, name: str = "") -> str:
        """What the commands of one main column share beside the row: a missing row run otherwise is not comparable.

        All columns together share less than any of them, where one has a budget of its own.

        Args:
            name: of the missing row, whose column with other vectors goes first; then the column with most seeds.
        """

        def order(column: Column) -> tuple[bool, bool, bool, int]:
            aside = any(run.is_control for run in column.runs.values()) or not self.is_papers(column)
            return aside, column.variant.name != name, bool(column.apart), -len(column.seeds)

        return shared_overrides(list(min(self.columns, key=order).runs.values()))

    def is_papers(self, column: Column) -> bool:
        """Whether a column is the paper's row: the tables' number of soft tokens, one key/value token a source."""
        tokens = 1 if column.variant.name == "ELM" else self.queries
        return column.variant.queries == tokens and column.variant.source_tokens == 1

    def described(self) -> list[tuple[str, str]]:
        """The protocol's fields for a page, with what the language model learned alone, before an adapter."""
        alone = {first_alone(run) for column in self.columns for run in column.runs.values()}
        told = f"; trained alone first: {' or '.join(sorted(alone))}" if alone != {WITHOUT} else ""
        return [(key, value + told if key == "language_model" else value) for key, value in self.protocol.lines()]

    @property
    def seconds(self) -> dict[str, str]:
        """Measures beside SC and their names: a second scorer, or ROUGE-L and slot accuracy in its place."""
        if self.testable and self.protocol.second_scorer != WITHOUT:
            return {SECOND: f"SC ({self.protocol.second_scorer})"}
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
            The comparison; None where no seed of both has the measure, or not for the same examples.
        """
        key = (first, second, measure)
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
        Groups, of those on test the one with most runs first, and what was left out or stands apart.
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
        by_protocol.setdefault(protocol_of(run, scores.get(place)), []).append(run)
    place_of = {id(run): place for place, run in enumerate(runs)}
    # test splits before validation, groups that can be tested first, then by number of runs, then by number of movies
    ordered = sorted(
        by_protocol,
        key=lambda protocol: (
            protocol.validation,
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
        columns, more = columns_of(by_protocol[protocol], known)
        problems += more
        groups.append(Group(names[protocol], protocol, tuple(columns), resamples))
    for group in groups:
        group.beside = tuple(other for other in groups if other is not group)
    if groups and groups[0].protocol.validation:
        problems.append(Problem(f"protocol {groups[0].letter}", "of validation; claims rest on the test split alone"))
    for group in groups[1:]:
        folders = ", ".join(run.name for column in group.columns for run in column.runs.values())
        what = f"another protocol than {groups[0].letter}: {group.protocol.differences(groups[0].protocol)}"
        problems.append(Problem(folders, f"{what}; reported apart as protocol {group.letter}"))
    return groups, problems
