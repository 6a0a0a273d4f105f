"""Answers to the same few validation examples after each validation: what a training learns, to be read."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as pl

from ilm_lightning.engine.tracking import TableRows, log_table

SAMPLES = "samples.csv"
TABLE = "samples"


@dataclass(frozen=True)
class Answers:
    """What a model answered.

    Attributes:
        rows: one per example, a value for each of the columns.
        scores: name -> mean over the examples, logged under ``val/``.
    """

    rows: list[list[Any]]
    scores: dict[str, float]


@dataclass(frozen=True)
class Panel:
    """A fixed set of examples and how they are answered.

    Attributes:
        columns: of the table, after the step.
        answer: asks the model that is being trained, which is in evaluation mode.
    """

    columns: tuple[str, ...]
    answer: Callable[[], Answers]


class Samples(pl.Callback):
    """Writes the answers to ``samples.csv`` beside the checkpoints and to every logger; logs their scores.

    Args:
        panel: examples, and how they are answered.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask and log; in the first process alone, the others wait at the next step."""
        found = self.panel.answer()
        scores = {f"val/{name}": value for name, value in found.scores.items()}
        pl_module.log_dict(scores, batch_size=1, rank_zero_only=True)
        step = trainer.global_step
        columns = ("step", *self.panel.columns)
        path = Path(trainer.default_root_dir) / SAMPLES
        # a step that is repeated after an interruption replaces what it wrote before
        earlier = [row for row in read_rows(path) if int(row[0]) < step]
        rows = [*earlier, *([step, *row] for row in found.rows)]
        write_rows(path, columns, rows)
        for logger in trainer.loggers:
            log_table(logger, TABLE, TableRows(columns, [[int(row[0]), *map(str, row[1:])] for row in rows]), step)


def read_rows(path: Path) -> list[list[Any]]:
    """Rows of a table that `write_rows` wrote, without its header; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table so that a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
    temporary.replace(path)
