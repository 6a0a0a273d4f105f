"""The item head's own weights: from the language model's last layer to the space of soft tokens."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE, LARGEST_SCALE = 20.0, 100.0
"""Sharpness of the softmax over cosines at the start, and its bound."""


class ItemHead(nn.Module):
    """Scores items for hidden states: ``s · cos(W h, e)``.

    ``W`` starts as the identity: many language models predict words in the space that they read them in, and soft
    tokens lie there too.

    Args:
        width: of hidden states and soft tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.projection.weight)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def forward(self, states: Tensor, items: Tensor) -> Tensor:
        """Score.

        Args:
            states: hidden states ``[B, d]``.
            items: items' directions ``[n, d]``, of length 1.

        Returns:
            ``[B, n]``, float32 whatever autocast says.

        >>> head = ItemHead(2)
        >>> head(torch.tensor([[3.0, 0.0]]), torch.eye(2)).round().tolist()
        [[20.0, 0.0]]
        """
        with torch.autocast(states.device.type, enabled=False):
            directions = F.normalize(self.projection(states.float()), dim=-1)
            scale = self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
            return scale * directions @ items.float().T
