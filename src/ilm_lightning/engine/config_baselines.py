"""Settings of the one baseline that is trained by gradient steps."""

from dataclasses import dataclass


@dataclass
class SasrecConfig:
    """SASRec, the model of RePlay (``pip install 'ilm-lightning[sasrec]'``); see `SasrecSettings`."""

    width: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 50
    """The most recent items that are read; longer histories are trained on in pieces."""
    dropout: float = 0.2
    lr: float = 1e-3
    batch_size: int = 128
    epochs: int = 100
    """The most passes over the training items."""
    patience: int = 5
    """Passes without a better NDCG@10 on validation users after which training stops."""
    validation_users: int = 2000
