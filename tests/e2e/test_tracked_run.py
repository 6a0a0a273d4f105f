"""A run with every logger, read back: each metric and table is there, and no key."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.engine.command import setup_logging
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.pipeline import run_id, run_pipeline
from ilm_lightning.engine.validate import validate
from wandb_reader import OfflineRun, read_runs

KEYS = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "76543210", "HF_TOKEN": "hf_" + "Zq9" * 10, "MY_SECRET": "Xy7" * 8}
VITALS = {
    "train/gradient_norm", "train/gradient_norm_adapter", "train/lr_adapter", "train/items_per_second",
    "train/tokens_per_second", "train/memory_gib", "train/loss",
}  # fmt: skip


@pytest.fixture(scope="module")
def tracked(shared_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, Path]]:
    pytest.importorskip("wandb", reason="needs the wandb extra")
    pytest.importorskip("tensorboard", reason="needs the tensorboard extra")
    patch = pytest.MonkeyPatch()
    for name, value in KEYS.items():
        patch.setenv(name, value)
    patch.setattr("sys.argv", ["train", f"my_api_key={KEYS['MY_SECRET']}"])
    overrides = ["logger=wandb_offline", "logger.tensorboard=true", "logger.tags=[tonight]", "logger.samples=5"]
    more = ["logger.sample_tokens=6", "experiment=ilm_qformer_grounded", "evaluation.movies=3", "seed=23"]
    steps = ["tuning.steps=6", "tuning.val_every=3", "evaluation.conditions=[own,shuffled]", "run=tracked"]
    config = composed(*shared_overrides, *overrides, *more, *steps)
    validate(config)
    run_pipeline(config)
    yield config, Path(config.outputs) / run_id(config)
    patch.undo()
    setup_logging()


@pytest.fixture(scope="module")
def runs(tracked: tuple[Config, Path]) -> dict[str, OfflineRun]:
    found = {run.run.job_type: run for run in read_runs(tracked[1])}
    assert set(found) == {"pretrain", "tune", "evaluate"}
    return found


def test_runs_are_grouped_and_tagged(tracked: tuple[Config, Path], runs: dict[str, OfflineRun]) -> None:
    config, _ = tracked
    for stage, run in runs.items():
        assert run.run.run_group == "ilm_qformer_grounded"
        assert run.run.display_name == f"ilm_qformer_grounded-{stage}-seed23"
        assert {"tonight", "encoder=combined", "adapter=qformer", "tuning=frozen", "queries=2"} <= set(run.run.tags)
        assert run.config["tuning"]["steps"] == config.tuning.steps
        assert run.config["hardware"]["cores"] >= 1
        assert run.config["versions"]["ilm_lightning"]


def test_every_metric_is_there(tracked: tuple[Config, Path], runs: dict[str, OfflineRun]) -> None:
    config, folder = tracked
    phase1 = {name for row in runs["pretrain"].history for name in row}
    terms = {f"{part}/{name}" for part in ("train", "val") for name in ("itc", "itm", "itg", "iic", "vg")}
    assert phase1 >= VITALS | terms | {"val/loss"}
    phase2 = {name for row in runs["tune"].history for name in row}
    assert phase2 >= VITALS | {"val/loss", "val/sc"}
    for stage in ("pretrain", "tune"):
        history = pl.read_csv(folder / f"history-{stage}.csv")
        assert set(history["name"]) >= {n for n in (phase1 if stage == "pretrain" else phase2) if n[:4] in ("val/",)}
        assert set(history["name"]) >= VITALS
        validated = history.filter(pl.col("name") == "val/loss")["value"].to_list()
        assert runs[stage].values("val/loss") == [pytest.approx(value) for value in validated]
    metrics = json.loads((folder / "metrics.json").read_text())
    results = runs["evaluate"].history[0]
    assert results["test/sc/own"] == pytest.approx(metrics["all"]["sc"]["own"])
    assert results["test/loss/own"] == pytest.approx(metrics["all"]["loss"]["own"])
    assert {"test/retrieval/r1", "run/peak_memory_gib", "run/seconds/tune", "run/train_flops"} <= set(results)
    written = Path(config.artifacts) / metrics["run"]["texts"]["own"] / "manifest.json"
    assert results["run/seconds/generate"] == pytest.approx(json.loads(written.read_text())["seconds"])


def test_the_same_examples_are_answered_over_time(tracked: tuple[Config, Path], runs: dict[str, OfflineRun]) -> None:
    _, folder = tracked
    table = pl.read_csv(folder / "samples-tune.csv")
    assert table.columns == ["step", "example", "task", "prompt", "target", "text", "sc"]
    by_step = {step: part["example"].to_list() for (step,), part in table.group_by("step", maintain_order=True)}
    assert list(by_step) == [3, 6]
    assert by_step[3] == by_step[6]
    assert len(set(by_step[3])) == table["task"].n_unique() == 5
    assert runs["tune"].values("val/sc") == [
        pytest.approx(part["sc"].mean(), abs=0.06) for _, part in table.group_by("step", maintain_order=True)
    ]
    first, last = runs["tune"].tables["samples"]
    assert [len(first["data"]), len(last["data"])] == [5, 10]
    assert last["columns"] == table.columns
    assert [row[:2] for row in last["data"]] == [list(row) for row in table.select("step", "example").rows()]
    texts, tasks = runs["evaluate"].tables["texts"][0], runs["evaluate"].tables["sc_per_task"][0]
    assert texts["columns"] == ["task", "prompt", "target", "own", "shuffled"]
    assert len(texts["data"]) == len(tasks["data"]) == 24


def test_lineage_leads_from_the_results_to_the_data(tracked: tuple[Config, Path], runs: dict[str, OfflineRun]) -> None:
    _, folder = tracked
    facts = json.loads((folder / "metrics.json").read_text())["run"]
    made = {name.partition("/")[0]: name for name in facts["artifacts"]}
    assert runs["evaluate"].config["lineage"] == made
    assert runs["tune"].config["lineage"]["pretrain"] == made["pretrain"]
    assert runs["pretrain"].config["lineage"]["embed"] == made["embed"]
    for stage in ("pretrain", "tune"):
        (artifact,) = [a for a in runs[stage].artifacts if a.type == stage]
        assert artifact.name == made[stage].replace("/", "-")
        assert json.loads(artifact.metadata)["inputs"] == runs[stage].config["lineage"]


def test_tensorboard_holds_the_same(tracked: tuple[Config, Path], runs: dict[str, OfflineRun]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, folder = tracked
    for stage, wanted in (("pretrain", {"train/itc", "val/vg"}), ("tune", {"val/sc"}), ("evaluate", {"test/sc/own"})):
        read = EventAccumulator(str(folder / "tensorboard" / f"ilm_qformer_grounded-{stage}"))
        read.Reload()
        assert set(read.Tags()["scalars"]) >= wanted | (set() if stage == "evaluate" else VITALS)
        assert "config/text_summary" in read.Tags()["tensors"]
        if stage == "tune":
            # Lightning's loggers count steps from 0
            assert [event.step for event in read.Scalars("val/sc")] == [2, 5]
            assert "samples/text_summary" in read.Tags()["tensors"]


def test_no_key_is_anywhere(tracked: tuple[Config, Path], caplog: pytest.LogCaptureFixture) -> None:
    config, folder = tracked
    files = [path for root in (folder, Path(config.artifacts)) for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [name for name, key in KEYS.items() if key.encode() in content], path
    assert "my_api_key=***" in json.loads((folder / "metrics.json").read_text())["run"]["command"]


def test_a_repeated_command_logs_nothing_twice(tracked: tuple[Config, Path]) -> None:
    config, folder = tracked
    before = len(read_runs(folder))
    run_pipeline(config)
    assert len(read_runs(folder)) == before
    changed = replace(config, logger=replace(config.logger, tensorboard=False))
    run_pipeline(changed)
    assert len(read_runs(folder)) == before + 1
