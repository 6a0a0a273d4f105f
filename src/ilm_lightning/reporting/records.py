"""A run as it is kept beside its experiment: small enough to commit, whole enough for every table, test and claim."""

import os
import shutil
from pathlib import Path

from ilm_lightning.reporting.runs import CONFIG, METRICS, PREDICTIONS, STATUS

BASELINES = "baselines.parquet"
"""Ranks of the recommenders without a language model, user by user."""
CONDITIONS = ("own", "blind")
"""What tables, differences and claims are computed from; means of the other conditions stand in the metrics."""
LEFT_OUT = ("prompt", "items", "place")


def keep_record(run: Path, target: Path) -> bool:
    """Copy what a report reads of a finished run; nothing is written where the record is up to date.

    Args:
        run: the run folder.
        target: the record's folder; `read_runs` reads it as a run.

    Returns:
        Whether the record was written.
    """
    metrics = run / METRICS
    if (target / METRICS).is_file() and (target / METRICS).read_bytes() == metrics.read_bytes():
        return False
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    histories = [file.name for file in run.glob("history*.csv")]
    for name in (CONFIG, METRICS, STATUS, BASELINES, *histories):
        if (run / name).is_file():
            shutil.copyfile(run / name, part / name)
    _hide_data_folder(part / CONFIG)
    if (run / PREDICTIONS).is_file():
        _scores(run / PREDICTIONS, part / PREDICTIONS)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    return True


def _hide_data_folder(config: Path) -> None:
    """Name the folder of real data as configurations do: where it lies on this machine is of no use elsewhere."""
    folder = os.environ.get("ILM_DATA", "").rstrip("/")
    if folder and config.is_file():
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(f"{folder}/", "${oc.env:ILM_DATA}/"), encoding="utf-8")


def _scores(source: Path, target: Path) -> None:
    import polars as pl

    frame = pl.scan_parquet(source)
    left = [name for name in LEFT_OUT if name in frame.collect_schema()]
    # a recommendation run has no conditions
    if "condition" in frame.collect_schema():
        frame = frame.filter(pl.col("condition").is_in(CONDITIONS))
    frame.drop(left).collect().write_parquet(target, compression="zstd", compression_level=15)
