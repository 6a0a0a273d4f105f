"""Whole runs on two processes: the same results as on one, each artefact built once, nothing left behind."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from test_pipeline import built, checked, run

from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.distributed import Place, RankError, check_place, found_place
from ilm_lightning.engine.interruptions import StoppedError, stop_signals
from ilm_lightning.engine.validate import ConfigError
from ilm_lightning.lm import ItemLanguageModel
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.module import ItemLanguageModule


def children(pid: int) -> list[int]:
    """Running ranks that this one started, without helpers of Python's own and of the readers (``data/probe.py``)."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    commands = {
        child: Path(f"/proc/{child}/cmdline").read_bytes() for child in found if Path(f"/proc/{child}").exists()
    }
    return [child for child, command in commands.items() if b"ilm_lightning" in command and b"probe.py" not in command]


QUICK = [
    "evaluation.conditions=[own,shuffled]", "adapter.dropout=0", "tuning.steps=4", "tuning.val_every=2",
    "pretraining.losses=[itc,itm,itg,iic,uic,vg]",
]  # fmt: skip


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tiny_settings: list[str], tmp_path: Path) -> None:
    folders, two_root = {}, tmp_path / "two"
    overrides = ["experiment=ilm_qformer_lora", *tiny_settings, *QUICK]
    for name, extra in (("one", []), ("two", ["trainer=ddp", "trainer.accelerator=cpu"])):
        place = [f"artifacts={tmp_path}/{name}/artifacts", f"outputs={tmp_path}/{name}/outputs"]
        _, folders[name] = run([*overrides, *place, *extra])
    assert children(os.getpid()) == []
    # the other process wrote nothing but its name, and nothing went wrong there
    assert (folders["two"] / "rank1.log").read_text().splitlines() == [f"run       {folders['two']}"]
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
        # speed and memory differ; gradients after AdamW's first steps are as far apart as single precision makes them
        left_out = "per_second|memory|gradient_norm"
        histories = [pl.read_csv(path).filter(~pl.col("name").str.contains(left_out)) for path in paths]
        same = [h.filter(~pl.col("name").str.contains("accuracy|r@|active")).drop("seconds").rows() for h in histories]
        assert [row[:2] for row in same[0]] == [row[:2] for row in same[1]]
        assert [row[2] for row in same[0]] == pytest.approx([row[2] for row in same[1]], rel=2e-3)
    tables = [pl.read_parquet(folders[n] / "predictions.parquet") for n in ("one", "two")]
    assert tables[0].select("example_id", "condition").equals(tables[1].select("example_id", "condition"))
    own = tables[1].filter(pl.col("condition") == "own")
    assert own["example_id"].n_unique() == len(own)
    # texts and losses that two processes shared out are those of one, to the last bit
    texts = two_root / "artifacts" / "generate" / two["generate"].copy().pop() / "texts.parquet"
    shared = pl.read_parquet(texts)
    shutil.rmtree(texts.parent)
    run([*overrides, f"artifacts={two_root}/artifacts", f"outputs={two_root}/outputs"])
    assert pl.read_parquet(texts).equals(shared)


TWO = ["trainer=ddp", "trainer.accelerator=cpu"]
LONGER = ["evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=6", "tuning.val_every=3"]


def at_step(step: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Do something in rank 0 in the midst of a step of phase 2."""
    original = ItemLanguageModule.training_step

    def acting(self: ItemLanguageModule, batch: PromptBatch, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            act()
        return original(self, batch, batch_idx)

    patch.setattr(ItemLanguageModule, "training_step", acting)


def kill_children() -> None:
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)


def stopped(overrides: list[str], error: type[BaseException], match: str, seconds: float = 60) -> dict[str, str]:
    """Run into an error; return what the run's status says."""
    start = time.monotonic()
    with stop_signals(), pytest.raises(error, match=match):
        run(overrides)
    assert time.monotonic() - start < seconds
    assert children(os.getpid()) == []
    config = checked(overrides)
    return dict(json.loads((Path(config.outputs) / str(config.run) / "status.json").read_text()))


def finished_as_if_whole(overrides: list[str]) -> None:
    """Continue a run, then begin it anew: both must end with the same weights."""
    _, folder = run(overrides)
    resumed = load_file(folder / "model" / "model.safetensors")
    tune = json.loads((folder / "metrics.json").read_text())["protocol"]["tune"]
    shutil.rmtree(Path(checked(overrides).artifacts) / tune)
    run(overrides)
    whole = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.faults
def test_a_lost_rank_is_named_and_the_run_ends_as_if_it_had_not_been(
    shared_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["experiment=ilm_mlp", "run=lost", *shared_overrides, *LONGER, *TWO]
    with monkeypatch.context() as patch:
        at_step(4, kill_children, patch)
        status = stopped(overrides, RankError, r"rank 1 of 2: ended by SIGKILL \(see .*rank1.log\)")
    assert status["state"] == "failed"
    assert "rank 1 of 2: ended by SIGKILL" in status["error"]
    finished_as_if_whole(overrides)


@pytest.mark.faults
def test_a_shared_out_language_model_gives_the_same_portable_folder(
    shared_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [
        "experiment=ilm_mlp", "run=shared", *shared_overrides, *LONGER,
        "tuning=full", "tuning.steps=8", "tuning.adapter_first_share=0.25", "tuning.gradient_clip=0.1",
    ]  # fmt: skip
    sharded = [*whole, "trainer=fsdp", "trainer.accelerator=cpu"]
    with monkeypatch.context() as patch:
        # after the validation in the middle: optimiser states are shared out again
        at_step(4, kill_children, patch)
        stopped(sharded, RankError, "rank 1 of 2: ended by SIGKILL")
    folder = Path(checked(whole).outputs) / "shared"
    # what two processes saved, one goes on with
    run(whole)
    tune = json.loads((folder / "metrics.json").read_text())["protocol"]["tune"]
    shutil.rmtree(Path(checked(whole).artifacts) / tune)
    with monkeypatch.context() as patch:
        at_step(4, kill_children, patch)
        stopped(sharded, RankError, "rank 1 of 2: ended by SIGKILL")
    finished_as_if_whole(sharded)
    names = ("model/model.safetensors", "model/lm/model.safetensors")
    first = {name: load_file(folder / name) for name in names}
    shutil.rmtree(Path(checked(whole).artifacts) / tune)
    run(whole)
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["tune"] == tune
    for name in names:
        second = load_file(folder / name)
        assert second.keys() == first[name].keys()
        for key, tensor in second.items():
            assert torch.allclose(first[name][key], tensor, atol=2e-4), key
    assert ItemLanguageModel.from_pretrained(folder / "model").tuning == "full"


@pytest.mark.faults
def test_signals_to_the_first_rank_stop_all_once_saved(
    shared_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["experiment=ilm_mlp", "run=signals", "seed=1", *shared_overrides, *LONGER, *TWO]
    artifacts = Path(checked(overrides).artifacts)
    # the second run continues from where the first stopped, its last step ends with a validation
    for number, step in ((signal.SIGUSR1, 4), (signal.SIGTERM, 5)):
        with monkeypatch.context() as patch:
            at_step(step, partial(os.kill, os.getpid(), number), patch)
            assert stopped(overrides, StoppedError, number.name)["state"] == "preempted"
        # other tests may have left theirs
        last = max(artifacts.glob("tune/*.part/checkpoints/tune/last.ckpt"), key=lambda path: path.stat().st_mtime)
        assert torch.load(last, weights_only=True)["global_step"] == step + 1
    finished_as_if_whole(overrides)


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
