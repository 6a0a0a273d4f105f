"""The user's own tasks and phrasings: one YAML file, checked line by line before anything heavy is done."""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from ilm_lightning.tasks.elm.names import INTERPOLATION, TASKS, TWO_SLOT_TASKS
from ilm_lightning.tasks.elm.prompts import SLOT
from ilm_lightning.tasks.figure1.names import FIGURE1_TASKS

COLUMNS = (
    *("title", "name", "year", "decade", "genres", "tags", "genome_tags", "directors", "writers", "cast"),
    *("countries", "languages", "studios", "runtime", "critic_score", "n_reviews", "oscars_won"),
    *("oscar_nominations", "certificate", "n_ratings", "text"),
)
"""Slots of a target that hold a column of the catalogue; ``name`` is the title with its year."""
PIECES = ("label", "card", "nation", "era", "mood", "verdict", "liked", "minutes", "crowd", "star")
"""Slots that hold a phrase which the ``facts`` teacher makes from the columns."""
PARTNERS = ("random", "nearest")
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
_KEYS = {"": ("tasks", "phrasings"), "task": ("phrasings", "target", "targets", "items", "partner")}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BRACES = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"(?:a )?([12]\.)?(\w+)")
_STRING = "tag:yaml.org,2002:str"
_DEEPEST = 9
"""Levels that are certainly too many; a task file has four."""
_NO_PARTNER = "; brackets hold what may be left out, and each alternative of ' | ' closes its own"
_TAKEN = (*FIGURE1_TASKS, "all")
"""Names that results have for other things: tasks of ``tasks=figure1`` and the mean over all tasks."""


class TaskFileError(ValueError):
    """A task file that cannot be used; the message names file, line, task and remedy."""


@dataclass(frozen=True)
class OwnTask:
    """One task of the user.

    Attributes:
        name: its name.
        phrasings: prompts with one ``{item}`` per item; the first is the one that is scored.
        items: 1 or 2.
        partner: which item is the second one, ``random`` or ``nearest``; always of the same split.
        template: sentences with slots, alternatives and optional parts; empty where there are ready targets.
        targets: file of ready targets, None where there is a template.
    """

    name: str
    phrasings: tuple[str, ...]
    items: int = 1
    partner: str = "random"
    template: tuple[str, ...] = ()
    targets: Path | None = None


@dataclass(frozen=True)
class OwnTasks:
    """What a task file holds.

    Attributes:
        path: the file.
        tasks: the new tasks by name.
        phrasings: further phrasings of the 24 tasks.
    """

    path: Path
    tasks: Mapping[str, OwnTask]
    phrasings: Mapping[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """Hash of the file and of the files of ready targets."""
        found = hashlib.sha256(self.path.read_bytes())
        for task in self.tasks.values():
            if task.targets is not None:
                with task.targets.open("rb") as stream:
                    found.update(hashlib.file_digest(stream, "sha256").digest())
        return found.hexdigest()


def read_own_tasks(path: Path, check_targets: bool = True) -> OwnTasks:
    """Read and check a task file.

    Args:
        path: the YAML file.
        check_targets: whether files of ready targets must be there; a run's copy is read for its prompts alone.

    Returns:
        Its tasks and phrasings.

    Raises:
        TaskFileError: anything wrong, with file, line and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskFileError(f"tasks.file={path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TaskFileError(f"tasks.file={path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return _Reader(path, check_targets).read(text)


class _Reader:
    """Walks the YAML nodes, which know their lines."""

    def __init__(self, path: Path, check_targets: bool) -> None:
        self.path, self.check_targets, self.task = path, check_targets, ""

    def read(self, text: str) -> OwnTasks:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            self._fail(line, f"not readable as YAML ({error.problem}); texts with {{ }} or a colon need quotes")
        except RecursionError:
            self._fail(_deep_line(text), "nested too deeply; the guide docs/your-own-tasks.md shows what a file holds")
        except yaml.YAMLError as error:
            self._fail(1, f"not readable as YAML ({str(error).splitlines()[0]})")
        if root is None:
            self._fail(1, "the file is empty; it takes 'tasks:' and 'phrasings:'")
        parts = self._mapping(root, "the file", _KEYS[""])
        tasks, phrasings = {}, {}
        for name, (key, node) in self._mapping(parts["tasks"][1], "tasks").items() if "tasks" in parts else ():
            tasks[name] = self._own_task(name, key, node)
        self.task = ""
        for name, (key, node) in (
            self._mapping(parts["phrasings"][1], "phrasings").items() if "phrasings" in parts else ()
        ):
            phrasings[name] = self._more_phrasings(name, key, node, tasks)
        if not tasks and not phrasings:
            self._fail(1, "the file holds neither a task nor a phrasing")
        return OwnTasks(self.path, tasks, phrasings)

    def _fail(self, where: "yaml.Node | int", text: str) -> NoReturn:
        line = where if isinstance(where, int) else where.start_mark.line + 1
        of = f", task '{self.task}'" if self.task else ""
        raise TaskFileError(f"tasks.file={self.path}: line {line}{of}: {text}")

    def _mapping(self, node: yaml.Node, what: str, known: Sequence[str] = ()) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{what} must hold 'key: value' lines, not {_kind(node)}")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = self._text(key, f"a key of {what}")
            if known and name not in known:
                self._fail(key, f"unknown key '{name}'{_near(name, known)}; {what} takes {', '.join(known)}")
            if name in found:
                first = found[name][0].start_mark.line + 1
                self._fail(key, f"'{name}' is there twice, first in line {first}; keep one")
            found[name] = (key, value)
        return found

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            quotes = "; put it in quotes" if isinstance(node, yaml.MappingNode) and node.flow_style else ""
            self._fail(node, f"{what} must be text, not {_kind(node)}{quotes}")
        if node.tag != _STRING:
            self._fail(node, f"{what} must be text, not {node.value or 'nothing'}; put it in quotes")
        if not node.value.strip():
            self._fail(node, f"{what} is empty")
        return str(node.value)

    def _texts(self, node: yaml.Node, what: str) -> list[tuple[yaml.Node, str]]:
        entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not entries:
            self._fail(node, f"{what} is an empty list")
        return [(entry, self._text(entry, f"an entry of {what}" if entries != [node] else what)) for entry in entries]

    def _own_task(self, name: str, key: yaml.Node, node: yaml.Node) -> OwnTask:
        self.task = name
        if not _NAME.fullmatch(name):
            self._fail(key, "a name is lower-case letters, digits and _, a letter first")
        if name in TASKS:
            self._fail(key, "one of the 24 tasks is called so; choose another name, or add to it under 'phrasings:'")
        if name in _TAKEN:
            self._fail(key, f"{', '.join(_TAKEN)} name other results; choose another name")
        parts = self._mapping(node, "a task", _KEYS["task"])
        items = self._items(parts)
        partner = self._one_of(parts["partner"][1], "partner", PARTNERS) if "partner" in parts else PARTNERS[0]
        if "partner" in parts and items == 1:
            self._fail(parts["partner"][0], "partner is for tasks with 'items: 2'")
        if "phrasings" not in parts:
            self._fail(key, "phrasings are missing; give at least one, as: - Write a tagline for {item}.")
        phrasings = self._phrasings(parts["phrasings"][1], (items,))
        if ("target" in parts) == ("targets" in parts):
            both = "target and targets are both there; keep one" if "target" in parts else "the target is missing"
            self._fail(key, f"{both}: target is a template such as '{{title}} is a {{label}}.', targets a file")
        if "target" in parts:
            return OwnTask(name, phrasings, items, partner, template=self._template(parts["target"][1], items))
        return OwnTask(name, phrasings, items, partner, targets=self._targets(parts["targets"][1], items))

    def _items(self, parts: Mapping[str, tuple[yaml.Node, yaml.Node]]) -> int:
        return int(self._one_of(parts["items"][1], "items", ("1", "2"))) if "items" in parts else 1

    def _one_of(self, node: yaml.Node, what: str, known: Sequence[str]) -> str:
        value = str(node.value) if isinstance(node, yaml.ScalarNode) else _kind(node)
        if value not in known:
            self._fail(node, f"{what} is {value}; choose {' or '.join(known)}")
        return value

    def _phrasings(self, node: yaml.Node, counts: Sequence[int]) -> tuple[str, ...]:
        found: list[str] = []
        for entry, text in self._texts(node, "phrasings"):
            for slot in _BRACES.findall(text):
                if f"{{{slot}}}" != SLOT:
                    self._fail(entry, f"a phrasing knows no slot {{{slot}}}; the model sees each item as {SLOT}")
            if text.count(SLOT) not in counts:
                wanted = " or ".join(str(count) for count in counts)
                self._fail(entry, f"'{text}' holds {SLOT} {text.count(SLOT)} times; this task needs it {wanted} times")
            if text in found:
                self._fail(entry, f"'{text}' is there twice")
            found.append(text)
        return tuple(found)

    def _more_phrasings(
        self, name: str, key: yaml.Node, node: yaml.Node, own: Mapping[str, OwnTask]
    ) -> tuple[str, ...]:
        if name not in TASKS:
            hint = "write its phrasings with the task" if name in own else f"choose from {', '.join(TASKS)}"
            self._fail(key, f"'{name}' is none of the 24 tasks{_near(name, TASKS)}; {hint}")
        self.task = name
        counts = (1, 2) if name == INTERPOLATION else (2,) if name in TWO_SLOT_TASKS else (1,)
        found = self._phrasings(node, counts)
        self.task = ""
        return found

    def _template(self, node: yaml.Node, items: int) -> tuple[str, ...]:
        sentences = self._texts(node, "target")
        known = (*COLUMNS, *PIECES)
        for entry, text in sentences:
            for inner in _BRACES.findall(text):
                match = _FIELD.fullmatch(inner)
                side, slot = (match[1] or "", match[2]) if match else ("", inner)
                if slot not in known:
                    self._fail(entry, f"unknown slot {{{inner}}}{_near(slot, known)}; there are {', '.join(known)}")
                if items == 2 and not side:
                    self._fail(entry, f"{{{slot}}} of which item? Write {{1.{slot}}} or {{2.{slot}}}")
                if items == 1 and side:
                    self._fail(entry, f"{{{inner}}} is for tasks with 'items: 2'; write {{{slot}}}")
            if re.search(r"[{}]", _BRACES.sub("", text)):
                self._fail(entry, f"a brace of '{text}' has no partner")
            # a text is parted into alternatives first
            for option in text.split(" | "):
                if re.search(r"[\[\]]", re.sub(r"\[[^\[\]]*\]", "", option)):
                    self._fail(entry, f"a square bracket of '{option}' has no partner{_NO_PARTNER}")
            if not all(option.strip() for option in f" {text} ".split(" | ")):
                self._fail(entry, f"an alternative of '{text}' is empty; write a text on either side of ' | '")
        return tuple(text for _, text in sentences)

    def _targets(self, node: yaml.Node, items: int) -> Path:
        text = self._text(node, "targets")
        try:
            # beside the task file, so that both can move together
            path = self.path.parent / Path(text).expanduser()
        except RuntimeError:
            self._fail(node, f"targets={text}: there is no such user's folder; write the whole path")
        if not self.check_targets:
            return path
        if not path.name.lower().endswith(ENDINGS):
            self._fail(node, f"targets={path.name}: give a .csv, .tsv or .parquet file")
        if not path.is_file():
            self._fail(node, f"there is no file {path}")
        from ilm_lightning.tasks.elm.own_examples import read_targets

        try:
            read_targets(path, items)
        except ValueError as error:
            self._fail(node, str(error))
        return path


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else f"'{node.value}'" if node.value else "nothing"


def _deep_line(text: str) -> int:
    """The first line that is nested too deeply."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return int(event.start_mark.line) + 1
    return 1


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
