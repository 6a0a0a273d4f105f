"""What costs grow with: items, users, history, soft tokens, width of the language model, examples.

    python benchmarks/growth.py --out growth.json            # a few minutes on one core
    python benchmarks/growth.py --only adapter --limit 100000           # more items
    python benchmarks/growth.py --only head --directions 10000000       # 12 GB in bfloat16
    python benchmarks/growth.py --only users --users 1000000            # 50 million interactions

Each row is one piece of the pipeline at one size, on one thread: process CPU seconds (the least of the rounds), the
memory that it adds, and how the cost grew since the row before (1.0: in proportion). Weights and data are random.
Results are saved after each row; a command that ran before with other axes keeps its rows in the same file.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from harness import interleave, save

from ilm_lightning.adapters import build_adapter
from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.behavioral import fit_als
from ilm_lightning.hardware import cpu_bf16
from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference, Tuning, apply_tuning
from ilm_lightning.lm.attention import choose_attention
from ilm_lightning.lm.item_head import item_directions
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.shuffle import shuffled

SMALL = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
ITEM_TOKENS, QUERIES, FRAME = 7, 8, 40
"""Tokens of an item's text id, its soft tokens, and tokens of a prompt beside the history."""


class Growth:
    """Collects rows and saves them.

    Args:
        rounds: runs of each row.
        out: where rows are saved.
        axes: what is measured now; rows of other axes that lie there are kept.
    """

    def __init__(self, rounds: int, out: Path, axes: Sequence[str]) -> None:
        self.rounds, self.out = rounds, out
        known = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.is_file() else []
        self.rows: list[dict[str, Any]] = [row for row in known if row["axis"] not in axes]

    def add(self, axis: str, piece: str, size: int, run: Callable[[], object], unit: float | None = None) -> None:
        """Measure a piece at a size; ``unit`` is what its cost is divided by, the size if None."""
        # the run that measures memory comes first and warms up
        timing = interleave({piece: run}, self.rounds, warm_up=0)[piece]
        before = next((row for row in reversed(self.rows) if (row["axis"], row["piece"]) == (axis, piece)), None)
        grown = None
        if before is not None:
            # a hundredth of a second is what a clock and a busy machine leave uncertain
            grown = math.log(max(timing.cpu_s, 1e-4) / max(before["cpu_s"], 1e-4)) / math.log(size / before["size"])
        row = {
            "axis": axis,
            "piece": piece,
            "size": size,
            "cpu_s": timing.cpu_s,
            "per_unit_us": 1e6 * timing.cpu_s / (unit or size),
            "exponent": grown,
            "memory_mb": None if timing.peak_bytes is None else timing.peak_bytes / 2**20,
        }
        self.rows.append(row)
        save(self.out, {"threads": 1, "rows": self.rows})
        shown = "" if grown is None else f"  exponent {grown:.2f}"
        print(f"{axis:14s} {piece:40s} {size:>12,d} {timing.cpu_s:9.3f} s{shown}", flush=True)


def random_model(queries: int = QUERIES, layers: int = 4, **shape: int) -> ItemLanguageModel:
    """A few layers of a language model with a Q-Former; bf16 where the processor multiplies it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {**SMALL, **shape}
    config = LlamaConfig(**sizes, vocab_size=4096, num_hidden_layers=layers, bos_token_id=0, eos_token_id=1)
    config._attn_implementation = choose_attention(config)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if cpu_bf16() else torch.float32
    lm = apply_tuning(LlamaForCausalLM(config).to(dtype), Tuning.FROZEN)
    settings = {"kind": "qformer", "source_dims": {"behavioral": 64}, "num_queries": queries}
    adapter = build_adapter({**settings, "output_dim": sizes["hidden_size"]})
    return ItemLanguageModel(adapter, Backbone(lm, Tuning.FROZEN, dtype, LMReference("random"))).train()


def prompts(history: int, queries: int, count: int = 4) -> list[TokenisedExample]:
    """Prompts that show a history of items with their soft tokens."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        parts = [draw.integers(2, 4096, FRAME, dtype=np.int32)]
        for _ in range(history):
            parts += [draw.integers(2, 4096, ITEM_TOKENS, dtype=np.int32), np.full(queries, -1, np.int32)]
        slots = tuple((int(row),) for row in draw.integers(0, 1000, history))
        target = draw.integers(2, 4096, ITEM_TOKENS + 1, dtype=np.int32)
        made.append(TokenisedExample(str(number), np.concatenate(parts), target, slots))
    return made


def step(model: ItemLanguageModel, history: int) -> Callable[[], object]:
    """Forward and backward of phase 2, the language model frozen."""
    batch = Collator({"behavioral": torch.randn(1000, 64)})(prompts(history, model.num_queries))

    def run() -> None:
        model.zero_grad()
        model(batch).loss.backward()

    return run


def adapter(growth: Growth, options: argparse.Namespace) -> None:
    """Vectors through a Q-Former to what the item head compares with."""
    model = random_model(layers=1).eval()
    for size in powers(2, options.limit):
        vectors = {"behavioral": torch.randn(size, 64)}

        def through(vectors: dict[str, torch.Tensor] = vectors) -> object:
            with torch.inference_mode():
                return item_directions(model, vectors)

        growth.add("adapter", "Q-Former: vectors to directions", size, through)


def head(growth: Growth, options: argparse.Namespace) -> None:
    """A prompt against all items."""
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        for size in powers(3, options.directions if dtype is torch.bfloat16 else min(options.directions, 10**6)):
            state = torch.randn(576).to(dtype)
            # a part again and again: drawing ten million of them would take longer than all else
            part = torch.randn(min(size, 10**4), 576).to(dtype)
            directions = part.repeat(size // len(part), 1)
            growth.add(
                "head", f"item head: scores and top 10, {kind}", size, lambda d=directions, s=state: (d @ s).topk(10)
            )  # type: ignore[misc]


def powers(low: int, limit: int) -> list[int]:
    """Powers of ten from ``10 ** low`` to a limit."""
    return [10**power for power in range(low, 11) if 10**power <= limit]


def users(growth: Growth, options: argparse.Namespace) -> None:
    """A sweep of ALS over users with about 50 items each of 5,000."""
    draw = np.random.default_rng(0)
    for size in powers(2, options.users):
        entries = np.unique(np.repeat(np.arange(size), 50) * 5000 + (5000 * draw.random(50 * size) ** 2).astype(int))
        columns = {"user": entries // 5000, "item": entries % 5000, "rating": np.ones(len(entries), np.float32)}
        frame = pl.DataFrame({**columns, "timestamp": np.zeros(len(entries), np.int64)})
        table = Interactions(frame, [str(n) for n in range(size)], 5000)
        growth.add(
            "users", "ALS: a sweep, 50 items a user", size, lambda t=table: fit_als(t, iterations=1, num_threads=1)
        )  # type: ignore[misc]


def history(growth: Growth, _: argparse.Namespace) -> None:
    """Items of a history, through four layers."""
    for count in (5, 10, 20, 40):
        growth.add("history", "phase-2 step, 4 prompts, 8 soft tokens", count, step(random_model(), count))


def queries(growth: Growth, _: argparse.Namespace) -> None:
    """Soft tokens of an item, through four layers."""
    for count in (1, 4, 8, 16, 32):
        growth.add("queries", "phase-2 step, 4 prompts, history 20", count, step(random_model(count), 20))


def width(growth: Growth, _: argparse.Namespace) -> None:
    """Width of the language model."""
    for size in (256, 512, 1024, 2048):
        shape = {"hidden_size": size, "intermediate_size": 8 * size // 3, "num_attention_heads": size // 64}
        model = random_model(layers=2, **shape, num_key_value_heads=size // 64)
        growth.add("width", "phase-2 step, 2 layers, history 5", size, step(model, 5))


def examples(growth: Growth, _: argparse.Namespace) -> None:
    """The first 50 batches of 128 of an epoch's order."""
    place = np.arange(6400)
    for count in (10**6, 10**8, 10**10):
        growth.add("examples", "order of 50 batches", count, lambda n=count: shuffled(place, n, 0), unit=6400)  # type: ignore[misc]


AXES = {axis.__name__: axis for axis in (examples, adapter, head, users, history, queries, width)}


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    parser.add_argument("--limit", type=int, default=10_000, help="most items through the adapter")
    parser.add_argument("--directions", type=int, default=10**6, help="most items of the item head")
    parser.add_argument("--users", type=int, default=10**5, help="most users in ALS")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    growth = Growth(options.rounds, options.out, options.only)
    for name in options.only:
        AXES[name](growth, options)


if __name__ == "__main__":
    main()
