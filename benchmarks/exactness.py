"""Whether two ways of a training step give the same loss and gradients, in single and in double precision."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ilm_lightning.lm import ItemLanguageModel

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-9}
ROUNDING = 2.0
"""Of the first way's own rounding, what the second's may be where single precision cannot do better."""


@dataclass(frozen=True)
class Same:
    """How near two ways are, in words, and whether that is within the bounds."""

    told: str
    within: bool

    def __add__(self, other: "Same") -> "Same":
        return Same(f"{self.told}; {other.told}", self.within and other.within)


def compare(model: ItemLanguageModel, ways: Sequence[Callable[[], float]]) -> Same:
    """Losses and gradients of two ways, and whether they are within the bound of the model's precision.

    Where single precision differs by more, both are held against the first way in double precision: gradients of a
    pretrained model may be no more exact than that in whatever order their terms are added.

    Args:
        model: in single precision or less; of less than that nothing is asked.
        ways: each runs forward and backward and gives its loss; the first is the measure.
    """
    theirs, mine = (_gradients(model, way) for way in ways)
    exact = model.compute_dtype is torch.float64
    # the terms of a single number cancel: in single precision what is left is mostly rounding
    names = [name for name in theirs.slopes if theirs.slopes[name].ndim or exact]
    assert names
    same = judged(model.compute_dtype, abs(mine.loss / theirs.loss - 1), _apart(mine, theirs, names))
    if same.within or exact or abs(mine.loss / theirs.loss - 1) > BOUNDS[model.compute_dtype]:
        return same
    with doubled(model):
        truth = _gradients(model, ways[0])
    first, second = (_apart(one, truth, names) for one in (theirs, mine))
    told = f"single precision is off double precision by {first:.0e} the first way and by {second:.0e} the second"
    return Same(f"{same.told}; {told}", second <= ROUNDING * first)


@dataclass(frozen=True)
class _Gradients:
    """What a step gave: its loss, and gradients by name."""

    loss: float
    slopes: dict[str, Tensor]


def _gradients(model: ItemLanguageModel, way: Callable[[], float]) -> _Gradients:
    model.zero_grad(set_to_none=True)
    loss = way()
    slopes = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return _Gradients(loss, slopes)


def _apart(mine: _Gradients, theirs: _Gradients, names: Sequence[str]) -> float:
    assert theirs.slopes.keys() == mine.slopes.keys()
    return largest([(mine.slopes[name], theirs.slopes[name]) for name in names])


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
