"""A report's numbers as CSV, one row a number, for plots and further tests."""

import csv
import io
from collections.abc import Iterable, Sequence

from ilm_lightning.reporting.document import Document
from ilm_lightning.reporting.ranking_runs import RANKING_FIELDS
from ilm_lightning.reporting.ranking_tables import Rankings
from ilm_lightning.reporting.tables import measure_name
from ilm_lightning.reporting.text import csv_cell


def write(document: Document) -> dict[str, str]:
    """Write the tables' cells, the differences per task, Figure 3, and recommendation where there are runs of it.

    Args:
        document: the report.

    Returns:
        File name -> text.
    """
    found = {} if document.rankings is None else {"rankings.csv": _text(_RANKED, _ranked(document.rankings))}
    return found | {
        "tables.csv": _text(_CELLS, _cells(document)),
        "differences.csv": _text(_DIFFERENCES, _differences(document)),
        "figure3.csv": _text(_FIGURE, _figure(document)),
    }


_CELLS = ("protocol", "table", "measure", "task", "column", "mean", "sd", "seeds", "paper", "rank", "lead_is_noise")
_DIFFERENCES = (
    "protocol", "table", "measure", "first", "second", "task", "mean", "low", "high", "student_low",
    "student_high", "p_holm", "noise", "seeds",
)  # fmt: skip
_RANKED = (
    "table", "data", "recommender", "printed", "prompts", "measure", "mean", "sd", "standard_error", "seeds",
    "parameters", "steps", "batch", "invalid", *(key.replace(" ", "_") for key in RANKING_FIELDS),
)  # fmt: skip
_FIGURE = ("protocol", "measure", "series", "queries", "mean", "sd", "seeds")


def _cells(document: Document) -> Iterable[Sequence[object]]:
    for section in document.sections:
        for measure, made in section.tables.items():
            name = measure_name(section.group, measure)
            for table in made:
                for task, cells in table.rows:
                    for heading, cell in zip(table.headings, cells, strict=True):
                        yield (
                            section.group.letter, table.number, name, task, heading.label, cell.mean, cell.sd,
                            cell.seeds, cell.paper, cell.rank or None, cell.noise if cell.rank == 1 else None,
                        )  # fmt: skip


def _differences(document: Document) -> Iterable[Sequence[object]]:
    for section in document.sections:
        for measure, made in section.tables.items():
            name = measure_name(section.group, measure)
            for table in made:
                for pair in table.pairs:
                    head = (section.group.letter, table.number, name, pair.first, pair.second)
                    found, seeds = pair.found, len(pair.found.seeds)
                    d = found.difference
                    yield *head, "all", d.mean, d.low, d.high, *found.student, None, found.noise, seeds
                    for task, t in d.tasks.items():
                        p, noise = found.task_p[task], found.task_noise(task)
                        yield *head, task, t.mean, t.low, t.high, None, None, p, noise, seeds


def _figure(document: Document) -> Iterable[Sequence[object]]:
    for section in document.sections:
        for series in section.figure:
            for point in series.points:
                name = measure_name(section.group, series.measure)
                yield section.group.letter, name, series.label, point.queries, point.mean, point.sd, point.seeds


def _ranked(found: Rankings) -> Iterable[Sequence[object]]:
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


def _text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([csv_cell(round(v, 6) if isinstance(v, float) else v) for v in row])
    return stream.getvalue()
