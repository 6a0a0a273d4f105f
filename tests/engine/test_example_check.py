"""A task that has nothing to train on, or nothing to score, is told by name."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.stages.example_check import check_examples, counts_by_split

BOTH = {"train": 8, "test": 1}


def made(splits: dict[str, dict[str, int]], left_out: dict[str, dict[str, int]] | None = None) -> Artifact:
    report: dict[str, Any] = {
        "examples": {task: sum(counts.values()) for task, counts in splits.items()},
        "left_out": left_out or {},
        "splits": {task: counts for task, counts in splits.items() if counts},
    }
    return Artifact("tasks", "key", Path("nowhere"), {"report": report})


def test_examples_are_counted_by_task_and_split() -> None:
    frame = pl.DataFrame({"task": ["a", "a", "b", "a"], "split": ["train", "test", "train", "train"]})
    assert counts_by_split(frame) == {"a": {"test": 1, "train": 2}, "b": {"train": 1}}


@pytest.mark.parametrize(
    ("task", "counts", "message"),
    [
        (
            "rating",
            {"train": 8},
            r"^rating: no test example .*\{'train': 8\}; left out: 2 times 'why'.*more users",
        ),
        ("next_item", {"test": 1}, "^next_item: no train example .*a larger tasks.users"),
        ("user_profile", {}, r"^user_profile: no train example .*\(examples: none"),
        ("genome_tags", {"train": 8}, "^genome_tags: no test example .*bring genome scores of more items"),
        ("long_summary", {"train": 8}, "^long_summary: no test example .*bring items with genres"),
    ],
)
def test_a_task_of_figure_1_does_not_vanish_from_a_mixture(task: str, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_examples(made({"summary": BOTH, task: counts}, {task: {"why": 2}}), "test")
    if task != "long_summary":
        assert "genres" not in str(caught.value)
    check_examples(made({"summary": BOTH, task: BOTH}), "test")


def test_the_other_tasks_are_counted_together() -> None:
    check_examples(made({"summary": BOTH, "awards": {}, "mine": {"train": 1}}), "test")
    with pytest.raises(DataError, match=r"^no test example .*\{'train': 9\}; left out: 3 times 'no title'.*genres"):
        check_examples(made({"summary": {"train": 8}, "mine": {"train": 1}}, {"summary": {"no title": 3}}), "test")
    with pytest.raises(DataError, match=r"^no validation example"):
        check_examples(made({"summary": BOTH, "rating": {**BOTH, "validation": 1}}), "validation")
