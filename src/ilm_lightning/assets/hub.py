"""Snapshots of a model hub: any model by its name, ``owner/model`` or ``owner/model@revision``."""

import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from .errors import AssetError

HUB_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
# weights as safetensors and all that describes them; no second copy of the weights in another format
MODEL_PATTERNS = ("*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors", "[0-9]_*/*.safetensors")
_ACCESS = "set HF_TOKEN to a token of an account that may read it"


def flag(name: str) -> bool:
    """Whether an environment switch is on."""
    return os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}


def hub_name(text: str) -> tuple[str, str | None] | None:
    """Take a hub name apart.

    Args:
        text: what the user wrote.

    Returns:
        Repository and revision (None where none is given); None if it is not of that form.

    >>> hub_name("owner/model"), hub_name("owner/model@v1"), hub_name("./owner/model"), hub_name("model")
    (('owner/model', None), ('owner/model', 'v1'), None, None)
    """
    match = HUB_NAME.fullmatch(text)
    return None if match is None else (match["repo"], match["revision"])


def snapshot(repo: str, revision: str | None, patterns: Sequence[str], *, offline: bool) -> Path:
    """Fetch a repository's files into the hub client's cache, or find them there.

    Args:
        repo: repository id.
        revision: branch, tag or commit; None takes the default branch.
        patterns: which files.
        offline: touch no network; ``$HF_HUB_OFFLINE`` says the same.

    Returns:
        The snapshot's folder, its name the commit.

    Raises:
        AssetError: it could not be had, and why.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT

    closed = offline or flag("HF_HUB_OFFLINE")
    unreachable = None if closed else _unreachable(ENDPOINT)
    local = closed or unreachable is not None
    try:
        found = snapshot_download(repo, revision=revision, allow_patterns=list(patterns), local_files_only=local)
    # the hub client raises many unrelated kinds of error: all mean "not from here"
    except Exception as error:
        if local:
            raise AssetError(f"not in the hub's local cache, and {unreachable or 'offline'}") from error
        raise AssetError(_reason(error, repo, revision, ENDPOINT)) from error
    return Path(found)


def _reason(error: Exception, repo: str, revision: str | None, endpoint: str) -> str:
    """What the hub's refusal means for the user."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return f"gated: accept its terms at {endpoint}/{repo}, then {_ACCESS}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint} knows no {repo}, or it is private; check the name, or {_ACCESS}"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unreachable(endpoint: str) -> str | None:
    """Why an address cannot be reached at all, told at once: the hub client would retry for half a minute."""
    if urllib.request.getproxies():
        # the proxy looks names up, not we
        return None
    host = urllib.parse.urlsplit(endpoint).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return f"{host} not found ({error.strerror})"
    return None


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks to be loaded: its description, or weights as safetensors (every part of them).

    Args:
        folder: a model's folder.

    Returns:
        File names, empty where nothing is missing.
    """
    import json

    if not (folder / "config.json").is_file():
        return ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(part for part in parts if not (folder / part).is_file())
    return [] if (folder / "model.safetensors").is_file() else ["model.safetensors"]
