"""Tables 4 to 8 as texts, before they are written as Markdown, LaTeX or HTML."""

from collections.abc import Sequence

from ilm_lightning.reporting.paper import table as paper_table
from ilm_lightning.reporting.ranking_paper import DATA
from ilm_lightning.reporting.ranking_runs import MEASURES
from ilm_lightning.reporting.ranking_tables import CountLine, LossLine, RankingLine, RankingTable

CELLS = "mean over seeds ± their sd, in brackets the standard error over users."
HEAD = ("recommender", "prompts", *MEASURES, "parameters", "steps × batch", "seeds", "protocol")
COUNTS_TITLE = "Table 5: counts"
LOSSES_TITLE = "Table 8: item-grounded text generation loss"
COUNTS_HEAD = ("data", "count", "ours", "the paper", "")
LOSSES_HEAD = ("phase 1", "training", "held out", "held out, best", "the paper", "steps × batch", "seeds")
LOSSES_NOTE = "Unsmoothed loss per token, at the end of phase 1; the paper's text and tokenizer are not known."


def legend(italic: str, best: str, next_best: str) -> str:
    """What the tables' cells and marks mean; each argument is such a mark."""
    return (
        f"Cells: {CELLS} Printed rows first ({italic}: the paper's and OpenP5's numbers, under their own protocols), "
        f"then ours by HR@10. {best} and {next_best} of ours, computed, among lines of one protocol and one set of "
        "prompts. ≈: a lead below two standard errors of a difference between independent users may be noise; claims "
        "are tested on paired users."
    )


def count_cells(counts: Sequence[CountLine]) -> list[list[str]]:
    """Table 5's cells, below ``COUNTS_HEAD``."""
    return [
        [c.data, c.name.replace("_", " "), f"{c.ours:,}", "" if c.paper is None else f"{c.paper:,}", c.agrees]
        for c in counts
    ]


def loss_cells(losses: Sequence[LossLine]) -> list[list[str]]:
    """Table 8's cells, below ``LOSSES_HEAD``."""
    return [
        [
            f"{one.data}, {one.name}",
            "" if one.train is None else f"{one.train:.4f}",
            f"{one.held_out:.4f}" + ("" if one.sd is None else f" ± {one.sd:.4f}"),
            f"{one.best:.4f}",
            "" if one.paper is None else f"{one.paper[0]:.4f} / {one.paper[1]:.4f}",
            one.budget,
            str(one.seeds),
        ]
        for one in losses
    ]


def title_of(table: RankingTable) -> str:
    """A table's number, data set and title."""
    return f"Table {table.number}, {table.data}: {table.title}"


def notes_of(table: RankingTable) -> tuple[str, ...]:
    """What to know beside a table: what Markov beats, protocols unlike the printed rows', the paper's gaps."""
    below = f"Not above Markov's HR@10 on the same users: {'; '.join(table.below_markov)}."
    own = (below,) if table.below_markov else ()
    return (*own, *table.mismatches, *(paper_table(table.number).notes if table.data in DATA else ()))


def name_of_line(line: RankingLine) -> str:
    """Who, and how many of its outputs were no item."""
    invalid = line.row.invalid
    return line.row.label + (f" ({invalid:.1%} of outputs name no item)" if invalid else "")


def facts_of_line(line: RankingLine) -> tuple[str, str, str, str]:
    """Parameters, budget, seeds and protocol; empty where they are not known."""
    row = line.row
    return (
        "" if row.parameters is None else f"{row.parameters:,}",
        "" if row.budget is None else f"{row.budget[0]:,} × {row.budget[1]}",
        "" if row.printed else str(len(row.seeds)),
        line.letter,
    )


def numbers(cell: tuple[float, float | None, float | None] | None) -> tuple[str, str, str]:
    """Mean, sd over seeds and standard error over users as they are printed; empty where they are not known.

    >>> numbers((0.0659, None, 0.0017)), numbers(None)
    (('.0659', '', '.0017'), ('', '', ''))
    """
    mean, sd, error = ("" if value is None else f"{value:.4f}".removeprefix("0") for value in cell or (None,) * 3)
    return mean, sd, error
