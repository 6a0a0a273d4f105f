"""Trie decoding against transformers' beam search with a prefix function, on real weights and real histories.

    python benchmarks/decoding.py --data FOLDER/openp5/ML1M --prompts FOLDER/openp5/prompt.txt [--users 8] [--exact 0]

Both run on one thread in fp32, user by user in turns; prints JSON: users per second of each, their ratio with 10 beams
and with the default beams, whether the rankings agree, and for how many of ``--exact`` users the default beams found
the exact top 10 (scored over all items, about half a minute a user).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from ilm_lightning.adapters import build_adapter
from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
from ilm_lightning.evaluation.trie import NO_ITEM, ItemTrie, build_trie
from ilm_lightning.lm import ItemLanguageModel, PromptTokenizer, load_backbone
from ilm_lightning.lm.collate import Collator
from ilm_lightning.lm.decoding import recommend
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.tasks.openp5 import held_out_examples, read_prompts

K = 10


def by_transformers(
    model: ItemLanguageModel, collator: Collator, example: TokenisedExample, trie: ItemTrie
) -> list[int]:
    """Ten beams with a prefix function; the items in their order."""
    batch = collator.prompts([example])

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        return trie.allowed(ids.tolist()) or [model.lm.config.eos_token_id]  # type: ignore[union-attr]

    with torch.inference_mode():
        rows = model.lm.generate(  # type: ignore[operator]
            inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, num_beams=K, num_return_sequences=K,
            do_sample=False, max_new_tokens=len(trie.forced) + trie.depth, prefix_allowed_tokens_fn=allowed,
            length_penalty=0.0,
        )  # fmt: skip
    return [item_of(trie, ids) for ids in rows.tolist()]


def item_of(trie: ItemTrie, ids: list[int]) -> int:
    """The item that generated ids spell."""
    node = 0
    for token in ids:
        children = range(int(trie.first_child[node]), int(trie.first_child[node + 1]))
        node = next(child for child in children if trie.tokens[child] == token)
        if trie.items[node] != NO_ITEM:
            return int(trie.items[node])
    return NO_ITEM


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--lm", default="smollm2-135m-instruct")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--beams", type=int, default=30)
    parser.add_argument("--exact", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sequences = read_sequences(options.data)
    indexing = read_indexing(options.data, "sequential", sequences) or make_indexing(sequences, "sequential")
    folder = resolve(options.lm).path
    backbone = load_backbone(folder, "frozen", "float32")
    width = backbone.lm.config.hidden_size  # type: ignore[union-attr]
    settings = {"kind": "mlp", "source_dims": {"behavioral": 64}, "output_dim": width, "num_queries": 8}
    model = ItemLanguageModel(build_adapter(settings | {"hidden_width": 64}), backbone).eval()
    from transformers import AutoTokenizer

    tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(folder)), model.num_queries)
    renderer = Renderer(tokenizer, sequences, indexing, RenderSettings())
    prompt = read_prompts(options.prompts).tested("sequential", "seen")
    users = np.random.default_rng(0).choice(len(sequences), max(options.users, options.exact), replace=False)
    rows = [renderer(example, with_target=False) for example in held_out_examples(sequences, prompt, "test", users)]
    trie = build_trie([ids.tolist() for ids in renderer.targets(prompt.output)])
    collator = Collator({"behavioral": torch.randn(sequences.n_items, 64)})
    seconds = {"transformers": 0.0, "trie, 10 beams": 0.0, f"trie, {options.beams} beams": 0.0}
    agree = 0
    for row in rows[: options.users]:
        start = time.process_time()
        theirs = by_transformers(model, collator, row, trie)
        seconds["transformers"] += time.process_time() - start
        for beams in (K, options.beams):
            start = time.process_time()
            ours = recommend(model, [row], collator, trie, K, beams).items[0].tolist()
            seconds[f"trie, {beams} beams"] += time.process_time() - start
            agree += beams == K and ours == theirs
    exact = 0
    for row in rows[: options.exact]:
        found = [
            recommend(model, [row], collator, trie, K, beams).items[0].tolist() for beams in (options.beams, 10**9)
        ]
        exact += found[0] == found[1]
    result = {
        "data": sequences.name,
        "items": sequences.n_items,
        "users": options.users,
        "mean_prompt_tokens": float(np.mean([len(row.prompt_ids) for row in rows])),
        "users_per_second": {name: options.users / value for name, value in seconds.items()},
        "ratio": {name: seconds["transformers"] / value for name, value in seconds.items()},
        "same_ranking": f"{agree} of {options.users}",
        "exact_top_10": f"{exact} of {options.exact} users with {options.beams} beams",
        "seconds": "process CPU time, one thread, fp32",
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
