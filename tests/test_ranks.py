"""Two gloo processes against one on the joint batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).parent / "ranks_worker.py"


def together(case: str, folder: Path, world: int = 2) -> dict[str, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), case, str(folder)],
            env={**os.environ, **common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world, "\n".join(errors)
    result: dict[str, float] = json.loads((folder / f"{case}.json").read_text())
    return result


def test_processes_hear_each_other(tmp_path: Path) -> None:
    assert together("talk", tmp_path) == {"talk": 0.0}


def test_phase_1_equals_one_process_on_the_joint_batch(tmp_path: Path) -> None:
    apart = together("pretraining", tmp_path)
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    # loss and gradient of ITC, ITM, ITG, VG, all at once, three sorts of IIC, UIC, and VG alone
    assert len(apart) == 20


def test_phase_2_equals_one_process_on_the_joint_batch(tmp_path: Path) -> None:
    apart = together("phase2", tmp_path)
    # the vocabulary's losses are taken in single precision by themselves
    assert {name: value for name, value in apart.items() if not value <= 1e-5} == {}
    # loss and gradient of three batches, one of them smaller than the number of processes: frozen, LoRA, full
    assert len(apart) == 18
