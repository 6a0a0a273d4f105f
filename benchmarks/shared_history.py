"""Training on shared histories against the same examples apart, grouped by length.

    python benchmarks/shared_history.py [--only start beauty blocks] [--windows 0] [--dtype float32|bfloat16]
        [--tuning frozen|lora|full] [--rounds 2] [--data FOLDER]

Sequential examples of SmolLM2 with 8 soft tokens an item; ILM_DATA (or --data) names the folder that holds ``openp5``.
Each row takes a fixed random sample of windows: ``start``, ML1M's windows of 20 positions from the first item on;
``beauty``, Beauty's windows from the first item on, as they come; ``blocks``, ML1M's later windows where they move on
every 10 items, against sliding ones: other prompts, so another loss. Both ways run forward and backward on the same
weights and examples, in turns, on one thread; loss and gradients are compared first.

The floor is what the token counts give: tokens of the examples apart over tokens of trunks and branches; the bar is
75 % of it. Beside it stands the gain over all sequential examples of the data set, which follows from the measured
ratio and the share of the tokens that it applies to.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Rung, interleave, report
from numpy.typing import NDArray

from ilm_lightning.adapters import build_adapter
from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
from ilm_lightning.lm import ItemLanguageModel, PromptTokenizer, load_backbone
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.histories import Family, families
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.lm.shared import SharedCollator, reads_trees
from ilm_lightning.tasks.openp5 import Example, TrainingIndex, read_prompts

Groups = list[list[Example]]
BAR, HISTORY, BLOCK, QUERIES = 0.75, 20, 10, 8
APART = 4
"""Examples a batch of the way apart: few, for lengths as close as among the 50 batches' worth that training sorts."""


@dataclass(frozen=True)
class Row:
    """What is measured: a data set, how many windows, whether full ones only, and by how many items windows move."""

    title: str
    data: str
    windows: int
    full: bool = False
    block: int = 0


ROWS = {
    "start": Row("phase 2 on shared histories, 20 items", "ML1M", 1, full=True),
    "beauty": Row("phase 2 on shared histories, Beauty's lengths", "Beauty", 8),
    "blocks": Row("phase 2 with history=blocks, other windows", "ML1M", 2, full=True, block=BLOCK),
}


class Bench:
    """Model, renderers and the two ways of a training step."""

    def __init__(self, options: argparse.Namespace, row: Row) -> None:
        from transformers import AutoTokenizer

        self.row = row
        folder = options.data / "openp5" / row.data
        self.sequences = read_sequences(folder)
        indexing = read_indexing(folder, "sequential", self.sequences) or make_indexing(self.sequences, "sequential")
        lm = resolve("smollm2-135m-instruct").path
        backbone = load_backbone(lm, options.tuning, options.dtype)
        width = backbone.lm.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
        settings = {"kind": "mlp", "source_dims": {"behavioral": 64}, "output_dim": width, "hidden_width": 64}
        torch.manual_seed(0)
        self.model = ItemLanguageModel(build_adapter(settings | {"num_queries": QUERIES}), backbone)
        tokenizer = PromptTokenizer(AutoTokenizer.from_pretrained(str(lm)), QUERIES)
        self.apart, self.together = (
            Renderer(tokenizer, self.sequences, indexing, RenderSettings(HISTORY, block=block))
            for block in (0, row.block)
        )
        self.collator = Collator({"behavioral": torch.randn(self.sequences.n_items, 64)})
        prompts = read_prompts(options.data / "openp5" / "prompt.txt").training
        self.index = TrainingIndex(self.sequences, [prompt for prompt in prompts if prompt.task == "sequential"])
        self.families = families(self.together, self.index)
        self.groups = self._sample(options.windows or row.windows)

    def _sample(self, count: int) -> Groups:
        """A fixed random sample of windows, the templates in turns."""
        rng, groups = np.random.default_rng(0), []
        turns = rng.permutation(len(self.families)).tolist()
        for number in (turns * count)[:count]:
            family = self.families[number]
            place = int(rng.choice(np.flatnonzero(self._wanted(family))))
            user, first, last = (
                int(part[place]) for part in (family.windows.users, family.windows.first, family.windows.last)
            )
            groups.append([Example(user, place, p) for place in range(first, last + 1) for p in family.prompts])
        return groups

    def _wanted(self, family: Family) -> NDArray[np.bool_]:
        windows = family.windows
        where = windows.first > HISTORY if self.row.block else windows.first == 1
        full = windows.sizes == (self.row.block or HISTORY)
        return where & full if self.row.full else where

    def ways(self) -> dict[str, Callable[[], float]]:
        """One training step each: every example by itself, batches of similar length; histories read once."""
        rows = [self.apart(example) for group in self.groups for example in group]
        parts = [[rows[i] for i in part] for part in sorted_batches([len(row) for row in rows], APART)]
        grouped = [[self.together(example) for example in group] for group in self.groups]
        total = sum(len(row.target_ids) for row in rows)
        collate = SharedCollator(self.collator, packed=reads_trees(self.model))
        return {
            "examples apart": lambda: sum(self._step(self.collator, part, total) for part in parts),
            "histories shared": lambda: self._step(collate, grouped, total),
        }

    def _step(self, collate: Callable[[Any], Any], rows: list[Any], total: int) -> float:
        output = self.model(collate(rows))
        loss = output.loss * (len(output.token_losses) / total)
        loss.backward()
        return float(loss.detach())

    def tokens(self) -> tuple[int, int]:
        """Tokens that are read apart and together; the last token of an example predicts nothing."""
        apart = sum(len(self.apart(example)) - 1 for group in self.groups for example in group)
        collate = SharedCollator(self.collator, packed=True)
        return apart, collate([[self.together(example) for example in group] for group in self.groups]).n_tokens

    def difference(self, ways: dict[str, Callable[[], float]]) -> str:
        """Loss and gradients of both ways compared."""
        found = []
        for way in ways.values():
            self.model.zero_grad(set_to_none=True)
            loss = way()
            gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
            found.append((loss, gradients))
        self.model.zero_grad(set_to_none=True)
        (loss, wanted), (same, other) = found
        # scalars are left out: their terms cancel
        tensors = [name for name in wanted if wanted[name].ndim]
        worst = max(float((wanted[n] - other[n]).abs().max() / wanted[n].abs().max()) for n in tensors)
        return f"loss to {abs(same / loss - 1):.0e}, gradients to {worst:.0e} of each tensor's largest"

    def over_all(self, ratio: float) -> dict[str, float]:
        """Shares of all sequential examples that a ratio applies to, and what it makes of them."""
        users, positions = self.index.places(np.arange(self.index.n_targets))
        lengths = self.apart.lengths(self.index).reshape(len(users), -1).sum(1, dtype=np.int64)
        mine = positions > HISTORY if self.row.block else positions <= HISTORY
        share = float(lengths[mine].sum() / lengths.sum())
        read = sum(int(family.tokens.sum(dtype=np.int64)) for family in self.families)
        return {
            "share_of_positions": round(float(mine.mean()), 3),
            "share_of_tokens": round(share, 3),
            "times_faster_over_all": round(1 / (1 - share + share / ratio), 2),
            "floor_over_all": round(float(lengths.sum()) / read, 2),
        }


def measure(options: argparse.Namespace, row: Row) -> Rung:
    """One row of the ladder."""
    bench = Bench(options, row)
    ways = bench.ways()
    exact = "other windows, another loss" if row.block else bench.difference(ways)
    times = interleave(ways, options.rounds, warm_up=int(bool(row.block)))
    apart, together = bench.tokens()
    floor = apart / together
    rung = Rung(row.title, "examples apart", "histories shared", None if row.block else BAR * floor, times, exact=exact)
    rung.setting = {
        "data": row.data,
        "examples": sum(map(len, bench.groups)),
        "windows": len(bench.groups),
        "tokens": f"{apart:,} and {together:,}",
        "floor": round(floor, 2),
        "share_of_floor": round(rung.ratio() / floor, 3),
        **bench.over_all(rung.ratio()),
        "dtype": options.dtype,
        "tuning": options.tuning,
        "threads": 1,
    }
    return rung


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ILM_DATA", "data")))
    parser.add_argument("--windows", type=int, default=0, help="of each row; 0: 1 to 8, as it suits")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tuning", default="frozen")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report([measure(options, ROWS[name]) for name in options.only])


if __name__ == "__main__":
    main()
