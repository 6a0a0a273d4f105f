"""Phase 2 with the language model's weights, gradients and optimiser states shared out between processes (FSDP2).

Adapter and gain are small and stay whole on every process. Checkpoints hold whole tensors, as those of one process do.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ilm_lightning.lm import ItemLanguageModel
from ilm_lightning.lm.module import ItemLanguageModule
from ilm_lightning.ranks import average_gradients, own_part, world_size


def shared_out(model: ItemLanguageModel, device: torch.device) -> ItemLanguageModel:
    """Copy a model so that each process holds its part of the language model only.

    Args:
        model: stays as it is, on the CPU.
        device: where this process's part goes.

    Returns:
        The copy: layer by layer gathered when it is used, and its gradients averaged over the processes, but for those
        of adapter and gain.
    """
    mesh = init_device_mesh(device.type, (world_size(),))
    # the copy's parameters are others, their memory is the same until a part of it is taken
    apart: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in model.parameters()}
    twin = copy.deepcopy(model, apart)
    whole = {p for name, p in twin.named_parameters() if not name.startswith("lm.")}
    for parameter in whole:
        parameter.data = parameter.data.to(device, copy=True)
    for layer in stacked_layers(twin.lm):
        fully_shard(layer, mesh=mesh)
    fully_shard(twin, mesh=mesh, ignored_params=whole)
    return twin


def stacked_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of all stacks of a model, not what they are made of: an encoder's and a decoder's."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from stacked_layers(child)


class ShardedStrategy(DDPStrategy):
    """Trains a shared-out copy of an ``ItemLanguageModule``'s model in its place.

    Afterwards the module has its model back, untrained: what was trained is in the checkpoints.

    Args:
        clip: highest norm of all gradients; None leaves them as they are.
    """

    def __init__(self, clip: float | None) -> None:
        super().__init__()
        self.clip = clip

    def model_to_device(self) -> None:
        """Leave the whole model where it is: only parts of it fit a device."""

    def configure_ddp(self) -> None:
        """Put the copy in the model's place."""
        module = self._module
        self._plain = module.model
        module.model = shared_out(module.model, self.root_device)
        self._whole = [p for p in module.model.parameters() if not isinstance(p, DTensor)]

    @property
    def _module(self) -> ItemLanguageModule:
        assert isinstance(self.lightning_module, ItemLanguageModule)
        return self.lightning_module

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of what every process holds whole, then clip all."""
        average_gradients(self._whole)
        if self.clip:
            clip_gradients(self._module.model.parameters(), self.clip)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors on the process that writes them, empty ones on the others."""
        for part in self._module.model.modules():
            # a validation leaves some gathered, in memory that is given back without notice
            if isinstance(part, FSDPModule):
                part.reshard()
        return {name: self._gathered(value) for name, value in self._module.state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The same of the optimiser's state."""
        state: dict[str, Any] = apply_to_collection(super().optimizer_state(optimizer), DTensor, self._gathered)
        return state

    def _gathered(self, value: Tensor) -> Tensor:
        if not isinstance(value, DTensor):
            return value
        found: Tensor = value.full_tensor()
        return found.cpu() if self.is_global_zero else found.new_empty(0)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out what a checkpoint holds whole."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for number, entry in state["state"].items():
                like = parameters[number]
                if isinstance(like, DTensor):
                    entry.update(
                        (name, distribute_tensor(value.to(like.device), like.device_mesh, like.placements))
                        for name, value in list(entry.items())
                        if isinstance(value, Tensor) and value.shape == like.shape
                    )
            optimizer.load_state_dict(state)

    def teardown(self) -> None:
        """Give the module its model back."""
        # their states are parts, of no use to the whole model
        self._reset_optimizers_and_schedulers()
        if hasattr(self, "_plain"):
            self._module.model = self._plain
        super().teardown()


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale gradients so that the norm of all together is at most as given.

    Args:
        parameters: shared out or whole, the latter with equal gradients on all processes.
        most: the highest norm.

    Returns:
        The norm before.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = torch.zeros(2, dtype=torch.float64, device=own_part(gradients[0]).device)
    for gradient in gradients:
        squares[int(isinstance(gradient, DTensor))] += own_part(gradient).double().square().sum()
    parts = squares[1:].clone()
    if world_size() > 1:
        dist.all_reduce(parts)
    norm = float((squares[0] + parts[0]).sqrt())
    scale = most / (norm + 1e-6)
    if scale < 1:
        for gradient in gradients:
            own_part(gradient).mul_(scale)
    return norm
