"""Settings that earlier versions called otherwise, as configurations stored beside runs still do."""

from collections.abc import Mapping
from typing import Any


def renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a stored configuration, plain and nested, the names of today.

    >>> old = {"tuning": {"text_first_steps": 0, "blind_first_steps": 400, "blind_first_lr": 0.002}}
    >>> renamed(old)
    {'tuning': {'lm_first_steps': 400, 'lm_first_lr': 0.002}}
    """
    found = dict(config)
    tasks, tuning = found.get("tasks"), found.get("tuning")
    if isinstance(tasks, Mapping):
        # before the teacher was a group of its own it was facts
        found["tasks"] = {key: value for key, value in tasks.items() if key != "teacher"}
    if isinstance(tuning, Mapping):
        found["tuning"] = _lm_first(tuning)
    return found


def _lm_first(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """There was one setting for language tasks and one for recommendation; a run could use the one of its tasks."""
    kept = {key: value for key, value in tuning.items() if not key.startswith(("blind_first_", "text_first_"))}
    used = "text_first" if tuning.get("text_first_steps") else "blind_first"
    for part in ("steps", "lr"):
        if (old := tuning.get(f"{used}_{part}")) is not None:
            kept.setdefault(f"lm_first_{part}", old)
    return kept
