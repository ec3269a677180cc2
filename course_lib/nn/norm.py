"""Normalisation layers, and how a frozen one becomes part of the convolution before it."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and affine parameters are constants.

    Detection batches are small, so a pretrained backbone keeps the statistics of its classification training.
    All four vectors are buffers: they travel with the weights and no optimiser sees them.

    Args:
        channels: number of channels C.
        eps: added to the variance. torchvision's RetinaNet sets it to 0 after loading, Detectron2 keeps 1e-5;
            where a variance is tiny the two differ much (`docs/conventions.md`).
        formula: how the same function is rounded. "batch_norm" calls the library's kernel, as Detectron2 does at
            inference; "scale_shift" computes x * scale + shift, as torchvision does always.

    Shapes: (B, C, H, W) in and out. Source: He et al., Deep Residual Learning, 2016, and its frozen use in
    Ren et al., Faster R-CNN, 2015.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, formula: str = "batch_norm"):
        super().__init__()
        if formula not in ("batch_norm", "scale_shift"):
            raise ValueError(f"formula must be 'batch_norm' or 'scale_shift', not {formula!r}")
        self.eps = eps
        self.formula = formula
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W) with the stored statistics."""
        if self.formula == "batch_norm":
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps)
        scale, shift = scale_and_shift(self)
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        """What `print(model)` shows of the layer."""
        return f"{len(self.weight)}, eps={self.eps}, formula={self.formula!r}"


def make_norm(kind: str, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """A normalisation layer by name.

    Args:
        kind: "frozen" (Detectron2's rounding), "frozen_scale_shift" (torchvision's), "batch", or "group"
            (32 groups as in Wu & He, 2018; fewer where 32 do not divide the channels).
        channels: number of channels.
        eps: added to the variance.
        momentum: of the running statistics of "batch".

    Raises:
        ValueError: for an unknown kind.
    """
    match kind:
        case "frozen":
            return FrozenBatchNorm2d(channels, eps=eps)
        case "frozen_scale_shift":
            return FrozenBatchNorm2d(channels, eps=eps, formula="scale_shift")
        case "batch":
            return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
        case "group":
            groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)
            return nn.GroupNorm(groups, channels, eps=eps)
    raise ValueError(f"unknown normalisation {kind!r}: expected frozen, frozen_scale_shift, batch or group")


def scale_and_shift(norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """The two vectors (C,), (C,) with norm(x) = x * scale + shift, for a batch norm in evaluation."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold each batch norm of `module` into the convolution before it, in place, for inference.

    w·x followed by scale and shift is (w·scale)·x + shift: one pass over the activations less. A pair is a
    convolution and the norm that the same parent registers right after it, which holds in every network here.

    Returns:
        The module itself, in evaluation mode. Outputs agree to rounding; it can no longer be trained as before.
    """
    module.eval()
    for parent in module.modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                scale, shift = scale_and_shift(norm)
                bias = torch.zeros_like(shift) if conv.bias is None else conv.bias
                conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
                conv.bias = nn.Parameter(bias * scale + shift, requires_grad=False)
                setattr(parent, conv_name, conv)
                setattr(parent, norm_name, nn.Identity())
    return module
