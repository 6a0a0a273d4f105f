"""Tables 4 to 8 as Markdown and CSV."""

from collections.abc import Iterable, Mapping, Sequence

from ilm_lightning.reporting.paper import table as paper_table
from ilm_lightning.reporting.ranking_paper import DATA
from ilm_lightning.reporting.ranking_runs import MEASURES, RankingProtocol
from ilm_lightning.reporting.ranking_tables import CountLine, LossLine, RankingLine, Rankings, RankingTable
from ilm_lightning.reporting.text import markdown

LEGEND = (
    "Cells: mean over seeds ± their sd, in brackets the standard error over users. Printed rows first (*italic*: the "
    "paper's and OpenP5's numbers, under their own protocols), then ours by HR@10. A difference smaller than twice "
    "√2 standard errors is not called one; claims are tested on paired users."
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
    head = ["recommender", "prompts", *MEASURES, "parameters", "steps × batch", "seeds", "protocol"]
    lines = [_line(line) for line in table.lines]
    parts = [f"### Table {table.number}, {markdown(table.data)}: {markdown(table.title)}", "", *_grid(head, lines, 2)]
    notes = (*table.mismatches, *(paper_table(table.number).notes if table.data in DATA else ()))
    return [*parts, *(f"- {markdown(entry)}" for entry in notes), ""]


def _line(line: RankingLine) -> list[str]:
    row = line.row
    name = f"*{markdown(row.label)}*" if row.printed else markdown(row.label)
    if row.invalid:
        name += f" ({row.invalid:.1%} of outputs name no item)"
    return [
        name,
        line.prompts,
        *(_cell(line.cells.get(measure)) for measure in MEASURES),
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.budget is None else f"{row.budget[0]:,} × {row.budget[1]}",
        "" if row.printed else str(len(row.seeds)),
        line.letter,
    ]


def _cell(cell: tuple[float, float | None, float | None] | None) -> str:
    """One number; a printed one has neither spread nor error.

    >>> _cell((0.0659, None, 0.0017)), _cell((0.1922, None, None)), _cell(None)
    ('.0659 (.0017)', '.1922', '')
    """
    if cell is None:
        return ""
    mean, sd, error = (None if value is None else f"{value:.4f}".removeprefix("0") for value in cell)
    return f"{mean}{'' if sd is None else f' ± {sd}'}{'' if error is None else f' ({error})'}"


def _protocols(data: str, protocols: Mapping[str, RankingProtocol]) -> list[str]:
    head = ["protocol", *(key for key, _ in _FIELDS.lines())]
    lines = [[letter, *(markdown(value) for _, value in protocols[letter].lines())] for letter in sorted(protocols)]
    return [f"Protocols of {markdown(data)}:", "", *_grid(head, lines, len(head))]


def _counts(counts: Sequence[CountLine]) -> list[str]:
    if not counts:
        return []
    lines = [
        [c.data, c.name.replace("_", " "), f"{c.ours:,}", "" if c.paper is None else f"{c.paper:,}", c.agrees]
        for c in counts
    ]
    return ["### Table 5: counts", "", *_grid(["data", "count", "ours", "the paper", ""], lines, 2)]


def _losses(losses: Sequence[LossLine]) -> list[str]:
    if not losses:
        return []
    lines = [
        [
            markdown(f"{one.data}, {one.name}"),
            "" if one.train is None else f"{one.train:.4f}",
            f"{one.held_out:.4f}" + ("" if one.sd is None else f" ± {one.sd:.4f}"),
            f"{one.best:.4f}",
            "" if one.paper is None else f"{one.paper[0]:.4f} / {one.paper[1]:.4f}",
            one.budget,
            str(one.seeds),
        ]
        for one in losses
    ]
    head = ["phase 1", "training", "held out", "held out, best", "the paper", "steps × batch", "seeds"]
    note = "Unsmoothed loss per token, at the end of phase 1; the paper's text and tokenizer are not known."
    return ["### Table 8: item-grounded text generation loss", "", *_grid(head, lines), note, ""]
