"""What two whole runs are compared by, and what a run may not leave behind."""

import hashlib
import json
import os
from collections.abc import Callable
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
    run = folder / "outputs" / RUN
    metrics = json.loads((run / "metrics.json").read_text())
    table = pl.read_parquet(run / "predictions.parquet")
    keys = [name for name in ("example_id", "task", "prompts", "user", "condition", "generated") if name in table]
    weights = {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "model").rglob("*.safetensors"))}
    return {
        "metrics": {key: value for key, value in metrics.items() if key not in UNEQUAL},
        "predictions": table.sort(keys).to_dicts(),
        "weights": weights,
        "artifacts": sorted(
            str(p.parent.relative_to(folder))
            for p in folder.glob(f"artifacts/*/*/{MANIFEST}")
            if ".damaged-" not in p.parent.name
        ),
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
