"""A training step of phase 2 with a frozen language model against transformers' ``labels=`` on random batches.

    python benchmarks/phase2_step.py [--batch 64] [--every 1] [--dtype float32|bfloat16] [--rounds 1] [--data FOLDER]
        [--out FILE]

Forward and backward to the adapter's gradient over the same sequential examples of Beauty, on the same weights of
SmolLM2 with 8 soft tokens an item, in turns, on one thread; ILM_DATA (or --data) names the folder that holds
``openp5``. The peer pads a random batch to its longest example and lets transformers, with its own default attention,
compute logits at all positions; ours groups by length, computes logits where there is a label, and reads the words
before the first soft token without a graph. ``labels=, grouped`` shows what each of both brings.
The batch runs in parts, all padded to the batch's width, for the logits of a whole one need 4 GB and more. Losses and
gradients are compared first, on the first part, and again in double precision. The batch is the one of 200 random ones
whose padding is nearest to their mean, which stands beside with that of the batches that training makes. ``--every 4``
runs every fourth group of the batch's examples by length, the same in all ways and the peer's at the width of the whole
batch.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exactness import compare, doubled
from harness import Rung, interleave, report
from torch.nn import functional as F

from ilm_lightning.adapters import build_adapter
from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
from ilm_lightning.lm import ItemLanguageModel, PromptTokenizer, load_backbone
from ilm_lightning.lm.assembly import StepBatches
from ilm_lightning.lm.batch import IGNORE_INDEX, PromptBatch
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.tasks.openp5 import TrainingIndex, read_prompts

BAR, QUERIES = 3.0, 8
PART = 4
"""Examples that run at once."""
GROUP = 4
"""Ours cuts the examples into batches of this size: among 50 batches' worth, as in training, lengths are as close."""


def build(options: argparse.Namespace) -> tuple[ItemLanguageModel, Collator, list[TokenisedExample], dict[str, str]]:
    """Model, collator, a fixed random sample of training examples, and the padding over all examples."""
    from transformers import AutoTokenizer

    folder = options.data / "openp5" / "Beauty"
    sequences = read_sequences(folder)
    indexing = read_indexing(folder, "sequential", sequences) or make_indexing(sequences, "sequential")
    lm = resolve("smollm2-135m-instruct").path
    backbone = load_backbone(lm, "frozen", options.dtype)
    width = backbone.lm.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    settings = {"kind": "mlp", "source_dims": {"behavioral": 64}, "output_dim": width, "hidden_width": 64}
    torch.manual_seed(0)
    model = ItemLanguageModel(build_adapter(settings | {"num_queries": QUERIES}), backbone)
    tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(lm)), QUERIES)
    renderer = Renderer(tokenizer, sequences, indexing, RenderSettings())
    prompts = read_prompts(options.data / "openp5" / "prompt.txt").training
    index = TrainingIndex(sequences, [prompt for prompt in prompts if prompt.task == "sequential"])
    chosen, of_all = typical(renderer, index, options.batch)
    collator = Collator({"behavioral": torch.randn(sequences.n_items, 64)})
    return model, collator, [renderer(index[int(number)]) for number in chosen], of_all


Loss = Callable[[PromptBatch], torch.Tensor]


def step(loss_of: Loss, batches: Sequence[PromptBatch]) -> float:
    """Forward and backward over the parts of a batch; the mean over all target tokens."""
    counts = [int((batch.labels != IGNORE_INDEX).sum()) for batch in batches]
    loss = 0.0
    for batch, count in zip(batches, counts, strict=True):
        mean = loss_of(batch) * (count / sum(counts))
        mean.backward()
        loss += float(mean.detach())
    return loss


@contextmanager
def attention_of_transformers(model: ItemLanguageModel) -> Iterator[None]:
    """Let the language model attend as transformers has it by default, not as ours chose for a CPU."""
    config: Any = model.lm.config
    ours = config._attn_implementation
    config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = ours


def padded(batch: PromptBatch, width: int) -> PromptBatch:
    """The batch with padding up to a width."""
    more = (0, width - batch.input_ids.shape[1])
    ids, mask = (F.pad(tensor, more) for tensor in (batch.input_ids, batch.attention_mask))
    return replace(batch, input_ids=ids, attention_mask=mask, labels=F.pad(batch.labels, more, value=IGNORE_INDEX))


def padding(batches: Sequence[PromptBatch]) -> float:
    """Share of positions that are padding."""
    return 1 - sum(batch.n_tokens for batch in batches) / sum(batch.input_ids.numel() for batch in batches)


def typical(
    renderer: Renderer, index: TrainingIndex, batch: int, batches: int = 200
) -> tuple[np.ndarray[Any, Any], dict[str, str]]:
    """The random batch whose padding is nearest to the mean of many, and that mean, beside that of training's batches.

    A random batch is padded to its longest example: one alone may hold a tenth more padding than the next.
    """
    tokens = renderer.lengths(index)
    drawn = np.random.default_rng(0).choice(len(index), (batches, batch))
    steps = StepBatches(index, lambda numbers: tokens[numbers], batch, 1)
    ours = np.stack([tokens[steps.numbers(step)] for step in range(batches)])
    widths = tokens[drawn].max(1) * batch
    share = 1 - tokens[drawn].sum() / widths.sum()
    nearest = int(np.abs(1 - tokens[drawn].sum(1) / widths - share).argmin())
    means = {"random": share, "ours": 1 - ours.sum() / (ours.max(1).sum() * batch)}
    return drawn[nearest], {f"padding_of_all_{name}": f"{mean:.0%}" for name, mean in means.items()}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ILM_DATA", "data")))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--every", type=int, default=1, help="4: a fourth of the batch's groups")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also save the result there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, collator, rows, of_all = build(options)
    width = max(map(len, rows))
    groups = sorted_batches([len(row) for row in rows], GROUP)[options.every // 2 :: options.every]
    grouped = [collator([rows[i] for i in part]) for part in groups]
    rows = [rows[i] for i in sorted(place for part in groups for place in part)]
    random = [padded(collator(rows[start : start + PART]), width) for start in range(0, len(rows), PART)]

    def by_transformers(batch: PromptBatch) -> torch.Tensor:
        with attention_of_transformers(model):
            output = model.lm(
                inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, labels=batch.labels,
                use_cache=False,
            )  # fmt: skip
        return output.loss  # type: ignore[no-any-return]

    def by_us(batch: PromptBatch) -> torch.Tensor:
        return model(batch).loss  # type: ignore[no-any-return]

    def by_logits(batch: PromptBatch) -> torch.Tensor:
        # what transformers does with ``labels=``, but for the loss, which it always takes in single precision
        with attention_of_transformers(model):
            logits = model.lm(
                inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, use_cache=False
            ).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)

    first = [collator([row]) for row in rows[:PART]]
    exact = compare(model, [lambda: step(by_transformers, random[:1]), lambda: step(by_us, first)])
    if options.dtype == "float32":
        few = [padded(collator(rows[:2]), width)]
        with doubled(model):
            exact += compare(model, [lambda: step(by_logits, few), lambda: step(by_us, first[:2])])
    peer, ours = "transformers labels=, random batch", "labels alone, grouped by length"
    ways: dict[str, Callable[[], float]] = {
        peer: lambda: step(by_transformers, random),
        "transformers labels=, grouped": lambda: step(by_transformers, grouped),
        ours: lambda: step(by_us, grouped),
    }
    bar = BAR if options.dtype == "float32" else None
    times = interleave(ways, options.rounds, warm_up=0)
    setting = {
        "examples": f"{len(rows)} of a batch of {options.batch}",
        "mean_tokens": round(float(np.mean([len(row) for row in rows]))),
        "padding_random": f"{padding(random):.0%}",
        "padding_grouped": f"{padding(grouped):.0%}",
        **of_all,
        "dtype": options.dtype,
        "threads": 1,
    }
    rung = Rung("phase-2 step, frozen, Beauty's lengths", peer, ours, bar, times, setting, exact=exact.told)
    rung.same = exact.within
    report([rung], options.out)


if __name__ == "__main__":
    main()
