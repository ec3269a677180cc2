"""Darknet-53, and the neck and heads of YOLOv3 (Redmon & Farhadi, YOLOv3: An Incremental Improvement, 2018)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DARKNET53 = (1, 2, 8, 8, 4)  # residual blocks of each stage (Table 1)


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch norm, leaky ReLU of slope 0.1: all but the predictors is made of it.

    Shapes: (B, in, H, W) to (B, out, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, a=0.1, mode="fan_out")
        super().__init__(convolution, nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.1, inplace=True))


class DarknetBlock(nn.Module):
    """1×1 down to half the width, 3×3 back up, and the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvBlock(channels, channels // 2, 1)
        self.conv2 = ConvBlock(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        return x + self.conv2(self.conv1(x))


class Darknet(nn.Module):
    """The backbone of YOLOv3: five stages, each a strided convolution that doubles the width, then residual blocks.

    Args:
        blocks: residual blocks of each stage.
        stem_width: channels before the first stage.

    Shapes: (B, 3, H, W) to {"c3": (B, 8·stem_width, H/8, W/8), "c4": …, "c5": (B, 32·stem_width, H/32, W/32)}.
    """

    def __init__(self, *, blocks: tuple[int, int, int, int, int] = DARKNET53, stem_width: int = 32):
        super().__init__()
        self.stem = ConvBlock(3, stem_width, 3)
        self.stages = nn.ModuleList()
        width = stem_width
        for depth in blocks:
            down = ConvBlock(width, 2 * width, 3, stride=2)
            width *= 2
            self.stages.append(nn.Sequential(down, *(DarknetBlock(width) for _ in range(depth))))
        self.channels = {f"c{i}": stem_width * 2**i for i in (3, 4, 5)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """C3, C4 and C5 of normalised images (B, 3, H, W)."""
        x, features = self.stem(images), {}
        for i, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if i >= 3:
                features[f"c{i}"] = x
        return features


class ConcatPyramid(nn.Module):
    """YOLOv3's neck: from coarse to fine, each map is *concatenated* with the upsampled coarser one, then convolved.

    An FPN adds instead, which forces equal widths; here every level has its own.

    Args:
        in_channels: channels of each backbone level, fine to coarse, by name: {"c3": 256, "c4": 512, "c5": 1024}.
        widths: channels of each output, fine to coarse; the paper's are (128, 256, 512).
        depth: pairs of a 3×3 up to twice the width and a 1×1 back, after a first 1×1; the paper has 2.

    Shapes: {"c3": (B, C3, H, W), …} to [(B, widths[0], H, W), …], fine to coarse. Odd sizes are fine.
    """

    def __init__(self, in_channels: dict[str, int], *, widths: tuple[int, ...], depth: int = 2):
        super().__init__()
        if len(in_channels) != len(widths):
            raise ValueError(f"{len(widths)} widths for {len(in_channels)} levels of the backbone")
        self.in_levels = tuple(in_channels)
        self.widths = tuple(widths)
        self.num_levels = len(widths)
        above = [*(w // 2 for w in widths[1:]), 0]  # channels that come from the coarser level
        self.lateral = nn.ModuleList(ConvBlock(w, w // 2, 1) for w in widths[1:])
        self.output = nn.ModuleList(
            _conv_set(c + up, w, depth) for c, up, w in zip(in_channels.values(), above, widths)
        )

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """The neck's maps, fine to coarse."""
        maps: list[Tensor] = []
        for level in reversed(range(self.num_levels)):
            x = features[self.in_levels[level]]
            if maps:
                coarser = self.lateral[level](maps[0])
                x = torch.cat((F.interpolate(coarser, size=x.shape[-2:], mode="nearest"), x), 1)
            maps.insert(0, self.output[level](x))
        return maps


def _conv_set(in_channels: int, width: int, depth: int) -> nn.Sequential:
    layers = [ConvBlock(in_channels, width, 1)]
    for _ in range(depth):
        layers += [ConvBlock(width, 2 * width, 3), ConvBlock(2 * width, width, 1)]
    return nn.Sequential(*layers)


class ScaleHeads(nn.Module):
    """One head for each scale, with weights of its own: a 3×3 up to twice the width, and a 1×1 predictor.

    Args:
        widths: channels of each level.
        num_anchors: priors of a cell, A.
        outputs: numbers a prior; YOLOv3 has tx, ty, tw, th, the objectness, and K classes.
        prior: if given, the bias of the objectness makes it start at this probability (as RetinaNet's classes do);
            Darknet has none.

    Shapes: list of (B, widths[l], H_l, W_l) to list of (B, H_l·W_l·A, outputs), a cell's priors together.
    """

    def __init__(self, widths: tuple[int, ...], *, num_anchors: int, outputs: int, prior: float | None = None):
        super().__init__()
        self.convs = nn.ModuleList(ConvBlock(w, 2 * w, 3) for w in widths)
        self.predictors = nn.ModuleList(nn.Conv2d(2 * w, num_anchors * outputs, 1) for w in widths)
        self.outputs = outputs
        for predictor in self.predictors:
            nn.init.normal_(predictor.weight, std=0.01)
            nn.init.zeros_(predictor.bias)
            if prior is not None:
                nn.init.constant_(predictor.bias.data.view(num_anchors, outputs)[:, 4], -math.log((1 - prior) / prior))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Predictions of every level, each (B, H·W·A, outputs)."""
        predictions = []
        for x, conv, predictor in zip(features, self.convs, self.predictors):
            x = predictor(conv(x)).permute(0, 2, 3, 1)  # (B, H, W, A*outputs)
            predictions.append(x.reshape(x.shape[0], -1, self.outputs))  # (B, H*W*A, outputs)
        return predictions
