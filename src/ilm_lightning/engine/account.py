"""What training costs: seconds and floating-point operations of each stage, and of all that a variant was made from."""

import json
import time
from pathlib import Path
from typing import Any

import lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ilm_lightning.engine.artifacts import MANIFEST, SCRATCH, Artifact, write_json
from ilm_lightning.ranks import is_main, world_size

COUNTED_EVERY = 10
"""Steps between those whose operations are counted: counting slows a step a little."""
COST = "cost.json"
"""In a phase's folder of checkpoints: what its steps cost."""


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations of matrix products and attention kernels in a ``with`` block.

    torch's own ``FlopCounterMode`` has the same formulas, but follows modules too, which fails in inference mode.

    Attributes:
        total: operations so far; a multiplication and its addition are two.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "_overloadpacket", None))
        if formula is None and torch.is_inference_mode_enabled():
            # without autograd composite operations arrive whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


class Account(pl.Callback):
    """Seconds of all training steps, and their floating-point operations, counted in one step of several.

    Validation, checkpoints and collating are left out. The sums are kept in checkpoints, so a resumed run counts on.

    Args:
        steps: length of the run.
    """

    def __init__(self, steps: int) -> None:
        self.every = max(1, min(COUNTED_EVERY, steps // 8))
        self.seconds = self.flops = 0.0
        self.steps = self.counted = 0
        self._began = 0.0
        self._counter: FlopCount | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, and the count where it is this step's turn."""
        self._began = time.perf_counter()
        if trainer.global_step % self.every == 0:
            self._counter = FlopCount()
            self._counter.__enter__()  # type: ignore[no-untyped-call]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step."""
        if self._counter is not None:
            self._stop()
            assert self._counter is not None
            self.flops += self._counter.total
            self.counted += 1
            self._counter = None
        self.seconds += time.perf_counter() - self._began
        self.steps += 1

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing counting behind."""
        self._stop()
        self._counter = None

    def _stop(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {"seconds": self.seconds, "flops": self.flops, "steps": self.steps, "counted": self.counted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint's sums."""
        self.seconds, self.flops = state_dict["seconds"], state_dict["flops"]
        self.steps, self.counted = state_dict["steps"], state_dict["counted"]

    def report(self) -> dict[str, float]:
        """``train_seconds`` and ``train_flops`` of all steps, the latter from the mean of the counted ones."""
        return {
            "train_seconds": round(self.seconds, 2),
            # processes go in step, each with its share
            "train_flops": self.flops / max(self.counted, 1) * self.steps * world_size(),
        }

    def keep(self, folder: Path) -> None:
        """Write the report into a phase's folder, for a stage that does not come to its end."""
        if is_main():
            write_json(folder / COST, self.report())


def cost_until_now(work: Path) -> dict[str, float]:
    """``train_seconds`` and ``train_flops`` of the phases of an unfinished stage that ended or diverged.

    Args:
        work: the stage's folder.
    """
    phases = [json.loads(path.read_text(encoding="utf-8")) for path in work.glob(f"{SCRATCH}/*/{COST}")]
    return {key: sum(phase[key] for phase in phases) for key in ("train_seconds", "train_flops")}


def spent(root: Path, made: Artifact) -> dict[str, Any]:
    """Training cost of an artefact and of everything it was made from.

    Args:
        root: folder of the artefacts.
        made: usually phase 2 of a variant.

    Returns:
        ``stages``: per artefact that trained or scored its ``artifact`` id, ``seconds`` and ``flops``, in the order in
        which they were needed; ``seconds`` and ``flops``: their sums.
    """
    stages: dict[str, dict[str, float]] = {}

    def visit(manifest: dict[str, Any], name: str) -> None:
        for value in manifest["inputs"].values():
            path = root / str(value) / MANIFEST
            if value not in stages and "/" in str(value) and path.is_file():
                visit(json.loads(path.read_text(encoding="utf-8")), str(value))
        parts = [part for part in _parts(manifest["report"]) if "train_flops" in part]
        if parts and name not in stages:
            stages[name] = {
                "seconds": round(sum(part["train_seconds"] for part in parts), 2),
                "flops": sum(part["train_flops"] for part in parts),
            }

    visit(dict(made.manifest), made.id)
    total = {key: sum(stage[key] for stage in stages.values()) for key in ("seconds", "flops")}
    return {"stages": [{"artifact": name, **cost} for name, cost in stages.items()], **total}


def _parts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A report, and the reports of a stage's phases inside it."""
    return [report, *(value for value in report.values() if isinstance(value, dict))]
