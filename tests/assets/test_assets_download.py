import hashlib
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from asset_server import FileServer

from ilm_lightning.assets.download import download
from ilm_lightning.assets.errors import AssetError, ChecksumError

DATA = bytes(i * 7 % 251 for i in range(3_000_000))
SHA = "sha256:" + hashlib.sha256(DATA).hexdigest()


def fetch(server: FileServer, part: Path, checksum: str = SHA, **more: Any) -> tuple[Path, list[float]]:
    pauses: list[float] = []
    urls = more.pop("urls", [f"{server.url}/file.bin"])
    return download(urls, part, checksum, label="file", sleep=pauses.append, **more), pauses


@pytest.fixture(autouse=True)
def _file(file_server: FileServer) -> None:
    file_server.files["/file.bin"] = DATA


def test_whole_file(file_server: FileServer, tmp_path: Path) -> None:
    path, pauses = fetch(file_server, tmp_path / "deep" / "file.part")
    assert path.read_bytes() == DATA
    assert pauses == []
    assert file_server.requests == [("GET", "/file.bin", None)]


def test_md5(file_server: FileServer, tmp_path: Path) -> None:
    checksum = "md5:" + hashlib.md5(DATA).hexdigest()
    assert fetch(file_server, tmp_path / "p", checksum)[0].stat().st_size == len(DATA)


def test_cut_connections_are_continued_where_they_stopped(file_server: FileServer, tmp_path: Path) -> None:
    file_server.cuts = [1_000_000, 1_500_000]
    path, pauses = fetch(file_server, tmp_path / "p")
    assert path.read_bytes() == DATA
    assert [wanted for _, _, wanted in file_server.requests] == [None, "bytes=1000000-", "bytes=2500000-"]
    assert pauses == [1.0, 2.0]


def test_part_of_an_earlier_run_is_continued(file_server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(DATA[:2_000_000])
    path, _ = fetch(file_server, tmp_path / "p")
    assert path.read_bytes() == DATA
    assert file_server.requests == [("GET", "/file.bin", "bytes=2000000-")]


def test_complete_part_needs_only_the_checksum(file_server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(DATA)
    assert fetch(file_server, tmp_path / "p")[0].read_bytes() == DATA


@pytest.mark.parametrize("stale", [b"z" * 1000, b"z" * (len(DATA) + 5)])
def test_wrong_part_is_thrown_away_once(file_server: FileServer, tmp_path: Path, stale: bytes) -> None:
    (tmp_path / "p").write_bytes(stale)
    path, _ = fetch(file_server, tmp_path / "p")
    assert path.read_bytes() == DATA
    assert [wanted for _, _, wanted in file_server.requests] == [f"bytes={len(stale)}-", None]


def test_server_without_ranges_starts_again(file_server: FileServer, tmp_path: Path) -> None:
    file_server.ranges = False
    file_server.cuts = [500_000]
    assert fetch(file_server, tmp_path / "p")[0].read_bytes() == DATA


def test_wrong_file_is_deleted_and_not_retried(file_server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"has sha256 [0-9a-f]{64}, expected 0{64}: not opened"):
        fetch(file_server, tmp_path / "p", "sha256:" + "0" * 64)
    assert not (tmp_path / "p").exists()
    assert len(file_server.requests) == 1


def test_mirror_takes_over(file_server: FileServer, tmp_path: Path) -> None:
    file_server.files["/wrong.bin"] = b"something else"
    urls = [f"{file_server.url}/gone.bin", f"{file_server.url}/wrong.bin", f"{file_server.url}/file.bin"]
    path, pauses = fetch(file_server, tmp_path / "p", urls=urls)
    assert path.read_bytes() == DATA
    assert pauses == []


def test_busy_server_is_asked_again_with_growing_pauses(file_server: FileServer, tmp_path: Path) -> None:
    file_server.statuses = [503, 429, 500]
    path, pauses = fetch(file_server, tmp_path / "p", backoff=0.5)
    assert path.read_bytes() == DATA
    assert pauses == [0.5, 1.0, 2.0]


def test_all_addresses_are_named(file_server: FileServer, tmp_path: Path) -> None:
    file_server.statuses = [503] * 2
    urls = [f"{file_server.url}/file.bin", f"{file_server.url}/gone.bin", "ftp://host/file.bin"]
    with pytest.raises(AssetError) as caught:
        fetch(file_server, tmp_path / "p", urls=urls, attempts=2)
    text = str(caught.value)
    assert "file.bin: HTTP 503 (2 attempts)" in text
    assert "gone.bin: HTTP 404" in text
    assert "ftp://host/file.bin: only http and https" in text


def test_bytes_survive_a_failed_run(file_server: FileServer, tmp_path: Path) -> None:
    file_server.cuts = [1000, 1000]
    with pytest.raises(AssetError, match="connection ended after 2000 of 3000000 bytes"):
        fetch(file_server, tmp_path / "p", attempts=2)
    assert (tmp_path / "p").read_bytes() == DATA[:2000]


def test_refused_connection(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    pauses: list[float] = []
    with pytest.raises(AssetError, match="refused"):
        download([f"http://127.0.0.1:{port}/x"], tmp_path / "p", SHA, label="x", attempts=3, sleep=pauses.append)
    assert len(pauses) == 2


def test_unknown_host_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object, **__: object) -> None:
        raise urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", lookup)
    with pytest.raises(AssetError, match="host not found"):
        download(["https://nowhere.invalid/x"], tmp_path / "p", SHA, label="x", sleep=lambda _: pytest.fail("slept"))


def test_checksum_error_is_an_asset_error() -> None:
    assert issubclass(ChecksumError, AssetError)
    assert issubclass(AssetError, RuntimeError)
