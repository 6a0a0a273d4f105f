"""Any model of a hub by name: fetched once, found offline, refused with a reason."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asset_server import FileServer, sha256

from ilm_lightning.assets import AssetError, resolve
from ilm_lightning.assets.hub import hub_name, missing_files

COMMIT = "c" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "pytorch_model.bin": b"the weights again",
    "onnx/model.onnx": b"and again",
    "README.md": b"# words",
}
SCRIPT = """
import json, logging, sys
from ilm_lightning.assets import AssetError, resolve
for name in sys.argv[2:]:
    try:
        found = resolve(name, cache_dir=sys.argv[1])
        files = sorted(p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file())
        answer = {"key": found.key, "source": found.source, "name": found.name, "sha256": found.sha256, "files": files}
    except AssetError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\\n")
"""


def serve(server: FileServer, repo: str, files: dict[str, bytes], revision: str = "main") -> None:
    """Put a repository on the server, as the hub's protocol has it."""
    tree = [{"type": "file", "path": name, "size": len(data), "oid": "b" * 40} for name, data in files.items()]
    info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
    for name in (revision, COMMIT):
        server.files[f"/api/models/{repo}/revision/{name}"] = json.dumps(info).encode()
        server.files[f"/api/models/{repo}/tree/{name}"] = json.dumps(tree).encode()
    for name, data in files.items():
        path = f"/{repo}/resolve/{COMMIT}/{name}"
        server.files[path] = data
        server.headers[path] = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data)}"'}


def ask(server: FileServer, tmp_path: Path, *names: str, **env: str) -> list[dict[str, Any]]:
    """Resolve names in a process of its own: the hub client reads its environment when it is imported."""
    cleared = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "cache"), *names],
        env={**cleared, **hub, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_model_is_fetched_once_and_then_found_offline(file_server: FileServer, tmp_path: Path) -> None:
    serve(file_server, "org/tiny", FILES)
    serve(file_server, "org/tiny", FILES, "v1")
    named, pinned, exact = ask(file_server, tmp_path, "org/tiny", "org/tiny@v1", f"org/tiny@{COMMIT}")
    assert named == pinned == exact
    assert named["files"] == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert (named["key"], named["name"]) == (f"org/tiny@{COMMIT}", f"org/tiny@{COMMIT[:8]}")
    asked = {path for _, path, _ in file_server.requests}
    assert not any(path.endswith((".bin", ".onnx", ".md")) for path in asked)
    before = len(file_server.requests)
    names = ("org/tiny", f"org/tiny@{COMMIT}", "org/other")
    found, again, other = ask(file_server, tmp_path, *names, HF_HUB_OFFLINE="1")
    assert found == again == named
    assert "org/other: there is no such folder" in other["error"]
    assert "not in the hub's local cache, and offline" in other["error"]
    assert len(file_server.requests) == before


def test_refusals_say_what_to_do(file_server: FileServer, tmp_path: Path) -> None:
    serve(file_server, "org/binary", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    serve(file_server, "org/tiny", FILES)
    info = "/api/models/org/gated/revision/main"
    file_server.refusals = {
        info: (403, {"X-Error-Code": "GatedRepo"}),
        "/api/models/org/none/revision/main": (401, {"X-Error-Code": "RepoNotFound"}),
        "/api/models/org/tiny/revision/v9": (404, {"X-Error-Code": "RevisionNotFound"}),
    }
    names = ("org/gated", "org/none", "org/tiny@v9", "org/binary")
    gated, none, revision, binary = (answer["error"] for answer in ask(file_server, tmp_path, *names))
    assert f"gated: accept its terms at {file_server.url}/org/gated, then set HF_TOKEN" in gated
    assert "knows no org/none, or it is private; check the name, or set HF_TOKEN" in none
    assert "org/tiny has no revision 'v9'" in revision
    assert "lacks model.safetensors" in binary
    assert all("\n" not in message for message in (gated, none, revision, binary))


def test_hub_that_cannot_be_reached(file_server: FileServer, tmp_path: Path) -> None:
    (answer,) = ask(file_server, tmp_path, "org/tiny", HF_ENDPOINT="http://hub.invalid")
    assert "hub.invalid not found" in answer["error"]


def test_parts_of_weights_are_missed(tmp_path: Path) -> None:
    assert missing_files(tmp_path) == ["config.json"]
    (tmp_path / "config.json").write_text("{}")
    assert missing_files(tmp_path) == ["model.safetensors"]
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001-of-00002.safetensors").write_text("")
    assert missing_files(tmp_path) == ["model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    "text", ["model", "./org/model", "/org/model", "~/org/model", "a/b/c", "org/", "org/m@", "a b/c"]
)
def test_what_is_no_hub_name(text: str, tmp_path: Path) -> None:
    assert hub_name(text) is None
    with pytest.raises(AssetError, match="neither a path, nor an asset"):
        resolve(text, cache_dir=tmp_path)


def test_a_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    (tmp_path / "org" / "tiny" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/tiny", cache_dir=tmp_path / "cache").path == tmp_path / "org" / "tiny"
