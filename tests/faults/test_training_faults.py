"""Training that goes wrong: numbers that are none, memory that does not suffice, signals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.test_training import Tiny, batch_of, run
from faults.declared import Fault, fault, marks
from ilm_lightning.engine.watch import NOT_FINITE, ShortOfMemoryError, memory_advice

AREA = "Training"


class Spoilt(Tiny):
    """A model whose loss or weights go wrong in step 5."""

    def __init__(self, spoil: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.spoil = spoil

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return self.spoil(self, loss) if self.global_step == 5 else loss


def infinite_gradient(module: Spoilt, loss: Tensor) -> Tensor:
    weight = next(module.parameters())
    # sqrt has an infinite slope at 0
    return loss + (weight - weight.detach()).abs().sqrt().sum()


def out_of_memory(module: Spoilt, loss: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


SPOILT: list[tuple[str, Any, type[Exception], str]] = [
    ("a loss that is NaN", lambda m, loss: loss * float("nan"), FloatingPointError, "stops before a weight changes"),
    (
        "a loss that is infinite",
        lambda m, loss: loss + float("inf"),
        FloatingPointError,
        "stops before a weight changes",
    ),
    (
        "a finite loss with gradients that are none",
        infinite_gradient,
        FloatingPointError,
        "stops, the good state stays",
    ),
    ("no memory on the GPU", out_of_memory, ShortOfMemoryError, "told, with the setting to lower"),
]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [pytest.param(s, e, id=w.replace(" ", "-"), marks=marks(Fault(AREA, w, x))) for w, s, e, x in SPOILT],
)
def test_a_step_that_goes_wrong(
    spoil: Any, error: type[Exception], tmp_path: Path, seen: Callable[[str], None]
) -> None:
    with pytest.raises(error) as caught:
        run(tmp_path, Spoilt(spoil))
    folder = tmp_path / "checkpoints" / "tiny"
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 5
    assert all(torch.isfinite(tensor).all() for tensor in saved["state_dict"].values())
    if error is FloatingPointError:
        assert json.loads((folder / NOT_FINITE).read_text())["phase"] == "tiny"
    seen(str(caught.value))
    # mended, the same fit goes on
    assert run(tmp_path, Tiny())[0]["steps"] == 12


@fault(AREA, "a batch in validation that runs out of memory", "told, with the setting to lower")
def test_memory_of_a_machine(seen: Callable[[str], None]) -> None:
    with pytest.raises(ShortOfMemoryError) as caught, memory_advice("own: texts", {"evaluation.batch_size": 32}):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    seen(str(caught.value))


@fault(AREA, "a loss that does not move", "said at the end, kept in the report")
def test_a_loss_that_does_not_move(caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]) -> None:
    from ilm_lightning.engine.watch import LossWatch

    watch = LossWatch("tune", Path())
    watch.losses = {"all": [2.0, 2.1] * 30}
    assert watch.report() == {"loss_moved": False}
    seen(caplog.messages[0])


@fault(AREA, "a batch without finite inputs", "stops, with the batch's ids")
def test_a_batch_of_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Callable[[str], None]) -> None:
    from engine import test_training

    def batch(step: int) -> Tensor:
        return batch_of(step) * (float("nan") if step == 3 else 1.0)

    monkeypatch.setattr(test_training, "batch_of", batch)
    with pytest.raises(FloatingPointError, match="step 3") as caught:
        run(tmp_path, Tiny())
    seen(str(caught.value))
