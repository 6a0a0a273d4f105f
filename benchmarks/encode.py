"""Encoding the catalogue's texts against sentence-transformers' ``encode`` with its defaults.

    python benchmarks/encode.py [--texts 512] [--rounds 3]

Distinct texts of movies (title and genres), MiniLM-L6, one thread. Ours encodes each distinct text once, longest first,
and in bf16 where the processor multiplies it. What equal texts (genres, tags) of a catalogue save is no part of it.
"""

import argparse

import numpy as np
import torch
from harness import Rung, interleave, report
from phase1_step import texts_of

from ilm_lightning.assets import resolve
from ilm_lightning.hardware import cpu_bf16
from ilm_lightning.sentences import SentenceEncoder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    from sentence_transformers import SentenceTransformer

    folder = resolve("all-minilm-l6-v2").path
    every = list(dict.fromkeys(text for text in texts_of("title") if text))
    texts = [every[i] for i in np.random.default_rng(0).choice(len(every), options.texts, replace=False)]
    theirs = SentenceTransformer(str(folder), device="cpu")
    plain = SentenceEncoder(folder, bf16=False, device="cpu")
    half = SentenceEncoder(folder, bf16=True, device="cpu")
    vectors: dict[str, np.ndarray] = {}

    def keep(name: str, found: np.ndarray) -> None:
        vectors[name] = found

    names = ["sentence-transformers, encode()", "ours, fp32", "ours, bf16"]
    ways = {
        names[0]: lambda: keep(names[0], theirs.encode(texts, show_progress_bar=False)),
        names[1]: lambda: keep(names[1], plain.encode(texts)),
        names[2]: lambda: keep(names[2], half.encode(texts)),
    }
    timings = interleave(ways, options.rounds)
    unit = vectors[names[0]] / np.linalg.norm(vectors[names[0]], axis=1, keepdims=True)
    near = {name: float((unit * vectors[name]).sum(1).min()) for name in names[1:]}
    tokens = np.mean([len(ids) for ids in theirs.tokenizer(texts)["input_ids"]])
    setting = {"texts": len(texts), "mean_tokens": round(float(tokens), 1), "model": folder.name, "threads": 1}
    cannot = "" if cpu_bf16() else "this processor does not multiply bf16"
    exact = [f"least cosine to the peer's vectors {near[name]:.6f}" for name in names[1:]]
    # 3 %: what two runs of one way differ by
    plain_rung = Rung("encoding texts, fp32", names[0], names[1], 0.97, timings, setting, exact=exact[0])
    half_rung = Rung("encoding texts, bf16", names[0], names[2], 2.5, timings, setting, exact=exact[1], cannot=cannot)
    plain_rung.same, half_rung.same = near[names[1]] > 1 - 1e-5, near[names[2]] > 1 - 1e-3
    report([plain_rung, half_rung])


if __name__ == "__main__":
    main()
