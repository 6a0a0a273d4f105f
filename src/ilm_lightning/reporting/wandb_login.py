"""Whether somebody is logged in to Weights & Biases; asked without importing it."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

OFFLINE_MODES = ("offline", "dryrun", "disabled")
SERVER = "https://api.wandb.ai"


def logged_in() -> bool:
    """Whether there are credentials, in the environment or in the netrc file where ``wandb login`` keeps them."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", SERVER)).hostname or ""
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
    return any(_knows(place, host) for place in places if place.is_file())


def _knows(place: Path, host: str) -> bool:
    try:
        return host in netrc.netrc(str(place)).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def offline_by_environment() -> bool:
    """Whether ``WANDB_MODE`` keeps W&B from the network."""
    return os.environ.get("WANDB_MODE", "").lower() in OFFLINE_MODES
