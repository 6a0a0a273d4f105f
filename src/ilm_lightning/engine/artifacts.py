"""Artefacts: the output folder of one stage, named by the hash of all that determines it.

A folder is built under a temporary name, its files are listed with their hashes in ``manifest.json``, then it is
renamed. Reading checks the hashes: a damaged folder is named, set aside and rebuilt, never used.
"""

import contextlib
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ilm_lightning import __version__
from ilm_lightning.engine.storage import LEAST_FREE, need_space, readable, storage_advice
from ilm_lightning.progress import clock

log = logging.getLogger("ilm_lightning")

MANIFEST = "manifest.json"
RECIPE = "recipe.json"
"""In `SCRATCH` of an unfinished stage: what determines it."""
SECONDS = "seconds.json"
"""Beside it: what the starts before took."""
KEPT_DAYS = 30.0
"""How long folders of unfinished and damaged artefacts are kept."""
SCRATCH = "checkpoints"
"""Sub folder of an unfinished stage that survives a restart; it is gone from the finished artefact."""
Build = Callable[[Path], Mapping[str, Any]]
"""Writes a stage's output into a folder and returns a short plain report."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage on disk."""

    stage: str
    key: str
    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """``stage/hash``, what other stages record as their input."""
        return f"{self.stage}/{self.key}"

    @property
    def report(self) -> dict[str, Any]:
        """What the building function returned."""
        report: dict[str, Any] = self.manifest["report"]
        return report


def fingerprint(value: object) -> str:
    """Hash plain data.

    Args:
        value: numbers, strings, lists and dictionaries.

    Returns:
        16 hexadecimal digits.

    >>> fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_version() -> dict[str, str]:
    """Package version and, in a git checkout, the commit; ``-dirty`` where files differ from it."""
    folder = Path(__file__).resolve().parent
    version = {"ilm_lightning": __version__, "python": platform.python_version()}
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        dirty = _git(folder, "status", "--porcelain", "--untracked-files=no")
        version["commit"] = commit + ("-dirty" if dirty else "")
    return version


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def source_hash(package: str) -> str:
    """Hash the Python files of one of our packages: for stages so cheap that any change of code may redo them."""
    folder = Path(__file__).resolve().parents[1] / package.replace(".", "/")
    return fingerprint({str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*.py"))})


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


class _Clock:
    """Seconds of a ``with`` block, those of interrupted ones before included; a process that was killed tells none.

    Attributes:
        before: of the starts before.
        total: of all, at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = self.total = 0.0
        with contextlib.suppress(OSError, ValueError, TypeError):
            self.before = self.total = float(json.loads(path.read_text(encoding="utf-8")))

    def __enter__(self) -> "_Clock":
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: object, *more: object) -> None:
        self.total = self.before + time.monotonic() - self._began
        if kind is not None:
            # of a full disk the stage's own error tells
            with contextlib.suppress(OSError):
                write_json(self.path, round(self.total, 2))


def _name(folder: Path) -> tuple[str, str]:
    """Stage and key of an artefact's folder."""
    return folder.parent.name, folder.name


class Crew(Protocol):
    """The processes of one run, as ``ilm_lightning.ranks`` has them."""

    def is_main(self) -> bool:
        """Whether this process builds and writes."""

    def from_main(self, value: Any) -> Any:
        """What the main process passes, on all."""


class Store:
    """The folder of all artefacts, ``<root>/<stage>/<hash>``.

    Args:
        root: the folder.
        crew: the processes of a run that has several: one builds, the others wait, or take part in some stages.
    """

    def __init__(self, root: str | Path, crew: Crew | None = None) -> None:
        self.root = Path(root)
        self._crew = crew
        self._alone = False

    def get(
        self,
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact | str],
        build: Build,
        together: bool = False,
    ) -> Artifact:
        """Return the artefact of a stage, building it only if it is not there yet.

        Args:
            stage: name of the stage, also its folder.
            settings: plain data that determines the output, beside the inputs.
            inputs: artefacts (or hashes of files) that the stage reads.
            build: writes the output into the folder it is given and returns a short plain report. After an interruption
                it is called again on the same folder, with only the ``checkpoints`` sub folder kept.
            together: all processes of the run build, the others in folders that are thrown away. Else one builds alone.

        Returns:
            The finished artefact, its files checked.
        """
        recipe = {
            "stage": stage,
            "settings": dict(settings),
            "inputs": {name: value.id if isinstance(value, Artifact) else value for name, value in inputs.items()},
        }
        folder = self.root / stage / fingerprint(recipe)
        # within a stage that one process builds alone, the others are not there to be told
        crew = None if self._alone else self._crew
        if crew is not None and not crew.is_main():
            return self._follow(crew, folder, build)

        def announced(work: Path) -> Mapping[str, Any]:
            if together and crew is not None:
                crew.from_main("build")
            before, self._alone = self._alone, self._alone or not together
            try:
                return build(work)
            finally:
                self._alone = before

        found = self._get(recipe, folder, announced)
        if crew is not None:
            crew.from_main("ready")
        return found

    def find(self, artifact_id: str) -> Artifact | None:
        """An artefact that was built before, by its ``stage/key``; None where it is gone or damaged."""
        return self._read(self.root / artifact_id)

    def _get(self, recipe: Mapping[str, Any], folder: Path, build: Build) -> Artifact:
        with storage_advice(self.root):
            folder.parent.mkdir(parents=True, exist_ok=True)
            found = self._read(folder)
            if found is not None:
                log.info("%-9s %s (there already)", found.stage, found.key)
                return found
            with self._lock(folder):
                # another process may have built it while this one waited
                return self._read(folder) or self._build(recipe, folder, build)

    def prune(self, days: float = KEPT_DAYS) -> int:
        """Delete what no run will come back for: damaged and unfinished folders that were not touched for so long.

        Args:
            days: age from which they go; those that a run is working on stay.

        Returns:
            The number of bytes that became free.
        """
        freed = 0
        for folder in [*self.root.glob("*/*.damaged-*"), *self.root.glob("*/*.part")]:
            files = [path for path in folder.rglob("*") if path.is_file()]
            last = max((path.stat().st_mtime for path in (folder, *files)), default=0.0)
            if time.time() - last < days * 86_400:
                continue
            lock = FileLock(f"{folder.with_name(folder.name.split('.')[0])}.lock")
            with contextlib.suppress(Timeout, OSError), lock.acquire(timeout=0):
                size = sum(path.stat().st_size for path in files)
                shutil.rmtree(folder)
                freed += size
                log.info("deleted %s: untouched for %g days (%s)", folder, days, readable(size))
        return freed

    def _follow(self, crew: Crew, folder: Path, build: Build) -> Artifact:
        """Do as the main process says: take part, then read what it wrote."""
        word = crew.from_main(None)
        if word == "build":
            with TemporaryDirectory(prefix="ilm-") as own:
                build(Path(own))
            word = crew.from_main(None)
        assert word == "ready"
        found = self._read(folder)
        if found is None:
            raise RuntimeError(f"{folder} was built, but is not here: artifacts= must be a folder that all nodes share")
        return found

    def _lock(self, folder: Path) -> FileLock:
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            log.info("another run is building %s; waiting for it", folder)
        return lock

    def _build(self, recipe: Mapping[str, Any], folder: Path, build: Build) -> Artifact:
        stage, key = _name(folder)
        log.info("%-9s %s", stage, key)
        work = folder.with_name(f"{key}.part")
        work.mkdir(exist_ok=True)
        for left in work.iterdir():
            if left.name != SCRATCH:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        need_space(self.root, LEAST_FREE, f"stage {stage}")
        (work / SCRATCH).mkdir(exist_ok=True)
        write_json(work / SCRATCH / RECIPE, recipe)
        with _Clock(work / SCRATCH / SECONDS) as clocked:
            report = build(work)
        shutil.rmtree(work / SCRATCH, ignore_errors=True)
        files = {str(path.relative_to(work)): path for path in sorted(work.rglob("*")) if path.is_file()}
        manifest = {
            **recipe,
            "report": dict(report),
            "seconds": round(clocked.total, 2),
            "versions": code_version(),
            "files": {name: {"sha256": file_hash(path), "bytes": path.stat().st_size} for name, path in files.items()},
        }
        write_json(work / MANIFEST, manifest)
        work.replace(folder)
        before = f", {clock(clocked.total)} with the starts before" if clocked.before else ""
        log.info("%-9s done in %s%s", stage, clock(clocked.total - clocked.before), before)
        return Artifact(stage, key, folder, manifest)

    def _read(self, folder: Path) -> Artifact | None:
        if not folder.is_dir():
            return None
        stage, key = _name(folder)
        manifest: dict[str, Any] = {}
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            damage = self._damage(folder, manifest)
        except FileNotFoundError:
            damage = f"{MANIFEST} is missing"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            damage = f"{MANIFEST} is not as it was written ({type(error).__name__})"
        except OSError as error:
            damage = f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
        if not damage:
            return Artifact(stage, key, folder, manifest)
        aside = folder.with_name(f"{key}.damaged-{time.time_ns()}")
        folder.replace(aside)
        log.warning("artefact %s/%s is damaged: %s; it was moved to %s and is built again", stage, key, damage, aside)
        return None

    @staticmethod
    def _damage(folder: Path, manifest: Mapping[str, Any]) -> str:
        for name, entry in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != entry["bytes"] or file_hash(path) != entry["sha256"]:
                return f"{name} has changed since it was written"
        return ""
