import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ilm_lightning import hardware
from ilm_lightning.hardware import peak_memory, resident_memory


def test_bf16_flags(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_text("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n")
    old.write_text("processor : 0\nflags\t\t: fpu avx2\n")
    assert hardware.cpu_bf16(new)
    assert not hardware.cpu_bf16(old)
    assert not hardware.cpu_bf16(tmp_path / "absent")


def test_available_memory_is_the_smaller_of_system_and_container(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    assert hardware.available_memory(proc, cgroup) is None
    (proc / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert hardware.available_memory(proc, cgroup) == 50 * 1024
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("0\n")
    assert hardware.available_memory(proc, cgroup) == 50 * 1024
    (cgroup / "memory.max").write_text("20480\n")
    (cgroup / "memory.current").write_text("10240\n")
    assert hardware.available_memory(proc, cgroup) == 10240


def test_tree_sum_counts_descendants_only(tmp_path: Path) -> None:
    for pid, parent, pages in ((10, 1, 3), (11, 10, 4), (12, 11, 5), (20, 1, 100)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 0 0")
        (tmp_path / str(pid) / "statm").write_text(f"999 {pages} 0")
    page = hardware.process_tree_rss(10, tmp_path) // 12
    assert hardware.process_tree_rss(10, tmp_path) == 12 * page
    assert hardware.process_tree_rss(11, tmp_path) == 9 * page
    assert hardware.process_tree_rss(77, tmp_path) == 0


def test_peak_sees_a_child() -> None:
    child = "import time; block = bytearray(64 << 20); print('up', flush=True); time.sleep(30)"
    with hardware.PeakMemory(interval_s=0.02) as memory:
        before = memory.peak
        with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + 10
            while memory.peak < before + (60 << 20) and time.monotonic() < deadline:
                time.sleep(0.02)
            process.kill()
    assert memory.peak >= before + (60 << 20)


def test_machine_facts_are_sane() -> None:
    assert hardware.usable_cores() >= 1
    assert isinstance(hardware.cuda_devices(), tuple)


def test_memory_now_is_at_most_the_peak(tmp_path: Path) -> None:
    held = np.ones(10_000_000)
    assert 80e6 < resident_memory() < (peak_memory() + 0.02) * 2**30
    assert len(held) == 10_000_000
    assert resident_memory(tmp_path) == int(peak_memory(tmp_path) * 2**30) > 80e6


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_the_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    held = np.ones(100_000_000)
    code = "from ilm_lightning.hardware import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.5 < peak_memory()
    assert len(held) == 100_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another C library")
def test_what_small_tensors_left_is_handed_back() -> None:
    code = """
from ilm_lightning.hardware import give_memory_back, resident_memory
# below the size from which glibc maps each block by itself; every other one stays
blocks = [bytearray(b"x" * 100_000) for _ in range(2000)]
kept, full = blocks[::2], resident_memory()
del blocks
before = resident_memory()
print(give_memory_back(), full - before, before - resident_memory())
"""
    could, at_once, later = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    if could == "False":
        pytest.skip("this C library cannot")
    assert int(at_once) < 50e6
    assert int(later) > 80e6
