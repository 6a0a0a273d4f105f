"""Checkpoints on disk: written whole, the last two kept, a damaged one named and passed over.

A phase in progress keeps ``last.ckpt``, ``previous.ckpt`` and ``best.ckpt``; they are gone once its stage is finished.
"""

import contextlib
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

log = logging.getLogger("ilm_lightning")
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
STATES = 3
"""A weight and Adam's two moments."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the lowest validation value in ``best.ckpt``.

    Args:
        folder: of the phase's checkpoints; it may have been moved since an earlier part of the fit.
        monitor: the value.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(folder, filename=Path(BEST).stem, monitor=monitor, save_top_k=1, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the best of an earlier part of the fit, where the folder is now."""
        here = str(Path(str(self.dirpath)) / BEST)
        moved: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict.get("best_model_path"):
            moved |= {"best_model_path": here, "kth_best_model_path": here}
            moved["best_k_models"] = dict.fromkeys([here], state_dict["best_model_score"])
        super().load_state_dict(state_dict | moved)


def checkpoint_bytes(module: nn.Module) -> int:
    """Bytes that a phase's checkpoints take at most: last, previous, best and the one being written."""
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    return 4 * STATES * trained + (1 << 20)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, every byte checked against its checksum, without running what it may hold.

    Args:
        path: a file written by torch.

    Returns:
        Its content on the CPU.

    Raises:
        ValueError: damaged, or holds more than tensors and plain data; says which.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            damaged = packed.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is not what was written")
        found = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(found, dict) or not isinstance(found.get("global_step"), int):
            raise ValueError("it holds no training state")
    except Exception as error:  # damaged bytes make zipfile, its decompressors and torch fail in every way
        said = (str(error).splitlines() or [type(error).__name__])[0][:120]
        reason = "it holds pickled code" if "weights_only" in str(error) else said
        raise ValueError(f"{path} is damaged: {reason}") from error
    return found


def write_checkpoint(path: Path, save: Callable[[Path], None], writes: bool = True) -> None:
    """Replace the last checkpoint as a whole, on disk before the old one goes; the old one stays as the previous one.

    Args:
        path: of the last checkpoint.
        save: writes the file that it is given; all processes of a run call it.
        writes: whether this process is the one that writes.
    """
    new = path.with_name(f"{path.name}.new")
    save(new)
    if not writes:
        return
    for written in (new, path.with_name(BEST)):
        if written.is_file():
            with written.open("rb+") as stream:
                os.fsync(stream.fileno())
    if path.is_file():
        path.replace(path.with_name(PREVIOUS))
    new.replace(path)


def resume_from(folder: Path) -> tuple[Path, int] | None:
    """Find the newest sound checkpoint of a phase; damaged ones are named and set aside.

    Args:
        folder: of the phase's checkpoints.

    Returns:
        Its path and step; None where the phase begins anew.
    """
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = read_checkpoint(path)
            _check_best(found, folder)
        except ValueError as error:
            log.warning("%s; it is set aside, and what it held is done again", error)
            # another process of the run may have been faster
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(f"{name}.damaged"))
            continue
        return path, int(found["global_step"])
    return None


def _check_best(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """The best weights so far must be there too: the phase ends with them."""
    states = checkpoint.get("callbacks", {}).values()
    if any(isinstance(state, Mapping) and state.get("best_model_path") for state in states):
        read_checkpoint(folder / BEST)
