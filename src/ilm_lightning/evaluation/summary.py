"""From a table of predictions to the numbers of a run: every condition, own against its controls, what chance gives."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.evaluation.claims import claims, too_few
from ilm_lightning.evaluation.retrieval import target_retrieval
from ilm_lightning.evaluation.scores import Scorer
from ilm_lightning.evaluation.slots import Facts, Mentions, slot_accuracy
from ilm_lightning.evaluation.spread import teacher_spread
from ilm_lightning.evaluation.statistics import Difference, paired_bootstrap

CONDITIONS = ("own", "shuffled", "hard_shuffled", "blind", "constant", "knn_copy", "title", "facts")
# what the own vector has to beat, task by task the best of them; kNN copy, title and facts are printed beside
BEST = {
    "best_control": ("shuffled", "blind", "constant"),
    "best_control_with_hard": ("shuffled", "hard_shuffled", "blind", "constant"),
}
REQUIRED = ("example_id", "task", "movie", "condition", "target", "generated")
# averaged per condition and task where the table holds them
MEASURES = (
    "sc", "sc_second", "sc_input", "rouge_l", "slot_accuracy", "slot_seen", "slot_unseen", "loss", "bits", "cut_off",
)  # fmt: skip
# of these, compared example by example
COMPARED = ("sc", "sc_second", "sc_input", "rouge_l", "slot_accuracy", "bits")
SIGNIFICANCE = 0.05


def summarise(
    frame: pl.DataFrame,
    scorer: Scorer | None = None,
    *,
    second: Scorer | None = None,
    mentions: Mentions | None = None,
    truth: Mapping[str, Facts] | None = None,
    seen: Collection[str] = (),
    resamples: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise a run's predictions; any subset of the conditions and measures will do.

    Args:
        frame: one row per example and condition (shuffled: one per derangement, averaged here) with the columns
            ``example_id, task, movie, condition, target, generated`` and any of the scores of
            ``ilm_lightning.evaluation.scores``, ``loss`` (mean nats per target token), ``bits`` (per whole target),
            ``cut_off`` (bool). ``generated`` may be null where only losses were taken.
        scorer: gives retrieval and the teacher's spread; without it they are left out.
        second: the scorer of ``sc_second``; gives a second retrieval.
        mentions: finds the facts that a text names; without it slots are left out.
        truth: per example id what is true of its movie; None takes what the target names.
        seen: kinds of facts that the item's vector was made from.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A JSON-able dictionary, its keys as in ``docs/measures.md``: ``all`` and ``tasks`` (means per measure and
        condition), ``differences`` (own minus each control and minus the best of them), ``claims``,
        ``item_specific_sc``, ``spread``, ``retrieval``, ``slots``, and counts.

    Raises:
        ValueError: a missing column or condition name, or no prediction with the own vector.
    """
    _check(frame)
    measures = [name for name in MEASURES if name in frame.columns]
    means = frame.group_by("condition", "task", "movie", "example_id", maintain_order=True).agg(
        pl.col(name).cast(pl.Float64).fill_nan(None).mean() for name in measures
    )
    own = frame.filter(pl.col("condition") == "own")
    tasks = sorted(own["task"].unique().to_list())
    result: dict[str, Any] = {
        "scorer": None if scorer is None else scorer.name,
        "second_scorer": None if second is None else second.name,
        "n_examples": own["example_id"].n_unique(),
        "n_movies": own["movie"].n_unique(),
        "n_tasks": len(tasks),
        "tasks": {task: _means(means.filter(pl.col("task") == task), measures) for task in tasks},
        "all": _macro(means, measures, tasks),
        **_compared(means, measures, resamples, seed),
        "spread": {} if scorer is None else _spreads(own, scorer),
    }
    result["uninformative"] = [task for task, spread in result["spread"].items() if not spread["informative"]]
    texts = frame.filter(pl.col("generated").is_not_null())
    for key, by in (("retrieval", scorer), ("retrieval_second", second)):
        if by is not None:
            result[key] = _retrievals(texts, by)
    if mentions is not None:
        result["slots"] = _slots(texts, mentions, truth, seen)
    return result


def _compared(means: pl.DataFrame, measures: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Own against its controls: differences, how they were tested, and what they say."""
    differences = _differences(means, measures, resamples, seed)
    specific = _item_specific(differences)
    return {
        "differences": differences,
        "statistics": {
            "unit": "movie",
            "resamples": resamples,
            "interval": 0.95,
            "tasks": "Holm over tasks, read only where the mean of task means is significant",
            "runs": 1,
        },
        "controls": _controls(means),
        "claims": claims(differences),
        **({} if specific is None else {"item_specific_sc": specific}),
    }


def _check(frame: pl.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise ValueError(f"the predictions lack the columns {', '.join(missing)}")
    unknown = sorted(set(frame["condition"].to_list()) - set(CONDITIONS))
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}: choose from {', '.join(CONDITIONS)}")
    if frame.filter(pl.col("condition") == "own").is_empty():
        raise ValueError("the predictions hold no row of condition 'own': every control is compared with it")


def _means(rows: pl.DataFrame, measures: Sequence[str]) -> dict[str, Any]:
    """Means per measure and condition, conditions in the order of the report."""
    table: dict[str, Any] = {"n": rows.filter(pl.col("condition") == "own").height}
    for name in measures:
        found = dict(rows.group_by("condition", maintain_order=True).agg(pl.col(name).mean()).iter_rows())
        table[name] = {key: found[key] for key in CONDITIONS if found.get(key) is not None}
    return table


def _macro(means: pl.DataFrame, measures: Sequence[str], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """Unweighted means of task means; a condition that lacks a task has none."""
    table: dict[str, dict[str, float]] = {}
    per_task = means.group_by("condition", "task", maintain_order=True).agg(pl.col(name).mean() for name in measures)
    for name in measures:
        known = per_task.filter(pl.col(name).is_not_null() & pl.col("task").is_in(list(tasks)))
        macro = known.group_by("condition", maintain_order=True).agg(
            pl.col(name).mean(), pl.col("task").n_unique().alias("n")
        )
        full = {key: mean for key, mean, n in macro.iter_rows() if n == len(tasks)}
        table[name] = {key: full[key] for key in CONDITIONS if key in full}
    return table


def _controls(means: pl.DataFrame) -> dict[str, list[str]]:
    """Which conditions "the best control" was taken from: of those wanted, those that were scored."""
    present = set(means["condition"].to_list())
    return {name: kept for name, wanted in BEST.items() if (kept := [key for key in wanted if key in present])}


def _differences(means: pl.DataFrame, measures: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Own minus each other condition (in bits other minus own), and own minus the best control."""
    found: dict[str, Any] = {}
    present = [key for key in CONDITIONS if key != "own" and key in set(means["condition"].to_list())]
    for measure in COMPARED:
        if measure not in measures:
            continue
        # fewer bits are better: the sign is turned so that above 0 the own vector wins
        sign = -1.0 if measure == "bits" else 1.0
        rows = {key: _paired(means, measure, [key], sign) for key in present}
        for name, wanted in BEST.items():
            controls = [key for key in wanted if key in rows and rows[key].height]
            if controls:
                rows[name] = _paired(means, measure, controls, sign)
        found[measure] = {
            key: _difference(pairs, resamples, seed) for key, pairs in rows.items() if not pairs.is_empty()
        }
    return found


def _item_specific(differences: Mapping[str, Any]) -> dict[str, Any] | None:
    """SC(own) - SC(blind): what the item's vector adds to the format that soft tokens of no item teach as well."""
    row = differences.get("sc", {}).get("blind")
    if row is None:
        return None
    return {
        **{key: row[key] for key in ("mean", "low", "high")},
        "tasks": {task: one["mean"] for task, one in row["tasks"].items()},
    }


def _paired(means: pl.DataFrame, measure: str, others: Sequence[str], sign: float) -> pl.DataFrame:
    """Differences of examples that have both values; of several others the best by the mean of each task."""
    values = means.select("condition", "task", "movie", "example_id", measure).drop_nulls(measure)
    own = values.filter(pl.col("condition") == "own").drop("condition")
    rest = values.filter(pl.col("condition").is_in(list(others)))
    best = (
        rest.group_by("task", "condition", maintain_order=True)
        .agg((sign * pl.col(measure)).mean().alias("mean"))
        .sort("task", "mean", "condition", descending=[False, True, False])
        .unique("task", keep="first", maintain_order=True)
    )
    rest = rest.join(best.select("task", "condition"), on=["task", "condition"], how="semi")
    both = own.join(rest.rename({"condition": "other"}), on=["task", "movie", "example_id"], suffix="_other")
    difference = (sign * (pl.col(measure) - pl.col(f"{measure}_other"))).alias("difference")
    return both.select("task", "movie", "example_id", "other", difference).sort("task", "movie", "example_id")


def _difference(pairs: pl.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    result: Difference = paired_bootstrap(
        pairs["difference"].to_numpy(), pairs["movie"].to_list(), pairs["task"].to_list(), resamples, seed
    )
    plain = asdict(result)
    against = dict(pairs.select("task", "other").unique().iter_rows())
    for name, task in plain["tasks"].items():
        task["against"] = against[name]
    # the mean of task means first: only where it is significant are single tasks read
    opened = result.p < SIGNIFICANCE and not too_few(result.n_movies)
    apart = {name: task.mean for name, task in result.tasks.items() if opened and task.p_holm < SIGNIFICANCE}
    plain["significant"] = opened
    plain["better_tasks"] = sum(task.mean > 0 for task in result.tasks.values())
    plain["significantly_better"] = [name for name, mean in apart.items() if mean > 0]
    plain["significantly_worse"] = [name for name, mean in apart.items() if mean < 0]
    plain["significant_tasks"] = len(plain["significantly_better"])
    plain["n_tasks"] = len(result.tasks)
    return plain


def _by_task(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = rows.partition_by("task", as_dict=True, maintain_order=True)
    return {str(task): parts[(task,)] for (task,) in sorted(parts)}


def _spreads(own: pl.DataFrame, scorer: Scorer) -> dict[str, dict[str, Any]]:
    found = {}
    for task, rows in _by_task(own.unique("example_id", maintain_order=True)).items():
        spread = teacher_spread(scorer.embed(rows["target"].to_list()), rows["movie"].to_list())
        if spread is not None:
            found[task] = asdict(spread)
    return found


def _retrievals(texts: pl.DataFrame, scorer: Scorer) -> dict[str, Any]:
    """Per condition: per task, and the mean of task means; shuffled counts its first derangement only."""
    found: dict[str, Any] = {}
    # one target per movie and task
    rows = texts.unique(["condition", "task", "movie"], keep="first", maintain_order=True)
    for condition in CONDITIONS:
        per_task = {}
        for task, part in _by_task(rows.filter(pl.col("condition") == condition)).items():
            generated, targets = part["generated"].to_list(), part["target"].to_list()
            per_task[task] = asdict(target_retrieval(scorer.embed(generated), scorer.embed(targets)))
        if per_task:
            keys = [key for key in next(iter(per_task.values())) if key != "n"]
            macro = {key: float(np.mean([row[key] for row in per_task.values()])) for key in keys}
            found[condition] = {"all": macro, "tasks": per_task}
    return found


def _slots(
    texts: pl.DataFrame, mentions: Mentions, truth: Mapping[str, Facts] | None, seen: Collection[str]
) -> dict[str, Any]:
    """Per condition, over the texts of all tasks."""
    found = {}
    for condition in CONDITIONS:
        rows = texts.filter(pl.col("condition") == condition)
        if rows.is_empty():
            continue
        facts = None if truth is None else [truth[key] for key in rows["example_id"].to_list()]
        report = slot_accuracy(rows["generated"].to_list(), rows["target"].to_list(), mentions, facts, seen)
        found[condition] = asdict(report)
    return found
