"""Unpacking that never writes outside its folder: no absolute or ``..`` names, links or bombs, nothing half done."""

import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from .errors import ArchiveError

_BLOCK = 1 << 20
_UNREADABLE = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError),
)


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Attributes:
        max_bytes: of all files together.
        max_files: number of files.
        max_ratio: unpacked bytes per byte of the archive.
    """

    max_bytes: int = 8 << 30
    max_files: int = 20_000
    max_ratio: float = 100.0


DEFAULT_LIMITS = Limits()


def extract(
    archive: Path,
    folder: Path,
    *,
    members: Mapping[str, str] | None = None,
    prefix: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> list[Path]:
    """Unpack a zip (also a wheel) or tar archive into a new folder, all of it or nothing.

    Args:
        archive: the file.
        folder: target; must not exist yet, appears only when everything is unpacked.
        members: name in the archive to path below ``folder``; only these are taken, each must be there.
        prefix: without ``members``: take only what lies below this folder of the archive, and leave the prefix away.
        limits: size caps; what is written is counted, not what the archive claims.

    Returns:
        The files written, sorted.

    Raises:
        ArchiveError: not an archive, an unsafe or missing member, or more data than allowed.
    """
    if folder.exists():
        raise ArchiveError(f"{folder} exists already; unpack into a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    work.chmod(0o755)
    try:
        written = _unpack(archive, work, members, prefix, limits)
        work.replace(folder)
    except _UNREADABLE as error:
        raise ArchiveError(f"{archive.name} is not a readable archive: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return sorted(folder / path for path in written)


def _unpack(
    archive: Path, work: Path, members: Mapping[str, str] | None, prefix: str, limits: Limits
) -> list[PurePosixPath]:
    """Write the chosen members below ``work`` and return their relative paths."""
    budget = min(limits.max_bytes, int(limits.max_ratio * archive.stat().st_size))
    written: list[PurePosixPath] = []
    seen: set[str] = set()
    with _members(archive) as entries:
        for name, regular, stream in entries:
            target = _target(archive, name, regular, members, prefix)
            if target is None or stream is None:
                continue
            # one spelling on every file system
            if str(target).lower() in seen:
                raise ArchiveError(f"{archive.name} holds {name!r} twice")
            seen.add(str(target).lower())
            if len(written) == limits.max_files:
                raise ArchiveError(f"{archive.name} holds more than {limits.max_files} files")
            budget -= _copy(stream, work / target, budget, archive)
            written.append(target)
    missing = sorted(set(members or ()) - {name for name, path in (members or {}).items() if _safe(path) in written})
    if missing or not written:
        raise ArchiveError(f"{archive.name} lacks {', '.join(missing) or prefix or 'any file'}")
    return written


Entry = tuple[str, bool, IO[bytes] | None]


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Entry]]:
    """Names, whether each is a regular file, and an open stream (none for folders) of every member in order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield _zip_entries(packed)
    else:
        with tarfile.open(archive) as packed_tar:
            yield _tar_entries(packed_tar)


def _zip_entries(packed: zipfile.ZipFile) -> Iterator[Entry]:
    for info in packed.infolist():
        if not info.filename:
            raise ArchiveError("a member of the archive has no name")
        mode = info.external_attr >> 16
        regular = not stat.S_IFMT(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        if info.flag_bits & 0x1:
            raise ArchiveError(f"{info.filename!r} is encrypted")
        if info.is_dir() or not regular:
            yield info.filename, regular, None
        else:
            with packed.open(info) as stream:
                yield info.filename, True, stream


def _tar_entries(packed: tarfile.TarFile) -> Iterator[Entry]:
    for info in packed:
        stream = packed.extractfile(info) if info.isreg() else None
        yield info.name, info.isreg() or info.isdir(), stream


def _safe(name: str) -> PurePosixPath:
    """The relative path a member name stands for.

    Raises:
        ArchiveError: it is absolute, climbs with ``..``, or uses backslashes, drives or control characters.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"unsafe name {name!r} in the archive")
    if any(char in "\\:" or ord(char) < 32 for char in name):
        raise ArchiveError(f"unsafe character in the name {name!r}")
    return path


def _target(
    archive: Path, name: str, regular: bool, members: Mapping[str, str] | None, prefix: str
) -> PurePosixPath | None:
    """Where a member goes, or ``None`` if it is not taken; an unsafe member condemns the archive even if not taken."""
    path = _safe(name)
    if not regular:
        raise ArchiveError(f"{archive.name}: {name!r} is a link or a device")
    if not path.parts:
        return None
    if members is not None:
        return _safe(members[name]) if name in members else None
    if not prefix:
        return path
    folder = PurePosixPath(prefix)
    return path.relative_to(folder) if path.is_relative_to(folder) and path != folder else None


def _copy(stream: IO[bytes], path: Path, budget: int, archive: Path) -> int:
    """Write one file and return its size, stopping as soon as ``budget`` bytes are passed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as out:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > budget:
                raise ArchiveError(f"{archive.name} unpacks to far more than its size: refused")
            out.write(block)
    return size
