"""A run's numbers and sample texts on the terminal, readable in few plain columns too."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ilm_lightning.evaluation.summary import CONDITIONS
from ilm_lightning.reporting.blocks import Blocks
from ilm_lightning.reporting.findings import findings, own_row

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
ROOM, GAIN = "room", "own - shuf"
MEASURES = {
    "sc": "SC",
    "sc_second": "SC by the second scorer",
    "sc_input": "SC-input",
    "rouge_l": "ROUGE-L",
    "slot_accuracy": "Facts right, %",
    "loss": "Loss (nats per token)",
    "bits": "Bits per target",
}
OVERVIEW = {
    "sc": "SC",
    "sc_second": "SC, 2nd scorer",
    "sc_input": "SC-input",
    "rouge_l": "ROUGE-L",
    "slot_accuracy": "facts right, %",
    "slot_seen": "  encoder saw",
    "slot_unseen": "  did not see",
    "bits": "bits per target",
    "cut_off": "texts cut off, %",
}

Words = Sequence[Sequence[tuple[str, float]]]


def score_table(metrics: Mapping[str, Any], measure: str = "sc") -> RenderableType:
    """Lay out one measure per task and condition, the mean of task means last.

    Args:
        metrics: from ``summarise``.
        measure: a key of ``MEASURES``.

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
    title = f"{MEASURES[measure]} per task{scorer}, {metrics['n_movies']} movies"
    macro = metrics["all"].get(measure, {})

    def build(keys: Sequence[str], first: bool) -> Table:
        table = _table(title if first else "", "task", [HEADERS[key] for key in keys])
        for task, row in rows.items():
            table.add_row(_task(task, metrics), *(_number(row.get(key)) for key in keys))
        table.add_section()
        table.add_row("all (mean of tasks)", *(_number(macro.get(key)) for key in keys), style="bold")
        return table

    legend = "; ".join(f"{HEADERS[k]}: {MEANINGS[HEADERS[k]]}" for k in conditions if HEADERS[k] in MEANINGS)
    return Group(Blocks(conditions, build), *_notes(legend, metrics))


def difference_table(metrics: Mapping[str, Any], measure: str = "sc") -> RenderableType | None:
    """Lay out what the own vector wins, with 95 % intervals over movies.

    Args:
        metrics: from ``summarise``.
        measure: a key of ``MEASURES``.

    Returns:
        A table; None where nothing was compared.
    """
    found = metrics["differences"].get(measure, {})
    shown = [key for key in ("shuffled", "best_control") if key in found]
    compared = [key for key in shown if own_row(key, metrics, shown)]
    if not compared:
        return None
    headers = {"shuffled": ["own - shuf"], "best_control": ["own - best", "vs"], ROOM: [ROOM]}

    def cells(key: str, task: str | None) -> list[str]:
        if key != ROOM:
            return _cells(key, found[key], task)
        return ["" if task is None else _number(metrics["spread"].get(task, {}).get(ROOM))]

    def build(keys: Sequence[str], first: bool) -> Table:
        title = f"{MEASURES[measure]}: what the own vector wins, 95 % intervals over movies" if first else ""
        table = _table(title, "task", [name for key in keys for name in headers[key]])
        for task in metrics["tasks"]:
            table.add_row(_task(task, metrics), *(cell for key in keys for cell in cells(key, task)))
        table.add_section()
        table.add_row("all (mean of tasks)", *(cell for key in keys for cell in cells(key, None)), style="bold")
        return table

    legend = (
        f"{MARK} after a number: significant after Holm, where the mean of tasks is; room: 100 - SC of another movie's "
        "target, all that can be won"
    )
    return Group(Blocks([*compared, ROOM], build), *_notes(legend, metrics))


def overview_table(metrics: Mapping[str, Any]) -> RenderableType | None:
    """Lay out every measure of the run side by side, means of task means.

    Args:
        metrics: from ``summarise``.

    Returns:
        A table with one row per measure; None where there is none.
    """
    found = {name: row for name, row in metrics["all"].items() if name in OVERVIEW and row}
    if not found:
        return None
    conditions = [key for key in CONDITIONS if any(key in row for row in found.values())]

    def build(keys: Sequence[str], first: bool) -> Table:
        table = _table("All measures (mean of tasks)" if first else "", "measure", [HEADERS[key] for key in keys])
        for name, title in OVERVIEW.items():
            if name in found:
                scale = 100.0 if name == "cut_off" else 1.0
                cells = (found[name].get(key) for key in keys)
                table.add_row(title, *(_number(None if cell is None else scale * cell) for cell in cells))
        return table

    notes = []
    if "sc_second" in found:
        notes.append(f"2nd scorer: {metrics['second_scorer']}")
    if "sc_input" in found:
        targets = metrics.get("sc_input_of_targets", {}).get("all")
        best = "" if targets is None else f"; the targets get {targets:.1f}"
        notes.append(f"SC-input: to the item's own vector by {metrics.get('input_encoder')}{best}")
    if "slot_accuracy" in found:
        seen = ", ".join(metrics.get("seen_facts", ())) or "none"
        notes.append(f"facts right: of the sorts that the target names; the encoder saw: {seen}")
    if metrics.get("hard_share") is not None:
        notes.append(
            f"hard: {metrics['hard_share']:.0%} found a movie of their genre and decade, the others the nearest"
        )
    return Group(Blocks(conditions, build), *(Text(note, style="dim") for note in notes))


def ratings_table(metrics: Mapping[str, Any]) -> RenderableType | None:
    """Lay out SC by how often the movies were rated.

    Args:
        metrics: of a run, with ``by_ratings``.

    Returns:
        A table with one row per band; None where nothing was counted.
    """
    bands = metrics.get("by_ratings", {})
    conditions = [key for key in CONDITIONS if any(row["sc"].get(key) is not None for row in bands.values())]
    if not conditions:
        return None
    names = {"movies": "movies", **{key: HEADERS[key] for key in conditions}}
    names |= {GAIN: GAIN} if "shuffled" in conditions else {}

    def cell(key: str, row: Mapping[str, Any]) -> str:
        if key == "movies":
            return str(row[key])
        if key != GAIN:
            return _number(row["sc"].get(key))
        own, other = row["sc"].get("own"), row["sc"].get("shuffled")
        return "" if None in (own, other) else f"{own - other:+.1f}"

    def build(keys: Sequence[str], first: bool) -> Table:
        title = "SC by number of ratings (mean of examples)" if first else ""
        table = _table(title, "ratings", [names[key] for key in keys])
        for band, row in bands.items():
            table.add_row(band, *(cell(key, row) for key in keys))
        return table

    return Blocks(list(names), build)


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
    for part in (difference_table(metrics), overview_table(metrics), ratings_table(metrics)):
        if part is not None:
            console.print(part)
    for line in findings(metrics):
        console.print(Text(f"- {line}"))
    if words:
        console.print()
        console.print(words_table(words))
    if frame is not None:
        console.print()
        console.print(sample_texts(samples(frame, count)))


def _table(title: str, rows: str = "", columns: Sequence[str] = ()) -> Table:
    """A table; ``rows`` heads the first column, whose cells stand left, those of the others right."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    if rows:
        made.add_column(rows, no_wrap=True)
    for name in columns:
        made.add_column(name, justify="left" if name == "vs" else "right", no_wrap=True)
    return made


def _task(task: str, metrics: Mapping[str, Any]) -> str:
    # the two longest names are cut, so that eight conditions fit beside them in 80 columns
    short = task.replace("_", " ").replace("characteristics", "traits")
    return short + (f" {MARK}{MARK}" if task in metrics["uninformative"] else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _interval(row: Mapping[str, Any], mark: str) -> str:
    return f"{row['mean']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]{mark}"


def _cells(key: str, comparison: Mapping[str, Any], task: str | None) -> list[str]:
    """The interval of one task, or of all, and for the best control which one it is."""
    row = comparison if task is None else comparison["tasks"].get(task)
    apart = {*comparison["significantly_better"], *comparison["significantly_worse"]}
    mark = "" if task is None else MARK if task in apart else " "
    interval = "" if row is None else _interval(row, mark)
    if key != "best_control":
        return [interval]
    return [interval, HEADERS[row["against"]] if row is not None and "against" in row else ""]


def _notes(legend: str, metrics: Mapping[str, Any]) -> list[RenderableType]:
    notes = [legend] if legend else []
    if metrics["uninformative"]:
        notes.append(f"{MARK}{MARK} uninformative: the targets of different movies are within 10 points of each other")
    return [Text(note, style="dim") for note in notes]
