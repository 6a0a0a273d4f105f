"""Whether a run has the examples it needs, before anything is trained on them."""

from collections import Counter
from collections.abc import Iterable

import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.engine.artifacts import Artifact

_FILMS = (
    "the built-in tasks are about films and know film genres such as Drama: bring items with genres and years, more "
    "items, or your own tasks (tasks.file=FILE, docs/your-own-tasks.md)"
)
_USERS = (
    "this task is about users, a tenth of whom are test users, and judges their latest ratings: bring more users, more "
    "ratings of each or a larger tasks.users, or leave the task out of tasks.names"
)
_GENOME = "bring genome scores of more items, or leave the task out of tasks.names"


def counts_by_split(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count examples.

    Args:
        frame: columns task and split.

    Returns:
        Task -> split -> examples, of those that have any.
    """
    counts: dict[str, dict[str, int]] = {}
    for task, split, count in frame.group_by("task", "split").len().sort("task", "split").iter_rows():
        counts.setdefault(task, {})[split] = count
    return counts


def check_examples(made: Artifact, scored: str) -> None:
    """Check that there is something to train on and to score.

    The tasks of Figure 1 are checked one by one, since each has measures of its own; the other tasks together, since
    not every catalogue has something to say in all of them.

    Args:
        made: the examples.
        scored: name of the split that is evaluated.

    Raises:
        DataError: a task of Figure 1, or all the others, have no training example or none to score.
    """
    from ilm_lightning.tasks.figure1.names import FIGURE1_TASKS, GENOME_TAGS, USER_TASKS

    tasks = list(made.report["examples"])
    for task in [task for task in tasks if task in FIGURE1_TASKS]:
        remedy = _USERS if task in USER_TASKS else _GENOME if task == GENOME_TAGS else _FILMS
        _check(made, [task], scored, f"{task}: ", remedy)
    if others := [task for task in tasks if task not in FIGURE1_TASKS]:
        _check(made, others, scored, "", _FILMS)


def _check(made: Artifact, tasks: Iterable[str], scored: str, opening: str, remedy: str) -> None:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for task in tasks:
        counts.update(made.report["splits"].get(task, {}))
        reasons.update(made.report["left_out"].get(task, {}))
    for split in ("train", scored):
        if counts[split]:
            continue
        told = ", ".join(f"{count} times '{reason}'" for reason, count in reasons.most_common(3))
        raise DataError(
            f"{opening}no {split} example could be made (examples: {dict(counts) or 'none'}; left out: "
            f"{told or 'nothing'}); {remedy}"
        )
