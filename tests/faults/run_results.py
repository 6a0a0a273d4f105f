"""What two whole runs are compared by, and what a run may not leave behind."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.engine.artifacts import MANIFEST, Store

RUN = "killed"
UNEQUAL = ("run",)
"""Keys of metrics.json that no two runs share: seconds, memory, paths."""


def apart(work: Callable[[], Any]) -> Any:
    """Call a function in a process of its own; threads that polars or tokenizers start would not survive a fork."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(process, 0)
    return json.loads(answer)


def digests(folder: Path) -> dict[str, str]:
    """The hash of everything of a run that must not depend on how often it was killed."""
    return {key: hashlib.sha256(repr(value).encode()).hexdigest() for key, value in results(folder).items()}


def results(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on how often it was killed."""
    return of_run(folder / "outputs" / RUN) | {
        "artifacts": sorted(
            str(p.parent.relative_to(folder))
            for p in folder.glob(f"artifacts/*/*/{MANIFEST}")
            if ".damaged-" not in p.parent.name
        )
    }


def of_run(run: Path) -> dict[str, Any]:
    """The same of a run's folder alone, without its artefacts."""
    metrics = json.loads((run / "metrics.json").read_text())
    table = pl.read_parquet(run / "predictions.parquet")
    keys = [name for name in ("example_id", "task", "prompts", "user", "condition", "generated") if name in table]
    weights = {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "model").rglob("*.safetensors"))}
    return {
        "metrics": {key: value for key, value in metrics.items() if key not in UNEQUAL},
        "predictions": table.sort(keys).to_dicts(),
        "weights": weights,
        "status": json.loads((run / "status.json").read_text()),
    }


def faults(folder: Path) -> list[str]:
    """What is not as it should be among the artefacts: damaged, half done, or left behind."""
    found = [str(p.relative_to(folder)) for p in folder.glob("artifacts/*/*.damaged-*")]
    found += [str(p.relative_to(folder)) for p in folder.glob("artifacts/*/*.part")]
    found += [str(p.relative_to(folder)) for p in (folder / "outputs").rglob(".*")]
    for manifest in folder.glob(f"artifacts/*/*/{MANIFEST}"):
        damage = Store._damage(manifest.parent, json.loads(manifest.read_text()))
        found += [f"{manifest.parent.relative_to(folder)}: {damage}"] if damage else []
    return found


def different(whole: Path, other: Path) -> list[str]:
    """What of two runs is not equal."""
    there, here = (apart(partial(digests, one)) for one in (whole, other))
    return [key for key in there if there[key] != here[key]]


def unequal(whole: Path, other: Path) -> list[str]:
    """Where two runs' folders differ, with the values; empty where all is equal to the last digit."""
    there, here = of_run(whole), of_run(other)
    told = [f"{name}: {one!r}, not {two!r}" for name, one, two in _apart(there["metrics"], here["metrics"], "metrics")]
    rows = list(zip(there["predictions"], here["predictions"], strict=False))
    other_rows = sum(one != two for one, two in rows)
    if other_rows or len(there["predictions"]) != len(here["predictions"]):
        told.append(f"predictions: {other_rows} of {len(rows)} rows differ")
    for name in sorted(there["weights"].keys() | here["weights"].keys()):
        one, two = (weights.get(name) for weights in (there["weights"], here["weights"]))
        if one != two:
            told.append(f"weights: {name}: " + ("is there once" if None in (one, two) else "other bytes"))
    return told + [
        f"{name}: {one!r}, not {two!r}" for name, one, two in _apart(there["status"], here["status"], "status")
    ]


def _apart(one: Any, two: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Every value that two nested values do not share, with its path."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in one | two:
            yield from _apart(one.get(key), two.get(key), f"{name}.{key}")
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for place, (left, right) in enumerate(zip(one, two, strict=True)):
            yield from _apart(left, right, f"{name}.{place}")
    elif one != two and not (one != one and two != two):
        yield name, one, two
