"""Disks that are full or read-only, folders of others: told with the setting that moves them, if possible before."""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("ilm_lightning")
LEAST_FREE = 32 << 20
"""Bytes that must be free before a stage begins: its tables, texts and reports."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_FULL_WORDS = ("no space left", "disk quota exceeded", "file too large")
_CLOSED_WORDS = ("read-only file system", "permission denied")
_WRITERS = ("pytorchstreamwriter", "basic_ios::clear", "iostream error", "unexpected pos")
"""How torch says that a file could not be written, without saying why."""


class StorageError(OSError):
    """A folder that cannot be written to; the message says which, why, and what to do."""


def readable(size: float) -> str:
    """A number of bytes for a message.

    >>> readable(0), readable(3_400_000), readable(2.5e9)
    ('0 MB', '3 MB', '2.5 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, or of the nearest one above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def need_space(folder: Path, size: int, what: str, setting: str = "artifacts") -> None:
    """Refuse to begin a long write that cannot end.

    Args:
        folder: where it goes.
        size: bytes it takes at most.
        what: what is to be written.
        setting: the setting that names the folder.

    Raises:
        StorageError: less is free.
    """
    free = free_bytes(folder)
    if free < size:
        raise StorageError(
            f"{what} takes up to {readable(size)}, and {folder} has {readable(free)} free; free space there, or set "
            f"{setting}=FOLDER on another disk"
        )


@contextmanager
def storage_advice(folder: Path, setting: str = "artifacts") -> Iterator[None]:
    """Turn a write that failed in this block into advice; errors of other folders' files pass.

    Args:
        folder: what is written to.
        setting: the setting that names it.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        told = _told(error, folder, setting)
        if told is None:
            raise
        raise StorageError(told) from error


def _told(error: Exception, folder: Path, setting: str) -> str | None:
    number, words = getattr(error, "errno", None), str(error).lower()
    named = getattr(error, "filename", None)
    ours = named is None or _within(Path(str(named)).absolute(), folder.absolute())
    full = number in FULL or any(word in words for word in _FULL_WORDS)
    # torch and others do not say why a write failed
    full |= any(word in words for word in _WRITERS) and free_bytes(folder) < LEAST_FREE
    if number == errno.EFBIG and ours:
        return f"{folder}: files of this size are not allowed here (see ulimit -f); what was finished is kept"
    if full and ours:
        return (
            f"the disk of {folder} is full ({readable(free_bytes(folder))} free); what was finished is kept: free "
            f"space there and repeat the command, or set {setting}=FOLDER on another disk"
        )
    closed = number in CLOSED or any(word in words for word in _CLOSED_WORDS)
    if closed and ours and (named is not None or str(folder) in str(error)):
        return f"cannot write to {folder} ({_reason(error)}); set {setting}=FOLDER to a folder that you own"
    if number in (errno.ENOTDIR, errno.EEXIST) and ours:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        if file is not None:
            return f"{file} is a file where a folder is needed; move it away or set {setting}=FOLDER"
    return None


def _within(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or str(error).splitlines()[0])
