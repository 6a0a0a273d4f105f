"""A training step of phase 1 (ITC, ITM, ITG) against separate padded passes in transformers' Q-Former.

    python benchmarks/phase1_step.py [--rounds 5] [--texts title|facts] [--batch 16] [--out FILE]

Forward, backward and AdamW's step on the same weights, items and texts of MovieLens (padded to 64 tokens by the peer),
dropout 0.1. ``title``: titles and genres, as most catalogues have them; ``facts``: with country, language and people.
With dropout 0 losses and gradients are compared first.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from exactness import Same, judged, largest
from harness import Rung, interleave, report
from peer_qformer import PeerPretraining, gradient_pairs
from torch import Tensor

from ilm_lightning.adapters import QFormerAdapter, TextBranch
from ilm_lightning.hardware import cpu_bf16
from ilm_lightning.pretraining import losses as L
from ilm_lightning.pretraining.batches import ItemTextBatch, collate
from ilm_lightning.pretraining.model import PretrainingModel
from ilm_lightning.pretraining.module import PretrainingModule
from ilm_lightning.pretraining.pairs import text_pairs, tokenizer_encode
from ilm_lightning.pretraining.settings import PretrainingSettings

LENGTH, LR = 64, 3e-4
CANCELLING = ("item_proj.bias", "temperature")
"""Tensors whose gradients' terms cancel: in single precision ours and the peer's are rounded by about 1e-5 each."""
FEW = 4
"""Items of the comparison in double precision."""


def texts_of(kind: str) -> list[str | None]:
    """Texts of the movies, as phase 1 reads them."""
    from ilm_lightning.assets import resolve
    from ilm_lightning.data.load import load_dataset

    paths = {"ratings": resolve("movielens-small").path}
    if kind == "facts":
        paths["film_facts"] = resolve("film-facts").path
    catalog = load_dataset("movielens_small", paths).catalog
    return [catalog.item_text(row) for row in range(len(catalog))]


def batches_of(kind: str, size: int, count: int) -> list[ItemTextBatch]:
    """Training batches of movies."""
    from transformers import AutoTokenizer

    from ilm_lightning.assets import resolve

    texts = texts_of(kind)
    rows = np.random.default_rng(0).choice(len(texts), size * count, replace=False)
    tokenizer = AutoTokenizer.from_pretrained(str(resolve("all-minilm-l6-v2").path))
    pairs = text_pairs(texts, rows, tokenizer_encode(tokenizer, LENGTH))
    found = [collate(pairs, np.arange(i * size, (i + 1) * size), i, 0, None) for i in range(count)]
    return [batch for batch in found if isinstance(batch, ItemTextBatch)]


def new_model(n_items: int, dropout: float = 0.1) -> PretrainingModel:
    """The package's default Q-Former over 64 behavioral factors."""
    torch.manual_seed(0)
    adapter = QFormerAdapter({"behavioral": 64}, output_dim=576, num_queries=8, dropout=dropout)
    branch = TextBranch.for_qformer(adapter.qformer)
    settings = PretrainingSettings(losses=("itc", "itm", "itg"))
    return PretrainingModel(adapter, branch, {"behavioral": torch.randn(n_items, 64)}, settings)


def padded(batch: ItemTextBatch) -> tuple[Tensor, Tensor]:
    """Ids and mask padded to the maximal length."""
    missing = (0, LENGTH - batch.token_ids.shape[1])
    return torch.nn.functional.pad(batch.token_ids, missing), torch.nn.functional.pad(batch.mask, missing).long()


def step_of_ours(model: PretrainingModel, batches: list[ItemTextBatch], bf16: bool) -> Callable[[], None]:
    """Forward, backward and update, as Lightning runs them."""
    module = PretrainingModule(model, 1000, LR)
    configured = module.configure_optimizers()
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.total(model(batch))
        configured["optimizer"].zero_grad()
        loss.backward()
        configured["optimizer"].step()

    return step


def step_of_peer(model: PeerPretraining, batches: list[ItemTextBatch]) -> Callable[[], None]:
    """The same for the peer; it gets the fused AdamW as well."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05, fused=True)
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        loss = torch.stack(list(model(batch.items, *padded(batch)).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def difference(model: PretrainingModel, batch: ItemTextBatch) -> Same:
    """How far losses and gradients of ours are from the peer's, relative; both get the same negatives."""
    peer, own = PeerPretraining(model), torch.arange(len(batch.items))
    chosen = L.HardNegatives(own.roll(1), own.roll(2), torch.ones_like(own, dtype=torch.bool))
    with mock.patch.object(L, "sample_hard_negatives", return_value=chosen):
        terms = model(batch)
    model.total(terms).backward()
    theirs = peer(batch.items, *padded(batch), negatives=(chosen.items, chosen.texts))
    torch.stack(list(theirs.values())).sum().backward()
    losses = largest([(terms[name].detach(), value.detach()) for name, value in theirs.items()])
    dtype, pairs = next(model.parameters()).dtype, gradient_pairs(model, peer)
    left = {name: pairs.pop(name) for name in CANCELLING if dtype is torch.float32}
    found = judged(dtype, losses, largest(list(pairs.values())))
    return Same(found.told + "".join(f", {name} to {largest([pair]):.0e}" for name, pair in left.items()), found.within)


def exactness(n_items: int, batch: ItemTextBatch) -> Same:
    """Compare with dropout 0 in single precision, and a few rows in double."""
    found = difference(new_model(n_items, dropout=0.0), batch)
    few = {name: getattr(batch, name)[:FEW] for name in ("items", "text_ids", "token_ids", "mask")}
    # also what asks for single precision: what is left is an error, not rounding
    with mock.patch.object(Tensor, "float", Tensor.double):
        return found + difference(new_model(n_items, dropout=0.0).double(), replace(batch, **few))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--texts", choices=("title", "facts"), default="title")
    parser.add_argument("--out", type=Path, help="also save the result there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batches = batches_of(options.texts, options.batch, 4)
    n_items = 1 + max(int(batch.items.max()) for batch in batches)
    same = exactness(n_items, batches[0])
    model = new_model(n_items)
    peer = PeerPretraining(model)
    ways = {
        "transformers, padded passes, fp32": step_of_peer(peer, batches),
        "ours, fp32": step_of_ours(copy.deepcopy(model), batches, bf16=False),
        "ours, bf16": step_of_ours(model, batches, bf16=True),
    }
    names = list(ways)
    timings = interleave(ways, options.rounds)
    lengths = torch.cat([batch.mask.sum(1) for batch in batches]).float()
    setting = {
        "batch": options.batch,
        "mean_tokens": round(float(lengths.mean()), 1),
        "padded_to": LENGTH,
        "threads": 1,
        "step": "forward, backward, AdamW",
        "texts": options.texts,
    }
    bars = (2.5, 6.0) if options.texts == "title" else (None, None)
    plain = Rung(f"phase-1 step, fp32 ({options.texts})", names[0], names[1], bars[0], timings, setting)
    title = f"phase-1 step, bf16 against the peer's fp32 ({options.texts})"
    half = Rung(title, names[0], names[2], bars[1], timings, setting)
    half.cannot = "" if cpu_bf16() else "this processor does not multiply bf16"
    plain.exact = f"dropout 0, {same.told}"
    plain.same = half.same = same.within
    report([plain, half], options.out)


if __name__ == "__main__":
    main()
