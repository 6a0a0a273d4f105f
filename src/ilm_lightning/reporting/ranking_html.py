"""Recommendation on the HTML page: Tables 4 to 8, training curves, answers over training, runs."""

from collections.abc import Iterable, Mapping, Sequence

from ilm_lightning.reporting import ranking_cells
from ilm_lightning.reporting.page_figures import training_curves
from ilm_lightning.reporting.page_progress import progress
from ilm_lightning.reporting.page_runs import Entry, runs_table
from ilm_lightning.reporting.ranking_runs import MEASURES, RANKING_FIELDS, RankingProtocol, RankingRow, name_of
from ilm_lightning.reporting.ranking_tables import Mark, RankingLine, Rankings, RankingTable, marks
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.text import html

LEGEND = ranking_cells.legend("<em>italic</em>", "<strong>Best</strong>", "<u>next-best</u>")


def rankings_of(found: Rankings) -> str:
    """All that recommendation runs give; each part begins with a heading of its own."""
    parts = ['<h2 id="rankings">Recommendation</h2>', f"<p>{LEGEND}</p>"]
    parts += _plain(
        ranking_cells.COUNTS_TITLE, ranking_cells.COUNTS_HEAD, ranking_cells.count_cells(found.counts), texts=(0, 1, 4)
    )
    for data in dict.fromkeys(table.data for table in found.tables):
        tables = [table for table in found.tables if table.data == data]
        parts += [_table(table) for table in tables]
        protocols = {letter: protocol for table in tables for letter, protocol in table.protocols.items()}
        parts.append(_protocols(data, protocols))
    parts += _plain(
        ranking_cells.LOSSES_TITLE,
        ranking_cells.LOSSES_HEAD,
        ranking_cells.loss_cells(found.losses),
        texts=(0,),
        note=ranking_cells.LOSSES_NOTE,
    )
    places = {line.row: (table.data, line.letter) for table in found.tables for line in table.lines}
    trained = [
        ("{} ({}, protocol {})".format(row.label, *places[row]), list(row.runs.values()))
        for row in found.rows
        if row in places and _is_trained(row)
    ]
    if trained:
        parts += [training_curves(trained), progress({label: runs[0] for label, runs in trained})]
    entries = [Entry(run, *_who(run)) for run in found.runs]
    return "".join([*parts, "<h3>Runs</h3>", runs_table(entries, "HR@10, sequential, seen prompts")])


def _is_trained(row: RankingRow) -> bool:
    """Whether a row is a run's own, not one of the recommenders beside it."""
    return not (row.printed or row.without_ties) and any(
        name_of(run) == row.name for run in row.runs.values() if run.metrics["ranking"]
    )


def _who(run: Run) -> tuple[str, str]:
    """The row of a run and its number; a run of recommenders without a language model has many."""
    if not run.metrics["ranking"]:
        return ", ".join(run.metrics["baselines"]), ""
    measured = run.metrics["ranking"].get("seen", {}).get("sequential", {}).get("hr", {}).get("10")
    return name_of(run), "" if measured is None else ranking_cells.numbers((float(measured), None, None))[0]


def _grid(head: Sequence[str], rows: Iterable[str], texts: Sequence[int] = ()) -> str:
    """A table that can be moved sideways; columns of texts stand left."""
    kinds = ["long text" if place in texts else "long" for place in range(len(head))]
    names = "".join(f'<th class="{kind}">{html(name)}</th>' for kind, name in zip(kinds[1:], head[1:], strict=True))
    return (
        f'<div class="wide"><table><thead><tr><th>{html(head[0])}</th>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _plain(
    title: str, head: Sequence[str], cells: Sequence[Sequence[str]], texts: Sequence[int], note: str = ""
) -> list[str]:
    """A table of plain cells; nothing without any."""
    if not cells:
        return []
    left = [" class=text" if place in texts else "" for place in range(len(head))]
    rows = [
        f"<tr><th>{html(row[0])}</th>"
        + "".join(f"<td{kind}>{html(cell)}</td>" for kind, cell in zip(left[1:], row[1:], strict=True))
        + "</tr>"
        for row in cells
    ]
    return [f"<h3>{html(title)}</h3>", _grid(head, rows, texts), f"<p class=muted>{html(note)}</p>" if note else ""]


def _table(table: RankingTable) -> str:
    rows = (_line(line, marked) for line, marked in zip(table.lines, marks(table), strict=True))
    notes = "".join(f"<li>{html(note)}</li>" for note in ranking_cells.notes_of(table))
    summary = "<summary>What differs, and what the paper leaves open</summary>"
    more = f"<details>{summary}<ul class=muted>{notes}</ul></details>" if notes else ""
    return f"<h3>{html(ranking_cells.title_of(table))}</h3>{_grid(ranking_cells.HEAD, rows, texts=(1,))}{more}"


def _line(line: RankingLine, marked: Mapping[str, Mark]) -> str:
    name = html(ranking_cells.name_of_line(line))
    name = f"<em>{name}</em>" if line.row.printed else name
    cells = "".join(_cell(line.cells.get(measure), marked.get(measure)) for measure in MEASURES)
    facts = "".join(f"<td>{html(fact)}</td>" for fact in ranking_cells.facts_of_line(line))
    return f"<tr><th class=name>{name}</th><td class=text>{html(line.prompts)}</td>{cells}{facts}</tr>"


def _cell(cell: tuple[float, float | None, float | None] | None, mark: Mark | None) -> str:
    mean, sd, error = ranking_cells.numbers(cell)
    if mark is not None:
        mean = f"<u>{mean}</u>" if mark.rank == 2 else f"<strong>{mean}</strong>" + (" ≈" if mark.noise else "")
    spread = f" <span class=muted>± {sd}</span>" if sd else ""
    return f"<td>{mean}{spread}{f'<small>({error})</small>' if error else ''}</td>"


def _protocols(data: str, protocols: Mapping[str, RankingProtocol]) -> str:
    head = ["protocol", *RANKING_FIELDS]
    rows = (
        f"<tr><th>{html(letter)}</th>"
        + "".join(f"<td class='text wrap'>{html(value)}</td>" for _, value in protocols[letter].lines())
        + "</tr>"
        for letter in sorted(protocols)
    )
    return f"<details><summary>Protocols of {html(data)}</summary>{_grid(head, rows, texts=range(len(head)))}</details>"
