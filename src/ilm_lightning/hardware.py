"""What this machine offers: cores, bf16, memory, GPUs. A leaf module; imports nothing heavy until asked for GPUs."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import TracebackType

# the flags under which a CPU multiplies bf16 matrices itself; elsewhere bf16 is emulated and slower than fp32
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
# cgroup v2 and v1: where a container's memory limit and use stand
CGROUP_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class CudaDevice:
    """One visible GPU.

    Attributes:
        name: the driver's name of it.
        memory: total memory in bytes.
        bf16: whether it computes in bf16.
    """

    name: str
    memory: int
    bf16: bool


@cache
def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Read the CPU's feature flags.

    Args:
        path: the kernel's description of the CPU.

    Returns:
        The flags of the first core; empty where the system has no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def cpu_bf16(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether this CPU gains from bf16.

    Args:
        path: the kernel's description of the CPU.

    Returns:
        True where the CPU multiplies bf16 matrices in hardware.
    """
    return bool(BF16_FLAGS & cpu_flags(path))


def usable_cores() -> int:
    """Count the cores this process may run on.

    Returns:
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def cuda_devices() -> tuple[CudaDevice, ...]:
    """List the GPUs that torch sees.

    Returns:
        One entry per GPU; empty without CUDA.
    """
    import torch

    if not torch.cuda.is_available():
        return ()
    found = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    # compute capability 8 (Ampere) is the first with bf16
    return tuple(CudaDevice(gpu.name, int(gpu.total_memory), gpu.major >= 8) for gpu in found)


def visible_gpus(dev: Path = Path("/dev")) -> tuple[str, ...] | None:
    """List the NVIDIA GPUs without loading CUDA, which takes seconds.

    Args:
        dev: where the kernel's device files are.

    Returns:
        What CUDA_VISIBLE_DEVICES would name them; None where only CUDA itself can tell (another system, another maker).
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = (name.strip() for name in chosen.split(","))
        # CUDA reads up to the first entry that is no device
        return tuple(takewhile(lambda name: name not in ("", "-1"), names))
    if not sys.platform.startswith("linux") or any((dev / other).exists() for other in ("dxg", "kfd")):
        return None
    found = sorted(int(path.name[6:]) for path in dev.glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return tuple(str(place) for place in range(len(found)))


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Tell how much memory a new job may take.

    Args:
        proc: where the kernel's process files are.
        cgroup: where the container's limits are.

    Returns:
        Bytes: the system's available memory, or what the container's limit leaves where that is less; None where the
        system does not say.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) >= 2}
    if "MemAvailable" not in kib:
        return None
    free = kib["MemAvailable"] * 1024
    for limit_name, used_name in CGROUP_MEMORY:
        try:
            limit = int((cgroup / limit_name).read_text(encoding="utf-8"))
            used = int((cgroup / used_name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # absent, or "max": no limit
            continue
        free = min(free, max(0, limit - used))
    return free


def peak_memory(proc: Path = Path("/proc")) -> float:
    """Largest resident size of this process so far, GiB.

    Args:
        proc: where the kernel's process files are.
    """
    # first, for getrusage also counts what the parent held when it started this process
    try:
        lines = (proc / "self" / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20, 2)
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # kilobytes, on macOS bytes
    return round(used / (2**30 if sys.platform == "darwin" else 2**20), 2)


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Bytes of this process in memory now; its peak so far where the system does not say.

    Args:
        proc: where the kernel's process files are.
    """
    try:
        pages = int((proc / "self" / "statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return int(peak_memory(proc) * 2**30)
    return pages * os.sysconf("SC_PAGE_SIZE")


@cache
def _trim() -> Callable[[int], int] | None:
    """``malloc_trim`` of glibc; None with another C library."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


def give_memory_back() -> bool:
    """Hand freed memory back to the system, where the C library can: its heap keeps what smaller tensors left.

    Returns:
        Whether it could.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
    return trim is not None


def process_tree_rss(root: int | None = None, proc: Path = Path("/proc")) -> int:
    """Sum the resident memory of a process and all its descendants.

    Args:
        root: process id; this process if None.
        proc: where the kernel's process files are.

    Returns:
        Bytes now (pages shared between processes are counted in each); 0 where the system does not say.
    """
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
    for folder in proc.glob("[0-9]*"):
        try:
            # the command's name stands in brackets and may hold spaces: count fields from the last bracket
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            resident[int(folder.name)] = int((folder / "statm").read_text(encoding="utf-8").split()[1]) * page
            parents[int(folder.name)] = int(stat[1])
        except (OSError, IndexError, ValueError):  # ended while we looked
            continue
    return _sum_tree(os.getpid() if root is None else root, parents, resident)


def _sum_tree(root: int, parents: Mapping[int, int], resident: Mapping[int, int]) -> int:
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    total, open_ids = 0, [root]
    while open_ids:
        pid = open_ids.pop()
        total += resident.get(pid, 0)
        open_ids.extend(children.get(pid, ()))
    return total


class PeakMemory:
    """Watch the peak resident memory of this process and its descendants while a block runs.

    Attributes:
        peak: bytes, the largest sum seen so far.

    ``with PeakMemory() as memory: work()`` then ``memory.peak``.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        """Set how often to look.

        Args:
            interval_s: seconds between two looks.
        """
        self.peak = 0
        self._interval_s = interval_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> "PeakMemory":
        self.peak = process_tree_rss()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, process_tree_rss())

    def _watch(self) -> None:
        while not self._done.wait(self._interval_s):
            self.peak = max(self.peak, process_tree_rss())


def missing_for_spark() -> str | None:
    """What Spark needs and this machine lacks, with how to get it; None where nothing is missing. Starts nothing."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark: pip install 'ilm-lightning[spark]'"
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and (Path(home) / "bin" / "java").is_file()):
        return "Java 17 or newer: install it (Debian: openjdk-17-jre-headless), or set JAVA_HOME"
    return None
