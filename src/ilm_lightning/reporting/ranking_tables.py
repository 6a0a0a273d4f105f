"""Tables 4 to 8 from runs: ours beside the paper's and OpenP5's, protocol by protocol."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ilm_lightning.reporting.histories import curve
from ilm_lightning.reporting.paper import table
from ilm_lightning.reporting.phase1 import LOSSES, phase_1_settings
from ilm_lightning.reporting.protocol import letters
from ilm_lightning.reporting.ranking_paper import OURS, TASK_TABLES, printed_rows
from ilm_lightning.reporting.ranking_runs import (
    MEASURES,
    PROMPTS,
    TASKS,
    WITHOUT_PROMPTS,
    RankingProtocol,
    RankingRow,
    name_of,
    rows_of,
)
from ilm_lightning.reporting.runs import Problem, Run
from ilm_lightning.reporting.variants import differing

COUNTS = {
    "item_text_pairs": "texts",
    "item_item_pairs": "item_item_pairs",
    "user_item_pairs": "user_item_pairs",
    "train_examples": "phase2_train",
    "test_examples": "phase2_test",
    "users": "users",
    "items": "items",
}
"""The paper's name in Table 5 -> ours."""
DRAWN = ("item_text_pairs", "item_item_pairs", "user_item_pairs")
"""Table 5 counts these after a draw of 90 %, ours before it."""
TITLES = {
    "sequential": "sequential recommendation",
    "straightforward": "straightforward recommendation",
    "both": "phase-1 losses, mean over both tasks (our reading: the paper does not say)",
}
_Losses = tuple[float | None, float, float]
PHASE_1_ROWS = ("ILM-IT", "ILM-IT-II", "ILM-IT-UI")


@dataclass(frozen=True)
class RankingLine:
    """One line of a table.

    Attributes:
        row: who.
        prompts: seen, unseen or none.
        cells: measure -> (mean over seeds, sd over seeds or None, standard error over users or None).
        letter: of the protocol.
    """

    row: RankingRow
    prompts: str
    cells: Mapping[str, tuple[float, float | None, float | None]]
    letter: str


@dataclass(frozen=True)
class Mark:
    """What is said of a number: 1 best or 2 next-best, and of a best one whether its lead may be noise."""

    rank: int
    noise: bool = False


@dataclass(frozen=True)
class RankingTable:
    """One of Tables 4, 6 and 7 for one data set.

    Attributes:
        number: the paper's.
        data: the data set.
        title: what it shows.
        lines: the paper's first, then ours by HR@10.
        protocols: letter -> protocol.
        mismatches: how our protocols differ from the paper's rows.
        below_markov: our rows with a language model that Markov's counts beat on the same users, prompts and protocol.
    """

    number: str
    data: str
    title: str
    lines: tuple[RankingLine, ...]
    protocols: Mapping[str, RankingProtocol]
    mismatches: tuple[str, ...]
    below_markov: tuple[str, ...]


@dataclass(frozen=True)
class CountLine:
    """One count of Table 5: ours, the paper's (None where not printed), and whether they agree."""

    data: str
    name: str
    ours: int
    paper: int | None
    agrees: str


@dataclass(frozen=True)
class LossLine:
    """One row of Table 8: last training and evaluation ITG loss, means over seeds, and the paper's."""

    data: str
    name: str
    train: float | None
    held_out: float
    best: float
    sd: float | None
    seeds: int
    budget: str
    paper: tuple[float, float] | None


@dataclass(frozen=True)
class Rankings:
    """All that recommendation runs give.

    Attributes:
        rows: recommenders, ours.
        tables: Tables 6, 7 and 4, data set by data set.
        counts: Table 5.
        losses: Table 8.
        runs: the runs.
        problems: runs that do not count.
    """

    rows: tuple[RankingRow, ...]
    tables: tuple[RankingTable, ...]
    counts: tuple[CountLine, ...]
    losses: tuple[LossLine, ...]
    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]


def base_data(name: str) -> str:
    """The data set's name without what is said about its file.

    >>> base_data("ML1M (ties broken differently)")
    'ML1M'
    """
    return name.partition(" (")[0]


def rankings(runs: Sequence[Run]) -> Rankings | None:
    """Lay out recommendation runs; None where there are none."""
    if not runs:
        return None
    # claim 6's control is a row of Table 8 alone
    rows = rows_of([run for run in runs if not run.is_control])
    names = sorted({base_data(row.protocol.data) for row in rows})
    named = {data: _letters(rows, data) for data in names}
    made = [ranking_table(rows, task, data, named[data]) for data in names for task in (*TASKS, "both")]
    tables = tuple(found for found in made if found is not None)
    problems = dict.fromkeys(problem for row in rows for problem in row.left_out)
    return Rankings(tuple(rows), tables, tuple(_counts(runs)), tuple(_losses(runs)), tuple(runs), tuple(problems))


def _letters(rows: Sequence[RankingRow], data: str) -> dict[RankingProtocol, str]:
    printed = [row for task in TASK_TABLES for row in printed_rows(task, data)]
    return letters(row.protocol for row in (*printed, *rows) if base_data(row.protocol.data) == data)


def ranking_table(
    rows: Sequence[RankingRow], task: str, data: str, named: Mapping[RankingProtocol, str]
) -> RankingTable | None:
    """Lay out one table; None where no row of ours belongs in it.

    Args:
        rows: ours.
        task: ``sequential``, ``straightforward`` or ``both``.
        data: the data set's name.
        named: letters of the protocols.
    """
    own = [row for row in rows if base_data(row.protocol.data) == data]
    if task == "both":
        own = [row for row in own if row.name.startswith(PHASE_1_ROWS)]
    lines = _lines(own, task)
    if not lines:
        return None
    printed = printed_rows(task, data)
    order = sorted(lines, key=lambda line: -line.cells["HR@10"][0] if "HR@10" in line.cells else 0.0)
    both = [_with_letter(line, named) for line in (*_lines(printed, task), *order)]
    return RankingTable(
        TASK_TABLES[task],
        data,
        TITLES[task],
        tuple(both),
        {named[line.row.protocol]: line.row.protocol for line in both},
        tuple(_mismatches(printed, [line.row for line in order], named)),
        tuple(f"{line.row.label}, {line.prompts}, {line.letter}" for line in both if _is_below_markov(line)),
    )


def _is_below_markov(line: RankingLine) -> bool:
    """Whether a row of ours has no higher HR@10 than Markov's counts of the same users, mean over seeds."""
    if line.prompts == WITHOUT_PROMPTS or line.row.printed or "HR@10" not in line.cells:
        return False
    counts = [(run.metrics["baselines"].get("Markov") or {}).get("hr", {}) for run in line.row.runs.values()]
    if not all("10" in hr for hr in counts):
        return False
    return line.cells["HR@10"][0] <= float(np.mean([float(hr["10"]) for hr in counts]))


def marks(table: RankingTable) -> list[dict[str, Mark]]:
    """Best and next-best of ours, among lines of one protocol and one set of prompts.

    Args:
        table: its printed lines stay without marks, for their protocols are others.

    Returns:
        Per line: measure -> mark.
    """
    compared: dict[tuple[str, str], list[int]] = {}
    for place, line in enumerate(table.lines):
        if not line.row.printed:
            compared.setdefault((line.letter, line.prompts), []).append(place)
    found: list[dict[str, Mark]] = [{} for _ in table.lines]
    for places, measure in product(compared.values(), MEASURES):
        known = [(table.lines[place].cells[measure], place) for place in places if measure in table.lines[place].cells]
        if len(known) < 2:
            continue
        known.sort(key=lambda entry: -entry[0][0])
        ((best, _, error), first), ((second, _, other), next_best) = known[:2]
        # with an error unknown, a lead is not called one
        noise = error is None or other is None or best - second < 2 * math.hypot(error, other)
        found[first][measure], found[next_best][measure] = Mark(1, noise), Mark(2)
    return found


def _lines(rows: Sequence[RankingRow], task: str) -> list[RankingLine]:
    lines = []
    for row in rows:
        for prompts in (*PROMPTS, WITHOUT_PROMPTS):
            direct = row.printed or task != "both"
            cells = {}
            for measure in MEASURES:
                values = (
                    [one[measure] for one in row.measured.get((task, prompts), {}).values() if measure in one]
                    if direct
                    else row.values("both", prompts, measure)
                )
                if values:
                    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
                    cells[measure] = (float(np.mean(values)), sd, row.errors.get((task, prompts), {}).get(measure))
            if cells:
                lines.append(RankingLine(row, prompts, cells, ""))
    return lines


def _with_letter(line: RankingLine, named: Mapping[RankingProtocol, str]) -> RankingLine:
    return RankingLine(line.row, line.prompts, line.cells, named[line.row.protocol])


def _mismatches(
    printed: Sequence[RankingRow], own: Sequence[RankingRow], named: Mapping[RankingProtocol, str]
) -> list[str]:
    """For each printed row with a counterpart of ours, the fields in which the two cannot be compared."""
    found = []
    for theirs in printed:
        wanted = OURS.get(theirs.name)
        for ours in () if wanted is None else own:
            if wanted is not None and ours.is_called(wanted):
                pair = f"{ours.label} ({named[ours.protocol]}) beside {theirs.name} ({named[theirs.protocol]})"
                found.append(f"{pair}: {'; '.join(ours.protocol.differences(theirs.protocol))}")
    return list(dict.fromkeys(found))


def _counts(runs: Sequence[Run]) -> list[CountLine]:
    lines = []
    by_data = {
        base_data(str(run.metrics["protocol"].get("data", "unknown"))): run.metrics["counts"]
        for run in runs
        if "counts" in run.metrics
    }
    for data, counts in sorted(by_data.items()):
        printed = table("5").rows.get(data, {})
        for name, ours in COUNTS.items():
            if ours in counts:
                paper = int(printed[name]) if name in printed else None
                lines.append(
                    CountLine(data, name, int(counts[ours]), paper, _agreement(name, int(counts[ours]), paper))
                )
    return lines


def _agreement(name: str, ours: int, paper: int | None) -> str:
    if paper is None:
        return "not printed"
    if name in DRAWN:
        return f"the paper counts a draw of 90 %: {paper / ours:.4f} of ours"
    return "equal" if ours == paper else "differs"


def _losses(runs: Sequence[Run]) -> list[LossLine]:
    """Table 8: rows by data set, losses and other settings of phase 1; phase 2 does not matter to it."""
    found: dict[tuple[str, str, bool, str], dict[tuple[tuple[str, str], ...], dict[int, _Losses]]] = {}
    for run in runs:
        phase_1 = run.metrics.get("recipe", {}).get("pretraining")
        held_out = curve(run, "pretrain", *LOSSES)
        if phase_1 is None or held_out is None:
            continue
        train = curve(run, "pretrain", "train/itg_nll", "train/itg")
        name = name_of(run).partition(" (")[0]
        data = base_data(str(run.metrics["protocol"].get("data", "unknown")))
        budget = f"{phase_1['steps']} × {phase_1['batch_size']}"
        value = (None if train is None else train.last, held_out.last, held_out.best)
        by_settings = found.setdefault((data, name, run.is_control, budget), {})
        weights = [(key, run.setting(f"pretraining.{key}")) for key in ("loss_weights", "proportions")]
        settings = (*phase_1_settings(run), *((key, str(dict(told))) for key, told in weights if told))
        by_settings.setdefault(settings, {}).setdefault(run.seed, value)
    lines = []
    for (data, name, control, budget), by_settings in sorted(found.items()):
        apart = differing(dict(enumerate(by_settings)))
        for place, by_seed in enumerate(by_settings.values()):
            told = ", ".join(filter(None, ("shuffled pairs" if control else "", apart[place])))
            lines.append(_loss_line(data, name, told, budget, list(by_seed.values())))
    return lines


def _loss_line(data: str, name: str, apart: str, budget: str, values: Sequence[_Losses]) -> LossLine:
    last, train = [value[1] for value in values], [value[0] for value in values if value[0] is not None]
    printed = table("8").rows.get(name, {}) if not apart.startswith("shuffled") else {}
    return LossLine(
        data=data,
        name=f"{name} ({apart})" if apart else name,
        train=float(np.mean(train)) if train else None,
        held_out=float(np.mean(last)),
        best=float(np.mean([value[2] for value in values])),
        sd=float(np.std(last, ddof=1)) if len(last) > 1 else None,
        seeds=len(values),
        budget=budget,
        paper=(printed[f"{data} train"], printed[f"{data} eval"]) if f"{data} eval" in printed else None,
    )
