"""Prompt templates in OpenP5's format: ``task; seen|unseen; input; output``, one a line."""

import re
from dataclasses import dataclass
from pathlib import Path

from ilm_lightning.data.delimited import utf8_text
from ilm_lightning.data.errors import DataError

TASKS = ("sequential", "straightforward")
SETS = ("seen", "unseen")
SLOTS = {"dataset", "user_id", "history", "target"}
_SLOT = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Prompt:
    """One template.

    Attributes:
        task: ``sequential`` or ``straightforward``.
        seen: whether it is trained on.
        input: the question, with ``{dataset}``, ``{user_id}`` and, sequential, ``{history}``.
        output: the answer, with ``{target}``.
    """

    task: str
    seen: bool
    input: str
    output: str


@dataclass(frozen=True)
class PromptSets:
    """All templates of a file.

    Attributes:
        training: seen templates, sequential first: what phase 2 trains on.
        unseen: per task the templates that are tested only.
    """

    training: tuple[Prompt, ...]
    unseen: dict[str, tuple[Prompt, ...]]

    def tasks(self, name: str) -> list[str]:
        """The tasks that a set tests: those of ``seen``, or of ``unseen`` those that are trained on too."""
        trained = {prompt.task for prompt in self.training}
        return [task for task in TASKS if task in trained and (name == "seen" or task in self.unseen)]

    def tested(self, task: str, name: str) -> Prompt:
        """The template that tests a task: the first of the set.

        Args:
            task: one of `TASKS`.
            name: ``seen`` or ``unseen``.

        Raises:
            DataError: the file has none.
        """
        found = self.unseen.get(task, ()) if name == "unseen" else [p for p in self.training if p.task == task]
        if not found:
            raise DataError(f"the prompt file has no {name} prompt for {task} recommendation; add a line for it")
        return found[0]


def read_prompts(path: Path) -> PromptSets:
    """Read a prompt file.

    Args:
        path: lines of four fields separated by ``;``.

    Returns:
        The templates.

    Raises:
        DataError: no such file, no UTF-8 text, or a line that is no template: too few fields, an unknown task, set or
            slot, an output without ``{target}``, a history where there is none to be; names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; set tasks.prompts to a prompt file in OpenP5's format")
    prompts = []
    for number, line in enumerate(utf8_text(path).splitlines(), start=1):
        if line.strip():
            prompts.append(_prompt(line, f"{path}, line {number}"))
    seen = tuple(prompt for task in TASKS for prompt in prompts if prompt.seen and prompt.task == task)
    if not seen:
        raise DataError(f"{path}: no seen prompt, so there is nothing to train on")
    unseen = {task: tuple(p for p in prompts if p.task == task and not p.seen) for task in TASKS}
    return PromptSets(seen, {task: found for task, found in unseen.items() if found})


def _prompt(line: str, where: str) -> Prompt:
    fields = [field.strip() for field in line.split(";")]
    if len(fields) != 4:
        raise DataError(f"{where}: {len(fields)} fields; a prompt is 'task; seen|unseen; input; output'")
    task, name, question, answer = fields
    if task not in TASKS or name not in SETS:
        raise DataError(f"{where}: '{task}; {name}' must be one of {', '.join(TASKS)} and then seen or unseen")
    slots = set(_SLOT.findall(question)) | set(_SLOT.findall(answer))
    if slots - SLOTS:
        raise DataError(f"{where}: unknown slot {{{min(slots - SLOTS)}}}; there are {', '.join(sorted(SLOTS))}")
    if _SLOT.findall(answer).count("target") != 1 or "target" in _SLOT.findall(question):
        raise DataError(f"{where}: {{target}} must stand once in the output, and not in the input")
    if set(_SLOT.findall(answer)) - {"target", "dataset"}:
        raise DataError(f"{where}: the output may hold {{dataset}} and {{target}} only; the model has to write it")
    histories, users = _SLOT.findall(question).count("history"), _SLOT.findall(question).count("user_id")
    if histories != (1 if task == "sequential" else 0):
        raise DataError(f"{where}: {{history}} stands once in a sequential prompt and in no straightforward one")
    if users > 1:
        raise DataError(f"{where}: {{user_id}} may stand once")
    return Prompt(task, name == "seen", question, answer)
