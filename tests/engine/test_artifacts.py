import json
import multiprocessing
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ilm_lightning.engine.artifacts import SCRATCH, Artifact, Store, fingerprint, write_json


def make(store: Store, text: str = "hello", calls: list[str] | None = None, **settings: object) -> Artifact:
    def build(folder: Path) -> Mapping[str, Any]:
        if calls is not None:
            calls.append(text)
        (folder / "a.txt").write_text(text, encoding="utf-8")
        return {"length": len(text)}

    return store.get("demo", settings, {}, build)


def test_builds_once_and_lists_hashes(tmp_path: Path) -> None:
    calls: list[str] = []
    store = Store(tmp_path)
    first, second = make(store, calls=calls), make(store, calls=calls)
    assert calls == ["hello"]
    assert first.path == second.path
    manifest = json.loads((first.path / "manifest.json").read_text())
    assert manifest["files"]["a.txt"]["bytes"] == 5
    assert second.report == {"length": 5}
    assert "ilm_lightning" in manifest["versions"]


def test_other_settings_or_inputs_give_another_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    a, b = make(store, steps=1), make(store, steps=2)
    c = store.get("demo", {"steps": 1}, {"x": a}, lambda folder: {})
    d = store.get("demo", {"steps": 1}, {"x": b}, lambda folder: {})
    assert len({a.key, b.key, c.key, d.key}) == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest", "empty_manifest"])
def test_damaged_artifact_is_named_set_aside_and_rebuilt(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    artifact = make(store)
    file, manifest = artifact.path / "a.txt", artifact.path / "manifest.json"
    if damage == "flip":
        file.write_text("hellp")
    elif damage == "truncate":
        file.write_text("he")
    elif damage == "delete":
        file.unlink()
    elif damage == "manifest":
        manifest.unlink()
    else:
        manifest.write_text("")
    again = make(store)
    assert (again.path / "a.txt").read_text() == "hello"
    assert "damaged" in caplog.text
    assert artifact.key in caplog.text
    assert len(list(tmp_path.glob("demo/*.damaged-*"))) == 1


def test_failed_build_leaves_no_artifact_and_keeps_only_checkpoints(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[list[str]] = []

    def build(folder: Path) -> Mapping[str, Any]:
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / "half.bin").write_bytes(b"x")
        (folder / SCRATCH).mkdir(exist_ok=True)
        (folder / SCRATCH / "last.ckpt").write_bytes(b"state")
        if len(seen) == 1:
            raise RuntimeError("stop")
        return {}

    with pytest.raises(RuntimeError, match="stop"):
        store.get("demo", {}, {}, build)
    artifact = store.get("demo", {}, {}, build)
    assert seen == [[SCRATCH], [SCRATCH]]
    assert not (artifact.path / SCRATCH).exists()
    assert set(artifact.manifest["files"]) == {"half.bin"}


def test_seconds_are_those_of_all_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(folder: Path) -> Mapping[str, Any]:
        time.sleep(0.2)
        if len(list(tmp_path.glob("again"))) == 0:
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get("demo", {}, {}, build)
    with caplog.at_level("INFO"):
        made = Store(tmp_path).get("demo", {}, {}, build)
    assert made.manifest["seconds"] >= 0.4
    assert "with the starts before" in caplog.text


def test_seconds_of_starts_before_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    def build(folder: Path) -> Mapping[str, Any]:
        return {}

    key = Store(tmp_path / "other").get("demo", {}, {}, build).key
    scratch = tmp_path / "demo" / f"{key}.part" / SCRATCH
    scratch.mkdir(parents=True)
    (scratch / "seconds.json").write_text("[1")
    assert Store(tmp_path).get("demo", {}, {}, build).manifest["seconds"] < 60


def test_two_threads_build_once(tmp_path: Path) -> None:
    calls: list[str] = []
    gate = threading.Event()

    def build(folder: Path) -> Mapping[str, Any]:
        calls.append("x")
        gate.wait(5)
        return {}

    threads = [threading.Thread(target=lambda: Store(tmp_path).get("demo", {}, {}, build)) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(20)
    assert calls == ["x"]


def _build_in_process(root: str) -> None:
    store = Store(root)

    def build(folder: Path) -> Mapping[str, Any]:
        (folder / "pid").write_text("one")
        return {}

    store.get("demo", {}, {}, build)


def test_two_processes_share_an_artifact(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_build_in_process, args=(str(tmp_path),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len([p for p in (tmp_path / "demo").iterdir() if p.is_dir()]) == 1


def test_fingerprint_sees_values_not_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})


def test_write_json_replaces_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
