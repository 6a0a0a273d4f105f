"""A fit that was stopped anywhere ends like the one that never stopped: weights, validations, choice of the best."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as pl
import polars
import pytest
import torch
from torch import Tensor, nn

from ilm_lightning.engine import callbacks, training
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import StreamDataModule
from ilm_lightning.engine.training import FitSettings, fit, validation_interval

STEPS, EVERY = 12, 4


class KilledError(Exception):
    """Stands for a kill: nothing is saved on the way out."""


class Tiny(pl.LightningModule):
    """A linear map with dropout, so that the random state matters."""

    def __init__(self, kill_at: int | None = None, kill_in_validation: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.kill_at, self.kill_in_validation = kill_at, kill_in_validation

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.global_step == self.kill_at:
            raise KilledError
        loss = self.net(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if self.global_step == self.kill_in_validation:
            raise KilledError
        # rises after step 8, so that the best weights are not the last
        self.log("val/loss", self.net(batch).abs().mean() + max(0, self.global_step - 8))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def batch_of(step: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(step))


def run(folder: Path, module: Tiny) -> tuple[dict[str, float], dict[str, Tensor], list[Any]]:
    folder.mkdir(exist_ok=True)
    data = StreamDataModule(batch_of, [batch_of(1000), batch_of(1001)])
    settings = FitSettings("tiny", STEPS, EVERY, seed=3, checkpoint_every_s=0.0)
    report = fit(module, data, settings, TrainerConfig(accelerator="cpu", precision="32-true"), folder)
    # the one entry that no two runs share
    assert report.pop("train_seconds") > 0
    history = polars.read_csv(folder / "history-tiny.csv").filter(polars.col("name") == "val/loss")
    return report, module.state_dict(), history.select("step", "value").rows()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], dict[str, Tensor], list[Any]]:
    return run(tmp_path_factory.mktemp("whole"), Tiny())


@pytest.mark.parametrize(("every_s", "times"), [(0.0, STEPS), (1e6, 1)])
def test_freed_memory_is_handed_back_between_steps(
    every_s: float, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[None] = []
    monkeypatch.setattr(callbacks, "give_memory_back", lambda: given.append(None))
    monkeypatch.setattr(training, "FreedMemory", partial(callbacks.FreedMemory, every_s))
    run(tmp_path, Tiny())
    assert len(given) == times


def test_best_validation_weights_are_returned(whole: Any) -> None:
    report, _, history = whole
    assert [step for step, _ in history] == [4, 8, 12]
    assert report["best_step"] == min(history, key=lambda row: row[1])[0] != 12
    assert report["steps"] == STEPS


@pytest.mark.parametrize(
    "where", [f"step {k}" for k in range(1, STEPS)] + ["validation 4", "validation 8", "validation 12"]
)
def test_killed_anywhere_ends_the_same(where: str, whole: Any, tmp_path: Path) -> None:
    kind, number = where.split()
    broken = Tiny(**{"kill_at" if kind == "step" else "kill_in_validation": int(number)})
    with pytest.raises(KilledError):
        run(tmp_path, broken)
    report, state, history = run(tmp_path, Tiny())
    expected_report, expected_state, expected_history = whole
    assert report == expected_report
    assert all(torch.equal(state[name], tensor) for name, tensor in expected_state.items())
    assert dict(history) == dict(expected_history)


def test_finished_fit_is_not_begun_again(whole: Any, tmp_path: Path) -> None:
    first = run(tmp_path, Tiny())
    again = run(tmp_path, Tiny(kill_at=0))
    assert first[0] == again[0] == whole[0]


def test_checkpoints_load_without_pickled_code(tmp_path: Path) -> None:
    run(tmp_path, Tiny())
    for path in tmp_path.rglob("*.ckpt"):
        assert torch.load(path, weights_only=True)["global_step"] > 0


@pytest.mark.parametrize(("steps", "wish"), [(450, 150), (500, 150), (12, 4), (7, 3), (2, 9), (1, 1)])
def test_a_validation_follows_the_last_step(steps: int, wish: int) -> None:
    assert steps % validation_interval(steps, wish) == 0


@pytest.mark.parametrize(("steps", "wish", "told"), [(7, 3, "every 7 steps, not every 3"), (12, 4, ""), (2, 9, "")])
def test_an_interval_far_from_the_wish_is_told(
    steps: int, wish: int, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = StreamDataModule(batch_of, [batch_of(1000)])
    settings = FitSettings("tiny", steps, wish, seed=3, checkpoint_every_s=0.0)
    with caplog.at_level("INFO", logger="ilm_lightning"):
        fit(Tiny(), data, settings, TrainerConfig(accelerator="cpu", precision="32-true"), tmp_path)
    assert [told in line for line in caplog.messages if "validates" in line] == ([True] if told else [])
