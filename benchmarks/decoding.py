"""Trie decoding against transformers' beam search with a prefix function, on real weights and real histories.

    python benchmarks/decoding.py --data FOLDER/openp5/ML1M --prompts FOLDER/openp5/prompt.txt --users 8 --exact 200

``--run`` takes a trained model from the folder of a finished run; without it the pretrained language model reads its
prompts through an untrained adapter on random vectors, and knows no item ids: its lists are the hardest to find.

Speed: both decoders on one thread in fp32, user by user in turns. ``trie, exact`` searches again where a list is not
known to be exact, without a limit to the beams and only above the list's last score; it is also what the other lists
are held against. Exactness: for a seeded sample of ``--exact`` users, whether each number of ``--beams`` finds the top
10 of all items, which ``trie, exact`` finds. ``--all`` of these users are scored over all items, half a minute each, to
check that reasoning. Prints JSON, and saves it after each part.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from harness import save

from ilm_lightning.adapters import build_adapter
from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.evaluation.trie import NO_ITEM, ItemTrie, build_trie
from ilm_lightning.lm import ItemLanguageModel, PromptTokenizer, load_backbone
from ilm_lightning.lm.collate import Collator
from ilm_lightning.lm.decoding import Recommendations, recommend
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.tasks.openp5 import held_out_examples, read_prompts

K = 10
EXACT = "trie, exact"


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


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--lm", default="smollm2-135m-instruct")
    parser.add_argument("--run", type=Path, help="folder of a finished run on this data")
    parser.add_argument("--users", type=int, default=8, help="users of the measurement of speed")
    parser.add_argument("--exact", type=int, default=0, help="users of the check of exactness")
    parser.add_argument("--all", type=int, default=0, help="of these, users scored over all items")
    parser.add_argument("--beams", type=int, nargs="+", default=[30], help="numbers of beams")
    parser.add_argument("--batch-size", type=int, default=8, help="of the check of exactness")
    parser.add_argument("--out", type=Path, help="also write the JSON there")
    return parser.parse_args()


class Setting:
    """A model, and users' prompts for it."""

    def __init__(self, options: argparse.Namespace) -> None:
        from transformers import AutoTokenizer

        self.sequences = read_sequences(options.data)
        indexing = read_indexing(options.data, "sequential", self.sequences)
        folder = resolve(options.lm).path
        if options.run:
            self.model = ItemLanguageModel.from_pretrained(options.run / "model", folder, "float32").merge_lora()
            self.vectors = artifact_vectors(options.run)
        else:
            backbone = load_backbone(folder, "frozen", "float32")
            width = backbone.lm.config.hidden_size  # type: ignore[union-attr]
            settings = {"kind": "mlp", "source_dims": {"behavioral": 64}, "output_dim": width, "num_queries": 8}
            self.model = ItemLanguageModel(build_adapter(settings | {"hidden_width": 64}), backbone).eval()
            self.vectors = {"behavioral": torch.randn(self.sequences.n_items, 64)}
        tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(folder)), self.model.num_queries)
        indexing = indexing or make_indexing(self.sequences, "sequential")
        renderer = Renderer(tokenizer, self.sequences, indexing, RenderSettings())
        prompt = read_prompts(options.prompts).tested("sequential", "seen")
        count = max(options.users, options.exact)
        users = np.random.default_rng(0).choice(len(self.sequences), count, replace=False)
        examples = held_out_examples(self.sequences, prompt, "test", users)
        self.rows = [renderer(example, with_target=False) for example in examples]
        self.trie = build_trie([ids.tolist() for ids in renderer.targets(prompt.output)])
        self.collator = Collator(self.vectors)

    def ours(
        self, rows: list[TokenisedExample], beams: int, batch_size: int = 1, certain: bool = False
    ) -> Recommendations:
        """Lists of our decoder."""
        return recommend(self.model, rows, self.collator, self.trie, K, beams, batch_size=batch_size, certain=certain)


def artifact_vectors(run: Path) -> dict[str, torch.Tensor]:
    """Item vectors that a run read."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    embedded = json.loads((run / "artifacts.json").read_text(encoding="utf-8"))["embed"]
    return ItemVectors.load(Path(config["artifacts"]) / embedded).select(config["encoder"]["name"]).tensors()


def speed(setting: Setting, users: int, beams: list[int]) -> dict[str, Any]:
    """Seconds of both decoders in turns, and for how many users their lists agree, and are those of all items."""
    ways = {"trie, 10 beams": K, **{f"trie, {count} beams": count for count in beams}, EXACT: beams[0]}
    names = ("transformers, 10 beams", *ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    agree, exact = 0, dict.fromkeys(names, 0)
    # what is done once in a process belongs to neither
    by_transformers(setting.model, setting.collator, setting.rows[0], setting.trie)
    setting.ours([setting.rows[0]], K)
    for row in setting.rows[:users]:
        start = time.process_time()
        lists = {names[0]: by_transformers(setting.model, setting.collator, row, setting.trie)}
        seconds[names[0]].append(time.process_time() - start)
        for name, count in ways.items():
            start = time.process_time()
            lists[name] = setting.ours([row], count, certain=name == EXACT).items[0].tolist()
            seconds[name].append(time.process_time() - start)
        agree += lists[names[1]] == lists[names[0]]
        for name, found_list in lists.items():
            exact[name] += found_list == lists[EXACT]
    found: dict[str, Any] = {name: users / sum(times) for name, times in seconds.items()}
    ratios = {}
    for name in names[1:]:
        one = np.array(seconds[names[0]]) / np.array(seconds[name])
        ratios[name] = {"ratio": found[name] / found[names[0]], "standard_error": float(one.std(ddof=1) / users**0.5)}
    told = {"users": users, "users_per_second": found, "against_transformers": ratios, "same_ranking_10_beams": agree}
    return told | {"exact_lists": exact}


def exactness(setting: Setting, users: int, beams: list[int], batch_size: int, check: int) -> dict[str, Any]:
    """For how many users a number of beams finds the top 10 of all items."""
    rows = setting.rows[:users]
    lists = {count: setting.ours(rows, count, batch_size) for count in beams}
    start = time.process_time()
    certain = setting.ours(rows, beams[0], batch_size, certain=True)
    seconds = time.process_time() - start
    assert certain.exact.all()
    true = certain.items
    result: dict[str, Any] = {}
    for count, found in lists.items():
        same = (found.items == true).all(1)
        overlap = [len(set(a) & set(b)) / K for a, b in zip(found.items.tolist(), true.tolist(), strict=True)]
        result[f"{count} beams"] = {
            "exact": float(same.mean()),
            "standard_error": float((same.mean() * (1 - same.mean()) / users) ** 0.5),
            "known_to_be": float(found.exact.mean()),
            # a search that is known to be exact has to be, but for scores that are equal up to rounding
            "known_and_different": int((found.exact & ~same).sum()),
            "items_found": float(np.mean(overlap)),
        }
    every = [setting.ours([row], 10**9).items[0] for row in rows[:check]]
    agree = sum(bool((one == two).all()) for one, two in zip(every, true, strict=False))
    result |= {"users": users, "exact_users_per_second": users / seconds}
    return result | {"scored_over_all_items": f"{agree} of {check} the same"}


def main() -> None:
    """Run and print."""
    options = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    setting = Setting(options)
    result: dict[str, Any] = {
        "data": setting.sequences.name,
        "items": setting.sequences.n_items,
        "model": f"{options.lm}, {'trained: ' + options.run.name if options.run else 'untrained adapter'}",
        "mean_prompt_tokens": float(np.mean([len(row.prompt_ids) for row in setting.rows])),
        "seconds": "process CPU time, one thread, fp32",
    }
    if options.users:
        result["speed"] = speed(setting, options.users, options.beams)
        if options.out:
            save(options.out, result)
    if options.exact:
        start = time.process_time()
        result["exactness"] = exactness(setting, options.exact, options.beams, options.batch_size, options.all)
        result["exactness"]["seconds"] = time.process_time() - start
        if options.out:
            save(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
