"""What training costs: counted exactly, resumed, and summed over everything a variant was made from."""

from pathlib import Path
from typing import Any

import lightning as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from ilm_lightning.engine.account import Account, FlopCount, cost_until_now, spent
from ilm_lightning.engine.artifacts import Store
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import StreamDataModule
from ilm_lightning.engine.training import FitSettings, fit

ROWS, WIDE, OUT = 5, 7, 3


class Linear(pl.LightningModule):
    """One map; the batch of step k has ROWS + k rows."""

    def __init__(self, stop_at: int | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.net, self.stop_at = nn.Linear(WIDE, OUT, bias=False), stop_at
        self.error = error or RuntimeError("stopped")

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.net(batch).square().sum()
        if self.global_step == self.stop_at:
            raise self.error
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.net(batch).square().sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def flops_of(step: int) -> int:
    # forward, and backward for the weights; the batch itself needs no gradient
    return 2 * 2 * (ROWS + step) * WIDE * OUT


def run(
    folder: Path, steps: int, stop_at: int | None = None, error: Exception | None = None, label: str = "tiny"
) -> dict[str, float]:
    data = StreamDataModule(lambda step: torch.ones(ROWS + step, WIDE), [torch.ones(2, WIDE)])
    settings = FitSettings(label, steps, steps, seed=0, checkpoint_every_s=0.0)
    config = TrainerConfig(accelerator="cpu", precision="32-true")
    return fit(Linear(stop_at, error), data, settings, config, folder)


def test_every_step_of_a_short_run_is_counted_and_validation_is_not(tmp_path: Path) -> None:
    report = run(tmp_path, 6)
    assert report["train_flops"] == sum(flops_of(step) for step in range(6))
    assert report["train_seconds"] > 0


def test_a_long_run_is_counted_in_every_tenth_step(tmp_path: Path) -> None:
    report = run(tmp_path, 80)
    counted = [flops_of(step) for step in range(0, 80, 10)]
    assert report["train_flops"] == pytest.approx(sum(counted) / len(counted) * 80)


def test_a_resumed_run_counts_on_and_a_failed_step_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, 6, stop_at=4)
    assert _get_current_dispatch_mode() is None
    assert run(tmp_path, 6)["train_flops"] == sum(flops_of(step) for step in range(6))


def test_what_was_spent_until_a_phase_diverged_is_kept_with_the_phases_before_it(tmp_path: Path) -> None:
    assert cost_until_now(tmp_path) == {"train_seconds": 0, "train_flops": 0}
    first = run(tmp_path, 3, label="adapter")
    with pytest.raises(FloatingPointError, match="tune, step 4"):
        run(tmp_path, 6, stop_at=4, error=FloatingPointError("nan"), label="tune")
    found = cost_until_now(tmp_path)
    assert found["train_flops"] == first["train_flops"] + sum(flops_of(step) for step in range(4))
    assert found["train_seconds"] >= first["train_seconds"]


@pytest.mark.parametrize("guard", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_products_are_counted_with_and_without_autograd(guard: Any) -> None:
    net = nn.Sequential(nn.Linear(WIDE, OUT), nn.GELU(), nn.Linear(OUT, 2))
    with guard():
        expected = net(torch.ones(ROWS, WIDE))
        with FlopCount() as counter:
            found = net(torch.ones(ROWS, WIDE))
    assert counter.total == 2 * ROWS * (WIDE * OUT + OUT * 2)
    assert torch.equal(found, expected)


def test_state_is_plain() -> None:
    first, second = Account(20), Account(20)
    first.seconds, first.flops, first.steps, first.counted = 1.5, 300.0, 20, 10
    second.load_state_dict(first.state_dict())
    assert second.report() == {"train_seconds": 1.5, "train_flops": 600.0}


def test_spent_follows_every_input_once(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def make(stage: str, inputs: dict[str, Any], **report: Any) -> Any:
        return store.get(stage, {}, inputs, lambda folder: report)

    cost = {"train_seconds": 1.0, "train_flops": 10.0}
    data = make("prepare", {}, rows=3)
    phase1 = make("pretrain", {"prepare": data, "lm": "abc/def"}, **cost)
    blind = make("tune", {"prepare": data}, tune={**cost, "best_step": 1})
    losses = make("residuals", {"blind": blind}, **cost)
    trial = make("trial", {"pretrain": phase1, "residuals": losses}, **cost)
    trials = make("trials", {"0.1": trial}, trials=[cost])
    last = make(
        "tune", {"trials": trials, "pretrain": phase1, "residuals": losses, "lm": "no/artefact"},
        adapter=cost, tune={"train_seconds": 2.0, "train_flops": 5.0}, sizes={"adapter": 3},
    )  # fmt: skip
    found = spent(tmp_path, last)
    assert [stage["artifact"] for stage in found["stages"]] == [phase1.id, blind.id, losses.id, trial.id, last.id]
    assert found["stages"][-1] == {"artifact": last.id, "seconds": 3.0, "flops": 15.0}
    assert (found["seconds"], found["flops"]) == (7.0, 55.0)
