"""Claims 6, 8, 9 and 10 on recommendation runs: paired over users, seeds outside, users inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.evaluation.components import components
from ilm_lightning.evaluation.statistics import resample
from ilm_lightning.reporting.decide import LEAST_SEEDS, Part, Reading, Verdict, few_seeds
from ilm_lightning.reporting.groups import Comparison
from ilm_lightning.reporting.phase1 import phase_1_parts
from ilm_lightning.reporting.ranking_runs import ENCODER_DECODER, RankingRow
from ilm_lightning.reporting.ranking_tables import Rankings, base_data
from ilm_lightning.reporting.runs import PREDICTIONS, RANKING, Run

Floats = NDArray[np.float64]
CUT = 10
PAIR = ("HR@10", "NDCG@10")
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


@dataclass(frozen=True)
class Order:
    """One row above another: what claims 8, 9 and 10 say."""

    above: str
    below: str
    task: str = "sequential"
    counted: bool = True


ORDERS: Mapping[int, tuple[Order, ...]] = {
    8: (Order(ILM, RAND), Order(ILM, RAND, "straightforward", counted=False)),
    9: (Order(ILM, DIRECT), Order(ILM, DIRECT, "straightforward", counted=False)),
    10: (Order(ILM, CAUSAL), Order(SEQ2SEQ, ILM)),
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
    if found is None:
        rows = dict.fromkeys(name for order in ORDERS[number] for name in (order.above, order.below))
        missing = tuple(f"{row}: {COMMANDS[row]}" for row in rows)
        return (Part("on OpenP5's data", Verdict.UNDECIDED, (), "these runs are missing", missing),)
    names = sorted({base_data(row.protocol.data) for row in found.rows})
    return tuple(_order_part(order, found.rows, data, resamples) for data in names for order in ORDERS[number])


def phase_1_ranking_parts(found: Rankings | None) -> list[Part]:
    """Claim 6 on OpenP5's data sets, one after the other."""
    parts = []
    by_data: dict[str, list[Run]] = {}
    for run in () if found is None else found.runs:
        if run.metrics[RANKING]:
            by_data.setdefault(base_data(str(run.metrics["protocol"]["data"])), []).append(run)
    for data, runs in sorted(by_data.items()):
        extra = f" data={DATA_SETS.get(data, 'openp5')} tasks=openp5 encoder=behavioral"
        parts += [
            Part(f"{data}: {p.text}", p.verdict, p.readings, p.why, p.missing, p.counted)
            for p in phase_1_parts(runs, extra)
        ]
    return parts


def _order_part(order: Order, rows: Sequence[RankingRow], data: str, resamples: int) -> Part:
    text = f"{data}, {order.task}: {order.above} above {order.below}"
    own = [
        row
        for row in rows
        if base_data(row.protocol.data) == data and any(run.predictions for run in row.runs.values())
    ]
    sides = [_candidates(own, name) for name in (order.above, order.below)]
    missing = tuple(
        f"{name}: {COMMANDS[name].replace('openp5_ml100k', DATA_SETS.get(data, 'openp5'))}"
        for name, found in zip((order.above, order.below), sides, strict=True)
        if not found
    )
    if missing:
        return Part(text, Verdict.UNDECIDED, (), "these runs are missing", missing, order.counted)
    pairs = [(a, b) for a in sides[0] for b in sides[1] if _comparable(a, b)]
    if not pairs:
        why = "no runs of the two rows share protocol, budget and a seed"
        return Part(text, Verdict.UNDECIDED, (), why, (), order.counted)
    above, below = max(pairs, key=lambda pair: len(set(pair[0].seeds) & set(pair[1].seeds)))
    named = f"{text} ({above.label}; {below.label})"
    return _decided(named, above, below, order, resamples)


def _candidates(rows: Sequence[RankingRow], name: str) -> list[RankingRow]:
    return [row for row in rows if row.is_called(name)]


def _comparable(first: RankingRow, second: RankingRow) -> bool:
    """Equal protocol but for the language model, which claim 10 itself compares, and equal budget."""
    fields = [line for line in first.protocol.lines() if line[0] != "language model"]
    others = [line for line in second.protocol.lines() if line[0] != "language model"]
    return fields == others and first.budget == second.budget and bool(set(first.seeds) & set(second.seeds))


def _decided(text: str, above: RankingRow, below: RankingRow, order: Order, resamples: int) -> Part:
    seeds = sorted(set(above.seeds) & set(below.seeds))
    readings = []
    for measure in PAIR:
        found = compare(above, below, order.task, measure, resamples)
        if found is None:
            why = f"no {order.task} prompts with equal users in both"
            return Part(text, Verdict.UNDECIDED, (), why, (), order.counted)
        says = "yes" if found.low > 0 else "no" if found.high < 0 else "open"
        d, student = found.difference, found.student
        numbers = (
            f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}], Student's [{student[0]:+.4f}, {student[1]:+.4f}]; "
            f"{d.n_movies:,} users, seeds {', '.join(map(str, seeds))}"
        )
        readings.append(Reading(measure, says, numbers))
    said = {reading.says for reading in readings}
    if len(seeds) < LEAST_SEEDS:
        return Part(text, Verdict.UNDECIDED, tuple(readings), few_seeds(len(seeds)), (), order.counted)
    if said == {"yes"}:
        return Part(text, Verdict.CONFIRMED, tuple(readings), "", (), order.counted)
    if said == {"no"}:
        return Part(text, Verdict.REFUTED, tuple(readings), "", (), order.counted)
    return Part(text, Verdict.UNDECIDED, tuple(readings), "neither above nor below by both measures", (), order.counted)


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
    """
    differences = []
    for seed in sorted(set(first.runs) & set(second.runs)):
        values = [_gains(row.runs[seed], task, prompts, measure) for row in (first, second)]
        if not values[0] or set(values[0]) != set(values[1]):
            return None
        differences.append([values[0][user] - values[1][user] for user in sorted(values[0])])
    if not differences:
        return None
    sums: Floats = np.array(differences)[:, :, None]
    counts = np.ones(sums.shape[1:])
    found = resample(sums, counts, [task], resamples)
    inner = resample(sums, counts, [task], resamples, level=0.90)
    return Comparison(tuple(sorted(first.runs)), found, (inner.low, inner.high), components(sums, counts))


def _gains(run: Run, task: str, prompts: str, measure: str) -> dict[str, float]:
    """What each user adds to a measure."""
    path = run.predictions or run.path / PREDICTIONS
    frame = pl.read_parquet(path, columns=["task", "prompts", "user", "rank"])
    part = frame.filter((pl.col("task") == task) & (pl.col("prompts") == prompts))
    ranks = part["rank"].to_numpy()
    hit = (ranks > 0) & (ranks <= CUT)
    gains = hit.astype(np.float64) if measure.startswith("HR") else hit / np.log2(np.maximum(ranks, 1) + 1.0)
    return dict(zip(part["user"].to_list(), gains.tolist(), strict=True))
