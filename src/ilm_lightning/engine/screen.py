"""What a run says on screen besides progress: tables readable on a plain terminal."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl

    from ilm_lightning.data.tables import ItemCatalog


def console() -> Console:
    """Console on standard error, 110 columns where the width is unknown; of several processes the first speaks."""
    quiet = os.environ.get("RANK", "0") != "0"
    return Console(stderr=True, width=None if sys.stderr.isatty() else 110, highlight=False, quiet=quiet)


def python_here() -> str:
    """How a shell in this folder calls this Python, whose environment may not be activated."""
    own = Path(sys.executable)
    found = shutil.which("python")
    if found is not None and Path(found).absolute() == own:
        return "python"
    return quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))


def show_parameters(rows: Sequence[Any]) -> None:
    """Print trained and frozen parameters by component and where the weights came from.

    Args:
        rows: ``ilm_lightning.lm.ParameterRow``s.
    """
    table = Table(title="Parameters", title_justify="left")
    table.add_column("part")
    table.add_column("trained", justify="right")
    table.add_column("frozen", justify="right")
    table.add_column("weights from", overflow="fold")
    for row in rows:
        table.add_row(row.component, f"{row.trainable:,}", f"{row.frozen:,}", row.origin)
    console().print(table, markup=False)


def show_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print named values, one a line.

    Args:
        title: what they are of.
        rows: name and value.
    """
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right", overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console().print(table, markup=False)


def show_ranking(metrics: Mapping[str, Any], folder: Path) -> None:
    """Print HR and NDCG of the model and of the baselines, with the protocol beside.

    Args:
        metrics: of a recommendation run.
        folder: the run folder, named at the end.
    """
    table = Table(title="Recommendation, standard errors over users in brackets", title_justify="left")
    table.add_column("recommender")
    table.add_column("prompts")
    rows = [
        (f"{metrics['protocol']['name']}, {task}", name, row)
        for name, tasks in metrics["ranking"].items()
        for task, row in tasks.items()
    ]
    rows += [(name, "", row) for name, row in metrics["baselines"].items()]
    rows += [
        (f"{who}: {row['untied']['users']:,} users without a tie", name, row["untied"])
        for who, name, row in rows
        if "untied" in row
    ]
    cuts = list(rows[0][2]["hr"])
    for cut in cuts:
        table.add_column(f"HR@{cut}", justify="right")
        table.add_column(f"NDCG@{cut}", justify="right")
    for who, name, row in rows:
        cells = [f"{row[m][cut]:.4f} ({row[f'{m}_error'][cut]:.4f})" for cut in cuts for m in ("hr", "ndcg")]
        table.add_row(who, name, *cells)
    screen = console()
    screen.print(table, markup=False)
    protocol = metrics["protocol"]
    screen.print("; ".join(f"{name}: {value}" for name, value in protocol.items() if name != "name"), markup=False)
    shares = [row for tasks in metrics["ranking"].values() for row in tasks.values()]
    if shares:
        invalid, twice = (max(row[key] for row in shares) for key in ("invalid", "duplicates"))
        screen.print(f"outputs that name no item: at most {invalid:.1%}; repeated items: at most {twice:.1%}")
    screen.print(f"results: {folder}", markup=False)


def show_results(
    metrics: Mapping[str, Any], predictions: "pl.DataFrame", words: Sequence[Any], catalog: "ItemCatalog", folder: Path
) -> None:
    """Print scores, intervals, sample texts and the soft tokens' nearest words.

    Args:
        metrics: of the run.
        predictions: rows per example and condition.
        words: per movie its row and its soft tokens' nearest words.
        catalog: the items.
        folder: the run folder, named at the end.
    """
    from ilm_lightning.data.splits import RULES
    from ilm_lightning.reporting.answers import answer_tables
    from ilm_lightning.reporting.console import show

    named = {catalog[entry["movie"]].label: entry["words"] for entry in words}
    screen = console()
    for table in answer_tables(metrics.get("figure1", {})):
        screen.print(table)
    show(screen, metrics, predictions, named)
    protocol = metrics["protocol"]
    screen.print(
        f"teacher: {protocol['teacher']}; scorer: {metrics['scorer']}; {protocol['decoding']}; "
        f"{metrics['n_movies']} {protocol['split']} movies; {protocol['language_model']}"
    )
    if (rule := protocol["split_rule"]) != "strict":
        screen.print(f"marked row: data.split={rule}, {RULES[rule]}")
    screen.print(f"results: {folder}", markup=False)
    # one line, however narrow the screen is: it is there to be copied
    screen.print(
        f"ask it: {python_here()} -m ilm_lightning.chat run={quote(str(folder))}", markup=False, soft_wrap=True
    )
