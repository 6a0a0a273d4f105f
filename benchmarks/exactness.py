"""Whether two ways of a training step give the same loss and gradients, in single and in double precision."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ilm_lightning.lm import ItemLanguageModel

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-9}


@dataclass(frozen=True)
class Same:
    """How near two ways are, in words, and whether that is within the bounds."""

    told: str
    within: bool

    def __add__(self, other: "Same") -> "Same":
        return Same(f"{self.told}; {other.told}", self.within and other.within)


def compare(model: ItemLanguageModel, ways: Sequence[Callable[[], float]]) -> Same:
    """Losses and gradients of two ways, and whether they are within the bound of the model's precision.

    Args:
        model: in single precision or less; of less than that nothing is asked.
        ways: each runs forward and backward and gives its loss; the first is the measure.
    """
    found = []
    for way in ways:
        model.zero_grad(set_to_none=True)
        loss = way()
        found.append((loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    model.zero_grad(set_to_none=True)
    (wanted, theirs), (loss, mine) = found
    exact = model.compute_dtype is torch.float64
    # the terms of a single number cancel: in single precision what is left is mostly rounding
    names = [name for name in theirs if theirs[name].ndim or exact]
    assert names
    assert theirs.keys() == mine.keys()
    worst = largest([(mine[n], theirs[n]) for n in names])
    off = abs(loss / wanted - 1)
    return judged(model.compute_dtype, off, worst)


def largest(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of tensors relative to the largest entry of the second of each pair; NaN if any is NaN."""
    differences = [(one - two).abs().max() / two.abs().max().clamp_min(1e-30) for one, two in pairs]
    return float(torch.stack(differences).max())


def judged(dtype: torch.dtype, loss: float, gradient: float) -> Same:
    """Whether differences are within the bound of a precision, and both in words.

    Args:
        dtype: that both ways computed in.
        loss: largest difference of losses, relative.
        gradient: largest difference of gradients, relative to each tensor's largest entry.
    """
    bound = BOUNDS.get(dtype)
    # written so that what is no number is beyond
    within = bound is None or (loss <= bound and gradient <= bound)
    told = "" if bound is None else f" ({'within' if within else 'BEYOND'} {bound:.0e})"
    kind = str(dtype).removeprefix("torch.")
    return Same(f"{kind}: loss to {loss:.0e}, gradients to {gradient:.0e} of each tensor's largest{told}", within)


@contextmanager
def doubled(model: ItemLanguageModel) -> Iterator[None]:
    """Let a model in single precision compute in double, its norms too, which transformers keeps in single."""
    assert model.compute_dtype is torch.float32
    norms = [module for module in model.lm.modules() if type(module).__name__.endswith("RMSNorm")]
    plain = [norm.forward for norm in norms]
    model.double()
    model.compute_dtype = torch.float64
    for norm in norms:
        norm.forward = _norm(norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm, forward in zip(norms, plain, strict=True):
            norm.forward = forward  # type: ignore[method-assign]
        # every single number is a double number, so the way back loses nothing
        model.float()
        model.compute_dtype = torch.float32


def _norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    weight, eps = norm.get_parameter("weight"), float(norm.variance_epsilon)  # type: ignore[arg-type]

    def forward(states: Tensor) -> Tensor:
        return weight * (states * torch.rsqrt(states.square().mean(-1, keepdim=True) + eps))

    return forward
