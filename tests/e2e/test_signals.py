"""Runs with every signal of ours, on tiny models: what is made, from what, and what it is made of."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from test_pipeline import built, run

from ilm_lightning.engine.artifacts import MANIFEST
from ilm_lightning.lm import ItemLanguageModel, load_backbone

QUICK = ["evaluation.losses=false", "tuning.steps=4", "tuning.val_every=4"]


def manifests(root: Path, stage: str) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in (root / "artifacts" / stage).glob(f"*/{MANIFEST}")}


def lm_folder(overrides: list[str]) -> str:
    (found,) = [o.partition("=")[2] for o in overrides if o.startswith("lm.name=")]
    return found


@pytest.mark.slow
def test_all_signals_with_trials(tiny_overrides: list[str], tmp_path: Path) -> None:
    trials = ["tuning.lr_trials=[1e-3,1e-2]", "tuning.trial_steps=2", "evaluation.conditions=[own,blind]"]
    overrides = ["experiment=ilm_qformer_vg_cd_rw", *tiny_overrides, *QUICK, *trials]
    _, folder = run(overrides)
    stages = built(tmp_path)
    # the blind model that weights the targets is the blind control of the evaluation
    assert len(stages["tune"]) == len(stages["trials"]) == 2
    assert len(stages["trial"]) == 4
    assert len(stages["residuals"]) == len(stages["pretrain"]) == 1
    tuned = manifests(tmp_path, "tune")
    (own,) = [m for m in tuned.values() if "residuals" in m["inputs"]]
    (blind,) = [m for m in tuned.values() if "residuals" not in m["inputs"]]
    assert own["settings"]["tuning"]["distillation_weight"] == 1.0
    assert "distillation_weight" not in blind["settings"]["tuning"]
    assert own["report"]["distilled_share"] == 1.0
    # the chosen rate is the one with the least validation loss, and stands beside the numbers
    rates = {row["adapter_lr"]: row["val_loss"] for row in own["report"]["trials"]}
    assert sorted(rates) == [1e-3, 1e-2]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["lr_trials"] == 2
    assert metrics["protocol"]["learning_rates"] == {"adapter": min(rates, key=lambda r: rates[r]), "lm": None}
    # weights come from training examples only
    (residuals,) = (tmp_path / "artifacts" / "residuals").glob("*/residuals.parquet")
    (examples,) = (tmp_path / "artifacts" / "tasks").glob("*/examples.parquet")
    table, frame = pl.read_parquet(residuals), pl.read_parquet(examples)
    joined = table.join(frame, on="example_id", how="left")
    assert joined["split"].unique().to_list() == ["train"]
    assert len(table) == 4 * 4
    # all that was trained for this variant is accounted for, the blind model included
    spent = metrics["run"]["compute"]
    kinds = [stage["artifact"].split("/")[0] for stage in spent["stages"]]
    assert sorted(kinds) == ["pretrain", "residuals", "trial", "trial", "trial", "trial", "tune", "tune"]
    assert spent["flops"] == pytest.approx(sum(stage["flops"] for stage in spent["stages"]))
    assert all(stage["flops"] > 0 for stage in spent["stages"])
    before = built(tmp_path)
    run(overrides)
    assert built(tmp_path) == before


@pytest.mark.slow
def test_distillation_where_every_weight_is_trained(shared_overrides: list[str]) -> None:
    quick = ["evaluation.conditions=[own]", "tuning.distillation_weight=0.5", "tuning=full"]
    _, folder = run(["experiment=ilm_mlp", *shared_overrides, *QUICK, *quick])
    metrics = json.loads((folder / "metrics.json").read_text())
    artifact = Path(shared_overrides[-2].removeprefix("artifacts=")) / metrics["protocol"]["tune"]
    assert json.loads((artifact / MANIFEST).read_text())["report"]["distilled_share"] == 1.0
    # the untrained copy that teaches is no part of what is kept
    assert {p.name for p in (folder / "model").iterdir() if p.is_dir()} == {"lm"}


@pytest.mark.slow
def test_lora_with_a_blind_model_of_its_own_budget(shared_overrides: list[str]) -> None:
    weighted = ["tuning.residual_weighting=true", "tuning.residual_steps=2", "tuning.distillation_weight=0.5"]
    quick = ["evaluation.conditions=[own]", "tuning=lora", *weighted]
    _, folder = run(["experiment=ilm_mlp", *shared_overrides, *QUICK, *quick])
    root = Path(shared_overrides[-2].removeprefix("artifacts=")).parent
    tune = json.loads((folder / "metrics.json").read_text())["protocol"]["tune"]
    own = json.loads((root / "artifacts" / tune / MANIFEST).read_text())
    residuals = json.loads((root / "artifacts" / own["inputs"]["residuals"] / MANIFEST).read_text())
    blind = json.loads((root / "artifacts" / residuals["inputs"]["blind"] / MANIFEST).read_text())
    assert own["report"]["distilled_share"] == 1.0
    assert (own["settings"]["tuning"]["mode"], blind["settings"]["tuning"]["mode"]) == ("lora", "lora")
    assert blind["settings"]["tuning"]["steps"] == 2
    assert blind["settings"]["adapter"]["kind"] == "constant"
    assert residuals["report"]["examples"] == 16


@pytest.mark.slow
def test_language_model_that_first_learned_the_format_blind(tiny_overrides: list[str], tmp_path: Path) -> None:
    """One training of it serves every variant; the exported folder carries it and answers alike."""
    first = ["tuning.lm_first_steps=3", "evaluation.conditions=[own,blind]"]
    results = []
    for variant, seeds in (
        ("ilm_mlp", []),
        ("ilm_qformer_random", []),
        ("ilm_mlp", ["seed=1", "encoder.als.seed=0", "tuning.lm_first_seed=0"]),
    ):
        _, folder = run([f"experiment={variant}", *tiny_overrides, *QUICK, *first, *seeds])
        results.append(folder)
    tuned = manifests(tmp_path, "tune")
    firsts = {m["inputs"]["first"] for m in tuned.values() if "first" in m["inputs"]}
    # two variants, one of them with two seeds, each seed's blind control over the same language model, and that model's
    # own training
    assert (len(tuned), len(firsts)) == (6, 1)
    (name,) = firsts
    own = tuned[name.split("/")[1]]
    assert (own["settings"]["tuning"]["mode"], own["settings"]["tuning"]["steps"]) == ("lora", 3)
    assert own["settings"]["adapter"]["kind"] == "constant"
    for key, one in tuned.items():
        if "first" in one["inputs"]:
            assert not any(part["component"] == "LoRA" for part in one["report"]["parameters"]), key
    kinds = [
        stage["artifact"] for stage in json.loads((results[0] / "metrics.json").read_text())["run"]["compute"]["stages"]
    ]
    assert name in kinds
    config = json.loads((results[0] / "model" / "config.json").read_text())
    assert (config["tuning"], config["lm_updates"], config["soft_start"]) == ("frozen", True, True)
    later = [tmp_path / "artifacts" / "tune" / key / "model" for key in tuned if key != name.split("/")[1]]
    starts = [json.loads((folder / "config.json").read_text())["soft_start"] for folder in later]
    # adapters begin beside the trained tokens, free soft tokens as them
    assert sorted(starts) == [False, False, True, True, True]
    moved = tmp_path / "elsewhere"
    shutil.copytree(results[0] / "model", moved)
    model, again = (
        ItemLanguageModel.from_pretrained(f, lm_folder(tiny_overrides)) for f in (results[0] / "model", moved)
    )
    plain = load_backbone(lm_folder(tiny_overrides), dtype="float32").lm.state_dict()
    state, other = model.lm.state_dict(), again.lm.state_dict()
    assert state.keys() == plain.keys()
    assert all(torch.equal(value, other[key]) for key, value in state.items())
    assert any(not torch.equal(value.float(), plain[key].float()) for key, value in state.items())
