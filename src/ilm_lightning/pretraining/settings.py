"""What phase 1 learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ilm_lightning.pretraining.pairs import LOSS_KINDS, kinds_needed

PAIR_MODES = ("margin", "margin_all", "infonce")
PAIR_PROJECTIONS = ("own", "shared")


@dataclass(frozen=True)
class PretrainingSettings:
    """What phase 1 learns from.

    Attributes:
        losses: any of itc, itm, itg, iic, uic, vg.
        loss_weights: weight of each loss; 1 where not named.
        projection_dim: contrastive width e.
        temperature: of ITC and InfoNCE at the start; ITC's is learned.
        label_smoothing: of ITC and ITG.
        pair_mode: margin (equation 2), margin_all (all in-batch negatives, sorts averaged apart) or infonce.
        margin: m of equation 2.
        pair_projection: own (IIC and UIC have a projection of their own) or shared (they use ITC's of the items, where
            ITC drives all items apart and the pairs with them).
        source_dropout: probability of hiding `dropped_source` of an item in a training step (ours; 0 = the paper).
        dropped_source: name of that source.
        vg_scale: sharpness of vocabulary grounding at the start; learned.

    Raises:
        ValueError: an impossible value or combination.
    """

    losses: tuple[str, ...] = ("itc", "itm", "itg", "iic")
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    projection_dim: int = 256
    temperature: float = 0.07
    label_smoothing: float = 0.1
    pair_mode: str = "margin"
    margin: float = 1.0
    pair_projection: str = "own"
    source_dropout: float = 0.0
    dropped_source: str = "semantic"
    vg_scale: float = 10.0

    def __post_init__(self) -> None:
        kinds_needed(self.losses)
        if "itm" in self.losses and "itc" not in self.losses:
            raise ValueError("pretraining.losses: itm draws its negatives from itc's similarities; add itc")
        if self.pair_mode not in PAIR_MODES:
            raise ValueError(f"pretraining.pair_mode={self.pair_mode}: choose one of {', '.join(PAIR_MODES)}")
        if self.pair_projection not in PAIR_PROJECTIONS:
            raise ValueError(
                f"pretraining.pair_projection={self.pair_projection}: choose one of {', '.join(PAIR_PROJECTIONS)}"
            )
        if unknown := sorted(set(self.loss_weights) - set(LOSS_KINDS)):
            raise ValueError(f"pretraining.loss_weights names {', '.join(unknown)}; losses are {', '.join(LOSS_KINDS)}")
        if not 0.0 <= self.source_dropout < 1.0:
            raise ValueError(f"pretraining.source_dropout={self.source_dropout}: give at least 0 and less than 1")
