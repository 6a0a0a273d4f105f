"""Disks and artefacts: damage is named and rebuilt, a full or closed disk is told with the setting that moves it."""

import errno
import gc
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from faults.declared import Case, Fault, fault, marks, told
from ilm_lightning.engine.artifacts import MANIFEST, SCRATCH, Artifact, Store, write_json
from ilm_lightning.engine.storage import LEAST_FREE, StorageError, need_space
from ilm_lightning.lm.journal import Journal

AREA = "Artefacts"
DISK = "Disks"
REBUILT = "named, set aside, built again"


def build_all(folder: Path) -> Mapping[str, Any]:
    """Every kind of file that stages write."""
    draw = torch.Generator().manual_seed(0)
    save_file({"weight": torch.randn(64, 64, generator=draw)}, folder / "model.safetensors")
    pl.DataFrame({"item": range(500), "text": ["abc"] * 500}).write_parquet(folder / "table.parquet")
    write_json(folder / "metrics.json", {"sc": [0.25] * 100})
    (folder / "history.csv").write_text("step,value\n" * 200)
    return {"rows": 500}


def get(root: Path, build: Callable[[Path], Mapping[str, Any]] = build_all) -> Artifact:
    return Store(root).get("demo", {"x": 1}, {}, build)


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in artifact.path.iterdir() if p.name != MANIFEST}


def flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def replace_by_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "one bit flipped at a random place": flip,
    "cut at a random place": truncate,
    "deleted": lambda path, draw: path.unlink(),
    "a folder in its place": replace_by_folder,
    "a link to nothing in its place": lambda path, draw: (path.unlink(), path.symlink_to("nowhere")),
}
FILES = ("model.safetensors", "table.parquet", "metrics.json", "history.csv")


def damaged(root: Path, damage: Callable[[Path, random.Random], Any], name: str, caplog: Any) -> str:
    """Damage one file of an artefact and get it again."""
    whole = get(root)
    before = contents(whole)
    damage(whole.path / name, random.Random(f"{name}{damage}"[:20]))
    caplog.clear()
    assert contents(get(root)) == before
    assert len(list(root.glob("demo/*.damaged-*"))) == 1
    return str(caplog.messages[0])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            d, id=what.replace(" ", "-"), marks=marks(Fault(AREA, f"a file of a finished stage: {what}", REBUILT))
        )
        for what, d in DAMAGES.items()
    ],
)
def test_a_damaged_file_is_never_used(
    damage: Any, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    told = damaged(tmp_path, damage, name, caplog)
    assert name in told
    seen(told.replace(name, "FILE"))


MANIFESTS = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "of bytes that are no text": lambda path: path.write_bytes(b"\xff\xfe\x00" * 30),
    "a list": lambda path: path.write_text("[]"),
    "without its list of files": lambda path: path.write_text("{}"),
    "nested a hundred thousand deep": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            d, id=what.replace(" ", "-"), marks=marks(Fault(AREA, f"the manifest of a stage: {what}", REBUILT))
        )
        for what, d in MANIFESTS.items()
    ],
)
def test_a_damaged_manifest(
    damage: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    whole = get(tmp_path)
    before = contents(whole)
    damage(whole.path / MANIFEST)
    caplog.clear()
    assert contents(get(tmp_path)) == before
    seen(caplog.messages[0])


@fault(AREA, "a disk that cannot read a file any more (EIO)", REBUILT)
def test_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    from ilm_lightning.engine import artifacts

    get(tmp_path)
    original, failing = artifacts.file_hash, [True]

    def broken(path: Path) -> str:
        if path.suffix == ".parquet" and failing.pop() if failing else False:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return original(path)

    monkeypatch.setattr(artifacts, "file_hash", broken)
    caplog.clear()
    get(tmp_path)
    seen(caplog.messages[0])


@fault(AREA, "a stage killed in the middle, its folder full of halves", "started anew, only its checkpoints kept")
def test_half_done(tmp_path: Path, seen: Callable[[str], None]) -> None:
    artifact = get(tmp_path)
    part = artifact.path.with_name(f"{artifact.key}.part")
    artifact.path.replace(part)
    (part / SCRATCH).mkdir()
    (part / SCRATCH / "kept").touch()
    (part / "half").mkdir()
    found: list[str] = []

    def build(folder: Path) -> Mapping[str, Any]:
        found.extend(path.name for path in folder.iterdir())
        return build_all(folder)

    get(tmp_path, build)
    assert not part.exists()
    seen(f"began with {', '.join(found)}")


@fault(AREA, "the lock of a run that is dead", "goes on at once")
def test_stale_lock(tmp_path: Path, seen: Callable[[str], None]) -> None:
    artifact = get(tmp_path)
    shutil.rmtree(artifact.path)
    lock = artifact.path.with_name(f"{artifact.key}.lock")
    lock.write_text("4194303")
    begin = time.monotonic()
    get(tmp_path)
    assert time.monotonic() - begin < 5
    seen("built")


def _slow(root: str, name: str) -> None:
    def build(folder: Path) -> Mapping[str, Any]:
        (Path(root) / f"begun-{name}").touch()
        # the one that is killed would never end
        time.sleep(600 if name == "killed" else 0.5)
        (folder / "who").write_text(name)
        return {}

    get(Path(root), build)


@fault(AREA, "three runs on one artefact at once", "one builds, the others wait and use it")
def test_concurrent(tmp_path: Path, seen: Callable[[str], None]) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_slow, args=(str(tmp_path), str(n))) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    begun = len(list(tmp_path.glob("begun-*")))
    assert len(list(tmp_path.glob(f"demo/*/{MANIFEST}"))) == 1
    seen(f"built {begun} time")


@fault(AREA, "the run that builds is killed while another waits", "the other builds")
def test_the_builder_dies(tmp_path: Path, seen: Callable[[str], None]) -> None:
    context = multiprocessing.get_context("fork")
    first = context.Process(target=_slow, args=(str(tmp_path), "killed"))
    first.start()
    while not (tmp_path / "begun-killed").exists():
        time.sleep(0.01)
    second = context.Process(target=_slow, args=(str(tmp_path), "second"))
    second.start()
    time.sleep(0.1)
    first.kill()
    second.join(60)
    assert second.exitcode == 0
    seen(f"built by the {get(tmp_path).path.joinpath('who').read_text()}")


@fault(AREA, "damaged and unfinished folders that nobody touched for 30 days", "deleted, younger ones kept")
def test_old_folders_go(tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]) -> None:
    artifact = get(tmp_path)
    old, young = artifact.path.with_name("aa.damaged-1"), artifact.path.with_name("bb.part")
    busy = artifact.path.with_name("cc.part")
    for folder in (old, young, busy):
        shutil.copytree(artifact.path, folder)
    for folder in (old, busy):
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (0, 0))
    store = Store(tmp_path)
    with store._lock(busy.with_name("cc")):
        caplog.set_level(logging.INFO)
        caplog.clear()
        assert store.prune() > 0
    assert (old.exists(), young.exists(), busy.exists(), artifact.path.exists()) == (False, True, True, True)
    seen(caplog.messages[0])


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(
            p, id=w.replace(" ", "-"), marks=marks(Fault(AREA, f"texts written so far: {w}", "kept up to there"))
        )
        for w, p in (("the last line torn", -1), ("a bit flipped in the third line", 2))
    ],
)
def test_torn_journal(
    place: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    caplog.set_level(logging.INFO)
    journal = Journal(tmp_path / "texts.jsonl")
    for row in range(5):
        journal.add({f"e{row}": f"text {row}"})
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[place] = lines[place][:-5] if place < 0 else lines[place].replace(b"text 2", b"text 3")
    journal.path.write_bytes(b"".join(lines))
    again = Journal(journal.path)
    assert list(again.rows) == [f"e{row}" for row in range(4 if place < 0 else 2)]
    again.add({"new": 1})
    assert "new" in Journal(journal.path)
    seen(caplog.messages[0])


@contextmanager
def small_disk(folder: Path, size: str, options: str = "") -> Iterator[Path]:
    """A disk of a few megabytes in memory."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def big(folder: Path) -> Mapping[str, Any]:
    with (folder / "big.bin").open("wb") as stream:
        stream.write(bytes(80 << 20))
    return {}


def big_tensors(folder: Path) -> Mapping[str, Any]:
    save_file({"x": torch.zeros(20 << 20)}, folder / "x.safetensors")
    return {}


def big_checkpoint(folder: Path) -> Mapping[str, Any]:
    torch.save({"x": torch.zeros(20 << 20)}, folder / "x.ckpt")
    return {}


def big_table(folder: Path) -> Mapping[str, Any]:
    column = torch.randint(2**62, (10 << 20,)).numpy()
    pl.DataFrame({"x": column}).write_parquet(folder / "x.parquet", compression="uncompressed")
    return {}


FULL = {"a file": big, "safetensors": big_tensors, "a torch checkpoint": big_checkpoint, "parquet": big_table}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            b, id=w.replace(" ", "-"),
            marks=marks(Fault(DISK, f"the disk is full in the middle of {w}", "told, nothing of it used"), quick=False),
        )
        for w, b in FULL.items()
    ],
)  # fmt: skip
def test_full_disk(build: Callable[[Path], Mapping[str, Any]], tmp_path: Path, seen: Callable[[str], None]) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        with pytest.raises(StorageError, match=r"is full.*set artifacts=FOLDER") as caught:
            get(disk / "artifacts", build)
        assert not list(disk.glob("artifacts/demo/*/manifest.json"))
        # with space again the same command goes on
        message = str(caught.value)
        # the trace holds files open
        del caught
        gc.collect()
        get(disk / "artifacts")
        seen(message)


@fault(DISK, "too little space for a stage", "refused before the stage begins", quick=False)
def test_no_space_to_begin(tmp_path: Path, seen: Callable[[str], None]) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        seen(told(Case("", lambda folder: get(folder), "stage demo takes up to"), disk))


@fault(DISK, "too little space for a phase's checkpoints", "refused before the first step")
def test_no_space_for_checkpoints(tmp_path: Path, seen: Callable[[str], None]) -> None:
    with pytest.raises(StorageError, match=r"its checkpoints takes up to .* free") as caught:
        need_space(tmp_path, 1 << 62, "phase tune with its checkpoints")
    need_space(tmp_path / "not" / "there", 1, "x")
    seen(str(caught.value).replace(f"{(1 << 62) / 1e9:.1f} GB", "N MB"))


@fault(DISK, "the folder of artefacts is on a read-only disk", "told, with the setting that moves it", quick=False)
def test_read_only_disk(tmp_path: Path, seen: Callable[[str], None]) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        whole = get(disk / "artifacts")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        # what is there can be used
        assert contents(get(disk / "artifacts")) == contents(whole)

        def other(folder: Path) -> Any:
            return Store(folder / "artifacts").get("demo", {"x": 2}, {}, build_all)

        seen(told(Case("", other, "cannot write to .* set artifacts=FOLDER"), disk))


@fault(DISK, "a folder of artefacts that belongs to another user", "told, with the setting that moves it")
def test_folder_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Callable[[str], None]) -> None:
    # root may write anywhere, so the refusal is the system call's
    def refused(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    seen(told(Case("", lambda folder: get(folder / "artifacts"), "cannot write to"), tmp_path))


@fault(DISK, "a file where the folder of artefacts should be", "told, with the setting that moves it")
def test_file_in_place_of_folder(tmp_path: Path, seen: Callable[[str], None]) -> None:
    (tmp_path / "artifacts").write_text("mine")
    seen(told(Case("", lambda folder: get(folder / "artifacts"), "is a file where a folder is needed"), tmp_path))
    assert (tmp_path / "artifacts").read_text() == "mine"


@fault(DISK, "a limit on the size of files (ulimit -f)", "told", quick=False)
def test_file_size_limit(tmp_path: Path, seen: Callable[[str], None]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        message = told(Case("", lambda folder: get(folder, big), "ulimit -f"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    seen(message)


def test_errors_of_other_folders_are_left_as_they_are(tmp_path: Path) -> None:
    def build(folder: Path) -> Mapping[str, Any]:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/items.csv")

    with pytest.raises(PermissionError) as caught:
        get(tmp_path, build)
    assert not isinstance(caught.value, StorageError)
    assert shutil.disk_usage(tmp_path).free > LEAST_FREE
    assert json.loads((get(tmp_path).path / MANIFEST).read_text())["report"] == {"rows": 500}
