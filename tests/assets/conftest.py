"""A local file server and a toy asset that comes from it."""

import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from asset_server import TERMS, FileServer, Toy, ZipMaker, handler, sha256

from ilm_lightning.assets.registry import REGISTRY, Asset, Url


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ILM_DATA", "ILM_CACHE", "ILM_OFFLINE", "ILM_MIRROR", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_zip(tmp_path: Path) -> ZipMaker:
    def make(files: dict[str, bytes], name: str = "made.zip") -> bytes:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for member, data in files.items():
                packed.writestr(member, data)
        return path.read_bytes()

    return make


@pytest.fixture
def toy(file_server: FileServer, make_zip: ZipMaker, monkeypatch: pytest.MonkeyPatch) -> Toy:
    archive = make_zip({"toy/ratings.csv": b"userId,movieId\n1,2\n", "toy/sub/more.csv": b"x\n", "other.txt": b"no"})
    file_server.files["/toy.zip"] = archive
    source = Url("Toy ratings", (f"{file_server.url}/toy.zip",), f"sha256:{sha256(archive)}", "toy/", 1)
    asset = Asset("toy", "ratings", TERMS, (source,), ("ratings.csv",))
    monkeypatch.setitem(REGISTRY, "toy", asset)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return Toy(asset, archive, file_server)
