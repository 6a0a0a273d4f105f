"""The ladder on one data-centre GPU, in under ten minutes; every rung is saved as soon as it is measured.

    python benchmarks/gpu_ladder.py --out gpu_ladder.json           # all that fits into 540 seconds
    python benchmarks/gpu_ladder.py --size toy --device cpu         # the same at a toy size, seconds on a laptop

Needs the package alone: weights are random, of the named shapes, and texts are random ids of real lengths. First the
GPU's own limits are measured, matrix products and copies; beside each rung stand its model FLOP utilisation against
them (``mfu``) and the floor: the longer of its operations at the measured rate and its least bytes at the measured
bandwidth. Operations are those of matrix products and attention that the work needs: of ways of doing the same, those
of ours without switches, so that padding, unread logits and activations made twice count as time and not as use. The
least bytes are the weights once for every pass that reads or writes them. A rung that would begin after the budget is
left out and said to be.
"""

import argparse
import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import commit
from torch import nn

from ilm_lightning.adapters import build_adapter
from ilm_lightning.engine.acceleration import accelerate
from ilm_lightning.engine.account import FlopCount
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference, Tuning, apply_tuning
from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.generate import greedy
from ilm_lightning.lm.module import OptimiserSettings, parameter_groups
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.optimiser import adamw

SOURCES = {"semantic": 384, "behavioral": 64}
QUERIES = 8


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    gemm: int
    copy_mb: int
    lms: dict[str, dict[str, int]]
    batch: int
    prompt: int
    target: int
    items: int
    phase1_batch: int
    qformer: dict[str, int]
    vocabulary: int
    new_tokens: int
    rows: int


LLAMA_SMALL = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
               "num_key_value_heads": 3, "vocab_size": 49152}  # fmt: skip
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
LLAMA_TOY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip
SIZES = {
    "data-centre": Size(8192, 2048, {"135M": LLAMA_SMALL, "8B": LLAMA_8B}, 32, 224, 32, 3416, 128, {}, 30522, 64, 48),
    "toy": Size(64, 4, {"toy": LLAMA_TOY}, 3, 20, 4, 40, 4,
                {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 24}, 60, 4, 3),
}  # fmt: skip


@dataclass
class Rung:
    """One measurement; milliseconds are the least of the repetitions."""

    name: str
    ms: float
    unit: str
    per_second: float
    gflop: float = 0.0
    least_mb: float = 0.0
    mfu: float | None = None
    floor_ms: float | None = None
    peak_mb: float | None = None
    note: dict[str, Any] = field(default_factory=dict)


class Ladder:
    """Measures rungs on a device and saves them.

    Args:
        device: to measure on.
        size: of everything.
        out: file that is written after each rung.
        budget_s: no rung begins later.
    """

    def __init__(self, device: torch.device, size: Size, out: Path, budget_s: float) -> None:
        self.device, self.size, self.out, self.budget_s = device, size, out, budget_s
        self.began = time.perf_counter()
        self.rungs: list[Rung] = []
        self.left_out: dict[str, str] = {}
        self.flops: dict[torch.dtype, float] = {}
        self.needed: dict[str, float] = {}
        self.bandwidth = 0.0

    def save(self) -> None:
        """Write what is known so far."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.processor()
        about = {
            "device": gpu or str(self.device),
            "torch": torch.__version__,
            "commit": commit(),
            "seconds": round(time.perf_counter() - self.began, 1),
            "measured_tflops": {str(dtype): value / 1e12 for dtype, value in self.flops.items()},
            "measured_gb_per_s": self.bandwidth / 1e9,
            "rungs": [asdict(rung) for rung in self.rungs],
            "left_out": self.left_out,
        }
        part = self.out.with_suffix(".part")
        part.write_text(json.dumps(about, indent=1), encoding="utf-8")
        part.replace(self.out)

    def wait(self) -> None:
        """Let the device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object], repeat: int = 5, warm_up: int = 2) -> float:
        """Least wall time of a run."""
        for _ in range(warm_up):
            run()
        best = float("inf")
        for _ in range(repeat):
            self.wait()
            began = time.perf_counter()
            run()
            self.wait()
            best = min(best, time.perf_counter() - began)
        return best

    def rung(
        self, name: str, run: Callable[[], object], unit: str, count: float, dtype: torch.dtype, least_bytes: float,
        note: dict[str, Any] | None = None, work: str | None = None,
    ) -> None:  # fmt: skip
        """Measure one rung, unless time or memory does not allow it.

        Args:
            name: of the rung.
            run: the work.
            unit: what is made.
            count: how many of it one run makes.
            dtype: what it multiplies in.
            least_bytes: that one run must move.
            note: what else is to be said.
            work: key of what `count` counted before; None for what torch cannot count.
        """
        if time.perf_counter() - self.began > self.budget_s:
            self.left_out[name] = f"the budget of {self.budget_s:.0f} s was used up"
            return self.save()
        operations = 0.0 if work is None else self.needed.get(work, 0.0)
        try:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            seconds = self.seconds(run)
        except torch.OutOfMemoryError as error:
            self.left_out[name] = f"memory: {str(error).splitlines()[0]}"
            return self.save()
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else None
        floor = max(operations / self.flops[dtype], least_bytes / self.bandwidth)
        mfu = operations / seconds / self.flops[dtype] if operations else None
        self.rungs.append(
            Rung(name, 1e3 * seconds, unit, count / seconds, operations / 1e9, least_bytes / 2**20, mfu, 1e3 * floor,
                 peak, note or {})
        )  # fmt: skip
        print(f"{name:58s} {1e3 * seconds:9.2f} ms {count / seconds:12,.0f} {unit}/s  floor {1e3 * floor:.2f} ms")
        return self.save()

    def count(self, work: str, run: Callable[[], object]) -> None:
        """Count the operations that a piece of work needs, by the way that does the least; it runs once."""
        if work in self.needed or time.perf_counter() - self.began > self.budget_s:
            return
        try:
            with FlopCount() as counter:
                run()
        except torch.OutOfMemoryError:
            return
        self.needed[work] = counter.total

    def limits(self) -> None:
        """Measure matrix products and copies."""
        n = self.size.gemm
        for dtype in (torch.float32, torch.bfloat16):
            left, right = (torch.randn(n, n, device=self.device, dtype=dtype) for _ in range(2))
            # bound now: the loop goes on
            seconds = self.seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
            self.flops[dtype] = 2 * n**3 / seconds
        block = torch.empty(self.size.copy_mb * 2**20, dtype=torch.uint8, device=self.device)
        other = torch.empty_like(block)
        self.bandwidth = 2 * len(block) / self.seconds(lambda: other.copy_(block))
        self.save()


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all weights."""
    return sum(parameter.nbytes for parameter in module.parameters())


def step_bytes(model: nn.Module) -> float:
    """Least traffic of a training step: weights forward and backward; of trained ones the gradient is written and read,
    AdamW reads and writes weight and both moments.
    """  # noqa: D205
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return 2.0 * weight_bytes(model) + 8.0 * trained


@contextlib.contextmanager
def released(*held: list[Any]) -> Iterator[None]:
    """Give memory back after a group of rungs."""
    yield
    for box in held:
        box.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def item_lm(size: Size, shape: dict[str, int], tuning: Tuning, device: torch.device) -> ItemLanguageModel:
    """An item-language model of random weights; bf16 where it is not trained in full."""
    from transformers import LlamaConfig, LlamaForCausalLM

    dtype = torch.float32 if tuning is Tuning.FULL else torch.bfloat16
    config = LlamaConfig(**shape, tie_word_embeddings=shape["vocab_size"] < 10**5, bos_token_id=0, eos_token_id=1)
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            lm = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    settings = {"source_dims": SOURCES, "output_dim": shape["hidden_size"], "num_queries": QUERIES}
    adapter = build_adapter({"kind": "qformer", **settings, **size.qformer})
    wrapped = apply_tuning(lm, tuning)
    backbone = Backbone(wrapped, tuning, torch.bfloat16, LMReference("random"))
    return ItemLanguageModel(adapter, backbone).to(device).train()


def examples_of(size: Size, words: int) -> list[TokenisedExample]:
    """Prompts with three slots and targets, of real spread of lengths."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(size.batch):
        length = max(3 * QUERIES + 3, int(size.prompt * draw.uniform(0.7, 1.0)))
        prompt = draw.integers(2, words, length, dtype=np.int32)
        for slot in range(3):
            start = 1 + slot * (length - 2) // 3
            prompt[start : start + QUERIES] = -1
        target = draw.integers(2, words, size.target, dtype=np.int32)
        rows = tuple((int(row),) for row in draw.integers(0, size.items, 3))
        made.append(TokenisedExample(str(number), prompt, target, rows))
    return made


def phase2(ladder: Ladder, name: str, shape: dict[str, int]) -> None:
    """Training steps of phase 2: frozen, LoRA and full, against transformers' ``labels=``; and greedy decoding."""
    size, device = ladder.size, ladder.device
    collator = Collator({source: torch.randn(size.items, width) for source, width in SOURCES.items()})
    examples = examples_of(size, shape["vocab_size"])
    batch = collator(examples).to(device)
    switches = {
        "ours": TrainerConfig(),
        "ours, compiled by layer": TrainerConfig(compile=["adapter", "lm"]),
        "ours, activations twice": TrainerConfig(activation_checkpointing=True),
    }
    for tuning in (Tuning.FROZEN, Tuning.LORA, *(() if shape["hidden_size"] >= 4096 else (Tuning.FULL,))):
        for label, config in switches.items():
            if config.compile and device.type != "cuda":
                ladder.left_out[f"phase 2, {name}, {tuning}: {label}"] = "compiling pays on a GPU alone"
                continue
            box = [item_lm(size, shape, tuning, device)]
            with released(box):
                accelerate(box[0], config)
                steps(ladder, f"phase 2, {name}, {tuning}", label, box[0], batch)
    decode(ladder, name, shape, collator, examples)


def steps(ladder: Ladder, kind: str, label: str, model: ItemLanguageModel, batch: PromptBatch) -> None:
    """Training steps of one model; beside the plain one transformers' own loss."""
    optimizer = adamw(parameter_groups(model, OptimiserSettings(100)))

    def with_labels() -> torch.Tensor:
        with model.lm_precision():
            embeddings = model.embed(batch)
            found = model.lm(inputs_embeds=embeddings, attention_mask=batch.attention_mask, labels=batch.labels)
        loss: torch.Tensor = found.loss
        return loss

    def ours() -> torch.Tensor:
        loss: torch.Tensor = model(batch).loss
        return loss

    def train(loss_of: Callable[[], torch.Tensor]) -> None:
        loss_of().backward()
        optimizer.step()
        optimizer.zero_grad()

    tokens, least = batch.n_tokens, step_bytes(model)
    if label == "ours":
        ladder.count(kind, lambda: train(ours))
        name = f"{kind}: transformers, labels="
        ladder.rung(name, lambda: train(with_labels), "tokens", tokens, torch.bfloat16, least, work=kind)
    ladder.rung(f"{kind}: {label}", lambda: train(ours), "tokens", tokens, torch.bfloat16, least, work=kind)


def decode(
    ladder: Ladder, name: str, shape: dict[str, int], collator: Collator, examples: list[TokenisedExample]
) -> None:
    """Greedy decoding: the floor of a token is one reading of the weights and of all keys and values."""
    size, device = ladder.size, ladder.device
    box = [item_lm(size, shape, Tuning.FROZEN, device).eval()]
    with released(box):
        model = box[0]
        rows = (examples * (1 + size.rows // len(examples)))[: size.rows]
        prompts = collator.prompts(rows).to(device)
        config = causal_lm(model.lm).config
        width = config.hidden_size // config.num_attention_heads
        kv = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * width * prompts.input_ids.numel()
        least = size.new_tokens * (weight_bytes(model.lm) + kv)
        ladder.rung(
            f"greedy decoding, {name}, {size.rows} prompts",
            lambda: greedy(model, prompts, set(), size.new_tokens),
            "tokens",
            size.rows * size.new_tokens,
            torch.bfloat16,
            least,
            {"cuda_graphs": False},
        )


def adapters(ladder: Ladder) -> None:
    """Item vectors to soft tokens."""
    size, device = ladder.size, ladder.device
    settings = {"source_dims": SOURCES, "output_dim": 4096, "num_queries": QUERIES, **size.qformer}
    adapter = build_adapter({"kind": "qformer", **settings}).to(device).eval()
    count = 4096 if size.gemm > 1000 else 32
    sources = {name: torch.randn(count, width, device=device) for name, width in SOURCES.items()}
    for dtype in (torch.float32, torch.bfloat16):

        def run(dtype: torch.dtype = dtype) -> None:
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
                adapter(sources)

        name = f"Q-Former, vectors to soft tokens, {str(dtype).removeprefix('torch.')}"
        ladder.count("adapter", run)
        least = weight_bytes(adapter) + count * QUERIES * 4096 * 4
        ladder.rung(name, run, "items", count, dtype, least, work="adapter")


def phase1(ladder: Ladder) -> None:
    """ITC, ITM and ITG: ours in fp32 and bf16, and the padded way in fp32."""
    from peer_qformer import PeerPretraining

    from ilm_lightning.adapters import QFormerAdapter, TextBranch
    from ilm_lightning.pretraining.batches import ItemTextBatch
    from ilm_lightning.pretraining.model import PretrainingModel
    from ilm_lightning.pretraining.settings import PretrainingSettings

    size, device, length = ladder.size, ladder.device, 64
    torch.manual_seed(0)
    adapter = QFormerAdapter({"behavioral": 64}, 576, QUERIES, **size.qformer)
    branch = TextBranch.for_qformer(adapter.qformer, size.vocabulary)
    vectors = {"behavioral": torch.randn(size.items, 64)}
    model = PretrainingModel(adapter, branch, vectors, PretrainingSettings(losses=("itc", "itm", "itg"))).to(device)
    count = size.phase1_batch
    # titles and genres of movies: 17 to 27 tokens, 21 on average
    lengths = torch.randint(17, 27, (count, 1), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(length) < lengths
    ids = torch.randint(3, size.vocabulary, mask.shape) * mask
    rows, none = torch.arange(count), torch.empty(0, dtype=torch.long)
    lean = ItemTextBatch(0, rows, rows, ids[:, :27], mask[:, :27], none, none)
    for name in ("items", "text_ids", "token_ids", "mask", "bag_items", "bag_tokens"):
        setattr(lean, name, getattr(lean, name).to(device))
    peer = PeerPretraining(model).to(device)
    optimizers = {id(m): adamw([{"params": list(m.parameters())}], 1e-4) for m in (model, peer)}

    def step(owner: nn.Module, loss: torch.Tensor) -> None:
        loss.backward()
        optimizers[id(owner)].step()
        optimizers[id(owner)].zero_grad()

    def ours(bf16: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model.total(model(lean))
        step(model, loss)

    def padded() -> None:
        step(peer, torch.stack(list(peer(lean.items, ids.to(device), mask.long().to(device)).values())).sum())

    least, work = step_bytes(model), "phase 1"
    ladder.count(work, lambda: ours(False))
    ladder.rung("phase 1: transformers, padded passes, fp32", padded, "items", count, torch.float32, least, work=work)
    ladder.rung("phase 1: ours, fp32", lambda: ours(False), "items", count, torch.float32, least, work=work)
    ladder.rung("phase 1: ours, bf16", lambda: ours(True), "items", count, torch.bfloat16, least, work=work)
    if device.type == "cuda":
        accelerate(model, TrainerConfig(compile=["adapter", "text"]))
        name = "phase 1: ours, bf16, compiled"
        ladder.rung(name, lambda: ours(True), "items", count, torch.bfloat16, least, work=work)


def main() -> None:
    """Measure all rungs that the budget allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path("gpu_ladder.json"))
    parser.add_argument("--budget-s", type=float, default=540.0)
    options = parser.parse_args()
    device = torch.device(options.device)
    size = SIZES[options.size or ("data-centre" if device.type == "cuda" else "toy")]
    ladder = Ladder(device, size, options.out, options.budget_s)
    ladder.limits()
    # what is wanted most comes first
    groups: list[Callable[[], None]] = [lambda: phase1(ladder)]
    groups += [lambda n=name, s=shape: phase2(ladder, n, s) for name, shape in size.lms.items()]  # type: ignore[misc]
    groups += [lambda: adapters(ladder)]
    for group in groups:
        try:
            group()
        except torch.OutOfMemoryError as error:
            ladder.left_out[f"group {groups.index(group)}"] = f"memory: {str(error).splitlines()[0]}"
            ladder.save()
            torch.cuda.empty_cache()
    ladder.save()


if __name__ == "__main__":
    main()
