"""Whether somebody is logged in to Weights & Biases. Imports nothing heavy until it has to ask."""

import os

OFFLINE_MODES = ("offline", "dryrun", "disabled")


def logged_in() -> bool:
    """Whether there are credentials, in the environment or where ``wandb login`` keeps them; none is read further."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    return bool(wandb.api.api_key)


def offline_by_environment() -> bool:
    """Whether ``WANDB_MODE`` keeps W&B from the network."""
    return os.environ.get("WANDB_MODE", "").lower() in OFFLINE_MODES
