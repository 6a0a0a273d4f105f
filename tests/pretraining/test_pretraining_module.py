"""Phase 1 under the Lightning Trainer."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import lightning as pl
import pytest
import torch
from pretraining_tiny import World
from torch import Tensor
from torch.utils.data import DataLoader

from ilm_lightning.pretraining.batches import EvaluationBatches, PairBatches
from ilm_lightning.pretraining.losses import ITM_PRIOR, in_batch_pair_loss, pair_contrastive_loss
from ilm_lightning.pretraining.model import VectorTable
from ilm_lightning.pretraining.module import NonFiniteLossError, PretrainingModule, parameter_groups
from ilm_lightning.pretraining.pairs import ITEM_ITEM, ITEM_TEXT
from ilm_lightning.pretraining.priors import prior
from ilm_lightning.pretraining.settings import PretrainingSettings


def fit(world: World, module: PretrainingModule, folder: Path, steps: int = 3) -> pl.Trainer:
    sets = {ITEM_TEXT: world.texts, ITEM_ITEM: world.item_item}
    sizes = {ITEM_TEXT: 6, ITEM_ITEM: 8}
    stream = PairBatches(sets, {ITEM_TEXT: 2.0, ITEM_ITEM: 1.0}, sizes, 0, world.vocabulary)
    held_out = EvaluationBatches(sets, sizes, 0, world.vocabulary)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    torch.manual_seed(0)
    trainer.fit(
        module,
        DataLoader(stream, batch_size=None, sampler=range(steps)),
        DataLoader(held_out, batch_size=None),
    )
    return trainer


def make(world: World) -> PretrainingModule:
    model = world.model("itc", "itm", "itg", "iic", "vg")
    return PretrainingModule(
        model, total_steps=3, warmup_steps=1, held_out=world.texts, vocabulary=world.vocabulary, seed=4
    )


def test_three_steps_log_every_term(world: World, tmp_path: Path) -> None:
    module = make(world)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = fit(world, module, tmp_path)
    assert trainer.global_step == 3
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    terms = {"itc", "itm", "itm_accuracy", "itg", "itg_nll", "iic", "iic_active", "vg", "loss"}
    assert {f"{part}/{name}" for part in ("train", "val") for name in terms} <= set(values)
    assert values["val/text_chance@1"] == pytest.approx(1 / 16)
    # 16 pairs in batches of at most 6: 6, 5 and 5
    assert values["val/itc_prior"] == pytest.approx((6 * math.log(6) + 10 * math.log(5)) / 16)
    assert {"val/text_r@10", "val/bag_r@1"} <= set(values)
    losses = sum(values[f"val/{name}"] for name in ("itc", "itm", "itg", "iic", "vg"))
    assert values["val/loss"] == pytest.approx(losses, rel=1e-5)
    moved = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert "model.adapter.qformer.queries" in moved
    assert "model.temperature" in moved


def test_the_same_run_twice_is_the_same(world: World, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        module = make(world)
        trainer = fit(world, module, tmp_path / name)
        runs.append((float(trainer.callback_metrics["val/loss"]), module.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


def test_checkpoint_is_plain_and_loads_into_a_fresh_module(world: World, tmp_path: Path) -> None:
    module = make(world)
    trainer = fit(world, module, tmp_path)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["learning_rate"] == 1e-4
    fresh = make(world)
    fresh.load_state_dict(stored["state_dict"])
    assert torch.equal(fresh.model.temperature, module.model.temperature)


def test_a_loss_that_is_no_number_stops_with_the_rows(world: World, tmp_path: Path) -> None:
    module = make(world)
    broken = torch.full_like(world.items["behavioral"], float("nan"))
    module.model.items = VectorTable({**world.items, "behavioral": broken})
    with pytest.raises(NonFiniteLossError, match=r"batch 0: .*itc=nan.*rows \[\d+, "):
        fit(world, module, tmp_path)


def test_a_loss_at_its_prior_is_said(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(world)
    monkeypatch.setattr(PretrainingModule, "global_step", 7)
    monkeypatch.setattr(module, "log_dict", lambda values: None)
    for itm, iic, itc, expected in (
        (ITM_PRIOR + 0.004, 0.1, 1.0, ["ITM is 0.6405"]),
        (0.4, 0.125, 1.0, ["IIC is 0.1250, its prior alone gives 0.1250"]),
        (0.7, 0.14, 1.0, ["ITM is 0.7000", "IIC is 0.1400"]),
        (0.4, 0.1, 1.8, ["ITC is 1.8000, its prior alone gives 1.7918"]),
        (0.4, 0.1, 1.0, []),
    ):
        caplog.clear()
        for name, value, size in (("itc", itc, 6), ("itc_prior", math.log(6), 6), ("itm", itm, 6), ("iic", iic, 8)):
            module._means.add(name, value, size)
        with caplog.at_level(logging.WARNING, logger="ilm_lightning"):
            module.on_validation_epoch_end()
        assert len(caplog.messages) == len(expected)
        for message, part in zip(caplog.messages, expected, strict=True):
            assert part in message
            assert "nothing learned" in message


def test_priors_of_the_pair_losses_are_what_equal_distances_give() -> None:
    points = torch.tensor([[0.0], [0.35]]).double()
    settings = PretrainingSettings(losses=("iic", "uic"), margin=0.7)
    loss, _ = pair_contrastive_loss(points[[0, 0]], points[[1, 1]], torch.tensor([True, False]), margin=0.7)
    assert prior("iic", settings) == prior("uic", settings) == pytest.approx(loss.item())
    apart = replace(settings, pair_mode="margin_all")
    related = torch.eye(2).bool()
    # all of left in one place, all of right m/2 away
    worse, _ = in_batch_pair_loss(points[[0, 0]], points[[1, 1]], related, margin=0.7)
    assert prior("iic", apart) == pytest.approx(worse.item())
    assert prior("iic", replace(settings, pair_mode="infonce")) is None


def test_validation_leaves_the_generator_of_training_alone(world: World) -> None:
    module = make(world)
    batch = EvaluationBatches({ITEM_TEXT: world.texts}, {ITEM_TEXT: 6}, 0, world.vocabulary)[0]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    module.validation_step(batch, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_biases_norms_and_scalars_do_not_decay(world: World) -> None:
    model = world.model("itc", "itm", "itg", "vg")
    decayed, plain = parameter_groups(model, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    for parameter in plain["params"]:
        name = names[id(parameter)]
        assert name.endswith("bias") or "norm" in name or name in ("temperature", "vg_log_scale"), name
    assert not [names[id(p)] for p in decayed["params"] if "norm" in names[id(p)] or names[id(p)].endswith(".bias")]


def test_losses_fall_in_bf16_too(world: World) -> None:
    model = world.model("itc", "itm", "itg", "iic", "vg")
    batch = PairBatches({ITEM_TEXT: world.texts}, {ITEM_TEXT: 1}, {ITEM_TEXT: 16}, 0, world.vocabulary)[0]
    totals: list[Tensor] = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = model.total(model(batch))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.detach())
    assert totals[0].dtype == torch.float32
    assert totals[-1] < 0.9 * totals[0]
