"""Typed configuration of phase 1."""

from dataclasses import dataclass, field


@dataclass
class PretrainingConfig:
    """Phase 1 of the Q-Former; of the MLP, with vocabulary grounding alone."""

    init: str = "bert"
    """Where a Q-Former starts: bert or random."""
    losses: list[str] = field(default_factory=lambda: ["itc", "itm", "itg", "iic"])
    """Any of itc, itm, itg, iic, uic, vg."""
    loss_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each loss in the sum; 1 where not named."""
    steps: int = 600
    batch_size: int = 32
    """Items per item-text batch."""
    pair_batch_size: int = 128
    """Positive pairs per item-item or user-item batch."""
    proportions: dict[str, float] = field(
        default_factory=lambda: {"item_text": 0.7, "item_item": 0.3, "user_item": 0.3}
    )
    """Shares of the batches, over the pair sets that the losses need."""
    lr: float = 3e-4
    """At BLIP-2's 1e-4, meant for 250,000 steps, ITC, ITM and IIC rest at their priors for the first hundred."""
    warmup_steps: int = 50
    weight_decay: float = 0.05
    margin: float = 1.0
    pair_mode: str = "margin"
    """margin (Eq. 2), margin_all (all in-batch negatives) or infonce (the first preprint)."""
    pair_projection: str = "own"
    """own: IIC and UIC have a projection of their own; shared: ITC's of the items."""
    shuffled_pairs: bool = False
    """iic and uic read pairs whose partners are drawn anew: the control of what they teach."""
    source_dropout: float = 0.0
    """Probability of dropping the semantic source."""
    grounding_fields: list[str] = field(
        default_factory=lambda: ["title", "genres", "tags", "genome_tags", "decade", "countries", "languages"]
    )
    """vg: fields of the item whose LLM tokens are to be predicted; people's names would be most of the tokens."""
    grounding_min_count: int = 3
    """vg: tokens in fewer training items are left out."""
    grounding_scale: float = 40.0
    """vg: sharpness of the softmax over cosines at the start; from 10 the loss stays above the unigram entropy."""
    max_text_tokens: int = 64
    label_smoothing: float = 0.1
    val_every: int = 200
