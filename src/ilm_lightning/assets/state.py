"""What is here and what could be had, without touching the network."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import Manifest, check_entry, tree
from .errors import AssetError
from .fetch import given_path
from .registry import REGISTRY, Asset, Hub

PRESENT, DAMAGED, FETCHABLE, MISSING = "present", "damaged", "fetchable", "missing"
OWN_COPY = "own copy"


@dataclass(frozen=True)
class AssetState:
    """One line of the list.

    Attributes:
        name: registry name.
        kind: what it is.
        state: ``present``, ``damaged`` (will be rebuilt), ``fetchable`` or ``missing``.
        source: where it came from, or would come from.
        size: bytes on disk; of what is not here, the expected size.
        licence: short name.
        needed: part of the set that the main job runs on.
        path: where it lies, empty if it is not here.
        note: what is wrong or lacking, empty if nothing.
    """

    name: str
    kind: str
    state: str
    source: str
    size: int
    licence: str
    needed: bool
    path: str = ""
    note: str = ""


def inspect_asset(
    asset: Asset, cache: Path, *, overrides: Mapping[str, str] | None = None, offline: bool = False, full: bool = False
) -> AssetState:
    """State of one asset.

    Args:
        asset: which.
        cache: the cache folder.
        overrides: name to the user's own copy.
        offline: only what needs no network counts as fetchable.
        full: hash every cached file again.

    Returns:
        Its state; nothing is fetched. What ``full`` finds changed is marked, so that the next use fetches it anew.
    """
    try:
        own = given_path(asset, overrides)
    except AssetError as error:
        return _state(asset, MISSING, OWN_COPY, asset.disk_megabytes * 1_000_000, note=str(error))
    if own is not None:
        return _own(asset, own)
    entry = cache / asset.name
    note = ""
    if entry.exists():
        try:
            manifest = Manifest.read(entry)
            problems = check_entry(entry, manifest, full=full)
            if manifest.version != asset.version:
                problems.append("built by an older version")
        except AssetError as error:
            problems = [str(error)]
        if not problems:
            path = entry / asset.main if asset.main else entry
            return _state(asset, PRESENT, f"{manifest.source}, cached", manifest.size, path)
        note = "; ".join(problems)
    sources = [source.where for source in asset.sources if not offline or _in_hub_cache(source)]
    state = DAMAGED if note else FETCHABLE if sources else MISSING
    if not sources:
        note = note or "offline"
    where = " or ".join(sources or [source.where for source in asset.sources])
    return _state(asset, state, where, asset.disk_megabytes * 1_000_000, note=note)


def inspect_all(
    cache: Path, *, overrides: Mapping[str, str] | None = None, offline: bool = False, full: bool = False
) -> list[AssetState]:
    """State of every asset, in the registry's order; arguments as for ``inspect_asset``."""
    return [inspect_asset(asset, cache, overrides=overrides, offline=offline, full=full) for asset in REGISTRY.values()]


def _state(asset: Asset, state: str, source: str, size: int, path: Path | None = None, note: str = "") -> AssetState:
    where = str(path) if path else ""
    return AssetState(asset.name, asset.kind, state, source, size, asset.licence.name, asset.needed, where, note)


def _own(asset: Asset, path: Path) -> AssetState:
    """The user's own copy, with a note on the usual files it lacks."""
    if path.is_file():
        return _state(asset, PRESENT, OWN_COPY, path.stat().st_size, path)
    lacking = [name for name in asset.files if not (path / name).is_file()]
    note = f"without {', '.join(lacking)}" if lacking else ""
    return _state(asset, PRESENT, OWN_COPY, sum(file.stat().st_size for file in tree(path)), path, note)


def _in_hub_cache(source: object) -> bool:
    """Whether the hub client's local cache holds the snapshot; looked up by folder, the client is slow to import."""
    if not isinstance(source, Hub):
        return False
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return (hub / f"models--{source.repo.replace('/', '--')}" / "snapshots" / source.revision).is_dir()
