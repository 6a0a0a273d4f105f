"""What a report reads of a run's files: one of another version, or a damaged one, is named instead of stumbled on.

A shape is a type, a tuple of types, a list with the shape of each entry, or a mapping: ``"key"`` has to be there,
``"key?"`` may be left out, ``"*"`` stands for every key that is not named.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Shape = Any

NUMBER = (int, float)
_CONDITIONS = {"*": NUMBER}
_SCORED = {"sc?": _CONDITIONS, "sc_second?": _CONDITIONS, "rouge_l?": _CONDITIONS, "slot_accuracy?": _CONDITIONS}
_PROTOCOL = {"seed?": int, "configurations_tried?": int, "data?": str}
_CUTS = {"5": NUMBER, "10": NUMBER}
_RANKED = {
    "hr": _CUTS, "ndcg": _CUTS, "hr_error?": _CUTS, "ndcg_error?": _CUTS, "invalid?": NUMBER, "parameters?": int,
    "untied?": {"hr": _CUTS, "ndcg": _CUTS, "users": int},
}  # fmt: skip

LANGUAGE: Mapping[str, Shape] = {
    "all": {"sc": {"own": NUMBER, "*": NUMBER}, "*": _CONDITIONS},
    "tasks": {"*": _SCORED},
    "protocol": _PROTOCOL,
    "scorer?": str,
    "second_scorer?": str,
    "n_movies?": int,
    "n_examples?": int,
    "differences?": {
        "sc?": {"best_control?": {"mean": NUMBER, "low": NUMBER}},
        "bits?": {"blind?": {"mean": NUMBER}},
    },
    "retrieval?": {"own?": {"all": {"r1": NUMBER, "chance_r1": NUMBER, "mrr": NUMBER, "chance_mrr": NUMBER}}},
    "claims?": {"best_control?": {"verdict?": str}},
    "controls?": {"best_control?": [str]},
    "run?": {},
}
RECOMMENDATION: Mapping[str, Shape] = {
    "ranking": {"*": {"*": _RANKED}},
    "baselines": {"*": _RANKED},
    "protocol": _PROTOCOL,
    "recipe?": {
        "adapter": {"kind": str, "init": str, "num_queries": int},
        "tuning": {"mode": str, "steps": int, "batch_size": int, "lm_first_steps?": int},
        "tasks": {},
        "pretraining?": {"losses": [str], "steps": int, "batch_size": int},
    },
    "baseline_settings?": {"*": {}},
    "parameters?": [{"trainable": int}],
    "counts?": {"items": int, "*": int},
    "run?": {},
}
CONFIG: Mapping[str, Shape] = {
    "name?": str,
    "seed?": int,
    "adapter?": {"kind?": str, "num_queries?": int, "source_tokens?": int},
    "pretraining?": {"losses?": [str], "proportions?": {"*": NUMBER}},
    "tuning?": {"mode?": str, "steps?": int, "batch_size?": int},
}


def fitted(metrics: Mapping[str, Any], shape: Mapping[str, Shape]) -> tuple[dict[str, Any], str, list[str]]:
    """Hold metrics against what is read of them.

    Args:
        metrics: as in ``metrics.json``.
        shape: ``LANGUAGE`` or ``RECOMMENDATION``.

    Returns:
        The metrics without the optional parts that have another form; the first fault of a part that has to be there,
        empty without one; and the first fault of each part that was left out.

    >>> kept, fault, left_out = fitted({"a": 1, "b": "x"}, {"a": int, "b?": int})
    >>> kept, fault, left_out
    ({'a': 1}, '', ["b is 'x', not a number"])
    """
    kept, left_out = _told(metrics), []
    for key, wanted in shape.items():
        name = key.removesuffix("?")
        fault = next(faults(kept, {key: wanted}), "")
        if fault and name == key:
            return kept, fault, []
        if fault:
            left_out.append(fault)
            kept.pop(name)
    return kept, "", left_out


def _told(value: Any) -> Any:
    """The value without keys that hold null: they say as much as keys that are not there."""
    if isinstance(value, Mapping):
        return {key: _told(entry) for key, entry in value.items() if entry is not None}
    return value


def faults(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """Where a value has another form.

    >>> list(faults({"a": {"b": [1, "x"]}}, {"a": {"b": [int], "c": str}}))
    ["a.b.1 is 'x', not a number", 'a.c is missing']
    """
    if isinstance(shape, Mapping):
        yield from _mapping(value, shape, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} is {_shown(value)}, not a list"
            return
        for place, entry in enumerate(value):
            yield from faults(entry, shape[0], f"{where}.{place}")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        yield f"{where} is {_shown(value)}, not {'a text' if shape is str else 'a number'}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where} is {value}, not a number"


def _mapping(value: Any, shape: Mapping[str, Shape], where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {_shown(value)}, not a mapping"
        return
    prefix = f"{where}." if where else ""
    named = {key.removesuffix("?") for key in shape}
    for key, wanted in shape.items():
        name = key.removesuffix("?")
        if key == "*":
            for other in (entry for entry in value if entry not in named):
                yield from faults(value[other], wanted, f"{prefix}{other}")
        elif name in value:
            yield from faults(value[name], wanted, f"{prefix}{name}")
        elif name == key:
            yield f"{prefix}{name} is missing"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
