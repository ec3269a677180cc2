"""Networks whose every number is random: an untouched batch norm (mean 0, variance 1) would hide mistakes."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def randomise_norms(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics and affine parameters for every norm, near those of a trained network."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if not hasattr(norm, "running_mean"):
            continue
        for tensor, low, high in (
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 1.5),
        ):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return module


def random_images(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """One image (3, H, W) in 0 … 1 for each (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, *size, generator=generator) for size in sizes]
