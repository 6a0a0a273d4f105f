"""A report's tables as LaTeX (booktabs)."""

from ilm_lightning.reporting.document import Document
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Cell, Table, measure_name
from ilm_lightning.reporting.text import latex


def write(document: Document) -> str:
    r"""Write every table; the preamble needs ``\usepackage{booktabs}``."""
    parts = [r"% needs \usepackage{booktabs}; bold: best, underlined: next-best, $\approx$: the lead may be noise"]
    for section in document.sections:
        fields = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in section.group.protocol.lines())
        parts.append("% protocol " + section.group.letter + ": " + latex(fields))
        for measure in (SC, ITEM):
            for table in section.tables.get(measure, ()):
                parts.append(_table(table, measure_name(section.group, measure), section.group.letter))
    return "\n".join(parts) + "\n"


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
