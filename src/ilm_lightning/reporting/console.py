"""A run's numbers and sample texts on the terminal, readable in 80 plain columns too."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ilm_lightning.evaluation.summary import CONDITIONS

HEADERS = {
    "own": "own",
    "shuffled": "shuf",
    "hard_shuffled": "hard",
    "blind": "blind",
    "constant": "const",
    "knn_copy": "kNN",
    "title": "title",
    "facts": "facts",
}
MEANINGS = {
    "shuf": "another movie's vector",
    "hard": "one of the same genre and decade",
    "blind": "soft tokens shared by all movies",
    "const": "one training target for all",
    "kNN": "target of the nearest training movie",
    "title": "title in the prompt",
    "facts": "all facts in the prompt",
}
MARK = "*"
MEASURES = {"sc": "SC", "rouge_l": "ROUGE-L", "loss": "Loss (nats per token)", "bits": "Bits per target"}

Words = Sequence[Sequence[tuple[str, float]]]


def score_table(metrics: Mapping[str, Any], measure: str = "sc") -> RenderableType:
    """Lay out one measure per task and condition, the mean of task means last.

    Args:
        metrics: from ``summarise``.
        measure: ``"sc"``, ``"rouge_l"``, ``"loss"`` or ``"bits"``.

    Returns:
        A table, with a line that explains its columns.

    Raises:
        ValueError: the metrics do not hold the measure.
    """
    rows = {task: row[measure] for task, row in metrics["tasks"].items() if measure in row}
    if not rows:
        raise ValueError(f"these metrics hold no {measure}; they hold {', '.join(metrics['all']) or 'none'}")
    conditions = [key for key in CONDITIONS if any(key in row for row in rows.values())]
    scorer = f", scorer {metrics['scorer']}" if measure == "sc" and metrics.get("scorer") else ""
    table = _table(f"{MEASURES[measure]} per task{scorer}, {metrics['n_movies']} movies")
    table.add_column("task", no_wrap=True)
    for key in conditions:
        table.add_column(HEADERS[key], justify="right", no_wrap=True)
    for task, row in rows.items():
        table.add_row(_task(task, metrics), *(_number(row.get(key)) for key in conditions))
    macro = metrics["all"].get(measure, {})
    table.add_section()
    table.add_row("all (mean of tasks)", *(_number(macro.get(key)) for key in conditions), style="bold")
    legend = "; ".join(f"{HEADERS[k]}: {MEANINGS[HEADERS[k]]}" for k in conditions if HEADERS[k] in MEANINGS)
    return Group(table, *_notes(legend, metrics))


def difference_table(metrics: Mapping[str, Any], measure: str = "sc") -> RenderableType | None:
    """Lay out what the own vector wins, with 95 % intervals over movies.

    Args:
        metrics: from ``summarise``.
        measure: ``"sc"``, ``"rouge_l"`` or ``"bits"``.

    Returns:
        A table; None where nothing was compared.
    """
    found = metrics["differences"].get(measure, {})
    columns = [
        (key, title) for key, title in (("shuffled", "own - shuf"), ("best_control", "own - best")) if key in found
    ]
    if not columns:
        return None
    table = _table(f"{MEASURES[measure]}: what the own vector wins, 95 % intervals over movies")
    table.add_column("task", no_wrap=True)
    for key, title in columns:
        table.add_column(title, justify="right", no_wrap=True)
        if key == "best_control":
            table.add_column("vs", no_wrap=True)
    table.add_column("room", justify="right", no_wrap=True)
    for task in metrics["tasks"]:
        cells = [cell for key, _ in columns for cell in _cells(key, found[key]["tasks"].get(task))]
        room = metrics["spread"].get(task, {}).get("room")
        table.add_row(_task(task, metrics), *cells, _number(room))
    table.add_section()
    overall = [cell for key, _ in columns for cell in _cells(key, found[key])]
    table.add_row("all (mean of tasks)", *overall, "", style="bold")
    legend = (
        f"{MARK} after a number: significant after Holm; room: 100 - SC of another movie's target, all that can be won"
    )
    return Group(table, *_notes(legend, metrics))


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """Say the comparisons in sentences.

    Args:
        metrics: from ``summarise``.

    Returns:
        One line per comparison, retrieval and slot accuracy.
    """
    lines = []
    for key, row in metrics["differences"].get("sc", {}).items():
        name = "the best of shuffled, blind and constant" if key == "best_control" else key.replace("_", " ")
        verdict = "above" if row["low"] > 0 else "below" if row["high"] < 0 else "not apart from"
        lines.append(
            f"own {verdict} {name}: {row['mean']:+.1f} SC [{row['low']:.1f}, {row['high']:.1f}], better in "
            f"{row['better_tasks']} of {row['n_tasks']} tasks, significantly in {row['significant_tasks']}"
        )
    for key, row in metrics["differences"].get("bits", {}).items():
        if key != "best_control":
            name = key.replace("_", " ")
            lines.append(
                f"bits per target saved against {name}: {row['mean']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"
            )
    own = metrics.get("retrieval", {}).get("own")
    if own:
        row = own["all"]
        lines.append(
            f"own target found first {row['r1']:.1%} (chance {row['chance_r1']:.1%}), among five {row['r5']:.1%} "
            f"({row['chance_r5']:.1%}), MRR {row['mrr']:.3f} ({row['chance_mrr']:.3f})"
        )
    for key, report in metrics.get("slots", {}).items():
        if key in ("own", "shuffled"):
            kinds = ", ".join(f"{kind} {row['score']:.0%}" for kind, row in report["kinds"].items())
            lines.append(f"facts right, {key}: {kinds or 'none asked for'}")
    return lines


def samples(frame: pl.DataFrame, count: int = 3) -> list[dict[str, str]]:
    """Pick examples to show, spread over tasks and movies: the same ones for the same table.

    Args:
        frame: predictions with ``example_id, task, movie, condition, prompt, target, generated``.
        count: how many.

    Returns:
        Per example its task, prompt, target, and the texts from the own and, where there is one, a shuffled vector.
    """
    texts = frame.filter(pl.col("generated").is_not_null())
    own = texts.filter(pl.col("condition") == "own").unique("example_id", keep="first").sort("task", "example_id")
    other = texts.filter(pl.col("condition") == "shuffled").unique("example_id", keep="first", maintain_order=True)
    swapped = dict(other.select("example_id", "generated").iter_rows())
    tasks = own["task"].unique(maintain_order=True).to_list()
    chosen: list[dict[str, str]] = []
    movies: set[object] = set()
    for place in range(min(count, len(tasks))):
        part = own.filter(pl.col("task") == tasks[place * len(tasks) // min(count, len(tasks))]).to_dicts()
        row = next((row for row in part if row["movie"] not in movies), part[0])
        movies.add(row["movie"])
        sample = {key: str(row[key]) for key in ("task", "prompt", "target")} | {"own": str(row["generated"])}
        if row["example_id"] in swapped:
            sample["shuffled"] = str(swapped[row["example_id"]])
        chosen.append(sample)
    return chosen


def sample_texts(chosen: Sequence[Mapping[str, str]]) -> RenderableType:
    """Lay out sample texts.

    Args:
        chosen: from ``samples``.

    Returns:
        One block per example: prompt, target, text from the own vector, text from another movie's.
    """
    blocks: list[RenderableType] = []
    for sample in chosen:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for key in ("task", "prompt", "target", "own", "shuffled"):
            if key in sample:
                # Text, not markup: a prompt may hold square brackets
                grid.add_row(key, Text(sample[key].replace("_", " ") if key == "task" else sample[key].strip()))
        blocks.append(Padding(grid, (0, 0, 1, 0)))
    return Group(*blocks)


def words_table(words: Mapping[str, Words]) -> RenderableType:
    """Lay out the vocabulary words nearest to items' soft tokens.

    Args:
        words: per item label, from ``nearest_words``.

    Returns:
        A table with one row per item: each soft token's nearest words, repeats left out.
    """
    table = _table("Nearest vocabulary words of the soft tokens")
    table.add_column("item", overflow="fold", max_width=26)
    table.add_column("words", overflow="fold")
    for label, queries in words.items():
        best: dict[str, float] = {}
        for query in queries:
            for word, cosine in query:
                best[word] = max(cosine, best.get(word, -1.0))
        ordered = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))
        table.add_row(Text(label), Text(", ".join(f"{word} {cosine:.2f}" for word, cosine in ordered)))
    return table


def show(
    console: Console,
    metrics: Mapping[str, Any],
    frame: pl.DataFrame | None = None,
    words: Mapping[str, Words] | None = None,
    count: int = 3,
) -> None:
    """Print a run's results.

    Args:
        console: where to.
        metrics: from ``summarise``.
        frame: predictions, for sample texts.
        words: per item label its soft tokens' nearest words.
        count: how many samples.
    """
    if metrics["all"].get("sc"):
        console.print(score_table(metrics))
    differences = difference_table(metrics)
    if differences is not None:
        console.print(differences)
    for line in findings(metrics):
        console.print(Text(f"- {line}"))
    if words:
        console.print()
        console.print(words_table(words))
    if frame is not None:
        console.print()
        console.print(sample_texts(samples(frame, count)))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)


def _task(task: str, metrics: Mapping[str, Any]) -> str:
    # the two longest names are cut, so that eight conditions fit beside them in 80 columns
    short = task.replace("_", " ").replace("characteristics", "traits")
    return short + (f" {MARK}{MARK}" if task in metrics["uninformative"] else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _interval(row: Mapping[str, Any]) -> str:
    mark = MARK if "p_holm" in row and row["p_holm"] < 0.05 else " " if "p_holm" in row else ""
    return f"{row['mean']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]{mark}"


def _cells(key: str, row: Mapping[str, Any] | None) -> list[str]:
    """The interval, and for the best control which one it is."""
    interval = "" if row is None else _interval(row)
    if key != "best_control":
        return [interval]
    return [interval, HEADERS[row["against"]] if row is not None and "against" in row else ""]


def _notes(legend: str, metrics: Mapping[str, Any]) -> list[RenderableType]:
    notes = [legend] if legend else []
    if metrics["uninformative"]:
        notes.append(f"{MARK}{MARK} uninformative: the targets of different movies are within 10 points of each other")
    return [Text(note, style="dim") for note in notes]
