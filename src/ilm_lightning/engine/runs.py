"""A run's folder: its name, its stored configuration, and what its status file says. Imports nothing heavy."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ilm_lightning.engine.artifacts import fingerprint, write_json
from ilm_lightning.engine.config import Config, as_config
from ilm_lightning.reporting.text import redact

CONFIG = "config.yaml"
STATUS = "status.json"
PLACE = ("run", "resume", "outputs", "artifacts", "assets", "logger")
"""Keys that say where and how to report, not what is computed."""
PLACE_OF_TEACHER = (
    "url", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts",
    "max_requests", "batch_size",
)  # fmt: skip
"""Keys of the teacher that say how it is reached, not what it is asked."""


def run_id(config: Config) -> str:
    """Name of the run folder: the given one, or the row's name and the hash of what is computed."""
    if config.run:
        return config.run
    return f"{config.name}-{fingerprint(computed(config))[:8]}"


def run_folder(config: Config) -> Path:
    """Where a run leaves its results."""
    return Path(config.outputs) / run_id(config)


def computed(config: Config) -> dict[str, Any]:
    """The part of a configuration that says what is computed."""
    found = {key: value for key, value in asdict(config).items() if key not in PLACE}
    return found | {"teacher": {k: v for k, v in found["teacher"].items() if k not in PLACE_OF_TEACHER}}


def holds_other(folder: Path, config: Config) -> bool:
    """Tell whether a run folder is taken by another configuration."""
    if not (folder / CONFIG).is_file():
        return False
    return computed(as_config(OmegaConf.load(folder / CONFIG))) != computed(config)


def store_config(config: Config) -> Path:
    """Make the run folder and write the configuration into it.

    Args:
        config: the validated configuration.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds a run of another configuration.
    """
    folder = run_folder(config)
    if holds_other(folder, config):
        raise ValueError(f"run={config.run}: {folder} holds another configuration; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CONFIG}.{os.getpid()}"
    OmegaConf.save(OmegaConf.structured(config), temporary)
    temporary.replace(folder / CONFIG)
    return folder


def write_status(folder: Path, state: str, **facts: Any) -> None:
    """Say how a run stands: running, finished (with its objective), interrupted, preempted or failed (with error)."""
    told = {key: redact(value) if isinstance(value, str) else value for key, value in facts.items()}
    write_json(folder / STATUS, {"state": state, **told})


def read_status(folder: Path) -> dict[str, Any]:
    """What a run's status file says; empty where there is none or it cannot be read."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
