"""Gradient norms, learning rates, speed and memory, against what is known by hand."""

from pathlib import Path
from typing import Any

import lightning as pl
import polars
import pytest
import torch
from torch import Tensor, nn

from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import StreamDataModule
from ilm_lightning.engine.samples import Answers, Panel
from ilm_lightning.engine.training import FitSettings, fit


class Batch:
    """Three examples of seven tokens in all."""

    n_tokens = 7

    def __len__(self) -> int:
        return 3


class TwoParts(pl.LightningModule):
    """A loss whose gradients are 3 for the adapter's weight and 4 for the language model's, before clipping."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"adapter": nn.Linear(1, 1, bias=False), "lm": nn.Linear(1, 1, bias=False)})
        self.rates: list[list[float]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.rates.append([group["lr"] for group in self.optimizers().param_groups])
        return 3 * self.model["adapter"].weight.sum() + 4 * self.model["lm"].weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", 1.0, batch_size=1)

    def configure_optimizers(self) -> dict[str, Any]:
        groups = [
            {"params": list(self.model["adapter"].parameters()), "lr": 0.1},
            {"params": list(self.model["lm"].parameters()), "lr": 0.01},
        ]
        optimizer = torch.optim.SGD(groups)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TwoParts]:
    folder = tmp_path_factory.mktemp("fit")
    module = TwoParts()
    asked: list[int] = []

    def answer() -> Answers:
        asked.append(len(asked))
        return Answers([["a", f"text {len(asked)},\nof two lines"], ["b", "same"]], {"sc": 10.0 * len(asked)})

    fit(
        module,
        StreamDataModule(lambda step: Batch(), [Batch()]),
        FitSettings("tune", 20, 10, seed=0, gradient_clip=1.0),
        TrainerConfig(accelerator="cpu", precision="32-true", log_every=4),
        folder,
        panel=Panel(("example", "text"), answer),
    )
    return folder, module


def values(folder: Path, name: str) -> dict[int, float]:
    frame = polars.read_csv(folder / "history-tune.csv").filter(polars.col("name") == name)
    return dict(frame.select("step", "value").rows())


def test_norms_are_those_before_clipping(fitted: tuple[Path, TwoParts]) -> None:
    folder, _ = fitted
    steps = [4, 8, 12, 16, 20]
    assert values(folder, "train/gradient_norm_adapter") == dict.fromkeys(steps, 3.0)
    assert values(folder, "train/gradient_norm_lm") == dict.fromkeys(steps, 4.0)
    assert values(folder, "train/gradient_norm") == dict.fromkeys(steps, 5.0)


def test_rates_are_those_of_the_step(fitted: tuple[Path, TwoParts]) -> None:
    folder, module = fitted
    for place, name in enumerate(("adapter", "lm")):
        logged = values(folder, f"train/lr_{name}")
        assert logged == {step: pytest.approx(module.rates[step - 1][place]) for step in (4, 8, 12, 16, 20)}
    assert values(folder, "train/lr_adapter")[4] == pytest.approx(0.1 / 4)


def test_speed_counts_examples_and_tokens(fitted: tuple[Path, TwoParts]) -> None:
    folder, _ = fitted
    items, tokens = values(folder, "train/items_per_second"), values(folder, "train/tokens_per_second")
    assert list(items) == [4, 8, 12, 16, 20]
    assert all(value > 0 for value in items.values())
    for step in items:
        assert tokens[step] / items[step] == pytest.approx(7 / 3)
    assert all(value > 0.05 for value in values(folder, "train/memory_gib").values())


def test_answers_are_kept_over_time(fitted: tuple[Path, TwoParts]) -> None:
    folder, _ = fitted
    assert values(folder, "val/sc") == {10: 10.0, 20: 20.0}
    table = polars.read_csv(folder / "samples-tune.csv")
    assert table.columns == ["step", "example", "text"]
    assert table.rows() == [
        (10, "a", "text 1,\nof two lines"),
        (10, "b", "same"),
        (20, "a", "text 2,\nof two lines"),
        (20, "b", "same"),
    ]
