"""A finished run's numbers and texts as the loggers take them: flat names, and tables of a few rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.tracking import TableRows

MOST_ROWS = 24


def log_results(context: Context, metrics: Mapping[str, Any]) -> None:
    """Hand the results in the run folder to W&B and TensorBoard, where they were asked for.

    Args:
        context: the run; its folder holds ``predictions.parquet``.
        metrics: as in ``metrics.json``.
    """
    tracker = context.tracker("evaluate")
    if not tracker.wanted:
        return
    made = {str(name).partition("/")[0]: str(name) for name in metrics["run"]["artifacts"]}
    tracker.results(values_of(metrics), tables_of(metrics, context.run_folder / "predictions.parquet"), made)


def values_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every mean of a run, by ``test/measure/condition``; lists by ``test/hr@10/task, prompts``.

    Tasks that are not answered in prose have measures of their own: ``test/rating/mae/own``.

    >>> values_of({"all": {"sc": {"own": 60.0}}, "run": {"peak_memory_gib": 5.0}})
    {'test/sc/own': 60.0, 'run/peak_memory_gib': 5.0}
    >>> values_of({"figure1": {"rating": {"measures": {"mae": {"own": 0.7}}}}, "run": {}})
    {'test/rating/mae/own': 0.7}
    """
    split = metrics.get("protocol", {}).get("split", "test")
    found: dict[str, Any] = {}
    for measure, row in metrics.get("all", {}).items():
        found |= {f"{split}/{measure}/{condition}": value for condition, value in row.items()}
    if specific := metrics.get("item_specific_sc"):
        found[f"{split}/item_specific_sc"] = specific["mean"]
    if own := metrics.get("retrieval", {}).get("own"):
        found |= {f"{split}/retrieval/{key}": value for key, value in own["all"].items()}
    for task, row in metrics.get("figure1", {}).items():
        for measure, values in row["measures"].items():
            found |= {f"{split}/{task}/{measure}/{condition}": value for condition, value in values.items()}
    for name, tasks in metrics.get("ranking", {}).items():
        for task, row in tasks.items():
            found |= _ranked(split, row, f"{task}, {name}")
    for name, row in metrics.get("baselines", {}).items():
        found |= _ranked(split, row, name)
    run = metrics["run"]
    found |= {f"run/{key}": run[key] for key in ("peak_memory_gib", "peak_gpu_memory_gib") if key in run}
    found |= {f"run/seconds/{stage}": value for stage, value in run.get("seconds", {}).items()}
    if flops := run.get("compute", {}).get("flops"):
        found["run/train_flops"] = flops
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _ranked(split: str, row: Mapping[str, Any], name: str) -> dict[str, float]:
    return {f"{split}/{m}@{cut}/{name}": value for m in ("hr", "ndcg") for cut, value in row[m].items()}


def tables_of(metrics: Mapping[str, Any], predictions: Path) -> dict[str, TableRows]:
    """Scores per task, and answers to a few examples, spread over the tasks.

    Args:
        metrics: as in ``metrics.json``.
        predictions: of the run.
    """
    found = {}
    tasks = metrics.get("tasks", {})
    if tasks:
        conditions = list(metrics["all"].get("sc", {}))
        rows = [[task, *(row.get("sc", {}).get(key) for key in conditions)] for task, row in tasks.items()]
        found["sc_per_task"] = TableRows(("task", *conditions), rows)
    frame = pl.read_parquet(predictions)
    if "generated" in frame.columns:
        from ilm_lightning.reporting.console import samples

        columns = ("task", "prompt", "target", "own", "shuffled")
        rows = [[one.get(key, "") for key in columns] for one in samples(frame, MOST_ROWS)]
        found["texts"] = TableRows(columns, rows)
    else:
        shown = [
            [" ".join(map(str, x)) if isinstance(x, list) else x for x in row] for row in frame.head(MOST_ROWS).rows()
        ]
        found["lists"] = TableRows(tuple(frame.columns), shown)
    return found
