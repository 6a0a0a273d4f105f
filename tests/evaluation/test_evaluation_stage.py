"""Texts and scores as stages: what a kill costs, and that equal input gives equal files."""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.pipeline import run_id, run_pipeline
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.sentences import use_bf16

MADE = ("generate", "evaluate", "constants")


def checked(*overrides: str) -> Config:
    config = composed(*overrides)
    validate(config)
    return config


def files(root: Path) -> dict[str, bytes]:
    """All that the stages made, without what tells when and by whom."""
    paths = [path for stage in MADE for path in (root / stage).rglob("*") if path.is_file()]
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in paths
        if p.suffix not in (".lock",) and p.name != "manifest.json"
    }


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_ends_in_the_same_files(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "experiment=ilm_mlp",
        *tiny_overrides,
        "evaluation.batch_size=16",
        "tuning.steps=2",
        "tuning.val_every=2",
    ]
    config = checked(*settings, "evaluation.conditions=[own,shuffled,hard_shuffled,constant,knn_copy,blind]")
    run_pipeline(config)
    root = Path(config.artifacts)
    whole = files(root)
    screen = capsys.readouterr().err
    assert "facts right, own: seen by the encoder: " in screen
    assert "configurations of this variant tried so far, seeds set aside: 1" in screen
    assert "SC by number of ratings" in screen
    assert {Path(name).name for name in whole} >= {"texts.parquet", "predictions.parquet", "metrics.json"}
    for stage in MADE:
        shutil.rmtree(root / stage)

    module = import_module("ilm_lightning.lm.generate")
    original, written = module.greedy, []

    def counted(*arguments: Any, **named: Any) -> Any:
        if len(written) == 3 and "stop" not in written:
            written.append("stop")
            raise Killed
        written.append("batch")
        return original(*arguments, **named)

    monkeypatch.setattr(module, "greedy", counted)
    with pytest.raises(Killed):
        run_pipeline(config)
    journals = list(root.glob("generate/*.part/checkpoints/texts.jsonl"))
    assert len(journals) == 1
    assert len(journals[0].read_text().splitlines()) == 3
    run_pipeline(config)
    own = json.loads((Path(config.outputs) / run_id(config) / "metrics.json").read_text())["n_examples"]
    assert written.count("batch") == -(-own // 16) + 2  # the blind control writes each of 24 prompts once
    assert files(root) == whole
    assert not list(root.glob("generate/*/checkpoints"))


def test_every_measure_is_in_metrics_and_predictions(
    shared_overrides: list[str], tiny_sentence_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other-scorer"
    shutil.copytree(tiny_sentence_model, other)
    weights = next(other.rglob("model.safetensors"))
    from safetensors.torch import load_file, save_file

    save_file({name: 0.5 * rows.flip(0) for name, rows in load_file(weights).items()}, weights, {"format": "pt"})
    settings = ["experiment=ilm_mlp", *shared_overrides, f"evaluation.second_scorer={other}", "evaluation.losses=false"]
    config = checked(
        *settings, "evaluation.conditions=[own,shuffled,constant]", "encoder.text_fields=[genres,directors]"
    )
    run_pipeline(config)
    folder = Path(config.outputs) / run_id(config)
    metrics = json.loads((folder / "metrics.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table = pl.read_parquet(folder / "predictions.parquet")
    columns = {"sc", "sc_second", "sc_input", "rouge_l", "slot_accuracy", "slot_seen", "slot_unseen", "cut_off"}
    assert columns <= set(table.columns)
    assert columns <= set(metrics["all"])
    assert metrics["second_scorer"] == "other-scorer"
    assert metrics["scorer_precision"] == ("bfloat16" if use_bf16(device, None) else "float32")
    assert metrics["all"]["sc_second"]["own"] != metrics["all"]["sc"]["own"]
    assert metrics["input_encoder"] == metrics["scorer"]
    assert metrics["seen_facts"] == ["genres", "people"]
    assert "people" in metrics["slots"]["own"]["kinds"]
    assert set(metrics["sc_input_of_targets"]["tasks"]) == set(metrics["tasks"])
    assert set(metrics["claims"]) == {"shuffled", "constant", "best_control", "best_control_with_hard"}
    assert metrics["claims"]["shuffled"]["by"].keys() == {"sc", "sc_second"}
    assert metrics["retrieval_second"]["own"]["all"]["chance_r1"] == metrics["retrieval"]["own"]["all"]["chance_r1"]
    assert metrics["protocol"]["configurations_tried"] >= 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.second_scorer=no-such-model", "evaluation.second_scorer=no-such-model is neither an asset"),
        ("evaluation.second_scorer=all-minilm-l6-v2", "is the first scorer"),
    ],
)
def test_a_second_scorer_that_cannot_serve(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(override)
