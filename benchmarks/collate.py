"""Collating a training batch of OpenP5 prompts against the fast tokenizer on the fly.

    python benchmarks/collate.py [--data FOLDER/openp5/ML1M] [--rounds 15] [--batch 128]

The peer holds every prompt as a string and tokenises, pads and labels a batch when it is read. Ours puts ids together
from pieces that were tokenised once; both end with the tensors that a training step takes, on one thread. Without
``--data`` the users of the embedded MovieLens ratings serve, histories of 20.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from harness import Rung, interleave, report
from transformers import AutoTokenizer

from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import Sequences, make_indexing, read_sequences
from ilm_lightning.lm import PromptTokenizer
from ilm_lightning.lm.assembly import Assembler, StepBatches
from ilm_lightning.lm.batch import PLACEHOLDER_ID
from ilm_lightning.lm.collate import Collator
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.tasks.openp5 import Prompt, TrainingIndex

PROMPTS = (
    Prompt("sequential", True, "{dataset} user_{user_id} took {history} so far , which item follows ?",
           "{dataset} {target}"),
    Prompt("sequential", True, "After {history} , name the next item of {dataset} user_{user_id} .",
           "{dataset} {target}"),
)  # fmt: skip
REPEATS = 20
"""Batches of one run: a single one takes less than a clock can tell well."""


def movielens() -> Sequences:
    """The embedded ratings in order of time."""
    from ilm_lightning.data.load import load_dataset

    frame = load_dataset("movielens_small", {"ratings": resolve("movielens-small").path}).interactions.frame
    frame = frame.sort("user", "timestamp", "item")
    _, users = np.unique(frame["user"].to_numpy(), return_inverse=True)
    _, items = np.unique(frame["item"].to_numpy(), return_inverse=True)
    lengths = np.bincount(users)
    kept = lengths >= 4
    offsets = np.concatenate([[0], np.cumsum(lengths[kept])])
    names = [str(n) for n in range(int(kept.sum()))], [str(n) for n in range(int(items.max()) + 1)]
    return Sequences("ML", *names, offsets, items[kept[users]].astype(np.int32))


def strings(renderer: Renderer, index: TrainingIndex, numbers: np.ndarray) -> list[str]:
    """Examples as text, as the peer holds them."""
    made = []
    for number in numbers.tolist():
        example = renderer(index[number])
        ids = [*example.prompt_ids.tolist(), *example.target_ids.tolist()]
        made.append(renderer.tokenizer.tokenizer.decode([i for i in ids if i != PLACEHOLDER_ID]))
    return made


def equal_texts(assemble: Assembler, tokenizer: Any, numbers: list[np.ndarray], texts: list[list[str]]) -> float:
    """Share of examples whose ids spell the text that the peer tokenises."""
    equal = []
    for own, wanted in zip(numbers, texts, strict=True):
        batch = assemble(own)
        rows = zip(batch.input_ids, batch.attention_mask.bool(), wanted, strict=True)
        equal += [tokenizer.decode(ids[mask].tolist()) == text for ids, mask, text in rows]
    return sum(equal) / len(equal)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sequences = movielens() if options.data is None else read_sequences(options.data)
    indexing = make_indexing(sequences, "sequential")
    fast = AutoTokenizer.from_pretrained(str(resolve("smollm2-135m-instruct").path))
    fast.pad_token = fast.pad_token or fast.eos_token
    index = TrainingIndex(sequences, PROMPTS)
    collator = Collator({"behavioral": torch.randn(sequences.n_items, 64)})
    made = {}
    for name, soft in (("text ids alone", False), ("with soft tokens", True)):
        renderer = Renderer(PromptTokenizer(fast, 8), sequences, indexing, RenderSettings(item_tokens=soft))
        made[name] = Assembler(renderer, index, collator)
    plain, soft_tokens = made.values()
    # the batches themselves: the order of an epoch belongs to neither way
    batches = StepBatches(index, plain.lengths, options.batch, 0)
    numbers = [batches.numbers(step) for step in range(REPEATS)]
    texts = [strings(plain.renderer, index, own) for own in numbers]

    def tokenise(rows: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = fast(rows, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
        ids, mask = found.input_ids, found.attention_mask
        return ids, mask, ids.masked_fill(mask == 0, -100)

    ways = {
        "fast tokenizer on the fly": lambda: [tokenise(rows) for rows in texts],
        "ours, text ids alone": lambda: [plain(own) for own in numbers],
        "ours, with soft tokens and vectors": lambda: [soft_tokens(own) for own in numbers],
    }
    names = list(ways)
    lengths = [int(plain(own).attention_mask.sum()) for own in numbers]
    theirs = sum(int(tokenise(rows)[1].sum()) for rows in texts)
    setting = {
        "data": sequences.name,
        "items": sequences.n_items,
        "batch": options.batch,
        "batches": REPEATS,
        "mean_tokens": round(sum(lengths) / (REPEATS * options.batch), 1),
        "threads": 1,
    }
    share = equal_texts(plain, fast, numbers, texts)
    exact = (
        f"the same text in {share:.0%} of the examples; {sum(lengths):,} tokens, the peer {theirs:,} "
        "(pieces do not merge across their ends)"
    )
    rung = Rung("collate", names[0], names[1], 25.0, interleave(ways, options.rounds), setting, exact=exact)
    rung.same = share == 1.0
    report([rung])


if __name__ == "__main__":
    main()
