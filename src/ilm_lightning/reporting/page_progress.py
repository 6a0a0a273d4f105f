"""What the columns answered while they were trained, validation by validation, for the HTML page."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilm_lightning.reporting.charts import style_of
from ilm_lightning.reporting.document import Section, full_label
from ilm_lightning.reporting.groups import Column
from ilm_lightning.reporting.page_figures import table_columns
from ilm_lightning.reporting.text import html

SAMPLES = "samples-tune.csv"
MOST_COLUMNS, MOST_EXAMPLES = 7, 3


@dataclass(frozen=True)
class Answer:
    """One answer to an example at a step."""

    step: int
    task: str
    prompt: str
    target: str
    text: str
    sc: str


def progress_of(section: Section) -> str:
    """Answers to a few validation examples over the steps, columns side by side; empty where no run kept any."""
    shown = (table_columns(section) or list(section.group.columns))[:MOST_COLUMNS]
    read = {full_label(column, section.group): _answers(column) for column in shown}
    places = {label: place for place, label in enumerate(read)}
    known = {label: answers for label, answers in read.items() if answers}
    if not known:
        return ""
    cards = [_card(example, known, places) for example in _chosen(known)]
    note = "<p class=muted>Validation examples, the same at every validation; first seed of each column.</p>"
    return f"<h3>Texts over training</h3>{note}{''.join(cards)}"


def _answers(column: Column) -> dict[str, list[Answer]]:
    """Example -> its answers in the order of the steps."""
    found: dict[str, list[Answer]] = {}
    path = column.runs[min(column.runs)].path / SAMPLES
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                parts = [row[key] or "" for key in ("task", "prompt", "target", "text", "sc")]
                found.setdefault(row["example"], []).append(Answer(int(row["step"]), *parts))
    except (OSError, csv.Error, KeyError, TypeError, ValueError):
        return {}
    return found


def _chosen(known: Mapping[str, Mapping[str, Sequence[Answer]]]) -> list[str]:
    """Examples spread over those that all columns have, else over those of the first."""
    every = list(next(iter(known.values())))
    common = [example for example in every if all(example in answers for answers in known.values())] or every
    count = min(MOST_EXAMPLES, len(common))
    return [common[place * len(common) // count] for place in range(count)]


def _card(example: str, known: Mapping[str, Mapping[str, Sequence[Answer]]], places: Mapping[str, int]) -> str:
    first = next(answers[example][0] for answers in known.values() if example in answers)
    name = example.removeprefix(f"{first.task}:")
    parts = [
        f'<details class="card"><summary>{html(first.task.replace("_", " "))} · {html(name)}</summary>',
        f"<p><code>{html(first.prompt)}</code></p>",
        f'<div class="sample"><div>target (the teacher)</div><p>{html(first.target, lines=True)}</p></div>',
        '<div class="grid">',
    ]
    for label, answers in known.items():
        steps = "".join(
            f"<div>step {answer.step} · SC {html(answer.sc)}</div><p>{html(answer.text, lines=True)}</p>"
            for answer in answers.get(example, ())
        )
        if steps:
            parts.append(
                f'<div class="sample {style_of(places[label])}"><div><strong>{html(label)}</strong></div>{steps}</div>'
            )
    return "".join([*parts, "</div></details>"])
