"""Tables 4 to 8 as Markdown and CSV."""

from collections.abc import Iterable, Mapping, Sequence

from ilm_lightning.reporting.ranking_cells import (
    CELLS,
    COMPARED,
    COUNTS_HEAD,
    COUNTS_TITLE,
    HEAD,
    LOSSES_HEAD,
    LOSSES_NOTE,
    LOSSES_TITLE,
    PRINTED,
    count_cells,
    facts_of_line,
    loss_cells,
    name_of_line,
    notes_of,
    numbers,
    title_of,
)
from ilm_lightning.reporting.ranking_runs import MEASURES, RankingProtocol
from ilm_lightning.reporting.ranking_tables import CountLine, LossLine, Mark, RankingLine, Rankings, RankingTable, marks
from ilm_lightning.reporting.text import markdown

LEGEND = (
    f"Cells: {CELLS} Printed rows first (*italic*: {PRINTED}), then ours by HR@10. **Best** and <u>next-best</u> of "
    f"ours, {COMPARED}"
)


def write(found: Rankings) -> list[str]:
    """Write the recommendation part of a report; lines of Markdown."""
    parts = ["## Recommendation", "", LEGEND, ""]
    parts += _counts(found.counts)
    for data in dict.fromkeys(table.data for table in found.tables):
        tables = [table for table in found.tables if table.data == data]
        for table in tables:
            parts += _table(table)
        protocols = {letter: protocol for table in tables for letter, protocol in table.protocols.items()}
        parts += _protocols(data, protocols)
    return parts + _losses(found.losses)


def rows(found: Rankings) -> Iterable[Sequence[object]]:
    """One row a number, for CSV; the first is the head."""
    yield (
        "table", "data", "recommender", "printed", "prompts", "measure", "mean", "sd", "standard_error", "seeds",
        "parameters", "steps", "batch", "invalid", *(key.replace(" ", "_") for key, _ in _FIELDS.lines()),
    )  # fmt: skip
    for table in found.tables:
        for line in table.lines:
            row = line.row
            steps, batch = row.budget or (None, None)
            for measure, (mean, sd, error) in line.cells.items():
                yield (
                    table.number, table.data, row.label, row.printed, line.prompts, measure, mean, sd, error,
                    None if row.printed else len(row.seeds), row.parameters, steps, batch, row.invalid,
                    *(value for _, value in row.protocol.lines()),
                )  # fmt: skip


_FIELDS = RankingProtocol("", "", "", "", "", "", "", "")


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    rule = "|" + "---|" * left + "---:|" * (len(head) - left)
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines), ""]


def _table(table: RankingTable) -> list[str]:
    lines = [_line(line, marked) for line, marked in zip(table.lines, marks(table), strict=True)]
    parts = [f"### {markdown(title_of(table))}", "", *_grid(HEAD, lines, 2)]
    return [*parts, *(f"- {markdown(entry)}" for entry in notes_of(table)), ""]


def _line(line: RankingLine, marked: Mapping[str, Mark]) -> list[str]:
    row = line.row
    name = f"*{markdown(name_of_line(line))}*" if row.printed else markdown(name_of_line(line))
    cells = (_cell(line.cells.get(measure), marked.get(measure)) for measure in MEASURES)
    return [name, line.prompts, *cells, *facts_of_line(line)]


def _cell(cell: tuple[float, float | None, float | None] | None, mark: Mark | None = None) -> str:
    """One number; a printed one has neither spread nor error.

    >>> _cell((0.0659, None, 0.0017), Mark(1, noise=True)), _cell((0.1922, None, None)), _cell(None)
    ('**.0659** ≈ (.0017)', '.1922', '')
    """
    mean, sd, error = numbers(cell)
    if mark is not None:
        mean = f"<u>{mean}</u>" if mark.rank == 2 else f"**{mean}**" + (" ≈" if mark.noise else "")
    return f"{mean}{f' ± {sd}' if sd else ''}{f' ({error})' if error else ''}"


def _protocols(data: str, protocols: Mapping[str, RankingProtocol]) -> list[str]:
    head = ["protocol", *(key for key, _ in _FIELDS.lines())]
    lines = [[letter, *(markdown(value) for _, value in protocols[letter].lines())] for letter in sorted(protocols)]
    return [f"Protocols of {markdown(data)}:", "", *_grid(head, lines, len(head))]


def _counts(counts: Sequence[CountLine]) -> list[str]:
    lines = [[markdown(cell) for cell in cells] for cells in count_cells(counts)]
    return [f"### {COUNTS_TITLE}", "", *_grid(COUNTS_HEAD, lines, 2)] if lines else []


def _losses(losses: Sequence[LossLine]) -> list[str]:
    lines = [[markdown(cell) for cell in cells] for cells in loss_cells(losses)]
    if not lines:
        return []
    return [f"### {LOSSES_TITLE}", "", *_grid(LOSSES_HEAD, lines), LOSSES_NOTE, ""]
