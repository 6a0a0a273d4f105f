"""Tables 4 to 8 as Markdown."""

from collections.abc import Mapping, Sequence

from ilm_lightning.reporting import ranking_cells
from ilm_lightning.reporting.ranking_runs import MEASURES, RANKING_FIELDS, RankingProtocol
from ilm_lightning.reporting.ranking_tables import CountLine, LossLine, Mark, RankingLine, Rankings, RankingTable, marks
from ilm_lightning.reporting.text import grid, markdown

LEGEND = ranking_cells.legend("*italic*", "**Best**", "<u>next-best</u>")


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


def _table(table: RankingTable) -> list[str]:
    lines = [_line(line, marked) for line, marked in zip(table.lines, marks(table), strict=True)]
    parts = [f"### {markdown(ranking_cells.title_of(table))}", "", *grid(ranking_cells.HEAD, lines, 2), ""]
    return [*parts, *(f"- {markdown(entry)}" for entry in ranking_cells.notes_of(table)), ""]


def _line(line: RankingLine, marked: Mapping[str, Mark]) -> list[str]:
    row = line.row
    name = (
        f"*{markdown(ranking_cells.name_of_line(line))}*" if row.printed else markdown(ranking_cells.name_of_line(line))
    )
    cells = (_cell(line.cells.get(measure), marked.get(measure)) for measure in MEASURES)
    return [name, line.prompts, *cells, *ranking_cells.facts_of_line(line)]


def _cell(cell: tuple[float, float | None, float | None] | None, mark: Mark | None = None) -> str:
    """One number; a printed one has neither spread nor error.

    >>> _cell((0.0659, None, 0.0017), Mark(1, noise=True)), _cell((0.1922, None, None)), _cell(None)
    ('**.0659** ≈ (.0017)', '.1922', '')
    """
    mean, sd, error = ranking_cells.numbers(cell)
    if mark is not None:
        mean = f"<u>{mean}</u>" if mark.rank == 2 else f"**{mean}**" + (" ≈" if mark.noise else "")
    return f"{mean}{f' ± {sd}' if sd else ''}{f' ({error})' if error else ''}"


def _protocols(data: str, protocols: Mapping[str, RankingProtocol]) -> list[str]:
    head = ["protocol", *RANKING_FIELDS]
    lines = [[letter, *(markdown(value) for _, value in protocols[letter].lines())] for letter in sorted(protocols)]
    return [f"Protocols of {markdown(data)}:", "", *grid(head, lines, len(head)), ""]


def _counts(counts: Sequence[CountLine]) -> list[str]:
    lines = [[markdown(cell) for cell in cells] for cells in ranking_cells.count_cells(counts)]
    return [f"### {ranking_cells.COUNTS_TITLE}", "", *grid(ranking_cells.COUNTS_HEAD, lines, 2), ""] if lines else []


def _losses(losses: Sequence[LossLine]) -> list[str]:
    lines = [[markdown(cell) for cell in cells] for cells in ranking_cells.loss_cells(losses)]
    if not lines:
        return []
    return [
        f"### {ranking_cells.LOSSES_TITLE}",
        "",
        *grid(ranking_cells.LOSSES_HEAD, lines),
        "",
        ranking_cells.LOSSES_NOTE,
        "",
    ]
