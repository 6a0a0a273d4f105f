"""What the columns answered while they were trained, validation by validation, for the HTML page."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilm_lightning.reporting.charts import style_of
from ilm_lightning.reporting.controls import full_label
from ilm_lightning.reporting.document import Section
from ilm_lightning.reporting.page_figures import table_columns
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.samples import titles_in
from ilm_lightning.reporting.text import html

SAMPLES = "samples-tune.csv"
MOST_COLUMNS, MOST_EXAMPLES = 7, 3


@dataclass(frozen=True)
class Answer:
    """One answer to an example at a step.

    Attributes:
        step: of the training.
        task: of the example.
        prompt: as the model saw it.
        target: what was wanted.
        text: what came.
        score: in words.
    """

    step: int
    task: str
    prompt: str
    target: str
    text: str
    score: str


def progress_of(section: Section) -> str:
    """Answers of a section's columns over the steps."""
    shown = table_columns(section) or list(section.group.columns)
    return progress({full_label(column, section.group): column.runs[min(column.runs)] for column in shown})


def progress(named: Mapping[str, Run]) -> str:
    """Answers to a few validation examples over the steps, side by side; empty where no run kept any.

    Args:
        named: label -> its first run.
    """
    read = {label: _answers(named[label]) for label in list(named)[:MOST_COLUMNS]}
    places = {label: place for place, label in enumerate(read)}
    known = {label: answers for label, answers in read.items() if answers}
    if not known:
        return ""
    titles = titles_in(next(named[label].path for label in known))
    cards = [_card(example, known, places, titles) for example in _chosen(known)]
    note = "<p class=muted>Validation examples, the same at every validation; first seed of each column.</p>"
    return f"<h3>Texts over training</h3>{note}{''.join(cards)}"


def _answers(run: Run) -> dict[str, list[Answer]]:
    """Example -> its answers in the order of the steps."""
    found: dict[str, list[Answer]] = {}
    try:
        with (run.path / SAMPLES).open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                found.setdefault(row["example"], []).append(_answer(row))
    except (OSError, csv.Error, KeyError, TypeError, ValueError):
        return {}
    return found


def _answer(row: Mapping[str, str]) -> Answer:
    """A line of the samples: a text with its SC, or a list with the place of the target in it."""
    kind = "list" if "list" in row else "text"
    if kind == "list":
        score = f"target in place {row['rank']}" if int(row["rank"]) else "target not in the list"
    else:
        score = f"SC {row['sc'] or ''}"
    task, prompt, target, text = (
        row[key] or "" for key in ("task", "prompt", "target", "list" if "list" in row else "text")
    )
    return Answer(int(row["step"]), task, prompt, target, text, score)


def _chosen(known: Mapping[str, Mapping[str, Sequence[Answer]]]) -> list[str]:
    """Examples spread over those that all columns have, else over those of the first."""
    every = list(next(iter(known.values())))
    common = [example for example in every if all(example in answers for answers in known.values())] or every
    count = min(MOST_EXAMPLES, len(common))
    return [common[place * len(common) // count] for place in range(count)]


def _card(
    example: str,
    known: Mapping[str, Mapping[str, Sequence[Answer]]],
    places: Mapping[str, int],
    titles: Mapping[object, str],
) -> str:
    first = next(answers[example][0] for answers in known.values() if example in answers)
    name = example.removeprefix(f"{first.task}:")
    # an item's row says nothing to a reader
    name = titles.get(int(name), f"item {name}") if name.isdecimal() else name
    parts = [
        f'<details class="card"><summary>{html(first.task.replace("_", " "))} · {html(name)}</summary>',
        f"<p><code>{html(first.prompt)}</code></p>",
        f'<div class="sample"><div>target</div><p>{html(first.target, lines=True)}</p></div>',
        '<div class="grid">',
    ]
    for label, answers in known.items():
        steps = "".join(
            f"<div>step {answer.step} · {html(answer.score)}</div><p>{html(answer.text, lines=True)}</p>"
            for answer in answers.get(example, ())
        )
        if steps:
            parts.append(
                f'<div class="sample {style_of(places[label])}"><div><strong>{html(label)}</strong></div>{steps}</div>'
            )
    return "".join([*parts, "</div></details>"])
