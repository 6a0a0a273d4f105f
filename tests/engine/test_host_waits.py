"""What a fit asks its device for, callbacks included, and how batches get there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_tiny import ITEMS, QUERIES, byte_tokenizer, make_model, tiny_llama

from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import StreamDataModule
from ilm_lightning.engine.training import FitSettings, fit
from ilm_lightning.lm import Collator, PromptTokenizer
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.item_head import RankBatch
from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings
from ilm_lightning.pretraining.batches import ItemTextBatch, PairBatch
from syncs import Syncs

STEPS = 10


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    rows = [
        {"example_id": str(item), "prompt": "Pitch {item}.", "slots": [[item]], "target": "Fine." * item}
        for item in (1, 2, 3)
    ]
    collator = Collator({"semantic": torch.randn(ITEMS, 6), "behavioral": torch.randn(ITEMS, 4)})
    return collator(PromptTokenizer(byte_tokenizer(), QUERIES).encode(rows))


class Watched(ItemLanguageModule):
    """Counts values that are read between the start of a step and the end of its callbacks."""

    def __init__(self, syncs: Syncs) -> None:
        model = make_model(lm=tiny_llama(attn_implementation="sdpa"))
        super().__init__(model, OptimiserSettings(steps=STEPS))
        self.syncs, self.before, self.steps = syncs, 0, []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.before = sum(self.syncs.found.values())

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(sum(self.syncs.found.values()) - self.before)


def test_a_step_and_its_callbacks_read_one_value(tmp_path: Path, batch: PromptBatch) -> None:
    settings = FitSettings("tune", STEPS, STEPS, seed=0, checkpoint_every_s=1e9)
    with Syncs() as syncs:
        module = Watched(syncs)
        fit(module, StreamDataModule(lambda _: batch, []), settings, TrainerConfig(accelerator="cpu"), tmp_path)
    # every second step is written to the history, with norms
    assert len(module.steps) == STEPS
    assert module.steps[::2] == [1] * (STEPS // 2)
    assert module.step_loss is not None


def tensors_of(value: Any) -> list[torch.Tensor]:
    """All tensors inside batches, mappings and what they hold."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else vars(value).values() if hasattr(value, "__dict__") else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def pairs() -> list[Any]:
    rows, mask = torch.arange(2), torch.ones(2, 3, dtype=torch.bool)
    texts = ItemTextBatch(0, rows, rows, torch.ones(2, 3, dtype=torch.long), mask, rows, rows)
    return [texts, PairBatch(0, "item_item", rows, rows, torch.eye(2, dtype=torch.bool), rows)]


def test_batches_are_locked_whole(batch: PromptBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = RankBatch(batch, torch.arange(3), 3)
    # page-locked memory needs a GPU; here a copy stands for it
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    for plain in (batch, ranked, *pairs()):
        locked = plain.pin_memory()
        here = {tensor.data_ptr() for tensor in tensors_of(plain)}
        assert type(locked) is type(plain)
        assert here.isdisjoint(tensor.data_ptr() for tensor in tensors_of(locked))
        assert locked.n_tokens == plain.n_tokens
    locked = batch.pin_memory()
    # what was counted before is not counted again
    with Syncs() as syncs:
        moved = locked.to("cpu")
        counted = moved.n_tokens, moved.n_placeholders, len(moved.targets.ids)
    assert not syncs.found
    assert counted == (batch.n_tokens, batch.n_placeholders, len(batch.targets.ids))
    assert torch.equal(moved.targets.ids, batch.targets.ids)


def test_batches_are_locked_for_a_gpu_alone() -> None:
    data = StreamDataModule(lambda step: torch.zeros(step), [])
    assert data.train_dataloader().pin_memory is False
    for kind, locked in (("cpu", False), ("cuda", True)):
        strategy = SimpleNamespace(root_device=torch.device(kind))
        data.trainer = SimpleNamespace(global_step=3, strategy=strategy)  # type: ignore[assignment]
        assert data.train_dataloader().pin_memory is locked
