"""Claims 6, 8, 9 and 10 on recommendation runs: paired over users, seeds outside, users inside."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.evaluation.components import components
from ilm_lightning.evaluation.statistics import resample
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.decide import Part, Reading, Verdict, few_seeds
from ilm_lightning.reporting.machines import several
from ilm_lightning.reporting.overrides import shared_overrides
from ilm_lightning.reporting.pairing import LEAST_SEEDS
from ilm_lightning.reporting.phase1 import phase_1_parts
from ilm_lightning.reporting.ranking_runs import ENCODER_DECODER, ITEM_HEAD, RankingRow
from ilm_lightning.reporting.ranking_tables import Rankings, base_data
from ilm_lightning.reporting.runs import RANKING, Run, RunError
from ilm_lightning.reporting.sizes import sizes

Floats = NDArray[np.float64]
CUT = 10
PAIR = ("HR@10", "NDCG@10")
SMALLEST = 0.00005
"""Differences that round to .0000."""
RANKS = {"task": pl.String, "prompts": pl.String, "user": pl.String, "rank": pl.Int64}
DATA_SETS = {"ML1M": "openp5_ml1m", "Beauty": "openp5_beauty", "ML100K": "openp5_ml100k", "Clothing": "openp5_clothing"}
_ON = "python -m ilm_lightning.train data=openp5_ml100k experiment"
ILM, RAND, DIRECT, CAUSAL, SEQ2SEQ = "ILM-IT-II", "ILM-rand", "ILM-MLP, 1 token", "OpenP5", ENCODER_DECODER
COMMANDS = {
    ILM: f"{_ON}=openp5_ilm",
    RAND: f"{_ON}=openp5_ilm_rand",
    DIRECT: f"{_ON}=openp5_mlp_1token",
    CAUSAL: f"{_ON}=openp5_text",
    SEQ2SEQ: f"{_ON}=openp5_encoder_decoder lm.name=FOLDER_OF_A_T5",
}
PHASE_1 = {
    "ILM-IT": ("ILM-IT", "openp5_ilm_it"),
    "ILM-QFormer": (ILM, "openp5_ilm"),
    "ILM-IT-UI": ("ILM-IT-UI", "openp5_ilm_it_ui"),
}
"""Rows of claim 6 among the language tasks -> Table 8's name and the experiment."""


@dataclass(frozen=True)
class Order:
    """One row above another: claims 8, 9 and 10; those of claim 10 are each tuned in a way of their own."""

    above: str
    below: str
    task: str = "sequential"
    counted: bool = True
    same_tuning: bool = True


ORDERS: Mapping[int, tuple[Order, ...]] = {
    8: (Order(ILM, RAND), Order(ILM, RAND, "straightforward", counted=False)),
    9: (Order(ILM, DIRECT), Order(ILM, DIRECT, "straightforward", counted=False)),
    10: (Order(ILM, CAUSAL, same_tuning=False), Order(SEQ2SEQ, ILM, same_tuning=False)),
}


def ranking_parts(number: int, found: Rankings | None, resamples: int = 5000) -> tuple[Part, ...]:
    """Test a claim on every data set that has runs.

    Args:
        number: 8, 9 or 10.
        found: recommendation runs; None where there are none.
        resamples: of the bootstrap.

    Returns:
        A part for each data set and order; without runs one that names what is missing.
    """
    if found is None or not found.rows:
        rows = dict.fromkeys(name for order in ORDERS[number] for name in (order.above, order.below))
        missing = tuple(f"{row}: {COMMANDS[row]}" for row in rows)
        return (Part("on OpenP5's data", Verdict.UNDECIDED, (), "these runs are missing", missing),)
    tested = [row for row in found.rows if not row.without_ties]
    names = sorted({base_data(row.protocol.data) for row in tested})
    return tuple(_order_part(order, tested, data, resamples) for data in names for order in ORDERS[number])


def phase_1_ranking_parts(found: Rankings | None) -> list[Part]:
    """Claim 6 on OpenP5's data sets, one after the other."""
    parts = []
    by_data: dict[str, list[Run]] = {}
    for run in () if found is None else found.runs:
        if run.metrics[RANKING]:
            by_data.setdefault(base_data(str(run.metrics["protocol"].get("data", "unknown"))), []).append(run)
    for data, runs in sorted(by_data.items()):
        on = f" data={DATA_SETS.get(data, 'openp5')}"
        called = {row: (name, f"experiment={experiment}{on}") for row, (name, experiment) in PHASE_1.items()}
        parts += [
            replace(part, text=f"{data}: {part.text}") for part in phase_1_parts(runs, called, shared_overrides(runs))
        ]
    return parts


def _order_part(order: Order, rows: Sequence[RankingRow], data: str, resamples: int) -> Part:
    text = f"{data}, {order.task}: {order.above} above {order.below}"
    of_data = [row for row in rows if base_data(row.protocol.data) == data]
    sides = [_candidates(of_data, name) for name in (order.above, order.below)]
    damaged = "; ".join(dict.fromkeys(why for found in sides for _, reasons in found for why in reasons))
    usable = [[row for row, _ in found if row.runs] for found in sides]
    missing = tuple(
        _missing(name, data, [run for row in other for run in row.runs.values()])
        for name, found, other in zip((order.above, order.below), usable, reversed(usable), strict=True)
        if not found
    )
    if missing:
        why = f"these runs are missing{f' ({damaged})' if damaged else ''}"
        return Part(text, Verdict.UNDECIDED, (), why, missing, order.counted)
    pairs = [(a, b) for a in usable[0] for b in usable[1] if _comparable(a, b, order)]
    if not pairs:
        tuning = "vectors, way of tuning, " if order.same_tuning else ""
        why = f"no runs of the two rows share protocol, windows of training, {tuning}budget and a seed"
        return Part(text, Verdict.UNDECIDED, (), why, (), order.counted)
    # most common seeds, then the settings that most runs have
    above, below = max(pairs, key=lambda pair: (len(_common(*pair)), -sum(bool(row.apart) for row in pair)))
    named = f"{above.label}; {below.label}; {above.protocol.decoding}"
    if machines := several(
        [(row.label, {seed: row.runs[seed] for seed in _common(above, below)}) for row in (above, below)]
    ):
        named += f"; on several processors: {machines}"
    part = _decided(f"{text} ({named})", above, below, order, resamples)
    return replace(part, why="; ".join(filter(None, (part.why, damaged)))) if damaged else part


def _missing(name: str, data: str, others: Sequence[Run]) -> str:
    """A row that is not there, with the command that trains it like those it is to be compared with."""
    words = shlex.split(COMMANDS[name].replace("openp5_ml100k", DATA_SETS.get(data, "openp5")))
    # an encoder reads every history apart
    left_out = {word.partition("=")[0] for word in words} | ({"tuning.history"} if name == SEQ2SEQ else set())
    words += [word for word in _shared(others) if word.partition("=")[0] not in left_out]
    note = ", beside rows of tuning.history=expanded or shared" if name == SEQ2SEQ else ""
    return f"{name}{note}: {shlex.join(words)}"


def _shared(runs: Sequence[Run]) -> list[str]:
    """Overrides that the commands of all runs have."""
    return shlex.split(shared_overrides(runs)) if runs else []


def _candidates(rows: Sequence[RankingRow], name: str) -> list[tuple[RankingRow, list[str]]]:
    """Rows of a name with the runs whose ranks can be read, and why others cannot.

    No candidates are the item head, which is ours and not the paper's, and rankings of validation items.
    """
    found = []
    for row in rows:
        if not row.is_called(name) or row.name.endswith(ITEM_HEAD) or row.protocol.split == "validation":
            continue
        kept, reasons = {}, []
        for seed, run in row.runs.items():
            try:
                if run.predictions is not None:
                    read_ranks(run.predictions)
                    kept[seed] = run
            except RunError as error:
                reasons.append(f"{run.name}: {error}")
        found.append((replace(row, runs=kept), reasons))
    return found


def _common(first: RankingRow, second: RankingRow) -> list[int]:
    return sorted(set(first.runs) & set(second.runs))


def _comparable(first: RankingRow, second: RankingRow, order: Order) -> bool:
    """Equal protocol but for the language model, which claim 10 itself compares, equal budget and training set."""
    fields = [line for line in first.protocol.lines() if line[0] != "language model"]
    others = [line for line in second.protocol.lines() if line[0] != "language model"]
    alike = first.budget == second.budget and first.windows == second.windows
    if order.same_tuning:
        alike &= first.trained == second.trained
    return fields == others and alike and bool(_common(first, second))


def _decided(text: str, above: RankingRow, below: RankingRow, order: Order, resamples: int) -> Part:
    found = {measure: compare(above, below, order.task, measure, resamples) for measure in PAIR}
    known = {measure: one for measure, one in found.items() if one is not None}
    if len(known) < len(PAIR):
        why = f"no {order.task} prompts with equal users in both"
        return Part(text, Verdict.UNDECIDED, (), why, (), order.counted)
    readings = tuple(_reading(measure, one) for measure, one in known.items())
    said = {reading.says for reading in readings}
    seeds = len(_common(above, below))
    if seeds >= LEAST_SEEDS and said in ({"yes"}, {"no"}):
        verdict = Verdict.CONFIRMED if said == {"yes"} else Verdict.REFUTED
        return Part(text, verdict, readings, "", (), order.counted, seeds)
    why = few_seeds(seeds) if seeds < LEAST_SEEDS else "neither above nor below by both measures"
    open_ = [reading.scorer for reading in readings if reading.says == "open" and seeds > 1]
    takes = (f"{measure}: {_takes(known[measure])}" for measure in open_)
    return Part(text, Verdict.UNDECIDED, readings, "; ".join([why, *takes]), (), order.counted)


def _reading(measure: str, found: Comparison) -> Reading:
    says = "yes" if found.low > 0 else "no" if found.high < 0 else "open"
    d, student = found.difference, found.student
    numbers = (
        f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}], Student's [{student[0]:+.4f}, {student[1]:+.4f}]; "
        f"{d.n_movies:,} users, seeds {', '.join(map(str, found.seeds))}"
    )
    return Reading(measure, says, numbers)


def _takes(found: Comparison) -> str:
    """How many users or seeds would decide."""
    mean = found.difference.mean
    if abs(mean) < SMALLEST:
        return f"a difference of {mean:+.4f} is too small to be told from 0"
    return f"to tell the measured {mean:+.4f} from 0: {sizes(found.parts, mean, None, 'users')}"


def compare(
    first: RankingRow, second: RankingRow, task: str, measure: str, resamples: int = 5000, prompts: str = "seen"
) -> Comparison | None:
    """Test the difference of two rows, paired over users.

    Args:
        first: of the same users as the other.
        second: whose values are subtracted.
        task: ``sequential`` or ``straightforward``.
        measure: ``HR@10`` or ``NDCG@10``.
        resamples: of the bootstrap.
        prompts: ``seen`` or ``unseen``.

    Returns:
        The difference over common seeds; None where a run lacks the task or the users differ.

    Raises:
        RunError: the predictions of a run are damaged.
    """
    seeds = _common(first, second)
    gains = [[_gains(row.runs[seed], task, prompts, measure) for row in (first, second)] for seed in seeds]
    users = sorted(gains[0][0]) if gains else []
    if not users or any(set(one) != set(users) for pair in gains for one in pair):
        return None
    sums: Floats = np.array([[a[user] - b[user] for user in users] for a, b in gains])[:, :, None]
    counts = np.ones(sums.shape[1:])
    found = resample(sums, counts, [task], resamples)
    inner = resample(sums, counts, [task], resamples, level=0.90)
    return Comparison(tuple(seeds), found, (inner.low, inner.high), components(sums, counts))


def _gains(run: Run, task: str, prompts: str, measure: str) -> dict[str, float]:
    """What each user adds to a measure; nothing where the run has no predictions."""
    if run.predictions is None:
        return {}
    frame = read_ranks(run.predictions)
    part = frame.filter((pl.col("task") == task) & (pl.col("prompts") == prompts))
    ranks = part["rank"].to_numpy()
    hit = (ranks > 0) & (ranks <= CUT)
    gains = hit.astype(np.float64) if measure.startswith("HR") else hit / np.log2(np.maximum(ranks, 1) + 1.0)
    return dict(zip(part["user"].to_list(), gains.tolist(), strict=True))


def read_ranks(path: Path) -> pl.DataFrame:
    """Read the place of each user's item in the recommended list.

    Args:
        path: ``predictions.parquet`` of a recommendation run.

    Returns:
        Columns task, prompts, user and rank (from 1; 0 where the list does not hold the item).

    Raises:
        RunError: the file is damaged, or holds something else.
    """
    try:
        return _ranks(path, path.stat().st_mtime_ns)
    except UNREADABLE as error:
        raise RunError(f"{path.name} is damaged ({first_line(error)}); the training command writes it anew") from error


@lru_cache(maxsize=64)
def _ranks(path: Path, changed: int) -> pl.DataFrame:
    del changed  # a file that was written anew is read anew
    check_parquet(path)
    frame = pl.read_parquet(path, columns=list(RANKS))
    if frame["rank"].null_count():
        raise pl.exceptions.ComputeError("users without a rank")
    return frame.cast(RANKS)  # type: ignore[arg-type]
