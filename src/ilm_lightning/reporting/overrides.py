"""What the commands of runs have in common, for the commands of others that have to be like them."""

import shlex
from collections.abc import Sequence

from ilm_lightning.reporting.machines import threads_of
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.text import MASK

_OF_A_ROW = ("experiment", "adapter", "seed", "outputs", "artifacts", "run", "resume", "logger", "trainer", "name")
"""Groups and keys of the configuration whose overrides say which row a run is, or where and how it ran."""


def shared_overrides(runs: Sequence[Run]) -> str:
    """What the commands of all runs say beside the row they ask for, each override with a leading space.

    One may say by ``budget=tables`` what another writes out, so the longest command is taken, and of it what all other
    runs were told or have in their configuration. The number of threads is among it, which a run may have been given by
    its queue: it is part of a row.
    """
    said = {id(run): _words(str(run.facts.get("command", ""))) for run in runs}
    longest = max(runs, key=lambda run: len(said[id(run)]))

    def holds(run: Run, word: str) -> bool:
        key = word.partition("=")[0].removeprefix("++")
        told = run.setting(key) if "." in key else None
        return word in said[id(run)] or (told is not None and told == longest.setting(key))

    shared = [word for word in said[id(longest)] if _is_shared(word) and all(holds(run, word) for run in runs)]
    threads = {threads_of(run) for run in runs}
    shared += [f"trainer.threads={number}" for number in threads if number is not None and len(threads) == 1]
    return "".join(f" {shlex.quote(word)}" for word in shared)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _is_shared(word: str) -> bool:
    """Whether a word of a command is an override of another key than those that tell rows apart."""
    key, mark, value = word.partition("=")
    # `sweep` would run the whole table
    apart = key.split(".")[0] in _OF_A_ROW or key in ("tuning", "pretraining", "encoder", "sweep")
    plain = key.removeprefix("++").replace(".", "").replace("_", "").isalnum() and not key.startswith("hydra")
    return bool(mark) and plain and not apart and MASK not in value and ("," not in value or value.startswith("["))
