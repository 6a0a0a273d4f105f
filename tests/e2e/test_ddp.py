"""Whole runs on two processes: the same results as on one, each artefact built once, nothing left behind."""

import json
import os
import signal
import time
from pathlib import Path

import polars as pl
import pytest
from test_pipeline import built, run

from ilm_lightning.engine.callbacks import Progress
from ilm_lightning.engine.config import TrainerConfig
from ilm_lightning.engine.distributed import Place, RankError, check_place, found_place
from ilm_lightning.engine.validate import ConfigError
from ilm_lightning.hardware import process_tree_rss


def children(pid: int) -> list[int]:
    """Running processes that this one started, without helpers of Python's own."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    commands = {
        child: Path(f"/proc/{child}/cmdline").read_bytes() for child in found if Path(f"/proc/{child}").exists()
    }
    return [child for child, command in commands.items() if b"ilm_lightning" in command]


QUICK = [
    "evaluation.conditions=[own,shuffled]", "adapter.dropout=0", "tuning.steps=4", "tuning.val_every=2",
    "pretraining.losses=[itc,itm,itg,iic,uic,vg]",
]  # fmt: skip


def test_two_processes_give_what_one_gives(tiny_settings: list[str], tmp_path: Path) -> None:
    folders = {}
    for name, extra in (("one", []), ("two", ["trainer=ddp", "trainer.accelerator=cpu"])):
        place = [f"artifacts={tmp_path}/{name}/artifacts", f"outputs={tmp_path}/{name}/outputs"]
        _, folders[name] = run(["experiment=ilm_qformer_lora", *tiny_settings, *QUICK, *place, *extra])
    assert children(os.getpid()) == []
    one, two = built(tmp_path / "one"), built(tmp_path / "two")
    # the number of processes is no setting of what is computed: the same artefacts under the same names
    assert one == two
    assert all(len(keys) == 1 for keys in two.values())
    assert not list((tmp_path / "two" / "artifacts").rglob("*.part"))
    for stage, keys in one.items():
        reports = [json.loads((tmp_path / n / "artifacts" / stage / next(iter(keys)) / "manifest.json").read_text())
                   for n in ("one", "two")]  # fmt: skip
        assert set(reports[0]["files"]) == set(reports[1]["files"]), stage
    for stage, label in (("pretrain", "pretrain"), ("tune", "tune")):
        paths = [next((tmp_path / n / "artifacts" / stage).glob(f"*/history-{label}.csv")) for n in ("one", "two")]
        histories = [pl.read_csv(path).filter(pl.col("name") != "train/tokens_per_second") for path in paths]
        same = [h.filter(~pl.col("name").str.contains("accuracy|r@|active")).drop("seconds").rows() for h in histories]
        assert [row[:2] for row in same[0]] == [row[:2] for row in same[1]]
        assert [row[2] for row in same[0]] == pytest.approx([row[2] for row in same[1]], rel=2e-3)
    tables = [pl.read_parquet(folders[n] / "predictions.parquet") for n in ("one", "two")]
    assert tables[0].select("example_id", "condition").equals(tables[1].select("example_id", "condition"))
    own = tables[1].filter(pl.col("condition") == "own")
    assert own["example_id"].n_unique() == len(own)


def test_a_lost_process_ends_the_run_and_says_so(shared_overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    original = Progress.on_train_batch_end

    def kill(self, trainer, *rest, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN003, ANN202
        original(self, trainer, *rest, **kwargs)
        for child in children(os.getpid()):
            os.kill(child, signal.SIGKILL)

    monkeypatch.setattr(Progress, "on_train_batch_end", kill)
    start = time.monotonic()
    with pytest.raises(RankError, match=r"process 1 of 2: ended by signal 9 \(see .*rank1.log\)"):
        run(["experiment=ilm_mlp", "run=lost", *shared_overrides, *QUICK[:4], "trainer=ddp", "trainer.accelerator=cpu"])
    assert time.monotonic() - start < 60
    assert children(os.getpid()) == []
    assert process_tree_rss(os.getpid()) > 0


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"LOCAL_RANK": "1"}, None),
        (
            {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "MASTER_ADDR": "here", "MASTER_PORT": "99"},
            Place(9, 1, 16, "here", 99),
        ),
        (
            {"SLURM_NTASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "123456",
             "SLURM_NODELIST": "node[07-08]"},
            Place(9, 1, 16, "node07", 18456),
        ),
        # one task with many GPUs: the run starts its processes itself
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
    ],
)  # fmt: skip
def test_a_place_among_processes_that_others_started(environment: dict[str, str], place: Place | None) -> None:
    assert found_place(environment) == place


def test_processes_that_do_not_fit_are_refused() -> None:
    check_place(TrainerConfig(devices=8, nodes=2), Place(0, 0, 16, "here", 1))
    with pytest.raises(ConfigError, match="8 processes were started, but"):
        check_place(TrainerConfig(devices=2), Place(0, 0, 8, "here", 1))
    with pytest.raises(ConfigError, match="torchrun --nnodes=2 --nproc-per-node=8"):
        check_place(TrainerConfig(devices=8, nodes=2), None)
