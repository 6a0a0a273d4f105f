"""What costs grow with: items, users, history, soft tokens, width of the language model, examples.

    python benchmarks/growth.py --out growth.json            # a few minutes on one core
    python benchmarks/growth.py --limit 100000               # larger catalogues, as far as memory goes

Each row is one piece of the pipeline at one size, on one thread: process CPU seconds (the least of the rounds), the
memory that it adds, and how the cost grew since the row before (1.0: in proportion). Weights and data are random.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from harness import commit, interleave, machine

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
    """Collects rows.

    Args:
        rounds: runs of each row.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds, self.rows = rounds, list[dict[str, Any]]()

    def add(self, axis: str, piece: str, size: int, run: Callable[[], object], unit: float | None = None) -> None:
        """Measure a piece at a size; ``unit`` is what its cost is divided by, the size if None."""
        timing = interleave({piece: run}, self.rounds, warm_up=1)[piece]
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


def items(growth: Growth, sizes: list[int]) -> None:
    """Vectors through the adapter; a prompt against all items; a row's memory."""
    model = random_model(layers=1).eval()
    for size in sizes:
        vectors = {"behavioral": torch.randn(size, 64)}

        def through(vectors: dict[str, torch.Tensor] = vectors) -> object:
            with torch.inference_mode():
                return item_directions(model, vectors)

        growth.add("items", "adapter: vectors to directions", size, through)
    for size in [*sizes, *(10**power for power in range(len(str(max(sizes))), 7))]:
        directions, state = torch.randn(size, 576), torch.randn(576)
        growth.add("items", "item head: scores and top 10", size, lambda d=directions, s=state: (d @ s).topk(10))  # type: ignore[misc]


def users(growth: Growth, sizes: list[int]) -> None:
    """Two sweeps of ALS over users with 50 items each of 5,000."""
    draw = np.random.default_rng(0)
    for size in sizes:
        entries = np.unique(np.repeat(np.arange(size), 50) * 5000 + (5000 * draw.random(50 * size) ** 2).astype(int))
        columns = {"user": entries // 5000, "item": entries % 5000, "rating": np.ones(len(entries), np.float32)}
        frame = pl.DataFrame({**columns, "timestamp": np.zeros(len(entries), np.int64)})
        table = Interactions(frame, [str(n) for n in range(size)], 5000)
        growth.add("users", "ALS: a sweep, 50 items a user", size, lambda t=table: fit_als(t, iterations=1))  # type: ignore[misc]


def prompts_and_widths(growth: Growth) -> None:
    """History, soft tokens and width, through four layers."""
    for history in (5, 10, 20, 40):
        growth.add("history", "phase-2 step, 4 prompts, 8 soft tokens", history, step(random_model(), history))
    for queries in (1, 4, 8, 16, 32):
        growth.add("soft tokens", "phase-2 step, 4 prompts, history 20", queries, step(random_model(queries), 20))
    for width in (256, 512, 1024, 2048):
        shape = {"hidden_size": width, "intermediate_size": 8 * width // 3, "num_attention_heads": width // 64}
        model = random_model(layers=2, **shape, num_key_value_heads=width // 64)
        growth.add("width", "phase-2 step, 2 layers, history 5", width, step(model, 5))


def examples(growth: Growth) -> None:
    """The first 50 batches of 128 of an epoch's order."""
    place = np.arange(6400)
    for count in (10**6, 10**8, 10**10):
        growth.add("examples", "order of 50 batches", count, lambda n=count: shuffled(place, n, 0), unit=6400)  # type: ignore[misc]


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    parser.add_argument("--limit", type=int, default=10_000, help="most items through the adapter, and users in ALS")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    growth = Growth(options.rounds)
    sizes = [10**power for power in range(2, 8) if 10**power <= options.limit]
    examples(growth)
    items(growth, sizes)
    users(growth, sizes)
    if options.limit >= 1000:
        prompts_and_widths(growth)
    about = {"commit": commit(), "machine": machine(), "threads": 1, "rows": growth.rows}
    options.out.write_text(json.dumps(about, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
