"""Losses that are no numbers, that do not move, and memory that does not suffice."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_training import Tiny, run
from torch import Tensor

from ilm_lightning.engine.watch import NOT_FINITE, LossWatch, ShortOfMemoryError, batch_ids, memory_advice, movement


class Breaks(Tiny):
    """Goes wrong in one step."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.global_step != 6:
            return loss
        if self.how == "memory":
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        if self.how == "weights":
            # a finite loss whose gradient is not
            return loss + torch.sqrt(0.0 * self.net[0].weight.sum())
        return loss * float(self.how)


@pytest.mark.parametrize("how", ["nan", "inf", "weights"])
def test_no_number_stops_the_fit_and_the_state_before_stays(how: str, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"tiny, step [67]: .*not-finite\.json; the last checkpoint stays"):
        run(tmp_path, Breaks(how))
    folder = tmp_path / "checkpoints" / "tiny"
    facts = json.loads((folder / NOT_FINITE).read_text())
    assert facts["phase"] == "tiny"
    assert len(facts["last_losses"]["all"]) >= 6
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved["state_dict"].values())


def test_lack_of_memory_in_a_fit(tmp_path: Path) -> None:
    with pytest.raises(ShortOfMemoryError, match=r"tiny: out of memory; lower the batch size"):
        run(tmp_path, Breaks("memory"))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")])
def test_lack_of_memory_names_the_setting(error: Exception) -> None:
    message = r"tune: out of memory; lower tuning.batch_size \(now 16\)"
    with pytest.raises(ShortOfMemoryError, match=message), memory_advice("tune", {"tuning.batch_size": 16}):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), memory_advice("tune", {}):
        raise RuntimeError("shapes differ")


def watched(**losses: list[float]) -> dict[str, float]:
    watch = LossWatch("tune", Path())
    watch.load_state_dict({"losses": losses})
    return watch.report()


def test_a_loss_that_does_not_move_is_told(caplog: pytest.LogCaptureFixture) -> None:
    flat = [2.0, 2.2, 1.9, 2.1] * 10
    falling = [4 / (1 + step) + noise for step, noise in enumerate(flat)]
    assert movement(falling[:19]) is None
    assert watched(all=falling) == watched(item_text=flat, user_item=falling) == {"loss_moved": True}
    assert not caplog.messages
    assert watched(all=flat) == {"loss_moved": False}
    assert "tune      the training loss did not move (first tenth to second half: all 2.05 to 2.05" in caplog.text
    assert watched(all=flat[:10]) == {}


def test_ids_of_both_phases_batches() -> None:
    assert batch_ids(SimpleNamespace(example_ids=["a", "b"])) == {"example_ids": ["a", "b"]}
    pairs = SimpleNamespace(left=torch.tensor([1, 2]), right=torch.tensor([3, 4]))
    assert batch_ids(pairs) == {"left": [1, 2], "right": [3, 4]}
