"""From the start of a process to the first training batch of OpenP5's ML1M: 19,629,820 examples, 128 of them.

    python benchmarks/first_batch.py [--rounds 5] [--data FOLDER] [--out FILE]

Each round is a process of its own: interpreter, imports, the tokenizer, sequences, pieces from disk, the order of the
epoch, one batch. Wall and processor seconds count from before the process starts; memory is the highest that the
process ever held, libraries included. Pieces are tokenised once for a data set and tokenizer; that is timed apart. The
wall seconds need a core that is free. ILM_DATA (or --data) names the folder that holds ``openp5``.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

BATCH = 128


def first_batch(data: Path, table: Path) -> dict[str, Any]:
    """Make the batch; without a table, make the table instead."""
    import torch
    from transformers import AutoTokenizer

    from ilm_lightning.assets import resolve
    from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
    from ilm_lightning.lm.assembly import Assembler, StepBatches
    from ilm_lightning.lm.collate import Collator
    from ilm_lightning.lm.pieces import PieceTable
    from ilm_lightning.lm.prompts import PromptTokenizer
    from ilm_lightning.lm.recommendation import Renderer, RenderSettings, prompt_pieces
    from ilm_lightning.tasks.openp5 import TrainingIndex, read_prompts

    torch.set_num_threads(1)
    imported = time.process_time()
    sequences = read_sequences(data / "openp5" / "ML1M")
    indexing = read_indexing(data / "openp5" / "ML1M", "sequential", sequences) or make_indexing(
        sequences, "sequential"
    )
    prompts = read_prompts(data / "openp5" / "prompt.txt").training
    tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(resolve("smollm2-135m-instruct").path)), 8)
    if not (table / "pieces.json").is_file():
        prompt_pieces(tokenizer, sequences.name, indexing, prompts).save(table)
        return {}
    renderer = Renderer(tokenizer, sequences, indexing, RenderSettings(), PieceTable.open(table))
    index = TrainingIndex(sequences, prompts)
    assemble = Assembler(renderer, index, Collator({"behavioral": torch.zeros(sequences.n_items, 64)}))
    batch = assemble(StepBatches(index, assemble.lengths, BATCH, 0).numbers(0))
    return {"examples": len(index), "batch": list(batch.input_ids.shape), "cpu_of_imports_s": imported}


def child(data: Path, table: Path) -> dict[str, Any]:
    """Run in a process of its own and time it from outside."""
    command = [sys.executable, __file__, "--data", str(data), "--table", str(table)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, **json.loads(done.stdout)}


def main() -> None:
    """Run the rounds; as a child, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ILM_DATA", "data")))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also save the result there")
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        from ilm_lightning.hardware import peak_memory

        found = first_batch(options.data, options.table)
        found["memory_mb"] = round(1024 * peak_memory())
        json.dump(found, sys.stdout)
        return
    from harness import save

    with tempfile.TemporaryDirectory() as folder:
        pieces = child(options.data, Path(folder))
        rounds = [child(options.data, Path(folder)) for _ in range(options.rounds)]
    result: dict[str, Any] = {
        "bars": {"wall_s": 5, "memory_mb": 1024},
        "wall_s": {"least": min(one["wall_s"] for one in rounds), "median": median(one["wall_s"] for one in rounds)},
        "cpu_s": {"least": min(one["cpu_s"] for one in rounds), "median": median(one["cpu_s"] for one in rounds)},
        "memory_mb": max(one["memory_mb"] for one in rounds),
        "with_pieces_tokenised": pieces,
        "rounds": rounds,
    }
    if options.out:
        save(options.out, result)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
