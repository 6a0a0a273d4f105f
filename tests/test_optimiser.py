"""AdamW as both phases use it."""

import lightning as pl
import pytest
import torch
from torch import nn

from ilm_lightning.optimiser import adamw, clip_gradients, scheduled, warmup_cosine


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,), ())]


def test_steps_equal_those_of_the_plain_loop() -> None:
    ours, plain = weights(), weights()
    group = {"weight_decay": 0.1}
    mine = adamw([{"params": ours[:2], "lr": 0.02, **group}, {"params": ours[2:]}], lr=0.3)
    other = torch.optim.AdamW([{"params": plain[:2], "lr": 0.02, **group}, {"params": plain[2:]}], lr=0.3, fused=False)
    assert mine.defaults["fused"]
    for step in range(5):
        for left, right in zip(ours, plain, strict=True):
            left.grad = torch.full_like(left, 0.1 * step - 0.2)
            right.grad = left.grad.clone()
        mine.step()
        other.step()
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_a_device_without_the_fused_step_gets_the_loop() -> None:
    assert not adamw([{"params": [nn.Parameter(torch.empty(2, device="meta"))]}]).defaults["fused"]


@pytest.mark.parametrize(("limit", "norm"), [(0.5, 0.5), (None, 5.0), (0.0, 5.0), (9.0, 5.0)])
def test_gradients_are_scaled_to_the_limit(limit: float | None, norm: float) -> None:
    pair = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    pair[0].grad, pair[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    clip_gradients(adamw([{"params": pair[:1]}, {"params": pair[1:]}]), limit)
    assert float(sum(p.grad.square().sum() for p in pair)) ** 0.5 == pytest.approx(norm, rel=1e-5)  # type: ignore[union-attr]


def test_schedule_warms_up_then_falls_to_zero() -> None:
    factors = [warmup_cosine(step, 10, 100) for step in range(120)]
    assert factors[:10] == [(step + 1) / 10 for step in range(10)]
    assert factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100:] == pytest.approx([0.0] * 20, abs=1e-12)
    assert warmup_cosine(0, 0, 0) == 1.0


def test_the_schedule_goes_by_steps() -> None:
    made = scheduled(adamw([{"params": weights(), "lr": 0.5}]), warmup=2, total=4)
    rates = []
    for _ in range(5):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.25, 0.5, 0.5, 0.25, 0.0])
    assert made["lr_scheduler"]["interval"] == "step"


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 1)
        self.norms: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return 1000 * self.line(batch).float().sum()

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        clip_gradients(optimizer, gradient_clip_val)
        self.norms.append(float(self.line.weight.grad.norm()))  # type: ignore[union-attr]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adamw([{"params": list(self.parameters())}])


def test_clipping_works_under_autocast(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    module = Module()
    trainer = pl.Trainer(
        accelerator="cpu", precision="bf16-mixed", max_steps=2, gradient_clip_val=1.0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(2, 4), batch_size=None))
    assert len(module.norms) == 2
    assert all(0 < norm <= 1.001 for norm in module.norms)
