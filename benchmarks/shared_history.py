"""Training on shared histories against the same examples apart, grouped by length.

    python benchmarks/shared_history.py [--only start beauty blocks] [--windows 0] [--dtype float32|bfloat16]
        [--tuning frozen|lora|full] [--rounds 2] [--data FOLDER] [--out FILE]

Sequential examples of SmolLM2 with 8 soft tokens an item; ILM_DATA (or --data) names the folder that holds ``openp5``.
Each row takes a fixed random sample of windows: ``start``, ML1M's windows of 20 positions from the first item on;
``beauty``, Beauty's windows from the first item on, as they come; ``blocks``, ML1M's later windows where they move on
every 10 items, against sliding ones: other prompts, so another loss. Both ways run forward and backward on the same
weights and examples, in turns, on one thread; loss and gradients are compared first.

The floor is what the token counts give: tokens of the examples apart over tokens of trunks and branches; the bar is
75 % of it. Beside it stands a row over all sequential examples of the data set: windows that share nothing are timed in
the same rounds, and both kinds are weighed by their tokens among all examples.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exactness import Same, compare, doubled
from harness import Rung, Timing, interleave, report
from numpy.typing import NDArray

from ilm_lightning.adapters import build_adapter
from ilm_lightning.assets import resolve
from ilm_lightning.data.openp5 import make_indexing, read_indexing, read_sequences
from ilm_lightning.lm import ItemLanguageModel, PromptTokenizer, load_backbone
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.histories import families
from ilm_lightning.lm.recommendation import Renderer, RenderSettings
from ilm_lightning.lm.shared import SharedCollator, reads_trees
from ilm_lightning.tasks.openp5 import Example, TrainingIndex, read_prompts
from ilm_lightning.tasks.openp5.windows import Windows

Groups = list[list[Example]]
Flags = NDArray[np.bool_]
Ways = dict[str, Callable[[], float]]
BAR, HISTORY, BLOCK, QUERIES = 0.75, 20, 10, 8
APART_WAY, SHARED_WAY, LATER = "examples apart", "histories shared", ", later windows"
SLIDING = 4
"""Examples with a window of their own, for the row over all examples."""
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
        rng = np.random.default_rng(0)
        self.groups = self._sample(options.windows or row.windows, self._wanted, rng)
        self.later = [] if row.block else self._sample(SLIDING, lambda windows: windows.first > HISTORY, rng)

    def _sample(self, count: int, wanted: Callable[[Windows], Flags], rng: np.random.Generator) -> Groups:
        """A random sample of windows, the templates in turns."""
        groups: Groups = []
        turns = rng.permutation(len(self.families)).tolist()
        for number in (turns * count)[:count]:
            family = self.families[number]
            place = int(rng.choice(np.flatnonzero(wanted(family.windows))))
            user, first, last = (
                int(part[place]) for part in (family.windows.users, family.windows.first, family.windows.last)
            )
            groups.append([Example(user, place, p) for place in range(first, last + 1) for p in family.prompts])
        return groups

    def _wanted(self, windows: Windows) -> Flags:
        where = windows.first > HISTORY if self.row.block else windows.first == 1
        full = windows.sizes == (self.row.block or HISTORY)
        return where & full if self.row.full else where

    def ways(self, groups: Groups) -> Ways:
        """One training step each: every example by itself, batches of similar length; histories read once."""
        rows = [self.apart(example) for group in groups for example in group]
        parts = [[rows[i] for i in part] for part in sorted_batches([len(row) for row in rows], APART)]
        grouped = [[self.together(example) for example in group] for group in groups]
        total = sum(len(row.target_ids) for row in rows)
        collate = SharedCollator(self.collator, packed=reads_trees(self.model))
        return {
            APART_WAY: lambda: sum(self._step(self.collator, part, total) for part in parts),
            SHARED_WAY: lambda: self._step(collate, grouped, total),
        }

    def _step(self, collate: Callable[[Any], Any], rows: list[Any], total: int) -> float:
        output = self.model(collate(rows))
        loss = output.loss * (len(output.token_losses) / total)
        loss.backward()
        return float(loss.detach())

    def tokens(self) -> tuple[int, int]:
        """Tokens that are read apart and together; the last token of an example predicts nothing."""
        collate = SharedCollator(self.collator, packed=True)
        together = collate([[self.together(example) for example in group] for group in self.groups]).n_tokens
        return self.tokens_apart(self.groups), together

    def tokens_apart(self, groups: Groups) -> int:
        """Tokens of examples, each by itself."""
        return sum(len(self.apart(example)) - 1 for group in groups for example in group)

    def difference(self, ways: Ways) -> Same:
        """Loss and gradients of both ways compared, in double precision on some of the first window alone."""
        told = compare(self.model, list(ways.values()))
        if self.model.compute_dtype is not torch.float32:
            return told
        with doubled(self.model):
            return told + compare(self.model, list(self.ways([self.groups[0][::4]]).values()))

    def shares(self) -> tuple[float, float, float]:
        """Of all sequential examples: the share of positions and of tokens in such windows; the floor over all."""
        users, positions = self.index.places(np.arange(self.index.n_targets))
        lengths = self.apart.lengths(self.index).reshape(len(users), -1).sum(1, dtype=np.int64)
        mine = positions > HISTORY if self.row.block else positions <= HISTORY
        read = sum(int(family.tokens.sum(dtype=np.int64)) for family in self.families)
        share = float(lengths[mine].sum() / lengths.sum())
        return float(mine.mean()), share, float(lengths.sum()) / read

    def over_all(self, times: dict[str, Timing], setting: dict[str, Any]) -> Rung:
        """Both kinds of windows, weighed by their tokens among all sequential examples."""
        _, share, floor = self.shares()
        here, later = self.tokens_apart(self.groups), self.tokens_apart(self.later)
        ways = {}
        for name in (APART_WAY, SHARED_WAY):
            cpu, wall = (
                1000
                * (share * getattr(times[name], key) / here + (1 - share) * getattr(times[name + LATER], key) / later)
                for key in ("cpu_s", "wall_s")
            )
            ways[name] = Timing(cpu, wall, None, (cpu,), (wall,))
        rung = Rung(
            f"history=shared over all sequential examples of {self.row.data}", APART_WAY, SHARED_WAY, None, ways
        )
        found = compare(self.model, list(self.ways(self.later).values()))
        rung.exact, rung.same = f"{found.told} (later windows)", found.within
        ratio = times[APART_WAY + LATER].cpu_s / times[SHARED_WAY + LATER].cpu_s
        rung.setting = setting | {
            "seconds": "of 1,000 tokens of the examples apart",
            "floor": round(floor, 2),
            "later_examples": sum(map(len, self.later)),
            "later_windows_times_faster": round(ratio, 2),
        }
        return rung


def measure(options: argparse.Namespace, row: Row) -> list[Rung]:
    """One row of the ladder, and that over all examples."""
    bench = Bench(options, row)
    ways = bench.ways(bench.groups)
    exact = Same("other windows, another loss", within=True) if row.block else bench.difference(ways)
    later = {name + LATER: way for name, way in bench.ways(bench.later).items()} if bench.later else {}
    times = interleave({**ways, **later}, options.rounds, warm_up=0)
    apart, together = bench.tokens()
    floor = apart / together
    own = {name: times[name] for name in ways}
    rung = Rung(row.title, APART_WAY, SHARED_WAY, None if row.block else BAR * floor, own, exact=exact.told)
    rung.same = exact.within
    positions, tokens, _ = bench.shares()
    common = {"data": row.data, "dtype": options.dtype, "tuning": options.tuning, "threads": 1}
    common |= {"share_of_positions": round(positions, 3), "share_of_tokens": round(tokens, 3)}
    rung.setting = common | {
        "examples": sum(map(len, bench.groups)),
        "windows": len(bench.groups),
        "tokens": f"{apart:,} and {together:,}",
        "floor": round(floor, 2),
        "share_of_floor": round(rung.ratio() / floor, 3),
    }
    return [rung, bench.over_all(times, common)] if later else [rung]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ILM_DATA", "data")))
    parser.add_argument("--windows", type=int, default=0, help="of each row; 0: 1 to 8, as it suits")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tuning", default="frozen")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also save the result there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report([rung for name in options.only for rung in measure(options, ROWS[name])], options.out)


if __name__ == "__main__":
    main()
