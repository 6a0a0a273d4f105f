"""Columns laid out as the paper's tables: ours beside the paper's, best and next-best computed, noise marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ilm_lightning.evaluation.claims import too_few
from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.machines import several
from ilm_lightning.reporting.paper import ALL, ENCODER_TABLES, TASK_ROWS, table
from ilm_lightning.reporting.scores import ITEM_OF, MEASURES, SC
from ilm_lightning.reporting.variants import COMMANDS, ENCODERS, PAPER_ROWS

TABLE_2 = "2"
_TUNED = {"full": "", "frozen": ", frozen", "lora": ", LoRA"}


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        mean: over seeds, None where we have none.
        sd: over seeds, None for one seed.
        seeds: how many.
        paper: what the paper prints.
        rank: 1 best, 2 next-best, 0 otherwise.
        noise: best cell whose lead over the next-best is noise.
    """

    mean: float | None
    sd: float | None
    seeds: int
    paper: float | None
    rank: int = 0
    noise: bool = False


@dataclass(frozen=True)
class Heading:
    """A column's name and what stands behind it.

    Attributes:
        label: the paper's name, or ours.
        ours: whether we have runs.
        column: the runs; None where they are missing.
        note: seeds and budget.
    """

    label: str
    column: Column | None
    note: str

    @property
    def ours(self) -> bool:
        """Whether there are runs."""
        return self.column is not None


@dataclass(frozen=True)
class Pair:
    """A difference between two columns of a table."""

    first: str
    second: str
    found: Comparison


@dataclass(frozen=True)
class Table:
    """One table in one measure.

    Attributes:
        number: the paper's.
        title: what it shows.
        measure: key of the measure.
        headings: columns.
        rows: label and cells; the mean over tasks last.
        pairs: differences between columns in the mean over tasks.
        missing: columns without runs, with the command that makes them.
        notes: what to know beside.
    """

    number: str
    title: str
    measure: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def measure_name(group: Group, measure: str) -> str:
    """A measure's name, its scorer with it."""
    names = {SC: f"SC ({group.protocol.scorer})", **group.seconds}
    if measure in names:
        return names[measure]
    base = next(name for name, item in ITEM_OF.items() if item == measure)
    return f"item-specific {names[base]}, own − blind"


def available(group: Group) -> tuple[str, ...]:
    """Measures that at least one column has."""
    named = {SC, ITEM_OF[SC], *group.seconds, *(ITEM_OF[name] for name in group.seconds)}
    return tuple(m for m in MEASURES if m in named and any(c.values(m) for c in group.columns))


def tables(group: Group, measure: str = SC) -> list[Table]:
    """The paper's Tables 2, 3, 9 and 10, as far as this group has a column for them.

    Args:
        group: runs of one protocol.
        measure: what the cells show.

    Returns:
        Tables with at least one column of ours.
    """
    found = [_encoder_table(group, encoder, measure) for encoder in ENCODERS]
    found.insert(0, _table_2(group, measure))
    return [made for made in found if made is not None]


def _encoder_table(group: Group, encoder: str, measure: str) -> Table | None:
    own = [c for c in group.columns if c.variant.encoder == encoder and _in_tables(c, group) and c.values(measure)]
    if not own:
        return None
    headings: list[tuple[str, Column | None, bool]] = []
    missing = []
    for name in PAPER_ROWS:
        matching = [c for c in own if c.variant.name == name and group.is_papers(c)]
        headings += [(c.label, c, True) for c in matching] or [(name, None, True)]
        if not matching:
            missing.append(
                f"{name}: python -m ilm_lightning.train {COMMANDS[name]} encoder={encoder}{group.overrides_like(name)}"
            )
    shown = {id(c) for _, c, _ in headings if c is not None}
    headings += [(_own_label(c, group), c, False) for c in own if id(c) not in shown]
    number = ENCODER_TABLES[encoder]
    title = f"language tasks, {encoder} vectors"
    names = {label: (number, label if c is None else c.variant.name) for label, c, papers in headings if papers}
    return _make(group, number, title, measure, [(label, c) for label, c, _ in headings], names, missing)


def _table_2(group: Group, measure: str) -> Table | None:
    wanted = ("ELM", "ILM-QFormer-fullyfinetune", "ILM-QFormer", "ILM-QFormer-LoRA")
    own = [c for c in group.columns if c.variant.name in wanted and _in_tables(c, group) and c.values(measure)]
    if not [c for c in own if c.variant.name != "ELM"]:
        return None
    headings: list[tuple[str, Column | None]] = []
    papers: dict[str, tuple[str, str]] = {}
    missing = []
    elm = [c for e in ENCODERS for c in own if c.variant.name == "ELM" and c.variant.encoder == e]
    for column in elm:
        label = f"{column.label} ({column.variant.encoder})"
        headings.append((label, column))
        papers[label] = (TABLE_2, "ELM")
    if not elm:
        headings.append(("ELM", None))
        papers["ELM"] = (TABLE_2, "ELM")
        missing.append(f"ELM: python -m ilm_lightning.train {COMMANDS['ELM']}{group.overrides_like('ELM')}")
    for name in wanted[1:]:
        present = [c for c in own if c.variant.name == name]
        if not present and name != wanted[1]:
            continue
        for encoder in ("semantic", "behavioral", "combined"):
            matching = [c for c in present if c.variant.encoder == encoder]
            tuned = _TUNED[{"ILM-QFormer-fullyfinetune": "full", "ILM-QFormer": "frozen"}.get(name, "lora")]
            base = f"ILM-{encoder.capitalize()}{tuned}"
            for column in matching:
                label = f"{base} ({_details(column, group)})" if _details(column, group) else base
                headings.append((label, column))
                if column.variant.paper_column and group.is_papers(column):
                    papers[label] = column.variant.paper_column
            if not matching:
                headings.append((base, None))
                if name != "ILM-QFormer-LoRA":
                    papers[base] = (ENCODER_TABLES[encoder], name)
                made = f"{COMMANDS[name]} encoder={encoder}{group.overrides_like(name)}"
                missing.append(f"{base}: python -m ilm_lightning.train {made}")
    return _make(group, TABLE_2, "language tasks, item vectors", measure, headings, papers, missing)


def _in_tables(column: Column, group: Group) -> bool:
    """Whether a column belongs to the tables rather than to Figure 3 alone: the tables' number of soft tokens."""
    if column.variant.adapter == "qformer":
        return column.variant.queries == group.queries
    return column.variant.queries in (1, group.queries)


def _details(column: Column, group: Group) -> str:
    parts = [f"S={column.variant.source_tokens}"] if column.variant.source_tokens != 1 else []
    if column.variant.adapter != "qformer" and column.variant.name != "ELM" and column.variant.queries == 1:
        parts.append("1 token")
    if column.apart:
        parts.append(column.apart)
    return ", ".join(parts)


def _own_label(column: Column, group: Group) -> str:
    details = _details(column, group)
    return f"{column.variant.name} ({details})" if details else column.variant.name


def _make(
    group: Group,
    number: str,
    title: str,
    measure: str,
    named: Sequence[tuple[str, Column | None]],
    papers: Mapping[str, tuple[str, str]],
    missing: Sequence[str],
) -> Table:
    # the paper's numbers are SC: beside another measure they would be taken for a comparison
    beside = papers if measure == SC else {}
    shown = [(label, column) for label, column in named if column is not None or measure == SC]
    headings = tuple(Heading(label, column, _heading_note(column)) for label, column in shown)
    tasks = [task for task in TASK_ROWS if task in group.tasks] + [t for t in group.tasks if t not in TASK_ROWS]
    rows = [(TASK_ROWS.get(task, task), _row(group, headings, measure, task, beside)) for task in tasks]
    rows.append((ALL, _row(group, headings, measure, None, beside)))
    pairs = tuple(
        Pair(a.label, b.label, found)
        for a, b in combinations([h for h in headings if h.column is not None], 2)
        if (found := group.compare(a.column, b.column, measure)) is not None  # type: ignore[arg-type]
    )
    notes = _notes(group, headings, number, pairs)
    return Table(number, title, measure, headings, tuple(rows), pairs, tuple(missing), notes)


def _heading_note(column: Column | None) -> str:
    if column is None:
        return "no run"
    parts = [f"{len(column.seeds)} seed{'s' if len(column.seeds) > 1 else ''}"]
    if column.budget is not None:
        parts.append(f"{column.budget[0]} × {column.budget[1]}")
    if column.tried is not None:
        parts.append(f"{column.tried} tried")
    return ", ".join(parts)


def _row(
    group: Group,
    headings: Sequence[Heading],
    measure: str,
    task: str | None,
    papers: Mapping[str, tuple[str, str]],
) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for heading in headings:
        values = heading.column.values(measure, task) if heading.column else []
        printed = None
        if heading.label in papers and (task is not None or set(TASK_ROWS) <= set(group.tasks)):
            number, column = papers[heading.label]
            printed = table(number).find(ALL if task is None else TASK_ROWS.get(task, task), column)
        mean = float(np.mean(values)) if values else None
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        cells.append(Cell(mean, sd, len(values), printed))
    return _ranked(group, headings, measure, task, cells)


def _ranked(
    group: Group, headings: Sequence[Heading], measure: str, task: str | None, cells: Sequence[Cell]
) -> tuple[Cell, ...]:
    """Mark best and next-best, and a best whose lead may be noise."""
    order = sorted((p for p, c in enumerate(cells) if c.mean is not None), key=lambda p: -(cells[p].mean or 0.0))
    if len(order) < 2:
        return tuple(cells)
    best, second = (headings[place].column for place in order[:2])
    assert best is not None
    assert second is not None
    found = group.compare(best, second, measure)
    noise = True  # a lead that nothing was tested on is not called one
    if found is not None:
        # a column with fewer seeds may lead in its mean and lie below on the seeds that both have
        tested = found.difference if task is None else found.difference.tasks[task]
        noise = tested.mean <= 0 or (found.noise if task is None else found.task_noise(task))
    marked = list(cells)
    for rank, place in enumerate(order[:2], start=1):
        cell = cells[place]
        marked[place] = Cell(cell.mean, cell.sd, cell.seeds, cell.paper, rank, noise and rank == 1)
    return tuple(marked)


def _notes(group: Group, headings: Sequence[Heading], number: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    notes = list(table(number).notes)
    columns = [h.column for h in headings if h.column is not None]
    if "ELM" in {c.variant.name for c in columns}:
        notes.append(
            "the paper does not say which embedding its ELM column has; the same numbers stand in Tables 2, 3, 9 and 10"
        )
    if not set(TASK_ROWS) <= set(group.tasks):
        theirs = len(set(TASK_ROWS) & set(group.tasks))
        notes.append(
            f"ours of {ALL!r}: {theirs} of the paper's {len(TASK_ROWS)} tasks, so the paper's does not stand beside it"
        )
    if few := next(filter(None, (too_few(pair.found.difference.n_movies) for pair in pairs)), ""):
        notes.append(f"{few}: every lead is marked as noise")
    budgets: dict[str, list[str]] = {}
    for heading in headings:
        if heading.column is not None and heading.column.budget is not None:
            steps, batch = heading.column.budget
            budgets.setdefault(f"{steps} steps of {batch}", []).append(heading.label)
    if len(budgets) > 1:
        notes.append("phase-2 budgets differ: " + "; ".join(f"{b}: {', '.join(who)}" for b, who in budgets.items()))
    if machines := several([(h.label, h.column.runs) for h in headings if h.column is not None]):
        notes.append(f"processors differ, and one seed gives other numbers on another: {machines}")
    single = [h.label for h in headings if h.column is not None and len(h.column.seeds) < 3]
    if single and group.testable:
        notes.append(
            f"fewer than 3 seeds: {', '.join(single)}; one seed's interval holds the spread over movies alone, "
            "not over trainings"
        )
    if len({c.seeds for c in columns}) > 1:
        notes.append("differences are taken over the seeds that both columns have")
    return tuple(notes)
