"""A report as one HTML page that asks for nothing outside itself."""

from collections.abc import Sequence
from importlib import resources

from ilm_lightning.reporting.claims import Claim, stated
from ilm_lightning.reporting.claims_page import RULES, all_missing, missing_runs
from ilm_lightning.reporting.document import Document, Section
from ilm_lightning.reporting.page_figures import bars_of, figure_3, loss_curves
from ilm_lightning.reporting.page_progress import progress_of
from ilm_lightning.reporting.page_runs import samples_of, section_runs
from ilm_lightning.reporting.page_tables import controls_table, table_of
from ilm_lightning.reporting.paper import source
from ilm_lightning.reporting.ranking_html import rankings_of
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import measure_name
from ilm_lightning.reporting.text import counted, html, redact

# the browser itself refuses whatever a hostile text might ask for
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""
THEME = (
    '<fieldset class="theme" aria-label="colours">'
    '<label><input type="radio" name="theme" id="auto" checked>auto</label>'
    '<label><input type="radio" name="theme" id="light">light</label>'
    '<label><input type="radio" name="theme" id="dark">dark</label></fieldset>'
)


def write(document: Document, claims: Sequence[Claim], title: str = "Item-Language Model: results") -> str:
    """Write the page.

    Args:
        document: the report.
        claims: gone through on its first section.
        title: of the page.

    Returns:
        HTML, secrets masked.
    """
    style = resources.files("ilm_lightning.reporting").joinpath("page.css").read_text(encoding="utf-8")
    several = len(document.sections) > 1
    links = [("claims", "Claims")]
    body = [_claims(claims)]
    for section in document.sections:
        letter = section.group.letter
        mark = f" {letter}" if several else ""
        links += [(f"tables-{letter}", f"Tables{mark}"), (f"curves-{letter}", f"Curves{mark}")]
        links += [(f"texts-{letter}", f"Texts{mark}"), (f"runs-{letter}", f"Runs{mark}")]
        body += _section(section, mark)
    if document.rankings is not None:
        links.append(("rankings", "Recommendation"))
        body.append(rankings_of(document.rankings))
    if document.problems:
        links.append(("problems", "Left out"))
        items = "".join(f"<li><strong>{html(p.where)}</strong>: {html(p.what)}</li>" for p in document.problems)
        body.append(f'<h2 id="problems">Left out, missing, apart</h2><ul>{items}</ul>')
    nav = "".join(f'<a href="#{key}">{html(text)}</a>' for key, text in links)
    parts = [
        HEAD.format(policy=POLICY, title=html(title), style=style),
        f"<header><div>{THEME}<h1>{html(title)}</h1>{_summary(document)}</div></header>",
        f"<nav><div>{nav}</div></nav>",
        f"<main>{''.join(body)}</main>",
        f"<footer>The paper's numbers: {html(source())}</footer>",
        "</body>\n</html>\n",
    ]
    return redact("".join(parts))


def _summary(document: Document) -> str:
    n = len(document.sections)
    protocols = ", one protocol" if n == 1 else f", {n} protocols of language tasks, never averaged over" if n else ""
    runs = counted(document.runs, "finished run")
    return (
        f"<p>{runs}{protocols}. Intervals: {document.resamples:,} paired resamples, seeds outside, movies inside.</p>"
        f"<p class=muted>{html(', '.join(document.folders))}</p>"
    )


def _claims(claims: Sequence[Claim]) -> str:
    cards = []
    for claim in claims:
        said = {name: claim.said(name) for name in claim.verdicts}
        one = len(set(said.values())) == 1
        chips = " ".join(
            f'<span class="chip {claim.verdicts[name]}">{html(text if one else f"{name}: {text}")}</span>'
            for name, text in (list(said.items())[:1] if one else said.items())
        )
        cards.append(
            f'<div class="card claim"><div><strong>{claim.number}. {html(claim.text)}</strong>'
            f"<p class=muted>The paper: {html(claim.paper)}.</p>{_claim_details(claim)}</div><div>{chips}</div></div>"
        )
    return (
        f'<h2 id="claims">The paper\'s claims on these runs</h2>'
        f"<details><summary>How a verdict is made</summary><p>{html(RULES)}</p></details>{''.join(cards)}"
    )


def _claim_details(claim: Claim) -> str:
    blocks = []
    for name, parts in claim.parts.items():
        items = []
        for part in parts:
            rows = ", ".join(entry.partition(":")[0] for entry in part.missing)
            why = f"{part.why}: {rows}" if rows else part.why
            readings = "".join(f"<li>{html(r.scorer)} ({html(r.says)}): {html(r.numbers)}</li>" for r in part.readings)
            beside = "" if part.counted else " <small>(beside)</small>"
            said = html(stated(part.verdict, [part]))
            items.append(
                f'<li>{html(part.text)}{beside} <span class="chip {part.verdict}">{said}</span> {html(why)}'
                f"<ul>{readings}</ul></li>"
            )
        blocks.append(f"<strong>{html(name)}</strong><ul>{''.join(items)}</ul>")
    blocks += [f"<p>{html(note)}.</p>" for note in claim.notes]
    missing = missing_runs(claim)
    if missing:
        blocks.append("Missing runs:<ul>" + "".join(f"<li><code>{html(m)}</code></li>" for m in missing) + "</ul>")
    short = "these runs are missing" if all_missing(claim) else "numbers"
    return f"<details><summary>{short}</summary>{''.join(blocks)}</details>"


def _section(section: Section, mark: str) -> list[str]:
    group, letter = section.group, section.group.letter
    fields = "".join(
        f"<dt>{html(key.replace('_', ' '))}</dt><dd>{html(value)}</dd>" for key, value in group.described()
    )
    parts = [
        f'<h2 id="tables-{letter}">Tables{mark}</h2>',
        f'<details class="card" open><summary>Protocol{mark}</summary><dl>{fields}</dl></details>',
        "<p>Ours, mean ± sd over seeds; below it the paper's number (another LLM, other data, another scorer). "
        "<strong>Best</strong> and <u>next-best</u> of ours. ≈: the lead may be noise.</p>",
    ]
    for measure, made in section.tables.items():
        tables = "".join(table_of(table, len(group.tasks)) for table in made)
        name = html(measure_name(group, measure))
        parts.append(f"<details{' open' if measure == SC else ''}><summary>{name}</summary>{tables}</details>")
    if section.absent:
        parts.append(f"<p class=muted>No run of this protocol for {html(', '.join(section.absent))}.</p>")
    parts.append(f"<h3>Own vectors against their controls{mark}</h3>{controls_table(section.controls)}")
    parts.append(f'<h2 id="curves-{letter}">Curves{mark}</h2>')
    parts.append(f'<div class="grid two">{"".join(figure_3(section, measure) for measure in (SC, ITEM))}</div>')
    parts += [bars_of(section), loss_curves(section)]
    parts.append(f'<h2 id="texts-{letter}">Texts{mark}</h2>{samples_of(section)}{progress_of(section)}')
    parts.append(f'<h2 id="runs-{letter}">Runs{mark}</h2>{section_runs(section)}')
    return parts
