"""What of a model is trained, what is frozen, and where each weight came from."""

from collections.abc import Mapping
from dataclasses import dataclass

from ilm_lightning.lm.model import ItemLanguageModel


@dataclass(frozen=True)
class ParameterRow:
    """One line of the table of parameters.

    Attributes:
        component: the part of the model.
        trainable: number of parameters that training moves.
        frozen: number of parameters that it leaves.
        origin: where the weights came from.
    """

    component: str
    trainable: int
    frozen: int
    origin: str


def parameter_report(model: ItemLanguageModel, origins: Mapping[str, str] | None = None) -> list[ParameterRow]:
    """Count parameters by component; tied weights count once.

    Args:
        model: the model.
        origins: where components came from, by name (``adapter``, ``start``, ``gain``, ``LoRA``, ``language model``);
            those not named are called new, and the language model is called by its reference.

    Returns:
        One row per component that has parameters, the adapter first.
    """
    known = {"language model": model.reference.name, **(origins or {})}
    parts = ("adapter", "start", "gain", "item head", "LoRA", "language model")
    counts: dict[str, list[int]] = {part: [0, 0] for part in parts}
    for name, parameter in model.named_parameters():
        counts[_component(name)][0 if parameter.requires_grad else 1] += parameter.numel()
    return [
        ParameterRow(component, trainable, frozen, known.get(component, "new"))
        for component, (trainable, frozen) in counts.items()
        if trainable or frozen
    ]


def _component(name: str) -> str:
    if not name.startswith("lm."):
        parts = {"adapter": "adapter", "soft_start": "start", "item_head": "item head"}
        return parts.get(name.partition(".")[0], "gain")
    return "LoRA" if "lora_" in name else "language model"
