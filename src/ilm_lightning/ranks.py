"""Several processes (ranks) that train one model: who they are, and what passes between them. A leaf module.

Losses over a joint batch: every rank encodes its share of the batch's rows, ``Share.join`` gathers the encodings of
all, and each rank takes the same loss of them; a mean that is not joined this way is weighted by ``joint_mean``.
Gradients that are averaged over the ranks, as DDP does, are then those of one process on the joint batch. With one
process all of it is the identity.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

WAIT = datetime.timedelta(days=30)
"""How long ranks wait for rank 0 to finish what it does alone."""
_talk: Any = None


def open_talk() -> None:
    """Make the channel for plain objects, apart from that of tensors; all ranks call it after the group is set up."""
    global _talk  # noqa: PLW0603 - one group of processes per process
    _talk = dist.new_group(backend="gloo", timeout=WAIT)


def close_talk() -> None:
    """Forget the channel."""
    global _talk  # noqa: PLW0603
    _talk = None


def world_size() -> int:
    """Number of processes; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 without a group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def from_main(value: Any) -> Any:
    """What rank 0 passes, on all ranks: plain data, pickled between processes of one run."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_talk)
    return box[0]


def rows_from_main(rows: Tensor) -> Tensor:
    """Rank 0's tensor on all ranks; shape and type must agree."""
    if world_size() > 1:
        dist.broadcast(rows, src=0)
    return rows


def highest(number: int) -> int:
    """The largest of all ranks' numbers; all ranks must ask."""
    if world_size() == 1:
        return number
    found = torch.tensor([number])
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_talk)
    return int(found.item())


def meet() -> None:
    """Wait until all ranks are here."""
    highest(0)


def anywhere(flag: bool) -> bool:
    """Whether it is so on any rank; all ranks must ask."""
    return bool(highest(int(flag)))


def turn(number: int, count: int) -> tuple[bool, bool]:
    """Share validation batches out; all ranks run equally many, because some models are gathered for each.

    Args:
        number: of the batch.
        count: how many batches there are.

    Returns:
        Whether this rank runs the batch, and whether its result counts: in the last round some run one again.

    >>> turn(0, 1)
    (True, True)
    """
    first, place = number - number % world_size(), number % world_size()
    left = min(count - first, world_size())
    return place == rank() % left, place == rank()


def own_part(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is shared out between ranks; other tensors as they are."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over the ranks; one that no rank has stays none.

    Args:
        parameters: the same on all ranks.
    """
    used = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
    dist.all_reduce(used, dist.ReduceOp.MAX, group=_talk)
    gradients = []
    for parameter, anywhere_used in zip(parameters, used.tolist(), strict=True):
        if anywhere_used:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    if not gradients:
        return
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    parts = torch.split(joined, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient) / world_size())


class _Gather(torch.autograd.Function):
    """Rows of all ranks; backwards, the own rows' part of a rank's gradient, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor) -> Tensor:
        parts = [torch.empty_like(padded) for _ in range(world_size())]
        dist.all_gather(parts, padded.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # every rank has the same loss of the gathered rows, so this is the whole gradient; DDP divides by the ranks
        return grad[rank()] * world_size()


@dataclass(frozen=True)
class Share:
    """This rank's part of ``n`` rows: every W-th, from the rank's number on.

    Attributes:
        n: rows of the joint batch.
        active: False keeps all rows here (validation, where each rank reads batches of its own).

    Raises:
        ValueError: there are fewer rows than ranks.

    >>> share = Share(3)
    >>> share.mine(torch.arange(3)).tolist(), share.join(torch.ones(3, 1)).shape
    ([0, 1, 2], torch.Size([3, 1]))
    """

    n: int
    active: bool = True

    def __post_init__(self) -> None:
        if self.size > self.n:
            raise ValueError(
                f"a batch of {self.n} distinct rows cannot be shared by {self.size} processes: raise the batch size or "
                "lower trainer.devices"
            )

    @property
    def size(self) -> int:
        """Ranks that share."""
        return world_size() if self.active else 1

    @property
    def place(self) -> int:
        """This rank among them."""
        return rank() if self.active else 0

    def mine(self, rows: Tensor) -> Tensor:
        """Own part ``[m, ...]`` of joint rows ``[n, ...]``."""
        return rows[self.place :: self.size]

    def holds(self, rows: Tensor) -> Tensor:
        """Which numbers of joint rows are in the own part, bool, same shape."""
        return rows % self.size == self.place

    def local(self, rows: Tensor) -> Tensor:
        """Places in the own part of numbers of joint rows that are in it."""
        return rows // self.size

    def join(self, part: Tensor) -> Tensor:
        """Rows of all ranks ``[n, ...]`` in joint order, from the own part ``[m, ...]``; with gradient.

        Every rank must take the same loss of the result.
        """
        if self.size == 1:
            return part
        missing = -(-self.n // self.size) - len(part)
        padded = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
        gathered: Tensor = _Gather.apply(padded)  # type: ignore[no-untyped-call]
        return gathered.transpose(0, 1).flatten(0, 1)[: self.n]


def joint_mean(mean: Tensor, weight: float | Tensor, active: bool = True) -> Tensor:
    """Scale the mean over the own part so that its average over the ranks is the mean over the joint batch.

    Args:
        mean: over the own part; must be finite even where ``weight`` is 0.
        weight: how much it counts, e.g. the number of tokens it was taken over.
        active: False leaves it as it is.

    Returns:
        The scaled mean, with gradient.
    """
    if not active or world_size() == 1:
        return mean
    own = torch.as_tensor(weight, dtype=torch.float64, device=mean.device).detach()
    total = own.clone()
    dist.all_reduce(total)
    return mean * (own / total.clamp_min(1e-12) * world_size()).to(mean.dtype)


class Means:
    """Weighted means by name, over all ranks.

    >>> means = Means()
    >>> means.add("loss", 1.0, 1); means.add("loss", 4.0, 2)
    >>> means.take()
    {'loss': 3.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, value: float, weight: float) -> None:
        """Count a value."""
        self._sums[name][0] += value * weight
        self._sums[name][1] += weight

    def take(self) -> dict[str, float]:
        """The means of all that was added on any rank, the same on all; then begin anew. All ranks must call it."""
        parts: list[dict[str, list[float]]] = [dict(self._sums)]
        self._sums.clear()
        if world_size() > 1:
            own, parts = parts[0], [{} for _ in range(world_size())]
            dist.all_gather_object(parts, own, group=_talk)
        names = dict.fromkeys(name for part in parts for name in part)
        sums = {n: [sum(part[n][i] for part in parts if n in part) for i in (0, 1)] for n in names}
        return {name: total / weight for name, (total, weight) in sums.items()}
