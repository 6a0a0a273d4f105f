"""What checkpoints cost: ``python benchmarks/checkpoint_cost.py``, at most 3 % of training time at the default.

A checkpoint every ``checkpoint_every_s`` seconds costs its own duration over that interval, whatever a step takes. So
fits with a checkpoint after every step and fits with none alternate; the difference per step is the cost of one.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import harness  # noqa: E402
import lightning as pl  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from ilm_lightning.adapters import build_adapter  # noqa: E402
from ilm_lightning.engine.config import TuningConfig  # noqa: E402
from ilm_lightning.engine.config_trainer import TrainerConfig  # noqa: E402
from ilm_lightning.engine.datamodule import StreamDataModule  # noqa: E402
from ilm_lightning.engine.training import FitSettings, fit  # noqa: E402

ADAPTER = {
    "kind": "qformer", "source_dims": {"behavioral": 64, "semantic": 384}, "output_dim": 576, "num_queries": 8,
    "hidden_size": 384, "num_layers": 6, "num_heads": 12, "ffn_size": 1536, "cross_attention_every": 2,
    "source_tokens": 4, "dropout": 0.1,
}  # fmt: skip
"""The adapter of ``make train``."""


class Part(pl.LightningModule):
    """The trained part of phase 2, adapter and LoRA's share, under a loss that costs next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.adapter = build_adapter(ADAPTER)
        # rank 16 on four layers of each of SmolLM2-135M's 30 blocks
        self.lora = nn.ParameterList([nn.Parameter(torch.zeros(3_700_000))])

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """Every weight gets a gradient, so that the optimiser has its full state."""
        return sum((p.mean() for p in self.parameters()), batch.mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, as in phase 2."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def seconds(every_s: float, steps: int) -> float:
    """Duration of the fit without its end, which both kinds have."""
    with tempfile.TemporaryDirectory() as folder:
        data = StreamDataModule(lambda step: torch.ones(1), [])
        settings = FitSettings("cost", steps, steps, seed=0, checkpoint_every_s=every_s)
        begin = time.monotonic()
        fit(Part(), data, settings, TrainerConfig(accelerator="cpu", precision="32-true"), Path(folder))
        # the report's seconds leave checkpoints out
        return time.monotonic() - begin


def main() -> int:
    """Entry point: 1 above the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    given = parser.parse_args()
    seconds(1e9, 2)
    costs = []
    for _ in range(given.rounds):
        without, every = seconds(1e9, given.steps), seconds(0.0, given.steps)
        costs.append((every - without) / given.steps)
    interval = TuningConfig(mode="lora").checkpoint_every_s
    cost = statistics.median(costs)
    found = {
        "command": "python benchmarks/checkpoint_cost.py",
        "commit": harness.commit(),
        "machine": harness.machine(),
        "trained_parameters": sum(p.numel() for p in Part().parameters()),
        "seconds_per_checkpoint": [round(c, 4) for c in costs],
        "median": round(cost, 4),
        "interval_s": interval,
        "share_of_training_time": cost / interval,
    }
    print(json.dumps(found))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if cost / interval <= 0.03 else 1


if __name__ == "__main__":
    sys.exit(main())
