"""How much faster evaluation writes its texts than a loop of single ``generate`` calls, and whether they are the same.

    python benchmarks/generation.py --run outputs/RUN --examples 240 --single 24

``--run`` is the folder of a finished run: its model, item vectors, prompts and targets. Without it an untrained
adapter on random vectors stands in: speed and equality of texts need no trained one; SC is then left out.

A loop of ``transformers``' own ``generate``, one example a call, writes ``--single`` of the examples; evaluation's
batch writer writes all of them. Both use the same weights, attention and threads.

In float32, texts that differ are compared at the first token that differs: where the two best logits are closer than
1e-4, computed anew after the common beginning, the difference is rounding and counted as a tie, elsewhere as an error.
In bfloat16 rounding decides more often; what counts is the mean SC, of batch against single calls, and over all
examples of bfloat16 against float32 (both with the standard error of the paired difference). SC is taken with a scorer
in float32. One JSON line a precision.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
import polars as pl
import torch

from ilm_lightning.assets import resolve
from ilm_lightning.lm import Collator, ItemLanguageModel, PromptTokenizer, generate, load_backbone
from ilm_lightning.lm.generate import stop_ids
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.progress import track

TIE = 1e-4
QUERIES = 8


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument("--lm", default="smollm2-135m-instruct", help="asset name or folder of the language model")
    parser.add_argument("--scorer", default="all-minilm-l6-v2", help="asset name or folder of the scorer")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--examples", type=int, default=240, help="written in batches")
    parser.add_argument("--single", type=int, default=24, help="of these, written one by one as well")
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    parser.add_argument("--out", type=Path, help="JSON file for the results, with command, commit and machine")
    return parser.parse_args()


def rows_of(run: Path | None, count: int) -> list[dict[str, Any]]:
    """Prompts, slots, targets: of a run's own test examples, or the tasks' prompts over 100 items; tasks in turn."""
    if run is None:
        from ilm_lightning.tasks.elm import PROMPTS

        names = list(PROMPTS)
        return [
            {
                "example_id": str(i),
                "prompt": (prompt := PROMPTS[names[i % len(names)]][0]),
                "slots": [[(7 * i + k) % 100] for k in range(prompt.count("{item}"))],
                "target": "x",
            }
            for i in range(count)
        ]
    own = pl.read_parquet(run / "predictions.parquet").filter(pl.col("condition") == "own").sort("place", "task")
    return [
        {
            "example_id": row["example_id"],
            "prompt": row["prompt"],
            # one slot for two items is the vector between them
            "slots": [row["items"]] if row["prompt"].count("{item}") == 1 else [[i] for i in row["items"]],
            "target": row["target"],
        }
        for row in own.head(count).iter_rows(named=True)
    ]


def load(options: argparse.Namespace, dtype: str) -> tuple[ItemLanguageModel, Collator]:
    """The run's model and vectors, or an untrained adapter on random vectors."""
    backbone = load_backbone(resolve(options.lm).path, "frozen", dtype)
    if options.run is not None:
        from ilm_lightning.embeddings.vectors import ItemVectors

        model = ItemLanguageModel.from_pretrained(options.run / "model", backbone).merge_lora()
        return model.eval(), Collator(ItemVectors.load(options.run / "items").tensors())
    from ilm_lightning.adapters import build_adapter

    torch.manual_seed(0)
    width = backbone.lm.config.hidden_size
    settings = {"kind": "mlp", "source_dims": {"semantic": 384}, "output_dim": width, "hidden_width": 384}
    adapter = build_adapter(settings | {"num_queries": QUERIES})
    return ItemLanguageModel(adapter, backbone).eval(), Collator({"semantic": torch.randn(100, 384)})


@torch.inference_mode()
def one_by_one(
    model: ItemLanguageModel, examples: list[TokenisedExample], collator: Collator, stops: set[int], limit: int
) -> list[list[int]]:
    """Write each text by a ``generate`` call of its own; returns ids without the end token."""
    lm: Any = model.lm
    texts = []
    for example in track(examples, len(examples), "single calls"):
        batch = collator.prompts([example])
        with model.lm_precision():
            ids = lm.generate(
                inputs_embeds=model.embed(batch),
                attention_mask=batch.attention_mask,
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=sorted(stops),
                pad_token_id=min(stops),
            )[0].tolist()
        texts.append(ids[:-1] if ids and ids[-1] in stops else ids)
    return texts


@torch.inference_mode()
def gap(model: ItemLanguageModel, example: TokenisedExample, collator: Collator, beginning: list[int]) -> float:
    """Distance of the two best logits after a prompt and the beginning of a text."""
    batch = collator.prompts([example])
    embeddings = model.embed(batch)
    if beginning:
        lm: Any = model.lm
        words = lm.get_input_embeddings()(torch.tensor([beginning]))
        embeddings = torch.cat([embeddings, words], dim=1)
    hidden = model.run_lm(embeddings, torch.ones(embeddings.shape[:2], dtype=torch.long)).last_hidden_state[:, -1]
    best = model.logits(hidden)[0].topk(2).values
    return float(best[0] - best[1])


def compare(
    model: ItemLanguageModel,
    examples: list[TokenisedExample],
    collator: Collator,
    ours: list[list[int]],
    theirs: list[list[int]],
) -> dict[str, Any]:
    """Count equal texts; in float32, ties and errors among the others."""
    equal = sum(left == right for left, right in zip(ours, theirs, strict=True))
    counts: dict[str, Any] = {"texts": len(ours), "equal": equal}
    if model.compute_dtype is not torch.float32:
        return counts
    gaps = []
    for example, left, right in zip(examples, ours, theirs, strict=True):
        if left != right:
            # where one text is the beginning of the other, it ended there
            pairs = zip([*left, -1], [*right, -1], strict=False)
            place = next(at for at, (a, b) in enumerate(pairs) if a != b)
            gaps.append(gap(model, example, collator, left[:place]))
    ties = sum(value < TIE for value in gaps)
    shown = [round(value, 6) for value in sorted(gaps)]
    return {**counts, "ties": ties, "errors": len(gaps) - ties, "gaps": shown}


def paired(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> dict[str, float]:
    """Mean difference and its standard error."""
    difference = left - right
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else float("nan")
    return {"mean": round(float(difference.mean()), 4), "standard_error": round(float(error), 4)}


def measure(options: argparse.Namespace, dtype: str, scorer: Any, scores: dict[str, Any]) -> dict[str, Any]:
    """Time both ways at one precision; leaves the SC of all examples in ``scores``."""
    from transformers import AutoTokenizer

    model, collator = load(options, dtype)
    tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(resolve(options.lm).path)), model.num_queries)
    rows = rows_of(options.run, options.examples)
    examples = tokenizer.encode(rows)
    stops = stop_ids(model, tokenizer.eos_id)
    # spread evenly, so that the loop meets the same mixture of tasks
    count = min(options.single, len(examples))
    sample = [i * len(examples) // count for i in range(count)]
    picked = [examples[i] for i in sample]
    one_by_one(model, picked[:1], collator, stops, 4)
    start = time.perf_counter()
    singles = one_by_one(model, picked, collator, stops, options.max_new_tokens)
    middle = time.perf_counter()
    made = generate(model, examples, collator, tokenizer, options.max_new_tokens, options.batch_size)
    end = time.perf_counter()
    alone, together = len(picked) / (middle - start), len(examples) / (end - middle)
    result: dict[str, Any] = {
        "dtype": dtype,
        "examples": len(examples),
        "single_examples_per_s": round(alone, 3),
        "batch_examples_per_s": round(together, 3),
        "times_faster": round(together / alone, 2),
        "tokens_per_text": round(float(np.mean([len(ids) for ids in made.token_ids])), 1),
        "cut_off_share": round(made.cut_off_share, 4),
        **compare(model, picked, collator, [made.token_ids[i] for i in sample], singles),
    }
    if scorer is None:
        return result
    targets = [row["target"] for row in rows]
    batch = scores[dtype] = scorer.semantic_consistency(made.texts, targets)
    single = scorer.semantic_consistency([tokenizer.decode(ids) for ids in singles], [targets[i] for i in sample])
    result["sc"] = round(float(batch.mean()), 3)
    result["sc_batch_minus_single"] = paired(batch[sample], single)
    if dtype != "float32" and "float32" in scores:
        result["sc_minus_float32"] = paired(batch, scores["float32"])
    return result


def main() -> None:
    """Measure every precision asked for and print one JSON line each."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads or torch.get_num_threads())
    scorer = None
    if options.run is not None:
        from ilm_lightning.evaluation.semantic import SentenceScorer

        scorer = SentenceScorer(resolve(options.scorer).path, bf16=False)
    setting = {"threads": torch.get_num_threads(), "batch_size": options.batch_size}
    scores: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for dtype in options.dtype:
        found[dtype] = setting | measure(options, dtype, scorer, scores)
        print(json.dumps(found[dtype]), flush=True)
        if options.out is not None:
            # after each, so that an interruption keeps what is there
            harness.save(options.out, {"precisions": found})


if __name__ == "__main__":
    main()
