"""Sample texts and the table of runs of the HTML page."""

from collections.abc import Mapping
from typing import Any

from ilm_lightning.reporting.charts import style_of
from ilm_lightning.reporting.document import Section, full_label
from ilm_lightning.reporting.page_figures import table_columns
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.samples import Sample, pick_samples
from ilm_lightning.reporting.text import html

MOST_COLUMNS = 7
STAGES = ("prepare", "embed", "tasks", "pretrain", "tune", "evaluate")


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


def runs_table(section: Section) -> str:
    """Every run with its times, memory and origin."""
    stages = [s for s in STAGES if any(s in _seconds(run) for c in section.group.columns for run in c.runs.values())]
    names = ("seed", "SC", *stages, "total", "peak memory", "compute")
    head = "<th class=text>row</th>" + "".join(f"<th>{name}</th>" for name in names)
    rows = []
    for column in section.group.columns:
        for seed, run in sorted(column.runs.items()):
            seconds = _seconds(run)
            times = "".join(f"<td>{_clock(seconds.get(stage))}</td>" for stage in stages)
            sc = run.metrics["all"]["sc"]["own"]
            rows.append(
                f"<tr><th>{html(run.name)}</th><td class=text>{html(full_label(column, section.group))}</td>"
                f"<td>{seed}</td><td>{sc:.2f}</td>{times}<td>{_clock(sum(seconds.values()))}</td><td>{_memory(run)}</td>"
                f"<td>{_flops(run)}</td><td>{html(_hardware(run))}</td><td>{html(_commit(run))}</td>"
                f"<td class=text><code>{html(run.metrics.get('run', {}).get('command', ''))}</code></td></tr>"
            )
    table = (
        f"<table><thead><tr><th>run</th>{head}<th>hardware</th><th>commit</th><th class=text>command</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    note = (
        "Times are those of the stages' artefacts, which runs of a sweep share; compute is all training behind a run."
    )
    return f'<p class=muted>{note}</p><div class="wide">{table}</div>'


def _facts(run: Run) -> Mapping[str, Any]:
    facts = run.metrics.get("run", {})
    return facts if isinstance(facts, Mapping) else {}


def _seconds(run: Run) -> dict[str, float]:
    return {str(stage): float(value) for stage, value in _facts(run).get("seconds", {}).items()}


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


def _memory(run: Run) -> str:
    facts = _facts(run)
    parts = [f"{facts['peak_memory_gib']:.1f} GiB"] if facts.get("peak_memory_gib") is not None else []
    if facts.get("peak_gpu_memory_gib") is not None:
        parts.append(f"GPU {facts['peak_gpu_memory_gib']:.1f} GiB")
    return ", ".join(parts)


def _flops(run: Run) -> str:
    flops = _facts(run).get("compute", {}).get("flops")
    return "" if not flops else f"{float(flops) / 1e15:.2f} PFLOP"


def _hardware(run: Run) -> str:
    hardware = _facts(run).get("hardware", {})
    gpus = hardware.get("gpus") or []
    return (
        ", ".join(gpus)
        if gpus
        else f"{hardware.get('processor', '')}, {hardware.get('cores', '?')} cores"
        if hardware
        else ""
    )


def _commit(run: Run) -> str:
    commit = str(_facts(run).get("versions", {}).get("commit", ""))
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
