"""Inputs that the checks of several exercises share: random numbers, and modules as an argument."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

NO_IMAGES = "a batch of no images is a batch too: B = 0 needs no case of its own"


def normal(*shape: int, seed: int) -> Tensor:
    """Normal numbers in float64, the same on every machine; the global generator is left alone."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Named:
    """Modules as an argument of a check: an error shows the text instead of a page of layers."""

    text: str
    module: nn.Module

    def __str__(self) -> str:
        return self.text


def fill(module: nn.Module, seed: int) -> nn.Module:
    """Random float64 weights, biases and statistics, the same on every machine; the global generator is left alone."""
    module = module.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        value.copy_(0.5 * torch.randn(value.shape, dtype=torch.float64, generator=generator))
    for layer in module.modules():
        if hasattr(layer, "running_var"):
            layer.running_var.abs_().add_(0.5)
    return module
