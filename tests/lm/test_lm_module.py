from pathlib import Path

import lightning as pl
import pytest
import torch
from lm_tiny import make_model
from torch.utils.data import DataLoader

from ilm_lightning.lm import Collator, ItemLanguageModel, Tuning
from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings, parameter_groups
from ilm_lightning.lm.prompts import TokenisedExample

Examples = list[TokenisedExample]


def trainer(folder: Path, steps: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
    )


def fit(
    model: ItemLanguageModel, batches: list[object], folder: Path, steps: int, ckpt: str | None = None
) -> pl.Trainer:
    module = ItemLanguageModule(model, OptimiserSettings(steps=30, adapter_lr=1e-2, lm_lr=1e-3))
    loader = DataLoader(batches, batch_size=None)
    runner = trainer(folder, steps)
    runner.fit(module, loader, loader, ckpt_path=ckpt, weights_only=True)
    return runner


@pytest.mark.parametrize("tuning", Tuning)
def test_training_lowers_the_loss_and_checkpoints_hold_what_is_trained(
    tuning: Tuning, tmp_path: Path, examples: Examples, collator: Collator
) -> None:
    model = make_model(tuning)
    before = model(collator(examples)).loss.item()
    runner = fit(model, [collator(examples)], tmp_path, 30)
    assert runner.callback_metrics["val/loss"].item() < before
    assert "train/loss" in runner.callback_metrics
    runner.save_checkpoint(tmp_path / "run.ckpt")
    state = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    assert set(state) == set(model.trainable_state_dict())
    assert any(name.startswith("lm.") for name in state) == (tuning is not Tuning.FROZEN)


def test_resumed_training_equals_uninterrupted(tmp_path: Path, examples: Examples, collator: Collator) -> None:
    batches: list[object] = [collator(examples[:3])]
    whole, half, rest = make_model(), make_model(), make_model()
    fit(whole, batches, tmp_path, 6)
    fit(half, batches, tmp_path, 3).save_checkpoint(tmp_path / "half.ckpt")
    fit(rest, batches, tmp_path, 6, str(tmp_path / "half.ckpt"))
    for mine, theirs in zip(rest.adapter.parameters(), whole.adapter.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_lightning_leaves_the_frozen_llm_in_evaluation_mode(
    tmp_path: Path, examples: Examples, collator: Collator
) -> None:
    model = make_model()
    modes = []
    model.lm.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    model.lm.get_decoder().register_forward_pre_hook(lambda module, _: modes.append(module.training))
    fit(model, [collator(examples)], tmp_path, 2)
    assert modes
    assert not any(modes)


def test_a_loss_that_is_not_finite_names_its_examples(tmp_path: Path, examples: Examples, collator: Collator) -> None:
    model = make_model()
    with torch.no_grad():
        model.log_gain.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="examples a, b, c, d, e"):
        fit(model, [collator(examples)], tmp_path, 1)


def test_groups_by_part_and_decay() -> None:
    model = make_model(Tuning.LORA)
    groups = parameter_groups(model, OptimiserSettings(steps=1, adapter_lr=0.5, lm_lr=0.25, weight_decay=0.1))
    seen = {(group["lr"], group["weight_decay"]) for group in groups}
    assert seen == {(0.5, 0.1), (0.5, 0.0), (0.25, 0.1)}
    counted = sum(p.numel() for group in groups for p in group["params"])  # type: ignore[attr-defined]
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)
