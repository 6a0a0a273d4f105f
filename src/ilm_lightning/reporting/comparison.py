"""A paired difference between two columns: what two kinds of interval say of it, in all and task by task."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ilm_lightning.evaluation.claims import too_few
from ilm_lightning.evaluation.components import Components
from ilm_lightning.evaluation.statistics import Difference, holm

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """A paired difference between two columns.

    Attributes:
        seeds: those that both have.
        difference: with its nested 95 % interval and per task.
        inner: nested 90 % interval, for tests of equality.
        parts: where its spread comes from; gives Student's interval, which few seeds do not make too narrow.
    """

    seeds: tuple[int, ...]
    difference: Difference
    inner: tuple[float, float]
    parts: Components

    @cached_property
    def student(self) -> tuple[float, float]:
        """Student's 95 % interval over seeds and movies."""
        return self.parts.interval()

    def within(self, margin: float) -> bool:
        """The equivalence test: two one-sided tests at 5 %, by both kinds of interval."""
        student = self.parts.interval(0.90)
        low, high = min(self.inner[0], student[0]), max(self.inner[1], student[1])
        return self.difference.n_movies > 1 and -margin < low and high < margin

    @property
    def low(self) -> float:
        """The lower of both intervals' lower ends: what is called a difference has to pass both."""
        return min(self.difference.low, self.student[0])

    @property
    def high(self) -> float:
        """The higher of both intervals' upper ends."""
        return max(self.difference.high, self.student[1])

    @property
    def noise(self) -> bool:
        """Whether one of the intervals holds zero, or so few movies tell nothing."""
        return bool(too_few(self.difference.n_movies)) or self.low <= 0 <= self.high

    @property
    def p(self) -> float:
        """The larger of both tests' p-values."""
        return max(self.difference.p, float(self.parts.p_values()[-1]))

    @property
    def better(self) -> int:
        """Tasks with a mean above zero."""
        return sum(task.mean > 0 for task in self.difference.tasks.values())

    @cached_property
    def task_p(self) -> dict[str, float]:
        """Per task the larger of both tests' p-values, after Holm over the tasks."""
        tasks = self.difference.tasks
        larger = np.maximum([task.p for task in tasks.values()], self.parts.p_values()[:-1])
        return dict(zip(tasks, holm(larger).tolist(), strict=True))

    def task_noise(self, task: str) -> bool:
        """Whether a task's difference may be noise: no task is read where the mean of task means may be noise."""
        return self.noise or self.task_p[task] >= SIGNIFICANCE

    def significant(self, sign: int) -> int:
        """Tasks whose difference of this sign is beyond noise."""
        tasks = self.difference.tasks.items()
        return sum(task.mean * sign > 0 and not self.task_noise(name) for name, task in tasks)
