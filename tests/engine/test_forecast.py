"""What is said before a long stage: operations are counted, seconds follow them, and nothing of the run is touched."""

import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ilm_lightning.engine import forecast
from ilm_lightning.engine.forecast import kept_activations, phase1_forecast, phase2_forecast, texts_forecast
from ilm_lightning.hardware import resident_memory
from ilm_lightning.pretraining.batches import PairBatches
from ilm_lightning.pretraining.pairs import ITEM_ITEM, ITEM_TEXT

sys.path.insert(0, str(Path(__file__).parents[1] / "pretraining"))
CPU = torch.device("cpu")


class Squares(nn.Module):
    """One map of width 8: 2 · 8 · 8 operations a row forward."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8, 8, bias=False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.map(batch).square().sum() * torch.rand((), device=batch.device)


@pytest.fixture
def rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1000 operations a second, used without loss."""
    monkeypatch.setattr(forecast, "layer_rate", lambda dtype, device, backward: 1000.0)
    monkeypatch.setattr(forecast, "memory_rate", lambda device: 100.0)
    monkeypatch.setattr(forecast, "OVERHEAD", 1.0)


@pytest.mark.usefixtures("rate")
def test_phase_1_counts_each_kind_of_batch_as_often_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([1.0, 2.0])
    monkeypatch.setattr(forecast, "timed", lambda run, device: next(taken, 0.0))
    model = Squares()
    batches = {"small": (torch.ones(5, 8), 100), "large": (torch.ones(50, 8), 20)}
    before = torch.get_rng_state()
    line = phase1_forecast(model, batches, "32-true", CPU)
    # 3 · (1 · 100 + 2 · 20) seconds, and 100 bytes for each of 64 parameters in each of 120 steps
    assert "120 steps, about 2h15m" in line
    assert torch.equal(torch.get_rng_state(), before)
    assert model.map.weight.grad is None
    assert list(taken) == []
    memory = re.search(r"about ([\d.]+) GB", line)
    assert memory is not None
    assert float(memory[1]) == pytest.approx(resident_memory() / 1e9, abs=0.15)
    here = resident_memory() / 1e9
    line = phase1_forecast(model, {"huge": (torch.ones(4_000_000, 8), 1)}, "32-true", CPU)
    more = re.search(r"about ([\d.]+) GB", line)
    assert more is not None
    # the batch, and 2.4 times the two tensors of its size that the forward pass keeps
    assert float(more[1]) - here == pytest.approx(0.128 + 2.4 * 2 * 0.128, abs=0.12)


def test_phase_1_is_timed_where_it_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # "meta" stands in for another device: nothing is computed there
    where = []
    model = Squares()
    monkeypatch.setattr(forecast, "timed", lambda run, device: where.append(run().device) or 1.0)  # type: ignore[func-returns-value]
    monkeypatch.setattr(forecast, "memory_rate", lambda device: 1e9)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    meta = torch.device("meta")
    line = phase1_forecast(model, {"one": (torch.ones(5, 8), 100)}, "bf16-mixed", meta)
    assert where == [meta]
    assert "100 steps, about 5m00s" in line
    assert model.map.weight.device == meta


class Llama(nn.Module):
    """As wide and deep as SmolLM2-135M, with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lm = nn.Linear(10, 5, bias=False)
        self.lm.config = SimpleNamespace(hidden_size=576, intermediate_size=1536, num_hidden_layers=30)  # type: ignore
        self.compute_dtype = torch.bfloat16


@pytest.mark.usefixtures("rate")
def test_the_largest_batch_decides_the_memory_and_too_little_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda: int(64e9))
    plain = phase2_forecast(Llama(), 1000, 150, CPU)
    large = phase2_forecast(Llama(), 1000, 150, CPU, largest=6600)
    assert "largest" not in plain
    assert "steps of about 1000 tokens, the largest of about 6600" in large
    sizes = [float(line.split(" GB")[0].split()[-1]) for line in (plain, large)]
    # measured: 1.4 MB a token, whatever weights and libraries take besides
    assert sizes[1] - sizes[0] == pytest.approx(5600 * 1.4e-3, rel=0.1)
    assert "free" not in large
    again = phase2_forecast(Llama(), 1000, 150, CPU, largest=6600, checkpointed=True)
    assert float(again.split(" GB")[0].split()[-1]) < sizes[0] + 0.5
    monkeypatch.setattr(forecast, "available_memory", lambda: int(2e9))
    told = phase2_forecast(Llama(), 1000, 150, CPU, largest=6600)
    assert "but 2.0 GB are free: lower tuning.batch_size or set trainer.activation_checkpointing=true" in told


@pytest.mark.parametrize("name", ["intermediate_size", "d_ff", "ffn_dim", "n_inner", "nothing"])
def test_the_inner_width_has_other_names_elsewhere(name: str) -> None:
    config = SimpleNamespace(hidden_size=8, num_hidden_layers=2, **{name: 32})
    assert kept_activations(config) == 2 * (24 * 8 + 6 * 32)


@pytest.mark.usefixtures("rate")
def test_updating_trained_parameters_takes_its_time() -> None:
    model = Llama()
    # 2 · 50 · 3 operations a token with gradients of the weights; 100 bytes for each of 50 parameters
    assert "about 1m20s," in phase2_forecast(model, 100, 1, CPU)
    model.lm.requires_grad_(False)
    assert "about 20s," in phase2_forecast(model, 100, 1, CPU)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_speed_is_measured_without_touching_random_numbers(dtype: torch.dtype, backward: bool) -> None:
    before = torch.get_rng_state()
    start = time.perf_counter()
    rate = forecast.layer_rate(dtype, CPU, backward, 0.05)
    assert rate * (time.perf_counter() - start) > 2 * 3 * 1024 * 576 * 1536 * (1 + backward)
    assert forecast.memory_rate(CPU, 0.01) > 1e6
    assert torch.equal(torch.get_rng_state(), before)


def test_a_call_is_timed() -> None:
    assert 0.05 <= forecast.timed(lambda: time.sleep(0.05), CPU) < 10


@pytest.mark.usefixtures("rate")
def test_texts_and_losses_are_told_apart() -> None:
    class Model:
        lm = nn.Linear(10, 5, bias=False)
        compute_dtype, device = torch.float32, CPU

    assert texts_forecast(Model(), 20, 40.0, 60, 0) == "forecast: 20 texts, at most about 3m20s"
    with_losses = texts_forecast(Model(), 20, 40.0, 60, 1000)
    assert with_losses == "forecast: 20 texts and the losses of 1,000 targets, at most about 1h10m"


def test_batches_of_each_kind_are_counted() -> None:
    from pretraining_tiny import make_world

    world = make_world()
    sets = {ITEM_TEXT: world.texts, ITEM_ITEM: world.item_item}
    stream = PairBatches(sets, {ITEM_TEXT: 2.0, ITEM_ITEM: 1.0}, {ITEM_TEXT: 6, ITEM_ITEM: 8}, 0, world.vocabulary)
    found = stream.one_of_each(2501)
    assert {kind: steps for kind, (_, steps) in found.items()} == {
        kind: sum(stream.order[step % len(stream.order)] == kind for step in range(2501)) for kind in found
    }
    assert sum(steps for _, steps in found.values()) == 2501
    model = world.model("itc", "itm", "itg", "iic")
    assert "forecast: 2501 steps" in phase1_forecast(model, found, "bf16-mixed", CPU)
