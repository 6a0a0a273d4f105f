"""Which columns stand for two rows of a claim: trained alike, on common seeds; and the runs that are missing for it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product

from ilm_lightning.reporting.columns import Column, unlike
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.overrides import shared_overrides
from ilm_lightning.reporting.tables import measure_name
from ilm_lightning.reporting.variants import COMMANDS

TRAIN = "python -m ilm_lightning.train -m"
LEAST_SEEDS, ASKED_SEEDS = 3, 5
"""Below the first the spread over trainings is not known; the protocol asks for the second of what a claim rests on."""


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables.

    Attributes:
        name: of the variant.
        encoder: its vectors.
        queries: soft tokens; None for the tables' number.
    """

    name: str
    encoder: str
    queries: int | None = None

    @property
    def label(self) -> str:
        """Name for a page."""
        tokens = "" if self.queries is None else f", {self.queries} token{'s' if self.queries > 1 else ''}"
        return f"{self.name} ({self.encoder}{tokens})"

    @property
    def overrides(self) -> str:
        """What makes the runs."""
        tokens = "" if self.queries is None else f" adapter.num_queries={self.queries}"
        return f"{COMMANDS[self.name]} encoder={self.encoder}{tokens}"


def candidates(group: Group | None, row: Row) -> list[Column]:
    """Columns of a row; the paper's one key/value token a source before others, the main settings first."""
    if group is None:
        return []
    tokens = row.queries if row.queries is not None else 1 if row.name == "ELM" else group.queries
    found = [
        c
        for c in group.columns
        if (c.variant.name, c.variant.encoder, c.variant.queries) == (row.name, row.encoder, tokens)
        and c.scores
        and not any(run.is_control for run in c.runs.values())
    ]
    return sorted(found, key=lambda c: (c.variant.source_tokens != 1, bool(c.apart), -len(c.seeds)))


def best_pair(group: Group, first: Row, second: Row, measure: str) -> tuple[Column, Column] | None:
    """The two columns that can best be compared: trained alike, the paper's S, equal budget, most common seeds."""
    pairs = [
        (a, b)
        for a, b in product(candidates(group, first), candidates(group, second))
        if group.compare(a, b, measure) is not None
    ]

    def order(pair: tuple[Column, Column]) -> tuple[bool, bool, bool, int]:
        a, b = pair
        common = a.seeds_with(measure) & b.seeds_with(measure)
        papers = a.variant.source_tokens == b.variant.source_tokens == 1
        return bool(unlike(a, b)), not papers, a.budget != b.budget, -len(common)

    return min(pairs, key=order, default=None)


def own_settings(column: Column) -> str:
    """What a reader has to know of the runs that were taken, where they are not the main ones with S=1."""
    parts = [f"S={column.variant.source_tokens}"] if column.variant.source_tokens != 1 else []
    told = ", ".join([*parts, column.apart] if column.apart else parts)
    return f"; {column.variant.name} with {told}" if told else ""


def differently(a: Column, b: Column) -> str:
    """Why a difference between two columns says nothing of their rows."""
    budgets = f"their phase-2 budgets differ, {_budget(a)} against {_budget(b)}" if a.budget != b.budget else ""
    settings = unlike(a, b)
    return "; ".join(filter(None, (budgets, f"they were trained differently: {settings}" if settings else "")))


def not_paired(group: Group, first: Row, second: Row, measure: str) -> tuple[str, tuple[str, ...]]:
    """Why two rows that are there have nothing in common, and the runs that would change it."""
    have = [{seed for c in candidates(group, row) for seed in c.seeds_with(measure)} for row in (first, second)]
    if not all(have) or have[0] & have[1]:
        blind = " (the blind control was not run for both)" if "item" in measure else ""
        return f"no seed of both rows has {measure_name(group, measure)}{blind}", ()
    fewer, more = (second, first) if len(have[0]) > len(have[1]) else (first, second)
    own, others = (", ".join(map(str, sorted(seeds))) for seeds in have)
    return f"no seed in common, {own} against {others}; these runs are missing", (to_run(group, fewer, more),)


def not_there(group: Group | None, absent: Sequence[tuple[Row, Row]]) -> tuple[str, tuple[str, ...]]:
    """Why rows cannot be compared that have no runs under this protocol.

    Args:
        group: of the protocol.
        absent: each such row with the one that it is to be compared with.

    Returns:
        The reason, and the runs that are missing. Rows that another protocol holds, which differs in the movies alone
        though the same were asked for, are not: training them anew would not mend what was scored.
    """
    told, missing = [], []
    for row, other in absent:
        found = under(group, partial(candidates, row=row))
        if group is not None and found is not None and _only_scored_otherwise(found, group, row):
            told.append(f"{row.label} is there under protocol {found.letter}: {_apart(found, group)}")
        else:
            missing.append(to_run(group, row, other))
    return "; ".join([*told, *(["these runs are missing"] if missing else [])]), tuple(missing)


def _only_scored_otherwise(found: Group, group: Group, row: Row) -> bool:
    """Whether two protocols differ in the movies alone, and not because other ones were asked for."""
    asked = [
        {key: str(value) for key, value in column.said.items() if key.startswith(("evaluation.movies", "tasks."))}
        for column in (candidates(found, row)[0], group.columns[0])
    ]
    return found.protocol.differing(group.protocol) == ("movies",) and asked[0] == asked[1]


def under(group: Group | None, holds: Callable[[Group], object]) -> Group | None:
    """Of the groups of other protocols that hold something the one whose protocol differs least."""
    if group is None:
        return None
    found = [one for one in group.beside if holds(one)]
    return min(found, key=lambda one: len(one.protocol.differing(group.protocol)), default=None)


def elsewhere(group: Group, row: Row, column: Column) -> str:
    """Seeds of a row that another protocol has and this one has not; empty where there are none."""
    found = under(group, lambda one: any(set(c.scores) - set(column.scores) for c in candidates(one, row)))
    if found is None:
        return ""
    more = sorted({seed for c in candidates(found, row) for seed in c.scores} - set(column.scores))
    return f"{row.label}, {_seeds(more)}, there under protocol {found.letter}: {_apart(found, group)}"


def short_of_seeds(group: Group, measure: str, *rows: tuple[Row, Column]) -> tuple[str, ...]:
    """Of compared rows those that lack seeds for a verdict, each with the command that makes the missing ones."""
    have = [column.seeds_with(measure) for _, column in rows]
    known = sorted(set.union(*have), key=lambda seed: (-sum(seed in seeds for seeds in have), seed))
    wanted = [*known, *(seed for seed in range(LEAST_SEEDS + len(known)) if seed not in known)][:LEAST_SEEDS]
    lacking = [sorted(set(wanted) - seeds) for seeds in have]
    return tuple(
        f"{row.label}, {_seeds(seeds)}: {TRAIN} {row.overrides}{_tokens(column)}{shared(group, [column])} "
        f"seed={','.join(map(str, seeds))}"
        for (row, column), seeds in zip(rows, lacking, strict=True)
        if seeds
    )


def _tokens(column: Column) -> str:
    tokens = column.variant.source_tokens
    return f" adapter.source_tokens={tokens}" if tokens != 1 else ""


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _apart(found: Group, group: Group) -> str:
    return found.protocol.differences(group.protocol)


def there(group: Group | None, holds: Callable[[Group], object]) -> str:
    """Beside the name of runs to make: that another protocol holds them, and in what it differs."""
    found = under(group, holds)
    if group is None or found is None:
        return ""
    fields = found.protocol.differing(group.protocol)
    return f", there under protocol {found.letter} (other {', '.join(fields)})"


def to_run(group: Group | None, row: Row, other: Row) -> str:
    """A row that is not there with the command that makes it, like the row that it is to be compared with."""
    beside = candidates(group, other)
    seeds = beside[0].scores if beside else ()
    label = row.label + there(group, partial(candidates, row=row))
    return f"{label}: {command(f'{row.overrides}{shared(group, beside)}', seeds)}"


def shared(group: Group | None, beside: Sequence[Column]) -> str:
    """What the runs' commands share: those of the column beside, of a main one without it."""
    if group is None or not beside:
        return "" if group is None else group.overrides_like()
    return shared_overrides(list(beside[0].runs.values()))


def command(overrides: str, seeds: Collection[int]) -> str:
    """What makes runs of at least ``LEAST_SEEDS`` seeds.

    >>> command("experiment=elm", (4, 5))
    'python -m ilm_lightning.train -m experiment=elm seed=0,4,5'
    """
    more = (seed for seed in range(LEAST_SEEDS + len(seeds)) if seed not in seeds)
    wanted = sorted([*seeds, *islice(more, max(LEAST_SEEDS - len(seeds), 0))])
    return f"{TRAIN} {overrides} seed={','.join(map(str, wanted))}"


def _budget(column: Column) -> str:
    return "unknown" if column.budget is None else f"{column.budget[0]} steps of {column.budget[1]}"
