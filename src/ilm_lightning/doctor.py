"""Is this machine ready, what is missing, how to get it: ``python -m ilm_lightning.doctor``; imports nothing heavy."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .assets.cache import cache_folder
from .assets.fetch import is_offline
from .assets.hub import flag
from .assets.state import DAMAGED, FETCHABLE, PRESENT, inspect_all

OK, WARN, BAD = "ok", "warning", "missing"
_COLOURS = {OK: "green", WARN: "yellow", BAD: "red"}

# distribution, lowest version, versions that must not be used; the floors of pyproject.toml
PACKAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("torch", "2.8", ()),
    # compromised releases
    ("lightning", "2.6", ("2.6.2", "2.6.3")),
    ("hydra-core", "1.3", ()),
    ("transformers", "5.0", ()),
    ("gguf", "0.10", ()),
    ("peft", "0.18", ()),
    ("sentence-transformers", "5.4", ()),
    ("implicit", "0.7.2", ()),
    ("scikit-learn", "1.4", ()),
    ("scipy", "1.11", ()),
    ("numpy", "1.26", ()),
    ("polars", "1.26", ()),
    ("pandas", "2.2", ()),
    ("safetensors", "0.4.5", ()),
    ("huggingface-hub", "1.3", ()),
    ("omegaconf", "2.3", ()),
    ("threadpoolctl", "3.1", ()),
    ("pyyaml", "6", ()),
    ("filelock", "3.12", ()),
    ("rich", "13", ()),
    ("tqdm", "4.64", ()),
)
OPTIONAL_PACKAGES = ("wandb",)
MIN_PYTHON = (3, 11)
NEEDED_MEMORY_GB = 6.0
SPARE_DISK_GB = 2.0


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        group: ``software``, ``machine`` or ``assets``.
        name: what was looked at.
        status: ``ok``, ``warning`` or ``missing``; only ``missing`` makes the exit status 1.
        found: what is there.
        fix: what to do, empty when nothing is.
    """

    group: str
    name: str
    status: str
    found: str
    fix: str = ""


def check_python(version: tuple[int, int, int] | None = None) -> Check:
    """Python's version; an argument stands for this interpreter's."""
    major, minor, micro = version or sys.version_info[:3]
    enough = (major, minor) >= MIN_PYTHON
    fix = "" if enough else f"use Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or later"
    return Check("software", "python", OK if enough else BAD, f"{major}.{minor}.{micro}", fix)


def check_package(name: str, lowest: str, refused: Sequence[str] = ()) -> Check:
    """An installed distribution's version against its floor, read from metadata without importing it."""
    from packaging.version import Version

    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check("software", name, BAD, "not installed", f"pip install '{name}>={lowest}'")
    if Version(found) < Version(lowest):
        return Check("software", name, BAD, f"{found}, too old", f"pip install -U '{name}>={lowest}'")
    if found in refused:
        return Check("software", name, BAD, f"{found}, a withdrawn release", f"pip install -U '{name}!={found}'")
    return Check("software", name, OK, found)


def check_optional(name: str) -> Check:
    """An optional distribution: absent is fine."""
    try:
        return Check("software", name, OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check("software", name, OK, "not installed (optional)", f"pip install {name}")


def check_pip() -> Check:
    """The package tool that fetches the assets packed in wheels."""
    if importlib.util.find_spec("pip") or shutil.which("pip") or shutil.which("pip3"):
        return Check("software", "pip", OK, "there")
    return Check("software", "pip", WARN, "none; wheels with assets cannot be fetched", "python -m ensurepip")


def cpu_count() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction-set flags of the first core; empty where the system does not tell."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in {"flags", "features"}:
                return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


def gpus() -> list[tuple[str, float, float]]:
    """Name, memory in GB and compute capability of each NVIDIA GPU, asked of the driver's own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in answer.splitlines() if line.strip()]
    found = []
    for name, memory, capability in (row for row in rows if len(row) == 3):
        try:
            found.append((name, float(memory) * 2**20 / 1e9, float(capability)))
        except ValueError:
            continue
    return found


def check_compute(flags: frozenset[str], cards: Sequence[tuple[str, float, float]], torch_version: str) -> list[Check]:
    """Cores, accelerator and whether bf16 gains anything here."""
    checks = [Check("machine", "cores", OK, f"{cpu_count()} usable, {platform.machine()}")]
    names = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory, _ in cards)
    if not cards:
        checks.append(Check("machine", "gpu", OK, "none found; the main job runs on the CPU"))
    elif "+cpu" in torch_version:
        fix = "install a CUDA build of torch (pytorch.org)"
        checks.append(Check("machine", "gpu", WARN, f"{names}, but torch {torch_version} cannot use it", fix))
    else:
        checks.append(Check("machine", "gpu", OK, names))
    units = sorted({"avx512_bf16", "amx_bf16", "bf16"} & flags)
    if any(capability >= 8.0 for _, _, capability in cards):
        units.append("gpu")
    bf16 = "in hardware: " + ", ".join(units) if units else "no hardware support; float32 is faster here"
    return [*checks, Check("machine", "bf16", OK, bf16)]


def memory_gb(meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")) -> float | None:
    """Memory that is free for us in GB, the container's limit included; ``None`` where the system does not tell."""
    free: float | None = None
    try:
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024 / 1e9
    except (OSError, ValueError, IndexError):
        return None
    try:
        bound = int(limit.read_text(encoding="utf-8")) / 1e9
    except (OSError, ValueError):
        return free
    return bound if free is None else min(free, bound)


def check_memory(free_gb: float | None) -> Check:
    """Free memory against the main job's peak."""
    if free_gb is None:
        return Check("machine", "memory", WARN, "unknown on this system", f"{NEEDED_MEMORY_GB:.0f} GB are needed")
    if free_gb < NEEDED_MEMORY_GB:
        fix = f"the main job peaks below {NEEDED_MEMORY_GB:.0f} GB: close other programs"
        return Check("machine", "memory", WARN, f"{free_gb:.1f} GB free", fix)
    return Check("machine", "memory", OK, f"{free_gb:.1f} GB free")


def check_disk(cache: Path, missing_bytes: int) -> Check:
    """Free disk where the cache is (or will be) against what is still to be fetched."""
    folder = cache
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    need = missing_bytes / 1e9 * 1.5 + SPARE_DISK_GB
    writable = os.access(folder, os.W_OK)
    found = f"{free:.1f} GB free at {folder}" + ("" if writable else ", not writable")
    if not writable and missing_bytes:
        return Check("machine", "disk", BAD, found, "set ILM_CACHE to a folder that you own")
    if free < need:
        status = BAD if missing_bytes and free < need - SPARE_DISK_GB else WARN
        return Check("machine", "disk", status, found, f"{need:.1f} GB needed: free some, or set ILM_CACHE elsewhere")
    return Check("machine", "disk", OK, found)


def check_assets(cache: Path, offline: bool) -> tuple[list[Check], int]:
    """Every asset's state, and the bytes that the needed ones still want."""
    checks, wanted = [], 0
    for asset in inspect_all(cache, offline=offline):
        get = f"python -m ilm_lightning.assets get {asset.name}"
        if asset.state == PRESENT:
            found = f"{asset.source}, {asset.size / 1e6:.0f} MB" + (f" ({asset.note})" if asset.note else "")
            checks.append(Check("assets", asset.name, OK, found))
            continue
        wanted += asset.size if asset.needed else 0
        if asset.state == FETCHABLE:
            found = f"to be fetched, {asset.size / 1e6:.0f} MB"
            checks.append(Check("assets", asset.name, OK, found, get if asset.needed else ""))
        elif asset.state == DAMAGED and not offline:
            checks.append(Check("assets", asset.name, WARN, f"damaged: {asset.note}", f"{get} (rebuilds it)"))
        else:
            status = BAD if asset.needed else OK
            own = f"online, once: {get}; or your own copy at $ILM_DATA/{asset.name}"
            checks.append(Check("assets", asset.name, status, asset.note, own if asset.needed else ""))
    return checks, wanted


def check_hub(offline: bool) -> Check:
    """The model hub, from which any model comes by its name: open or closed, and what its own cache holds."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    held = len(list(cache.glob("models--*/snapshots/*/config.json"))) if cache.is_dir() else 0
    there = f"{held} models in {cache}"
    closed = "ILM_OFFLINE" if offline else "HF_HUB_OFFLINE" if flag("HF_HUB_OFFLINE") else ""
    if closed:
        return Check("assets", "model hub", OK, f"closed ({closed}); {there}")
    token = "with HF_TOKEN" if os.environ.get("HF_TOKEN") else "no HF_TOKEN, which gated models need"
    return Check(
        "assets", "model hub", OK, f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}, {token}; {there}"
    )


def examine(cache_dir: str | None = None, offline: bool | None = None) -> list[Check]:
    """Look at everything.

    Args:
        cache_dir: asset cache; default as for ``assets.resolve``.
        offline: count only what needs no network; default ``$ILM_OFFLINE``.

    Returns:
        All checks, grouped.
    """
    cache = cache_folder(cache_dir)
    software = [check_python(), *(check_package(*package) for package in PACKAGES)]
    software += [*(check_optional(name) for name in OPTIONAL_PACKAGES), check_pip()]
    torch_version = next((check.found for check in software if check.name == "torch"), "")
    assets, wanted = check_assets(cache, is_offline(offline))
    machine = check_compute(cpu_flags(), gpus(), torch_version)
    machine += [check_memory(memory_gb()), check_disk(cache, wanted)]
    return [*software, *machine, *assets, check_hub(is_offline(offline))]


def _report(checks: Sequence[Check], console: Console) -> None:
    shown = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        shown.add_column(overflow="fold")
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            shown.add_row(f"[bold]{group}[/]")
        mark = f"[{_COLOURS[check.status]}]{check.status}[/]"
        shown.add_row(f"  {check.name}", mark, check.found, check.fix and f"-> {check.fix}")
    console.print(shown)
    missing = [check.name for check in checks if check.status == BAD]
    verdict = f"[red]missing: {', '.join(missing)}[/]" if missing else "[green]ready[/]"
    console.print(verdict, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; default ``sys.argv``.

    Returns:
        Exit status: 1 if something needed is missing, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m ilm_lightning.doctor", description="Is this machine ready?")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--cache", help="asset cache (default: $ILM_CACHE or ~/.cache/ilm_lightning)")
    parser.add_argument("--offline", action="store_true", help="count only what needs no network (as ILM_OFFLINE=1)")
    arguments = parser.parse_args(argv)
    checks = examine(arguments.cache, True if arguments.offline else None)
    missing = any(check.status == BAD for check in checks)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if arguments.json:
        console.print_json(json.dumps({"ready": not missing, "checks": [asdict(check) for check in checks]}))
    else:
        _report(checks, console)
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
