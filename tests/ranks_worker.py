"""One of several processes of ``test_ranks.py``: ``python ranks_worker.py FILE CASE…``, its place in the environment.

Each computes the losses and gradients of one process on the joint batch, then, joined with the others, its share of
them under DDP, and rank 0 writes how far they are apart, relative to the tensor's largest entry.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from ilm_lightning.engine.datamodule import Stream
    from ilm_lightning.lm.batch import PromptBatch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "lm"), str(HERE / "pretraining")]

Gradients = dict[str, Tensor | None]
Case = Generator[None, None, dict[str, float]]
"""What one process does, up to where all are joined, and after."""


class Double:
    """torch without single precision, for modules that ask for it by name."""

    def __getattr__(self, name: str) -> object:
        return torch.float64 if name == "float32" else getattr(torch, name)


def all_in_double_precision() -> None:
    """What is left between two results is then an error, not rounding."""
    from transformers.models.llama import modeling_llama

    from ilm_lightning.lm import vocabulary

    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    for module in (modeling_llama, vocabulary):
        module.torch = Double()


def gradients(module: nn.Module) -> Gradients:
    return {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters() if p.requires_grad}


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected.double()).abs().max() / expected.abs().max().clamp_min(1e-6))


def compare(found: Gradients, expected: Gradients) -> float:
    unused = [name for name in expected if (expected[name] is None) != (found[name] is None)]
    assert not unused, unused
    # a gradient that is zero but for rounding says nothing: compare with the largest of all
    largest = max(float(g.abs().max()) for g in expected.values() if g is not None)
    pairs = [(f, e) for f, e in zip(found.values(), expected.values(), strict=True) if f is not None and e is not None]
    return max(float((f - e).abs().max()) / max(float(e.abs().max()), 1e-3 * largest) for f, e in pairs)


class Step(nn.Module):
    """What a LightningModule does with a model and a batch."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: object) -> Tensor:
        return self.loss(self.model, batch)


def wrapped(model: nn.Module, loss: Callable[..., Tensor]) -> DistributedDataParallel:
    return DistributedDataParallel(Step(model, loss), find_unused_parameters=True, broadcast_buffers=False)


def run(module: nn.Module, model: nn.Module, batch: object) -> tuple[Tensor, Gradients]:
    model.zero_grad(set_to_none=True)
    # of both ways alike, so that hard negatives are drawn alike
    torch.manual_seed(5)
    loss = module(batch)
    loss.backward()
    return loss.detach(), gradients(model)


def average(value: Tensor) -> Tensor:
    value = value.double()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def pretraining() -> Case:
    from pretraining_tiny import make_world

    from ilm_lightning.pretraining.batches import collate
    from ilm_lightning.pretraining.pairs import ITEM_ITEM, USER_ITEM

    world = make_world()
    # one item twice, an odd number of rows, and of distinct items
    text = collate(world.texts, np.array([3, 7, 9, 3, 1, 12, 14, 5, 0]), 0, 0, world.vocabulary)
    items = collate(world.item_item, np.arange(9), 1, 0, None)
    users = collate(world.user_item, np.arange(9), 2, 0, None)
    assert (items.kind, users.kind) == (ITEM_ITEM, USER_ITEM)
    every = ("itc", "itm", "itg", "vg", "iic", "uic")
    cases = {name: (world.model(*every, pair_mode="margin"), text, (name,)) for name in ("itc", "itm", "itg", "vg")}
    cases["all"] = (world.model(*every), text, every)
    for mode in ("margin", "margin_all", "infonce"):
        cases[f"iic {mode}"] = (world.model(*every, pair_mode=mode), items, ("iic",))
    cases["uic"] = (world.model(*every), users, ("uic",))
    cases["vg alone"] = (world.model("vg"), text, ("vg",))

    def loss(model: nn.Module, batch: object, terms: tuple[str, ...]) -> Tensor:
        return torch.stack([value for name, value in model(batch).items() if name in terms]).sum()

    whole = {}
    for name, (model, batch, terms) in cases.items():
        step = Step(model.train(), lambda m, b, terms=terms: loss(m, b, terms))
        whole[name] = run(step, model, batch)
    yield
    apart = {}
    for name, (model, batch, terms) in cases.items():
        step = wrapped(model, lambda m, b, terms=terms: loss(m, b, terms))
        value, found = run(step, model, batch)
        apart[f"{name}: loss"] = distance(average(value), whole[name][0])
        apart[f"{name}: gradient"] = compare(found, whole[name][1])
    return apart


def prompts() -> "Stream":
    """Training batches of phase 2, each process its share once they are joined."""
    from lm_tiny import ITEMS, QUERIES, byte_tokenizer

    from ilm_lightning.engine.datamodule import Stream
    from ilm_lightning.lm import Collator, ContextCollator, LengthGroupedSampler, PromptTokenizer

    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    examples = tokenizer.encode(
        {
            "example_id": str(i),
            "prompt": f"Say {{item}} {'so ' * i}",
            "slots": [[i]],
            "target": "long " * (1 + i * i % 7),
        }
        for i in range(9)
    )
    generator = torch.Generator().manual_seed(7)
    width = {"semantic": 6, "behavioral": 4}
    collator = Collator({name: torch.randn(ITEMS, d, generator=generator) for name, d in width.items()})

    # texts for some: a process may have none in its share
    taught = {e.example_id: e.prompt_ids[e.prompt_ids >= 0] for e in examples[:4]}
    collator = ContextCollator(collator, taught)

    # 9 examples in batches of 4: the last holds one, so that a rank has none
    return Stream(examples, LengthGroupedSampler([len(e) for e in examples], 4, 0), collator)


def phase2_loss(model: nn.Module, batch: object) -> Tensor:
    from ilm_lightning.lm import ContextTeacher, Tuning
    from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings

    teacher = ContextTeacher(0.5) if model.tuning is not Tuning.FULL else None
    return ItemLanguageModule(model, OptimiserSettings(3), teacher)._loss(batch)


def phase2() -> Case:
    from lm_tiny import make_model

    from ilm_lightning.lm import Tuning

    models = {mode: make_model(mode).double().train() for mode in (Tuning.FROZEN, Tuning.LORA, Tuning.FULL)}
    for model in models.values():
        model.compute_dtype = torch.float64
    single = prompts()
    sizes = [len(single(step)) for step in range(3)]
    assert sorted(sizes) == [1, 4, 4]
    whole = {(mode, k): run(Step(m, phase2_loss), m, single(k)) for mode, m in models.items() for k in range(3)}
    yield
    shared, apart = prompts(), {}
    for mode, model in models.items():
        step = wrapped(model, phase2_loss)
        for k in range(3):
            value, found = run(step, model, shared(k))
            apart[f"{mode}, batch {k} of {sizes[k]}: loss"] = distance(average(value), whole[mode, k][0])
            apart[f"{mode}, batch {k} of {sizes[k]}: gradient"] = compare(found, whole[mode, k][1])
    return apart


def sharded() -> Case:
    from lm_tiny import make_model
    from torch.distributed.tensor import DTensor

    from ilm_lightning.engine.sharding import clip_gradients, own_part, shared_out
    from ilm_lightning.lm import Tuning
    from ilm_lightning.ranks import average_gradients

    model = make_model(Tuning.FULL).double().train()
    model.compute_dtype = torch.float64
    batches = [prompts()(step) for step in range(3)]
    whole = [run(Step(model, phase2_loss), model, batch) for batch in batches]
    norms = [float(torch.stack([g.norm() for g in found.values() if g is not None]).norm()) for _, found in whole]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    yield
    twin = shared_out(model, torch.device("cpu")).train()
    parts = {name: p for name, p in twin.named_parameters() if isinstance(p, DTensor)}
    assert parts.keys() == {name for name in before if name.startswith("lm.")}
    held = sum(own_part(p).numel() for p in parts.values())
    assert held <= 0.6 * sum(before[name].numel() for name in parts)
    stream, apart = prompts(), {}
    for step in range(3):
        value, _ = run(Step(twin, phase2_loss), twin, stream(step))
        average_gradients([p for p in twin.parameters() if not isinstance(p, DTensor)])
        full = {n: None if p.grad is None else p.grad for n, p in twin.named_parameters()}
        full = {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in full.items()}
        apart[f"batch {step}: loss"] = distance(average(value), whole[step][0])
        apart[f"batch {step}: gradient"] = compare(full, whole[step][1])
        norm = clip_gradients(twin.parameters(), norms[step] / 4)
        apart[f"batch {step}: norm"] = abs(norm / norms[step] - 1)
        clipped = clip_gradients(twin.parameters(), 1e9)
        apart[f"batch {step}: clipped"] = abs(clipped / (norms[step] / 4) * (1 + 1e-6 / norms[step]) - 1)
    # the model that was shared out is as it was
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    return apart


def item_head() -> Case:
    from lm_tiny import ITEMS, QUERIES, byte_tokenizer, make_model

    from ilm_lightning.engine.stages.item_head import rank_batch
    from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference, PromptTokenizer, Tuning
    from ilm_lightning.lm.item_head_module import ItemHeadModule
    from ilm_lightning.lm.module import OptimiserSettings

    rows = [{"example_id": str(i), "prompt": f"After {{item}} {'so ' * i}", "slots": [[i]]} for i in range(5)]
    generator = torch.Generator().manual_seed(7)
    sources = {name: torch.randn(ITEMS, d, generator=generator) for name, d in {"semantic": 6, "behavioral": 4}.items()}
    read = PromptTokenizer(byte_tokenizer(), QUERIES).encode(rows)
    bench = SimpleNamespace(
        collator=Collator(sources),
        renderer=lambda example, with_target: read[example.user],
        sequences=SimpleNamespace(items=lambda user: [(user + 3) % ITEMS]),
    )
    examples = [SimpleNamespace(user=user, position=0) for user in range(5)]

    def headed(mode: Tuning) -> ItemLanguageModel:
        plain = make_model(mode)
        backbone = Backbone(plain.lm, mode, torch.float64, LMReference("tiny"))
        return ItemLanguageModel(plain.adapter, backbone, True).double().train()

    def loss(model: nn.Module, batch: object) -> Tensor:
        return ItemHeadModule(model, OptimiserSettings(3), sources)._loss(batch)

    # five examples, and one, so that a rank has none
    models, parts = {mode: headed(mode) for mode in Tuning}, (examples, examples[:1])
    whole = {
        (mode, k): run(Step(model, loss), model, rank_batch(bench, part, True))
        for mode, model in models.items()
        for k, part in enumerate(parts)
    }
    yield
    apart = {}
    for mode, model in models.items():
        step = wrapped(model, loss)
        for k, part in enumerate(parts):
            value, found = run(step, model, rank_batch(bench, part, True))
            apart[f"{mode}, batch {k}: loss"] = distance(average(value), whole[mode, k][0])
            apart[f"{mode}, batch {k}: gradient"] = compare(found, whole[mode, k][1])
    return apart


def fitted(folder: Path, strategy: str, kill_at: int | None = None) -> dict[str, Tensor]:
    """Weights after phase 2 on tiny models, adapter and language model, by one process or as many as there are."""
    from lm_tiny import make_model

    from ilm_lightning.engine.config_trainer import TrainerConfig
    from ilm_lightning.engine.datamodule import StreamDataModule
    from ilm_lightning.engine.training import FitSettings, fit
    from ilm_lightning.lm import Tuning
    from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings
    from ilm_lightning.ranks import from_main, is_main, world_size

    class Killed(ItemLanguageModule):
        def training_step(self, batch: "PromptBatch", batch_idx: int) -> Tensor:
            if self.global_step == kill_at:
                raise KeyError("killed")
            return super().training_step(batch, batch_idx)

    model = make_model(Tuning.FULL).double()
    model.compute_dtype = torch.float64
    stream = prompts()
    # three validation batches: of two processes, one runs the last of them in vain
    checks = [stream.collator(stream.rows[start:end]) for start, end in ((0, 3), (3, 5), (5, 9))]
    settings = FitSettings("tune", steps=6, val_every=2, seed=3, gradient_clip=0.05, checkpoint_every_s=0.0)
    trainer = TrainerConfig(accelerator="cpu", devices=world_size(), strategy=strategy, precision="32-true")
    folder.mkdir(exist_ok=True)
    module, data = Killed(model, OptimiserSettings(6, 1e-2, 1e-3)), StreamDataModule(stream, checks)
    try:
        report = fit(module, data, settings, trainer, folder)
        if is_main():
            # as the store does; the other process, which reads later, must have read them
            shutil.rmtree(folder / "checkpoints")
    except KeyError:
        assert kill_at is not None
        return {}
    finally:
        # what Lightning takes away with its strategy
        os.environ["WORLD_SIZE"] = "2"
        from_main(None)
    assert report["steps"] == 6
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return weights | {"best": torch.tensor([report["best_step"], report["best_val_loss"]])}


def fits() -> Case:
    """Whole fits: by DDP, shared out, stopped and resumed, beside that of one process."""
    from ilm_lightning import ranks

    folder = Path(sys.argv[1]).parent
    os.environ |= {"LOCAL_RANK": os.environ["RANK"], "NODE_RANK": "0"}
    alone = fitted(folder / f"alone{os.environ['RANK']}", "auto")
    yield
    apart, load = {}, torch.load
    torch.load = lambda *args, **kwargs: (time.sleep(0.5 * ranks.rank()), load(*args, **kwargs))[1]
    for strategy in ("ddp", "fsdp"):
        found = fitted(folder / strategy, strategy)
        apart |= {f"{strategy}: {name}": distance(value, alone[name]) for name, value in found.items()}
        stopped = folder / f"{strategy}-stopped"
        assert fitted(stopped, strategy, kill_at=3) == {}
        if ranks.is_main():
            shutil.copytree(stopped, folder / f"{strategy}-copy")
        ranks.from_main(None)
        resumed = fitted(stopped, strategy)
        assert all(torch.equal(resumed[name], value) for name, value in found.items()), strategy
    # what two processes saved shared out, they go on with whole
    found = fitted(folder / "fsdp-copy", "ddp")
    return apart | {f"fsdp, then ddp: {name}": distance(value, alone[name]) for name, value in found.items()}


def talk() -> Case:
    from ilm_lightning import ranks

    assert (ranks.rank(), ranks.world_size(), ranks.from_main("a"), ranks.is_main()) == (0, 1, "a", True)
    yield
    me = ranks.rank()
    means = ranks.Means()
    means.add("both", 1.0 + me, 1.0 + 2 * me)
    if me == 1:
        means.add("second", 5.0, 2.0)
    taken = means.take()
    assert taken == {"both": (1 + 3 * 2) / 4, "second": 5.0}, taken
    assert means.take() == {}
    assert ranks.from_main({"me": me}) == {"me": 0}
    assert ranks.rows_from_main(torch.full((2,), me)).tolist() == [0, 0]
    rows = torch.arange(5)
    share = ranks.Share(5)
    assert share.mine(rows).tolist() == [[0, 2, 4], [1, 3]][me]
    assert share.join(share.mine(rows)).tolist() == rows.tolist()
    assert ranks.Share(5, active=False).mine(rows).tolist() == rows.tolist()
    with pytest.raises(ValueError, match="raise the batch size"):
        ranks.Share(1)
    return {"talk": 0.0}


if __name__ == "__main__":
    from ilm_lightning import ranks

    torch.set_num_threads(1)
    all_in_double_precision()
    known = {
        "talk": talk,
        "pretraining": pretraining,
        "phase2": phase2,
        "sharded": sharded,
        "head": item_head,
        "fits": fits,
    }
    cases = {name: known[name]() for name in sys.argv[2:]}
    for case in cases.values():
        next(case)
    dist.init_process_group("gloo")
    ranks.open_talk()
    results = {}
    for name, case in cases.items():
        try:
            next(case)
        except StopIteration as end:
            results[name] = end.value
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(results))
    dist.destroy_process_group()
