"""Semantic heads: a pyramid's maps to a class for each cell of its finest level."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.nn.deform import DeformConv2d
from course_lib.nn.norm import make_norm


class SemanticHead(nn.Module):
    """Panoptic FPN's: each level climbs to the finest one's size by convolutions and doublings; the sum is classified.

    The level l steps above the finest has l times 3×3 convolution, norm, ReLU and bilinear doubling, the finest one
    convolution and no doubling. (Kirillov et al., Panoptic Feature Pyramid Networks, 2019, Sec. 3 and Fig. 3.)

    Args:
        in_channels: of the pyramid.
        num_classes: of the semantic map; the class "a thing" is one of them.
        num_levels: levels used, fine to coarse; a pyramid may have more.
        channels: of the convolutions.
        norm: a name that `make_norm` knows.

    Shapes: maps (B, in_channels, H/2^l, W/2^l) to logits (B, num_classes, H, W), H×W the finest map. Odd sizes are
    fine: a map is brought to the very size of the next finer one.
    """

    def __init__(self, in_channels: int, *, num_classes: int, num_levels: int, channels: int, norm: str):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.ModuleList(_stage(channels if i else in_channels, channels, norm) for i in range(max(1, level)))
            for level in range(num_levels)
        )
        self.predictor = _predictor(channels, num_classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, num_classes, H, W)."""
        total = self.levels[0][0](features[0])
        for level, stages in enumerate(self.levels[1:], start=1):
            x = features[level]
            for step, stage in enumerate(stages, start=1):
                x = _resize(stage(x), features[level - step])
            total = total + x
        return self.predictor(total)


class SharedSemanticHead(nn.Module):
    """UPSNet's: one subnet for all levels; what it makes of each is enlarged, put side by side and classified.

    The paper's convolutions are deformable, three of 128 channels. (Xiong et al., UPSNet, 2019, Sec. 3.1.)

    Args:
        in_channels, num_classes, num_levels, channels, norm: see `SemanticHead`; the norms are each level's own where
            they are "batch", since the levels' statistics differ.
        depth: convolutions.
        deformable: whether they are.

    Shapes: as of `SemanticHead`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        num_levels: int,
        channels: int,
        norm: str,
        depth: int,
        deformable: bool,
    ):
        super().__init__()
        self.convs = nn.ModuleList(
            _conv(channels if i else in_channels, channels, deformable=deformable) for i in range(depth)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(make_norm(norm, channels) for _ in range(depth))
            for _ in range(num_levels if norm == "batch" else 1)
        )
        self.num_levels = num_levels
        self.predictor = _predictor(num_levels * channels, num_classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, num_classes, H, W)."""
        maps = []
        for level, x in enumerate(features[: self.num_levels]):
            for conv, norm in zip(self.convs, self.norms[level % len(self.norms)]):
                x = F.relu(norm(conv(x)), inplace=True)
            maps.append(x if level == 0 else _resize(x, features[0]))
        return self.predictor(torch.cat(maps, dim=1))  # (B, num_levels*channels, H, W) → (B, num_classes, H, W)


def _conv(in_channels: int, channels: int, *, deformable: bool) -> nn.Module:
    if deformable:
        return DeformConv2d(in_channels, channels, bias=False)
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _stage(in_channels: int, channels: int, norm: str) -> nn.Module:
    conv = _conv(in_channels, channels, deformable=False)
    return nn.Sequential(conv, make_norm(norm, channels), nn.ReLU(inplace=True))


def _predictor(channels: int, num_classes: int) -> nn.Conv2d:
    predictor = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(predictor.weight, std=0.01)  # every cell starts undecided
    nn.init.zeros_(predictor.bias)
    return predictor


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
