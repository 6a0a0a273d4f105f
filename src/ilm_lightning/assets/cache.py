"""The local cache: one folder per asset with a manifest, checked when read, replaced in one step."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import AssetError, ChecksumError

MANIFEST = "manifest.json"
_BLOCK = 1 << 22


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """The cache: the argument, else ``$ILM_CACHE``, else ``~/.cache/ilm_lightning``."""
    chosen = cache_dir or os.environ.get("ILM_CACHE") or Path.home() / ".cache" / "ilm_lightning"
    return Path(chosen).expanduser().absolute()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm == "md5" else hashlib.new(algorithm)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def content_digest(files: Mapping[str, str]) -> str:
    """Digest of a folder from the sha256 of its files by relative path."""
    lines = [f"{name} {sha256}\n" for name, sha256 in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify_file(path: Path, checksum: str) -> None:
    """Compare a file with its pinned checksum.

    Args:
        path: the file.
        checksum: ``"sha256:<hex>"``, ``"md5:<hex>"`` or a bare sha256.

    Raises:
        ChecksumError: the file differs; the message has both digests.
    """
    algorithm, _, expected = checksum.rpartition(":")
    found = file_digest(path, algorithm or "sha256")
    if found != expected.lower():
        kind = algorithm or "sha256"
        raise ChecksumError(f"{path.name} has {kind} {found}, expected {expected}: not opened")


@dataclass(frozen=True)
class FileRecord:
    """What the manifest holds about a file; an unchanged size and time spare the re-reading."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Manifest:
    """What is known of a cache entry.

    Attributes:
        name: registry name.
        label: how the bytes are called in prints.
        source: where they came from.
        sha256: of what was opened to build it.
        version: the asset's version when it was built.
        files: relative path to record.
    """

    name: str
    label: str
    source: str
    sha256: str
    version: int
    files: dict[str, FileRecord]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())

    def content(self, main: str | None = None) -> str:
        """Digest of the files that are opened, whatever they were made from: a changed conversion changes it.

        Args:
            main: the one file that is meant; None for the whole folder.
        """
        if main is not None:
            return self.files[main].sha256
        return content_digest({name: record.sha256 for name, record in self.files.items()})

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` in one step."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        write_atomic(folder / MANIFEST, text)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read ``manifest.json``.

        Raises:
            AssetError: missing or not a manifest.
        """
        try:
            raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            files = {path: FileRecord(**record) for path, record in raw.pop("files").items()}
            return cls(files=files, **raw)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AssetError(f"{folder / MANIFEST} cannot be read ({error})") from error


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that readers see the old or the new content, never a part."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    work = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        work.chmod(0o644)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def tree(folder: Path) -> list[Path]:
    """All files below a folder but manifest and hidden ones, sorted."""
    found = (path for path in folder.rglob("*") if path.is_file())
    keep = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in keep if path != folder / MANIFEST)


def record_tree(folder: Path) -> dict[str, FileRecord]:
    """Hash every file below a folder."""
    records = {}
    for path in tree(folder):
        status = path.stat()
        key = path.relative_to(folder).as_posix()
        records[key] = FileRecord(file_digest(path), status.st_size, status.st_mtime_ns)
    return records


def check_entry(folder: Path, manifest: Manifest, *, full: bool = False) -> list[str]:
    """What is wrong with a cache entry.

    Args:
        folder: the entry.
        manifest: its manifest.
        full: hash every file, also those whose size and time are as recorded.

    Returns:
        One line per damaged or missing file; empty when all is well.
    """
    problems, touched = [], False
    for name, record in manifest.files.items():
        path = folder / name
        try:
            status = path.stat()
        except OSError:
            problems.append(f"{name} is missing")
            continue
        if status.st_size != record.size:
            problems.append(f"{name} has {status.st_size} bytes instead of {record.size}")
        elif full or status.st_mtime_ns != record.mtime_ns:
            touched = touched or status.st_mtime_ns != record.mtime_ns
            if file_digest(path) != record.sha256:
                problems.append(f"{name} has changed (sha256 differs)")
                # a quick look goes by size and time: it must find what this one found
                with contextlib.suppress(OSError):
                    os.utime(path)
    if touched and not problems:
        _restamp(folder, manifest)
    return problems


def _restamp(folder: Path, manifest: Manifest) -> None:
    """Record new file times (a copied cache) so that the next reading is quick; a read-only cache stays as it is."""
    for name, record in manifest.files.items():
        stamp = (folder / name).stat().st_mtime_ns
        manifest.files[name] = FileRecord(record.sha256, record.size, stamp)
    try:
        manifest.write(folder)
    except OSError:
        return


def install(built: Path, entry: Path, trash: Path) -> None:
    """Put a finished folder in the place of a cache entry, readable for all who may read the cache.

    Args:
        built: the finished folder, on the same file system.
        entry: where it belongs; an older entry there is removed.
        trash: a folder to move the older entry into.
    """
    for path in tree(built):
        mode = path.stat().st_mode
        if mode & 0o444 != 0o444:
            path.chmod(mode | 0o444)
    if entry.exists():
        old = Path(tempfile.mkdtemp(dir=trash)) / entry.name
        entry.replace(old)
        shutil.rmtree(old.parent, ignore_errors=True)
    built.replace(entry)


def path_digest(path: Path, cache: Path) -> str:
    """Digest of a user's file or folder, remembered in the cache as long as sizes and times stay.

    Args:
        path: file or folder.
        cache: the cache folder; not being able to write there only costs time.

    Returns:
        sha256 of the file, or of the sorted names and sha256 of the folder's files.
    """
    path = path.resolve()
    files = [path] if path.is_file() else tree(path)
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    signature = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    memo = cache / ".digests" / hashlib.sha256(str(path).encode()).hexdigest()[:32]
    try:
        known, digest = memo.read_text(encoding="utf-8").split()
        if known == signature:
            return digest
    except (OSError, ValueError):
        pass
    if path.is_file():
        digest = file_digest(path)
    else:
        digest = content_digest({file.relative_to(path).as_posix(): file_digest(file) for file in files})
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memo, f"{signature} {digest}")
    except OSError:
        return digest
    return digest
