"""Phase 2 begins at the soft tokens with which the language model learned the tasks' format."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from ilm_lightning.embeddings.vectors import ItemVectors, Mask
from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.stages.context import Context

if TYPE_CHECKING:
    from ilm_lightning.lm import ItemLanguageModel

START_CODE = 1


def starts_at_first(first: Artifact | None, context: Context) -> TypeGuard[Artifact]:
    """Whether the model that ``first`` holds knows soft tokens: on recommendation it has read text ids alone."""
    return first is not None and context.config.tasks.kind != "openp5"


def start_at_first(model: "ItemLanguageModel", first: Path, vectors: ItemVectors, train: Mask) -> None:
    """Let a new model say of every item nearly what the language model has seen in its place so far.

    Args:
        model: the new model.
        first: portable folder of the language model's own training.
        vectors: what the adapter reads.
        train: ``[I]``, the items over which the adapter's mean is taken.
    """
    import torch
    from safetensors.torch import load_file

    from ilm_lightning.lm.portable import WEIGHTS_FILE
    from ilm_lightning.lm.start import start_at

    state = load_file(first / WEIGHTS_FILE)
    rows = torch.from_numpy(train.nonzero()[0])
    start_at(model, state["adapter.soft_tokens"], {name: known[rows] for name, known in vectors.tensors().items()})
    with torch.no_grad():
        model.log_gain.copy_(state["log_gain"])
