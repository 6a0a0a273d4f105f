"""Experiments against the values that are expected of them: ``experiments/NAME/expected.json``.

The file says what the experiment costs, the arguments of ``python -m ilm_lightning.train`` that run it, and checks. A
check is a value in a committed result, what it should be, by how much it may differ, and where that was measured. Cheap
experiments can be run anew, so that code and numbers do not drift apart.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "expected.json"
COSTS = ("cheap", "expensive")
KEYS = {"title", "cost", "minutes", "command", "checks"}
CHECK_KEYS = {"file", "value", "expected", "tolerance", "source"}


class ExpectedError(ValueError):
    """An ``expected.json`` that cannot be used, and what to mend."""


@dataclass(frozen=True)
class Check:
    """One expected value.

    Attributes:
        file: committed result, beside ``expected.json``.
        value: dotted path in it, such as ``all.sc.own``.
        expected: what it should be.
        tolerance: by how much it may differ.
        source: where the expected value was measured.
    """

    file: str
    value: str
    expected: float
    tolerance: float
    source: str


@dataclass(frozen=True)
class Experiment:
    """A folder's expectations.

    Attributes:
        folder: of the experiment.
        title: what it shows.
        cost: cheap ones may be run anew.
        minutes: of the whole command, on two cores.
        command: arguments of ``python -m ilm_lightning.train``.
        checks: at least one.
    """

    folder: Path
    title: str
    cost: str
    minutes: float
    command: tuple[str, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Outcome:
    """A check's result.

    Attributes:
        experiment: folder name.
        where: ``committed`` or ``run anew``.
        check: what was compared.
        found: the value, None where it is missing.
        problem: why it is missing; empty where it is there.
    """

    experiment: str
    where: str
    check: Check
    found: float | None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is there and within the tolerance."""
        return self.found is not None and abs(self.found - self.check.expected) <= self.check.tolerance

    @property
    def line(self) -> str:
        """One line for the screen."""
        check = self.check
        said = self.problem if self.found is None else f"{self.found:.4g}"
        mark = "ok    " if self.passed else "FAILED"
        wanted = f"expected {check.expected:.4g} ± {check.tolerance:.2g}, {check.source}"
        return f"{mark} {self.experiment}/{check.file} ({self.where}): {check.value} {said}; {wanted}"


def read_experiments(root: Path) -> list[Experiment]:
    """Read a folder's ``expected.json``, or where it has none every one a folder below.

    Args:
        root: an experiment, or the folder of experiments.

    Raises:
        ExpectedError: no such folder, no such file in it, or one that is not as described above.
    """
    if not root.is_dir():
        raise ExpectedError(f"{root}: there is no such folder; give the folder of experiments")
    paths = [root / NAME] if (root / NAME).is_file() else sorted(root.glob(f"*/{NAME}"))
    if not paths:
        raise ExpectedError(f"{root}: neither it nor a folder in it has an {NAME}")
    return [read_experiment(path) for path in paths]


def read_experiment(path: Path) -> Experiment:
    """Read and check one file.

    Raises:
        ExpectedError: names the file, the key and what it should be.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExpectedError(f"{path} cannot be read: {error}") from error
    _keys(path, plain, KEYS, "")
    if plain["cost"] not in COSTS:
        raise ExpectedError(f"{path}: cost is {plain['cost']!r}; choose one of {', '.join(COSTS)}")
    command = plain["command"]
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        raise ExpectedError(f"{path}: command must be a list of arguments of python -m ilm_lightning.train")
    if not isinstance(plain["checks"], list) or not plain["checks"]:
        raise ExpectedError(f"{path}: checks must be a list with at least one entry")
    checks = []
    for place, entry in enumerate(plain["checks"]):
        where = f"checks[{place}]."
        _keys(path, entry, CHECK_KEYS, where)
        for key in ("expected", "tolerance"):
            if not isinstance(entry[key], int | float) or not math.isfinite(entry[key]):
                raise ExpectedError(f"{path}: {where}{key} must be a number, not {entry[key]!r}")
        if entry["tolerance"] < 0:
            raise ExpectedError(f"{path}: {where}tolerance is {entry['tolerance']}; it must not be below 0")
        if not entry["source"]:
            raise ExpectedError(f"{path}: {where}source is empty; say where the value was measured")
        checks.append(Check(**entry))
    return Experiment(
        path.parent, str(plain["title"]), plain["cost"], float(plain["minutes"]), tuple(command), tuple(checks)
    )


def _keys(path: Path, plain: Any, wanted: set[str], where: str) -> None:
    if not isinstance(plain, Mapping):
        raise ExpectedError(f"{path}: {where or 'the file'} must be an object with {', '.join(sorted(wanted))}")
    if missing := sorted(wanted - set(plain)):
        raise ExpectedError(f"{path}: {where}{missing[0]} is missing")
    if unknown := sorted(set(plain) - wanted):
        raise ExpectedError(f"{path}: {where}{unknown[0]} is not known; the keys are {', '.join(sorted(wanted))}")


def compare(experiment: Experiment, results: Mapping[str, Path], where: str) -> list[Outcome]:
    """Hold values against results.

    Args:
        experiment: what is expected.
        results: file of a check -> where it lies.
        where: said beside each line.

    Returns:
        One outcome per check; a missing file or value is a failed one.
    """
    outcomes = []
    for check in experiment.checks:
        found, problem = _look_up(results[check.file], check.value)
        outcomes.append(Outcome(experiment.folder.name, where, check, found, problem))
    return outcomes


def _look_up(path: Path, value: str) -> tuple[float | None, str]:
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, f"{path} cannot be read ({error})"
    for part in value.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None, f"{path.name} has no {value}"
        node = node[part]
    if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
        return None, f"{value} is no number"
    return float(node), ""


def committed(experiment: Experiment) -> list[Outcome]:
    """Compare the results that lie beside the expectations."""
    results = {check.file: experiment.folder / check.file for check in experiment.checks}
    return compare(experiment, results, "committed")


def train(arguments: Sequence[str]) -> int:
    """Run the training command in a process of its own; its messages go to the screen."""
    return subprocess.run([sys.executable, "-m", "ilm_lightning.train", *arguments], check=False).returncode


def run_anew(experiment: Experiment, run: Callable[[Sequence[str]], int] = train) -> list[Outcome]:
    """Run an experiment from nothing, artefacts included, and compare what comes out.

    Args:
        experiment: a cheap one.
        run: the training command.

    Returns:
        One outcome per check.
    """
    with tempfile.TemporaryDirectory(prefix="ilm-experiment-") as folder:
        places = [f"outputs={folder}/outputs", f"artifacts={folder}/artifacts", "run=check"]
        status = run([*experiment.command, *places])
        if status != 0:
            problem = f"the command ended with status {status}"
            return [Outcome(experiment.folder.name, "run anew", c, None, problem) for c in experiment.checks]
        metrics = Path(folder) / "outputs" / "check" / "metrics.json"
        return compare(experiment, {check.file: metrics for check in experiment.checks}, "run anew")
