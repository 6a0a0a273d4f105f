"""What the rows behind claims were trained and tested with, in one line."""

from collections.abc import Callable

from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.controls import full_label
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.runs import Run

SHOWN = 3
"""Rows of an exception that are named; of more, how many."""


def budget_line(group: Group) -> str:
    """Steps of both phases, test movies a task and learning-rate trials of a group's rows.

    Args:
        group: runs of one protocol.

    Returns:
        Each fact as most rows have it, exceptions with the rows that they are of.
    """
    facts = {
        "phase 2": _phase_2,
        "phase 1": _phase_1,
        "test movies a task": lambda column: _setting(column, "evaluation.movies"),
        "learning-rate trials": _trials,
    }
    told = (f"{name}: {_told(group, of)}" for name, of in facts.items())
    return f"Budget: {'; '.join(told)}."


def _told(group: Group, of: Callable[[Column], str | None]) -> str:
    """A fact with its exceptions, that of most rows first."""
    found: dict[str, list[str]] = {}
    for column in group.columns:
        if (value := of(column)) is not None:
            found.setdefault(value, []).append(full_label(column, group))
    if not found:
        return "in no row"
    usual, *others = sorted(found, key=lambda value: -len(found[value]))
    return ", but ".join([usual, *(f"{value} in {_rows(found[value])}" for value in others)])


def _rows(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= SHOWN else f"{len(labels)} rows"


def _run(column: Column) -> Run:
    return next(iter(column.runs.values()))


def _setting(column: Column, key: str) -> str:
    value = _run(column).setting(key)
    return "not told" if value is None else str(value)


def _phase_2(column: Column) -> str:
    return "not told" if column.budget is None else f"{column.budget[0]} steps of {column.budget[1]} examples"


def _phase_1(column: Column) -> str | None:
    """Of rows that have a phase 1."""
    steps = column.trained.get("pretraining.steps")
    return None if steps is None else f"{steps} steps"


def _trials(column: Column) -> str:
    run = _run(column)
    return str(len(run.setting("tuning.lr_trials") or ())) if run.config else "not told"
