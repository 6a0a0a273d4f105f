import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ilm_lightning import doctor


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ILM_DATA", "ILM_CACHE", "ILM_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_floors_are_those_of_the_project_file() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    floors = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])  # type: ignore[union-attr]
    assert {name: floors[name] for name, _, _ in doctor.PACKAGES} == {name: low for name, low, _ in doctor.PACKAGES}
    assert set(floors) == {name for name, _, _ in doctor.PACKAGES}
    refused = [line for line in project["dependencies"] if line.startswith("lightning")]
    assert all(f"!={version}" in refused[0] for version in {n: r for n, _, r in doctor.PACKAGES}["lightning"])
    assert project["requires-python"] == f">={doctor.MIN_PYTHON[0]}.{doctor.MIN_PYTHON[1]}"


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        ("2.9.1", "ok", "2.9.1"),
        ("2.8.0+cpu", "ok", "2.8.0+cpu"),
        ("2.7.9", "missing", "too old"),
        ("3.0.0", "missing", "withdrawn"),
        (None, "missing", "not installed"),
    ],
)
def test_package(monkeypatch: pytest.MonkeyPatch, found: str | None, status: str, words: str) -> None:
    def version(name: str) -> str:
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = doctor.check_package("torch", "2.8", ("3.0.0",))
    assert check.status == status
    assert words in check.found
    assert (check.fix == "") == (status == "ok")
    assert doctor.check_optional("torch").status == "ok"


def test_python() -> None:
    assert doctor.check_python().status == "ok"
    old = doctor.check_python((3, 10, 2))
    assert (old.status, old.found, old.fix) == ("missing", "3.10.2", "use Python 3.11 or later")


def test_bf16_and_gpu(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n")
    flags = doctor.cpu_flags(tmp_path / "cpuinfo")
    assert flags == {"fpu", "avx512_bf16", "amx_bf16"}
    cpu = {check.name: check for check in doctor.check_compute(flags, [], "2.9")}
    assert cpu["bf16"].found == "in hardware: amx_bf16, avx512_bf16"
    assert "runs on the CPU" in cpu["gpu"].found
    plain = {check.name: check for check in doctor.check_compute(frozenset(), [], "2.9")}
    assert "no hardware support" in plain["bf16"].found
    card = [("Card X", 80.0, 9.0)]
    assert {c.name: c.found for c in doctor.check_compute(frozenset(), card, "2.9")}["bf16"] == "in hardware: gpu"
    unused = {c.name: c for c in doctor.check_compute(frozenset(), card, "2.9+cpu")}["gpu"]
    assert (unused.status, "cannot use it" in unused.found) == ("warning", True)
    assert doctor.cpu_flags(tmp_path / "nowhere") == frozenset()


def test_gpu_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Card X, 81920, 9.0'\necho 'Card Y, [N/A], 7.5'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool))
    [(name, memory, capability)] = doctor.gpus()
    assert (name, round(memory, 1), capability) == ("Card X", 85.9, 9.0)
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert doctor.gpus() == []


def test_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   16000000 kB\n")
    (tmp_path / "limit").write_text("4000000000\n")
    (tmp_path / "open").write_text("max\n")
    assert doctor.memory_gb(tmp_path / "meminfo", tmp_path / "limit") == 4.0
    assert doctor.memory_gb(tmp_path / "meminfo", tmp_path / "open") == 16.384
    assert doctor.memory_gb(tmp_path / "nowhere", tmp_path / "limit") is None
    assert doctor.check_memory(16.4).status == "ok"
    assert doctor.check_memory(4.0).fix == "the main job peaks below 6 GB: close other programs"
    assert doctor.check_memory(None).status == "warning"


@pytest.mark.parametrize(
    ("free_gb", "missing_gb", "status"), [(50, 1.0, "ok"), (3, 1.0, "warning"), (1, 1.0, "missing"), (1, 0, "warning")]
)
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, missing_gb: float, status: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free_gb * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check = doctor.check_disk(tmp_path / "not/yet/there", int(missing_gb * 1e9))
    assert check.status == status
    assert f"{free_gb}.0 GB free at {tmp_path}" in check.found


def test_empty_machine_offline_fails_and_tells_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--cache", str(tmp_path), "--offline"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "missing: smollm2-135m-instruct, all-minilm-l6-v2, movielens-small, film-facts" in text
    assert "python -m ilm_lightning.assets get film-facts" in text


def test_empty_machine_online_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--cache", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is True
    assert {check["group"] for check in report["checks"]} == {"software", "machine", "assets"}
    assets = {check["name"]: check for check in report["checks"] if check["group"] == "assets"}
    assert assets["smollm2-135m-instruct"]["found"].startswith("to be fetched")
    assert assets["smollm2-135m-instruct"]["fix"] == "python -m ilm_lightning.assets get smollm2-135m-instruct"


def test_damaged_asset_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "film-facts").mkdir()
    checks, wanted = doctor.check_assets(tmp_path, offline=False)
    facts = next(check for check in checks if check.name == "film-facts")
    assert (facts.status, "rebuilds it" in facts.fix) == ("warning", True)
    assert wanted > 500_000_000
    assert next(c for c in doctor.check_assets(tmp_path, offline=True)[0] if c.name == "film-facts").status == "missing"


def test_no_heavy_import() -> None:
    heavy = "('torch', 'transformers', 'lightning', 'polars', 'numpy', 'huggingface_hub')"
    code = "import sys; from ilm_lightning import doctor; doctor.examine('nowhere', True); "
    code += f"sys.stdout.write(str([name for name in {heavy} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]"


def test_the_model_hub_and_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert doctor.check_hub(False).found == (
        f"https://huggingface.co, no HF_TOKEN, which gated models need; 0 models in {tmp_path}/hub"
    )
    for name in ("models--org--lm/snapshots/abc", "models--org--half/snapshots/def"):
        (tmp_path / "hub" / name).mkdir(parents=True)
    (tmp_path / "hub/models--org--lm/snapshots/abc/config.json").touch()
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert doctor.check_hub(False).found == f"https://mirror, with HF_TOKEN; 1 models in {tmp_path}/hub"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub(False).found.startswith("closed (HF_HUB_OFFLINE); 1 models")
    assert doctor.check_hub(True).found.startswith("closed (ILM_OFFLINE)")
