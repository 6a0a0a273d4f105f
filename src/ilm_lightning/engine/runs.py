"""A run's folder: its name, its stored configuration, and what its status file says. Imports nothing heavy."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ilm_lightning.engine.artifacts import fingerprint, write_json
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config import Config, as_config
from ilm_lightning.engine.storage import storage_advice
from ilm_lightning.reporting.text import redact

log = logging.getLogger("ilm_lightning")

CONFIG = "config.yaml"
STATUS = "status.json"
PLACE = ("run", "resume", "outputs", "artifacts", "assets", "logger")
"""Keys that say where and how to report, not what is computed."""
PLACE_OF_TEACHER = (
    "url", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts",
    "max_requests", "batch_size",
)  # fmt: skip
"""Keys of the teacher that say how it is reached, not what it is asked."""
NUMBERS_OF_TRAINER = ("precision",)
"""Keys of the trainer that a run may not change when it goes on; the others say on how many processes of what kind."""


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
    found["pretraining"] = without_idle_controls(found["pretraining"])
    return found | {"teacher": {k: v for k, v in found["teacher"].items() if k not in PLACE_OF_TEACHER}}


def without_idle_controls(pretraining: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of phase 1 without a control that is off, so that what was made before there was one keeps its name."""
    return {key: value for key, value in pretraining.items() if key != "shuffled_pairs" or value}


def stored_config(folder: Path) -> Config:
    """Read the configuration that a run was started with.

    Args:
        folder: of the run.

    Returns:
        It.

    Raises:
        ConfigError: the file is damaged, or of another version of this program.
    """
    path = folder / CONFIG
    try:
        node = OmegaConf.load(path)
        if not isinstance(node, DictConfig):
            raise ValueError("it holds no settings")
        return as_config(node)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = (
            f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else (str(error).splitlines() or [""])[0]
        )
        raise ConfigError(
            f"{path} cannot be read as a run's configuration ({reason}); delete it and start the run's command again, "
            "which writes it anew"
        ) from error


def holds_other(folder: Path, config: Config) -> bool:
    """Tell whether a run folder is taken by another configuration."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        return _goes_on(stored_config(folder)) != _goes_on(config)
    except ConfigError as error:
        if config.run:
            raise
        # the folder's name says what is computed there
        log.warning("%s; it is written anew now", str(error).split(";")[0])
        return False


def _goes_on(config: Config) -> dict[str, Any]:
    """What has to be equal for a run to go on in its folder, on fewer or more processes too."""
    found = computed(config)
    return found | {"trainer": {key: found["trainer"][key] for key in NUMBERS_OF_TRAINER}}


def store_config(config: Config) -> Path:
    """Make the run folder and write the configuration into it.

    Args:
        config: the validated configuration.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds a run of another configuration.
        StorageError: it cannot be written to.
    """
    folder = run_folder(config)
    if holds_other(folder, config):
        raise ValueError(f"run={config.run}: {folder} holds another configuration; choose another name")
    with storage_advice(folder, "outputs"):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = folder / f".{CONFIG}.{os.getpid()}"
        OmegaConf.save(OmegaConf.structured(config), temporary)
        temporary.replace(folder / CONFIG)
    return folder


def _sweep(folder: Path) -> None:
    """Delete what a process that was killed in the middle of a write has left in a run folder."""
    for written in folder.glob(".*.json.*"), folder.glob(f".{CONFIG}.*"):
        for left in written:
            process = left.suffix[1:]
            if process.isdigit() and not _alive(int(process)):
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def write_status(folder: Path, state: str, **facts: Any) -> None:
    """Say how a run stands: running, finished (objective, inputs), interrupted, preempted or failed (with error)."""
    told = {key: redact(value) if isinstance(value, str) else value for key, value in facts.items()}
    write_json(folder / STATUS, {"state": state, **told})


def read_status(folder: Path) -> dict[str, Any]:
    """What a run's status file says; empty where there is none or it cannot be read."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
