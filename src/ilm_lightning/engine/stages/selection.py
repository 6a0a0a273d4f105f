"""How many configurations of a variant were tried: the more, the better the best of them looks by chance."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ilm_lightning.engine.artifacts import fingerprint
from ilm_lightning.engine.config import Config, as_config

UNTRIED = ("seed", "run", "resume", "outputs", "artifacts", "assets", "logger", "trainer", "evaluation")
"""Keys whose change is no new try: seeds repeat one, the others say where, on what and how much is reported."""


def variant_of(config: Config) -> dict[str, Any]:
    """What makes two runs the same variant on the same data; all else that can be set can be tried.

    Args:
        config: a run's configuration.

    Returns:
        Name, data, tasks, encoder, kind and start of the adapter, language model and tuning mode.
    """
    return {
        "name": config.name,
        "data": asdict(config.data),
        "tasks": asdict(config.tasks),
        "encoder": config.encoder.name,
        "adapter": [config.adapter._target_ or config.adapter.kind, config.adapter.init],
        "lm": config.lm.name,
        "tuning": config.tuning.mode,
    }


def configurations_tried(config: Config) -> int:
    """Count the distinct configurations of this variant among the runs in its folder of outputs, this one included.

    Every learning rate that a run tries before its phase 2 is a configuration. A run counts from its start, finished
    or not: its validation losses were on the screen. Runs that were deleted, written elsewhere, or made by a version
    with other settings are not known and not counted.

    Args:
        config: the run's configuration.

    Returns:
        At least 1.
    """
    tried = _settings(config)
    for path in sorted(Path(config.outputs).glob("*/config.yaml")):
        other = _read(path, config.name)
        if other is not None and variant_of(other) == variant_of(config):
            tried |= _settings(other)
    return len(tried)


def _read(path: Path, name: str) -> Config | None:
    """The configuration in a run folder; None where it is another row's or cannot be read."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        # most are other rows', and reading YAML takes its time; a name that YAML may quote or fold is not looked for
        if name.replace("-", "_").isidentifier() and name.isascii() and name not in text:
            return None
        node = OmegaConf.create(text)
        return as_config(node) if isinstance(node, DictConfig) and node.get("name") == name else None
    except (OSError, ValueError, OmegaConfBaseException, YAMLError):
        return None


def _settings(config: Config) -> set[str]:
    plain = {key: value for key, value in asdict(config).items() if key not in UNTRIED}
    tuning = {key: value for key, value in plain["tuning"].items() if key not in ("lr_trials", "trial_steps")}
    rates = plain["tuning"]["lr_trials"] or [tuning["adapter_lr"]]
    return {fingerprint({**plain, "tuning": {**tuning, "adapter_lr": rate}}) for rate in rates}
