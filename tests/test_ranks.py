"""Two gloo processes against one on the joint batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ilm_lightning import ranks

WORKER = Path(__file__).parent / "ranks_worker.py"


Results = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What two processes found, the short cases in one start of both."""
    return found_by_two(tmp_path_factory.mktemp("ranks"), "talk", "pretraining", "phase2", "sharded", "head")


def found_by_two(folder: Path, *cases: str) -> Results:
    file = folder / "results.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(file), *cases],
            env={**os.environ, **common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=900)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    results: Results = json.loads(file.read_text())
    return results


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 17])
def test_each_validation_batch_counts_once_and_all_ranks_run_equally_many(
    world: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: world)
    turns = []
    for rank in range(world):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        turns.append([ranks.turn(number, count) for number in range(count)])
    for batch in zip(*turns, strict=True):
        assert sum(counts for _, counts in batch) == 1
        assert all(runs or not counts for runs, counts in batch)
    assert {sum(runs for runs, _ in own) for own in turns} == {-(-count // world)}


def test_processes_hear_each_other(together: Results) -> None:
    assert together["talk"] == {"talk": 0.0}


def test_phase_1_equals_one_process_on_the_joint_batch(together: Results) -> None:
    apart = together["pretraining"]
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    # loss and gradient of ITC, ITM, ITG, VG, all at once, three sorts of IIC, UIC, and VG alone
    assert len(apart) == 20


def test_a_shared_out_model_equals_a_whole_one_on_the_joint_batch(together: Results) -> None:
    apart = together["sharded"]
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    # loss, gradient, its norm and that after clipping, of three batches
    assert len(apart) == 12


@pytest.mark.slow
def test_fits_end_with_the_weights_of_one_process_and_resume_to_the_bit(tmp_path: Path) -> None:
    apart = found_by_two(tmp_path, "fits")["fits"]
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    assert {name.partition(":")[0] for name in apart} == {"ddp", "fsdp", "fsdp, then ddp"}


def test_phase_2_equals_one_process_on_the_joint_batch(together: Results) -> None:
    apart = together["phase2"]
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    # loss and gradient of three batches, one of them smaller than the number of processes: frozen, LoRA, full
    assert len(apart) == 18


def test_the_item_head_equals_one_process_on_the_joint_batch(together: Results) -> None:
    apart = together["head"]
    assert {name: value for name, value in apart.items() if not value <= 1e-9} == {}
    # loss and gradient of two batches, one of them smaller than the number of processes: frozen, LoRA, full
    assert len(apart) == 12
