"""Sample texts and the table of runs of the HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilm_lightning.reporting.charts import style_of
from ilm_lightning.reporting.controls import full_label
from ilm_lightning.reporting.document import Section
from ilm_lightning.reporting.page_figures import table_columns
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.samples import Sample, pick_samples
from ilm_lightning.reporting.text import html

MOST_COLUMNS = 7
STAGES = ("prepare", "als", "encode", "embed", "tasks", "pretrain", "tune", "generate", "evaluate")


def samples_of(section: Section, count: int = 6) -> str:
    """Texts of the columns side by side, for a few examples."""
    shown = (table_columns(section) or section.group.columns)[:MOST_COLUMNS]
    columns = {full_label(column, section.group): column for column in shown}
    samples = pick_samples(section.group, columns, count)
    if not samples:
        return "<p class=muted>The runs' predictions are not there.</p>"
    places = {label: place for place, label in enumerate(columns)}
    reads = "The model reads the item's vector; it never sees the title."
    if section.group.protocol.prompt.startswith("title"):
        reads = "The title stands in the prompt."
    note = f"<p class=muted>First seed of each column. {reads}</p>"
    return note + "".join(_sample(sample, places) for sample in samples)


def _sample(sample: Sample, places: Mapping[str, int]) -> str:
    parts = [
        f'<details class="card" open><summary>{html(sample.task.replace("_", " "))} · {html(sample.item)}</summary>',
        f"<p><code>{html(sample.prompt)}</code></p>" if sample.prompt else "",
        f'<div class="sample"><div>target (the teacher)</div><p>{html(sample.target, lines=True)}</p></div>',
        '<div class="grid">',
    ]
    for label, (text, sc) in sample.texts.items():
        score = "" if sc is None else f" · SC {sc:.1f}"
        parts.append(
            f'<div class="sample {style_of(places[label])}"><div>{html(label)}{score}</div>'
            f"<p>{html(text, lines=True)}</p></div>"
        )
    for label, text in sample.controls.items():
        parts.append(f'<div class="sample"><div>control: {html(label)}</div><p>{html(text, lines=True)}</p></div>')
    return "".join([*parts, "</div></details>"])


def section_runs(section: Section) -> str:
    """The table of a section's runs."""
    entries = [
        Entry(run, full_label(column, section.group), f"{run.metrics['all']['sc']['own']:.2f}")
        for column in section.group.columns
        for _, run in sorted(column.runs.items())
    ]
    return runs_table(entries, "SC")


@dataclass(frozen=True)
class Entry:
    """A run, the row of the tables that it belongs to, and its one number."""

    run: Run
    row: str
    score: str


def runs_table(entries: Sequence[Entry], score: str) -> str:
    """Every run with its times, memory and origin.

    Args:
        entries: the runs.
        score: what their one number is.
    """
    stages = [stage for stage in STAGES if any(stage in entry.run.seconds for entry in entries)]
    names = ("seed", score, *stages, "total", "peak memory", "compute")
    head = "<th class=text>row</th>" + "".join(f"<th>{html(name)}</th>" for name in names)
    rows = []
    for entry in entries:
        run, seconds = entry.run, entry.run.seconds
        times = "".join(f"<td>{_clock(seconds.get(stage))}</td>" for stage in stages)
        rows.append(
            f"<tr><th>{html(run.name)}</th><td class='text wrap'>{html(entry.row)}</td><td>{run.seed}</td>"
            f"<td>{html(entry.score)}</td>{times}<td>{_clock(sum(seconds.values()) if seconds else None)}</td>"
            f"<td>{_memory(run)}</td><td>{_flops(run)}</td><td>{html(_hardware(run))}</td><td>{html(_commit(run))}</td>"
            f"<td class=text><code>{html(run.facts.get('command', ''))}</code></td></tr>"
        )
    table = (
        f"<table><thead><tr><th>run</th>{head}<th>hardware</th><th>commit</th><th class=text>command</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    note = (
        "Times are those of the stages' artefacts, which runs of a sweep share; compute is all training behind a run."
    )
    return f'<p class=muted>{note}</p><div class="wide">{table}</div>'


def _part(run: Run, key: str) -> Mapping[str, Any]:
    part = run.facts.get(key)
    return part if isinstance(part, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


def _memory(run: Run) -> str:
    own, gpu = (_number(run.facts.get(key)) for key in ("peak_memory_gib", "peak_gpu_memory_gib"))
    parts = [] if own is None else [f"{own:.1f} GiB"]
    return ", ".join(parts if gpu is None else [*parts, f"GPU {gpu:.1f} GiB"])


def _flops(run: Run) -> str:
    flops = _number(_part(run, "compute").get("flops"))
    return "" if not flops else f"{flops / 1e15:.2f} PFLOP"


def _hardware(run: Run) -> str:
    told = run.facts.get("hardware")
    if not isinstance(told, Mapping):
        return str(told or "")
    gpus = told.get("gpus")
    if gpus and isinstance(gpus, list):
        return ", ".join(map(str, gpus))
    return f"{told.get('processor', '')}, {told.get('cores', '?')} cores"


def _commit(run: Run) -> str:
    commit = str(_part(run, "versions").get("commit", ""))
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
