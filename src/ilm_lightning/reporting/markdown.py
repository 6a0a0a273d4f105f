"""A report as Markdown."""

from collections.abc import Sequence

from ilm_lightning.reporting import ranking_markdown
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.controls import CONDITIONS, Controls
from ilm_lightning.reporting.document import Document, Section
from ilm_lightning.reporting.paper import source
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Cell, Pair, Table, measure_name
from ilm_lightning.reporting.text import grid, markdown, markdown_command

NOISE = "≈"
LEGEND = (
    "Cells: ours, mean ± sd over seeds, and the paper's number in brackets (another LLM, other data, another scorer: "
    "for orientation, not for a contest). **Best** and <u>next-best</u> of ours, computed. "
    f"{NOISE}: the difference may be noise: the 95 % interval of the nested bootstrap (seeds outside, movies inside) "
    "or Student's, which a few seeds do not make too narrow, holds 0; of one task: the mean over tasks may be "
    "noise, or the larger of both p-values is at least 0.05 after Holm's correction over the tasks."
)


def write(document: Document) -> str:
    """Write the whole report."""
    parts = ["# Report", "", _overview(document), "", *([LEGEND, ""] if document.sections else [])]
    for section in document.sections:
        parts += _section(section, document)
    if document.rankings is not None:
        parts += ranking_markdown.write(document.rankings)
    if document.problems:
        parts += ["## Left out, missing, apart", ""]
        parts += [f"- {markdown(p.where)}: {markdown(p.what)}" for p in document.problems] + [""]
    parts += [f"The paper's numbers: {markdown(source())}", ""]
    return "\n".join(parts)


def _overview(document: Document) -> str:
    n = len(document.sections)
    plural = f"{n} protocol" if n == 1 else f"{n} protocols, never averaged over"
    plural = plural if n else "none of language tasks"
    return (
        f"{document.runs} finished runs in {markdown(', '.join(document.folders))}; {plural}; intervals from "
        f"{document.resamples:,} paired resamples, seeds outside, movies inside."
    )


def _section(section: Section, document: Document) -> list[str]:
    group = section.group
    parts = [f"## Protocol {group.letter}", ""]
    parts += [f"- {key.replace('_', ' ')}: {markdown(value)}" for key, value in group.described()] + [""]
    for measure, made in section.tables.items():
        for table in made:
            full = measure in (SC, ITEM)
            name = markdown(measure_name(group, measure))
            parts += [f"### Table {table.number}: {markdown(table.title)}; {name}", ""]
            parts += [*_table(table, full), ""]
            parts += _pairs(table.pairs, len(group.tasks)) if table.pairs else []
            if measure == SC:
                parts += [f"- missing: {markdown_command(entry)}" for entry in table.missing]
                parts += [f"- {markdown(note)}" for note in table.notes]
            parts += [""]
    parts += figure_3(section)
    parts += _controls(section.controls)
    if section.absent:
        sweeps = (f"{name} (`python -m ilm_lightning.train -m sweep={_sweep(name)}`)" for name in section.absent)
        parts += [f"No run of this protocol for: {', '.join(sweeps)}.", ""]
    return parts


def _sweep(name: str) -> str:
    """The sweep of a table or figure.

    >>> _sweep("Table 9"), _sweep("Figure 3")
    ('table9', 'figure3')
    """
    return name.lower().replace(" ", "")


def number(cell: Cell) -> str:
    """A cell's text."""
    printed = "" if cell.paper is None else f"({cell.paper:.2f})"
    if cell.mean is None:
        return f"— {printed}".rstrip()
    text = f"{cell.mean:.2f}" + ("" if cell.sd is None else f" ± {cell.sd:.2f}")
    if cell.rank == 1:
        text = f"**{text}**" + (f" {NOISE}" if cell.noise else "")
    elif cell.rank == 2:
        text = f"<u>{text}</u>"
    return f"{text} {printed}".rstrip()


def _table(table: Table, full: bool) -> list[str]:
    head = ["task", *(f"{markdown(h.label)}<br>{markdown(h.note)}" for h in table.headings)]
    rows = table.rows if full else table.rows[-1:]
    return grid(head, ([markdown(name), *map(number, cells)] for name, cells in rows))


def interval(found: Comparison) -> str:
    """Difference with its interval."""
    d = found.difference
    return f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}]" + (f" {NOISE}" if found.noise else "")


def _pairs(pairs: Sequence[Pair], n_tasks: int) -> list[str]:
    rows = [
        [
            f"{markdown(pair.first)} − {markdown(pair.second)}",
            interval(pair.found),
            "{:+.2f}, {:+.2f}".format(*pair.found.student),
            f"{pair.found.better} of {n_tasks}",
            f"{pair.found.significant(1)} / {pair.found.significant(-1)}",
            str(len(pair.found.seeds)),
        ]
        for pair in pairs
    ]
    head = [
        "difference, mean over tasks",
        "95 % interval",
        "Student's",
        "tasks above 0",
        "beyond noise above / below 0",
    ]
    head.append("seeds")
    return [*grid(head, rows), ""]


def figure_3(section: Section) -> list[str]:
    """Quality by number of soft tokens; nothing without a sweep."""
    parts: list[str] = []
    for measure in (SC, ITEM):
        curves = [series for series in section.figure if series.measure == measure]
        if not curves:
            continue
        queries = sorted({point.queries for series in curves for point in series.points})
        name = markdown(measure_name(section.group, measure))
        parts += [f"### Figure 3: number of soft tokens; {name} (the paper prints a plot without numbers)", ""]
        rows = []
        for series in curves:
            known = {point.queries: point for point in series.points}
            cells = []
            for q in queries:
                point = known.get(q)
                sd = "" if point is None or point.sd is None else f" ± {point.sd:.2f}"
                cells.append("—" if point is None else f"{point.mean:.2f}{sd}")
            rows.append([markdown(series.label), *cells])
        parts += [*grid(["adapter", *map(str, queries)], rows), ""]
    return parts


def _controls(controls: Sequence[Controls]) -> list[str]:
    conditions = [key for key in CONDITIONS if any(key in row.sc for row in controls)]
    head = ["SC, mean over tasks and seeds", *(key.replace("_", " ") for key in conditions)]
    head += ["own − best control", "own target found first (chance)", "bits saved against blind"]
    rows = []
    for row in controls:
        cells = [f"{row.sc[key]:.2f}" if key in row.sc else "" for key in conditions]
        of = f" (of {row.of} alone)" if row.of else ""
        best = "" if row.best is None else f"{row.best:+.2f}{of}, above 0 in {row.beaten} of {row.seeds} seeds"
        best += f", confirmed by a second measure in {row.agreed}" if best else ""
        found = "" if row.retrieval is None else f"{row.retrieval[0]:.1%} ({row.retrieval[1]:.1%})"
        rows.append([markdown(row.label), *cells, best, found, "" if row.bits is None else f"{row.bits:.2f}"])
    parts = ["### Own vectors against their controls", "", *grid(head, rows), ""]
    lost = [markdown(row.named) for row in controls if row.seeds and row.beaten < row.seeds]
    copied = [markdown(row.label) for row in controls if row.below_copy]
    if lost:
        parts += [f"- not above the best of shuffled, blind and constant in every seed: {', '.join(lost)}"]
    if copied:
        parts += [f"- below kNN copy (the target of the nearest training movie): {', '.join(copied)}"]
    return [*parts, ""]
