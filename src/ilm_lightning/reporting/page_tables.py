"""Tables of the HTML page."""

from collections.abc import Sequence

from ilm_lightning.reporting.charts import forest
from ilm_lightning.reporting.controls import CONDITIONS, Controls
from ilm_lightning.reporting.scores import SC
from ilm_lightning.reporting.tables import Cell, Pair, Table
from ilm_lightning.reporting.text import html

FEW = 10
"""More differences than this are folded away."""


def table_of(table: Table, n_tasks: int) -> str:
    """One table with its differences; with the main measure what is missing, and notes, as well."""
    head = "".join(_heading(h.label, h.note) for h in table.headings)
    rows = []
    for place, (name, cells) in enumerate(table.rows):
        last = ' class="sum"' if place == len(table.rows) - 1 else ""
        rows.append(f"<tr{last}><th>{html(name)}</th>{''.join(_cell(cell) for cell in cells)}</tr>")
    parts = [
        f"<h3>Table {html(table.number)}: {html(table.title)}</h3>",
        f'<div class="wide"><table><thead><tr><th>task</th>{head}</tr></thead>',
        f"<tbody>{''.join(rows)}</tbody></table></div>",
        _pairs(table.pairs, n_tasks),
    ]
    if table.measure != SC:
        return "".join(parts)
    if table.missing:
        items = "".join(f"<li><code>{html(entry)}</code></li>" for entry in table.missing)
        parts.append(
            f"<details><summary>{_count(len(table.missing), 'missing column')}</summary><ul>{items}</ul></details>"
        )
    if table.notes:
        parts.append(f"<ul class=muted>{''.join(f'<li>{html(note)}</li>' for note in table.notes)}</ul>")
    return "".join(parts)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _heading(label: str, note: str) -> str:
    name, _, details = label.partition(" (")
    below = f"<span>({html(details)}</span>" if details else ""
    return f"<th>{html(name)}{below}<span>{html(note)}</span></th>"


def _cell(cell: Cell) -> str:
    printed = "" if cell.paper is None else f"<small class=muted>{cell.paper:.2f}</small>"
    if cell.mean is None:
        return f"<td>–{printed}</td>"
    text = f"{cell.mean:.2f}"
    if cell.rank == 1:
        text = f"<strong>{text}</strong>" + (" ≈" if cell.noise else "")
    elif cell.rank == 2:
        text = f"<u>{text}</u>"
    spread = "" if cell.sd is None else f" <span class=muted>± {cell.sd:.2f}</span>"
    return f"<td>{text}{spread}{printed}</td>"


def _pairs(pairs: Sequence[Pair], n_tasks: int) -> str:
    if not pairs:
        return ""
    reach = max(max(abs(p.found.low), abs(p.found.high)) for p in pairs) or 1.0
    rows = []
    for pair in pairs:
        d, (low, high) = pair.found.difference, pair.found.student
        noise = ' class="noise"' if pair.found.noise else ""
        rows.append(
            f"<tr{noise}><th>{html(pair.first)} − {html(pair.second)}</th>"
            f"<td>{forest(d.mean, pair.found.low, pair.found.high, reach)}</td>"
            f"<td>{d.mean:+.2f}{' ≈' if pair.found.noise else ''}</td><td>{d.low:+.2f}, {d.high:+.2f}</td>"
            f"<td>{low:+.2f}, {high:+.2f}</td><td>{pair.found.better} of {n_tasks}</td>"
            f"<td>{pair.found.significant(1)} / {pair.found.significant(-1)}</td><td>{len(pair.found.seeds)}</td></tr>"
        )
    head = "".join(
        f"<th class=long>{name}</th>"
        for name in (
            "difference", "wider of both intervals", "mean", "95 %, nested", "95 %, Student's", "tasks above 0",
            "beyond noise: above / below", "seeds",
        )
    )  # fmt: skip
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    shown = " open" if len(pairs) <= FEW else ""
    table = f'<div class="wide"><table>{body}</table></div>'
    return f"<details{shown}><summary>{_count(len(pairs), 'difference')}</summary>{table}</details>"


def controls_table(controls: Sequence[Controls]) -> str:
    """What own vectors have to beat, per column."""
    conditions = [key for key in CONDITIONS if any(key in row.sc for row in controls)]
    names = [
        *(key.replace("_", " ") for key in conditions),
        "own − best control",
        "own target first (chance)",
        "bits saved",
    ]
    head = "".join(f"<th class=long>{html(name)}</th>" for name in names)
    rows = []
    for row in controls:
        cells = "".join(f"<td>{row.sc[key]:.2f}</td>" if key in row.sc else "<td></td>" for key in conditions)
        seeds = f"above 0 in {row.beaten} of {row.seeds} seeds, confirmed by a second measure in {row.agreed}"
        seeds = f"of {row.of} alone; {seeds}" if row.of else seeds
        best = "" if row.best is None else f"{row.best:+.2f}<small>{html(seeds)}</small>"
        found = "" if row.retrieval is None else f"{row.retrieval[0]:.1%} ({row.retrieval[1]:.1%})"
        bits = "" if row.bits is None else f"{row.bits:.2f}"
        cells += f"<td>{best}</td><td>{found}</td><td>{bits}</td>"
        rows.append(f"<tr><th>{html(row.label)}</th>{cells}</tr>")
    table = f"<table><thead><tr><th>SC</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    notes = []
    lost = [html(row.named) for row in controls if row.seeds and row.beaten < row.seeds]
    copied = [html(row.label) for row in controls if row.below_copy]
    if lost:
        notes.append(f"Not above the best of shuffled, blind and constant in every seed: {', '.join(lost)}.")
    if copied:
        names_of = "every row" if len(copied) == len(controls) > 1 else ", ".join(copied)
        notes.append(f"Below kNN copy, the target of the nearest training movie: {names_of}.")
    return f'<div class="wide">{table}</div>' + "".join(f"<p>{note}</p>" for note in notes)
