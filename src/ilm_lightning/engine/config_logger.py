"""Settings of what is tracked: W&B, TensorBoard and the samples after each validation."""

from dataclasses import dataclass, field


@dataclass
class LoggerConfig:
    """CSV is always written; W&B and TensorBoard where asked for. Nothing here changes what is computed."""

    wandb: bool = False
    offline: bool = True
    """W&B: keep the runs in the run folder; `wandb sync` uploads them later."""
    project: str = "ilm_lightning"
    entity: str | None = None
    """W&B: user or team; null takes the account's own."""
    group: str | None = None
    """W&B: what runs are compared within; null: the sweep, or the row of the table."""
    tags: list[str] = field(default_factory=list)
    """W&B: more tags beside the axes of the table."""
    tensorboard: bool = False
    samples: int = 24
    """Validation examples, spread over the tasks, that are answered after each validation of phase 2: a table of texts
    and their mean SC, or of lists and their HR; 0: none."""
    sample_tokens: int = 48
    """Most tokens of such a text."""
