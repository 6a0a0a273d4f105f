"""Checks of the loggers: a missing package or login is told before anything is computed."""

import os
from importlib.util import find_spec

from ilm_lightning.engine.checks import ConfigError, not_negative, positive
from ilm_lightning.engine.config_logger import LoggerConfig
from ilm_lightning.reporting.wandb_login import logged_in, offline_by_environment

LONGEST_TAG = 64
"""W&B takes no longer ones."""
SHORTEST_KEY = 40
"""W&B refuses shorter ones, but only when the first phase starts."""


def check_logger(settings: LoggerConfig) -> None:
    """Check that the loggers asked for can work.

    Raises:
        ConfigError: names the key and what to do.
    """
    not_negative(logger__samples=settings.samples)
    positive(logger__sample_tokens=settings.sample_tokens)
    if settings.tensorboard and find_spec("tensorboard") is None:
        raise ConfigError(
            "logger.tensorboard=true needs the tensorboard package: pip install 'ilm-lightning[tensorboard]'"
        )
    for tag in settings.tags:
        if not 0 < len(tag) <= LONGEST_TAG:
            raise ConfigError(f"logger.tags={tag!r}: a tag has 1 to {LONGEST_TAG} characters")
    if not settings.wandb:
        return
    if find_spec("wandb") is None:
        raise ConfigError("logger=wandb needs the wandb package: pip install 'ilm-lightning[wandb]'")
    if settings.offline or offline_by_environment():
        return
    if not logged_in():
        raise ConfigError(
            "logger=wandb: nobody is logged in to Weights & Biases; run `wandb login`, set WANDB_API_KEY, or take "
            "logger=wandb_offline and `wandb sync` later"
        )
    key = os.environ.get("WANDB_API_KEY", "")
    if 0 < len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"logger=wandb: WANDB_API_KEY has {len(key)} characters, a key at least {SHORTEST_KEY}: copy it whole from "
            "https://wandb.ai/authorize, or take logger=wandb_offline and `wandb sync` later"
        )
