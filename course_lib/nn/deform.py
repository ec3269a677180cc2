"""Deformable convolution: a convolution that decides for itself where it looks."""

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformConv2d(nn.Module):
    """A 3×3 convolution whose nine taps are moved, at each place, by offsets that another convolution reads there.

    The offsets start at 0: at first it is an ordinary convolution. (Dai et al., Deformable Convolutional Networks,
    2017, Sec. 2.1.)

    Args:
        in_channels, out_channels: of the maps.
        bias: whether to add one.

    Shapes: (B, in_channels, H, W) to (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True):
        super().__init__()
        self.offsets = nn.Conv2d(in_channels, 2 * 9, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The map, looked at from where the offsets say."""
        offsets = self.offsets(x)  # (B, 18, H, W): y and x of each tap
        with torch.autocast(x.device.type, enabled=False):  # the operator has no bfloat16 on a CPU
            return deform_conv2d(x.float(), offsets.float(), self.weight, self.bias, padding=1).to(x.dtype)
