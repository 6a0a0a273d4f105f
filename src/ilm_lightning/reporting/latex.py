"""A report's tables as LaTeX (booktabs)."""

from collections.abc import Mapping, Sequence

from ilm_lightning.reporting import ranking_cells
from ilm_lightning.reporting.document import Document
from ilm_lightning.reporting.ranking_runs import MEASURES
from ilm_lightning.reporting.ranking_tables import Mark, RankingLine, Rankings, marks
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Cell, Table, measure_name
from ilm_lightning.reporting.text import latex


def write(document: Document) -> str:
    r"""Write every table; the preamble needs ``\usepackage{booktabs}``."""
    parts = [r"% needs \usepackage{booktabs}; bold: best, underlined: next-best, $\approx$: the lead may be noise"]
    for section in document.sections:
        fields = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in section.group.described())
        parts.append("% protocol " + section.group.letter + ": " + latex(fields))
        for measure in (SC, ITEM):
            for table in section.tables.get(measure, ()):
                parts.append(_table(table, measure_name(section.group, measure), section.group.letter))
    if document.rankings is not None:
        parts += _rankings(document.rankings)
    return "\n".join(parts) + "\n"


def _rankings(found: Rankings) -> list[str]:
    """Tables 4 to 8."""
    parts = []
    for table in found.tables:
        for letter, protocol in sorted(table.protocols.items()):
            fields = "; ".join(f"{key}: {value}" for key, value in protocol.lines())
            parts.append(f"% {latex(ranking_cells.title_of(table))}, protocol {letter}: {latex(fields)}")
        rows = [_line(line, marked) for line, marked in zip(table.lines, marks(table), strict=True)]
        split = next((place for place, line in enumerate(table.lines) if not line.row.printed), 0)
        parts.append(
            _tabular(
                f"{ranking_cells.title_of(table)}; {ranking_cells.CELLS}",
                "ll" + "r" * (len(ranking_cells.HEAD) - 2),
                ranking_cells.HEAD,
                rows,
                split,
            )
        )
    for title, head, cells in (
        (ranking_cells.COUNTS_TITLE, ranking_cells.COUNTS_HEAD, ranking_cells.count_cells(found.counts)),
        (ranking_cells.LOSSES_TITLE, ranking_cells.LOSSES_HEAD, ranking_cells.loss_cells(found.losses)),
    ):
        if cells:
            parts.append(_tabular(title, "l" + "r" * (len(head) - 1), head, [list(map(latex, row)) for row in cells]))
    return parts


def _line(line: RankingLine, marked: Mapping[str, Mark]) -> list[str]:
    cells = []
    for measure in MEASURES:
        value, spread, error = ranking_cells.numbers(line.cells.get(measure))
        mark = marked.get(measure)
        if mark is not None:
            bold = rf"\textbf{{{value}}}" + (r"$^{\approx}$" if mark.noise else "")
            value = bold if mark.rank == 1 else rf"\underline{{{value}}}"
        cells.append(
            value + (rf"\,{{\scriptsize$\pm$\,{spread}}}" if spread else "") + (f" ({error})" if error else "")
        )
    name = latex(ranking_cells.name_of_line(line))
    return [
        rf"\textit{{{name}}}" if line.row.printed else name,
        latex(line.prompts),
        *cells,
        *map(latex, ranking_cells.facts_of_line(line)),
    ]


def _tabular(caption: str, columns: str, head: Sequence[str], rows: Sequence[Sequence[str]], split: int = 0) -> str:
    """A table; a rule stands above row ``split``, unless that is the first."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(latex, head)) + r" \\",
        r"\midrule",
    ]
    for place, row in enumerate(rows):
        lines += [r"\midrule"] if place == split > 0 else []
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _table(table: Table, measure: str, letter: str) -> str:
    columns = "l" + "r" * len(table.headings)
    head = " & ".join(["", *(latex(h.label) for h in table.headings)])
    notes = " & ".join(["", *(rf"\footnotesize {latex(h.note)}" for h in table.headings)])
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(f'{table.title}, {measure}, protocol {letter}; ours, in brackets the paper.')}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head + r" \\",
        notes + r" \\",
        r"\midrule",
    ]
    for place, (name, cells) in enumerate(table.rows):
        if place == len(table.rows) - 1:
            lines.append(r"\midrule")
        lines.append(" & ".join([latex(name), *map(_cell, cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _cell(cell: Cell) -> str:
    printed = "" if cell.paper is None else f" ({cell.paper:.2f})"
    if cell.mean is None:
        return f"--{printed}"
    value = f"{cell.mean:.2f}"
    if cell.rank == 1:
        value = rf"\textbf{{{value}}}" + (r"$^{\approx}$" if cell.noise else "")
    elif cell.rank == 2:
        value = rf"\underline{{{value}}}"
    spread = "" if cell.sd is None else rf"\,{{\scriptsize$\pm$\,{cell.sd:.2f}}}"
    return f"{value}{spread}{printed}"
