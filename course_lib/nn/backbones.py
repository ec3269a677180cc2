"""Backbones: ResNet with its widths and strides as parameters, and VGG-16 on torchvision's layers.

A backbone maps images (B, 3, H, W) to a dict of feature maps C2 … C5; the map C_l has stride 2^l.
"""

from functools import partial

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from course_lib.nn.norm import make_norm

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias (a norm follows) that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def initialise(module: nn.Module) -> None:
    """Random weights that keep the variance through layers of ReLU (He et al., 2015); biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the identity (He et al., 2016, Fig. 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int, norm: dict, stride_in: str):
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = make_norm(channels=width, **norm)
        self.conv2 = conv(width, width, 3)
        self.bn2 = make_norm(channels=width, **norm)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, width, H/stride, W/stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + identity)


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up to four times the width, and the identity (He et al., 2016, Fig. 5 right).

    `stride_in` says which convolution takes the stride: "1x1" as in the paper and Detectron2's zoo, "3x3" as in
    torchvision, which keeps more of the signal. `groups` and `widening` make the 3×3 ResNeXt's: wider, and cheap
    since it works within groups of channels (Xie et al., Aggregated Residual Transformations, 2017, Fig. 3c).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        norm: dict,
        stride_in: str,
        groups: int = 1,
        widening: int = 1,
    ):
        super().__init__()
        stride1, stride2 = (stride, 1) if stride_in == "1x1" else (1, stride)
        inner = widening * width
        self.conv1 = conv(in_channels, inner, 1, stride1)
        self.bn1 = make_norm(channels=inner, **norm)
        self.conv2 = conv(inner, inner, 3, stride2, groups)
        self.bn2 = make_norm(channels=inner, **norm)
        self.conv3 = conv(inner, 4 * width, 1)
        self.bn3 = make_norm(channels=4 * width, **norm)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, 4·width, H/stride, W/stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + identity)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: dict) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), make_norm(channels=out_channels, **norm))


class ResNet(nn.Module):
    """A residual network that returns its stages' outputs; parameter names are torchvision's.

    Args:
        blocks: residual blocks in each of the four stages; `BLOCKS[50]` is (3, 4, 6, 3).
        bottleneck: `Bottleneck` blocks (ResNet-50 and deeper) or `BasicBlock`s (18 and 34).
        stem_width: channels after the stem.
        widths: inner width of each stage; a stage puts out `widths[i]` channels, four times that with bottlenecks.
        groups, widening: of the bottlenecks' 3×3: it is `widening` times as wide as `widths` says, in so many groups.
            ResNeXt-101 32×8d has 32 groups of 8 · 2^i channels: 4 times as wide.
        stem: "7x7" is the paper's (7×7 convolution at stride 2, then max-pooling at stride 2); "3x3" is for small
            images: a 3×3 convolution at stride 2, and the first stage takes the other stride in place of the pooling.
        norm: see `make_norm`; `norm_eps` its epsilon.
        stride_in: "3x3" or "1x1", see `Bottleneck`.
        frozen_stages: 0 trains everything, 1 freezes the stem, 2 the stem and the first stage, and so on, as in
            Detectron2's FREEZE_AT. What is frozen evaluates always, so that a batch norm keeps its statistics, too.
        levels: the outputs wanted, of "c2", "c3", "c4", "c5".

    Shapes: (B, 3, H, W) to {"c3": (B, channels["c3"], H/8, W/8), …}.
    Raises ValueError for an unknown level or stem, and for groups without bottlenecks.
    Source: He et al., Deep Residual Learning, 2016, Table 1.
    """

    def __init__(
        self,
        *,
        blocks: tuple[int, int, int, int] = BLOCKS[50],
        bottleneck: bool = True,
        stem_width: int = 64,
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        groups: int = 1,
        widening: int = 1,
        stem: str = "7x7",
        norm: str = "frozen",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        stride_in: str = "3x3",
        frozen_stages: int = 0,
        levels: tuple[str, ...] = ("c3", "c4", "c5"),
    ):
        super().__init__()
        if unknown := set(levels) - {"c2", "c3", "c4", "c5"}:
            raise ValueError(f"unknown levels {sorted(unknown)}: expected some of c2, c3, c4, c5")
        if stem not in ("7x7", "3x3"):
            raise ValueError(f"stem must be '7x7' or '3x3', not {stem!r}")
        if stride_in not in ("3x3", "1x1"):
            raise ValueError(f"stride_in must be '3x3' or '1x1', not {stride_in!r}")
        if not bottleneck and (groups, widening) != (1, 1):
            raise ValueError(f"groups {groups} and widening {widening} are for bottlenecks; basic blocks have neither")
        norm_args = {"kind": norm, "eps": norm_eps, "momentum": norm_momentum}
        block_args = {"norm": norm_args, "stride_in": stride_in}
        block = partial(Bottleneck, groups=groups, widening=widening) if bottleneck else BasicBlock
        expansion = Bottleneck.expansion if bottleneck else BasicBlock.expansion
        self.conv1 = conv(3, stem_width, 7 if stem == "7x7" else 3, stride=2)
        self.bn1 = make_norm(channels=stem_width, **norm_args)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "7x7" else nn.Identity()
        self.channels = {}  # of each level
        channels = stem_width
        top = max(int(level[1]) for level in levels) - 1  # the stages above the highest level wanted are not built
        for stage, (depth, width) in enumerate(zip(blocks[:top], widths), start=1):
            stride = 1 if stage == 1 and stem == "7x7" else 2
            layers = []
            for i in range(depth):
                layers.append(block(channels, width, stride=stride if i == 0 else 1, **block_args))
                channels = width * expansion
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            self.channels[f"c{stage + 1}"] = channels
        self.levels = tuple(levels)
        initialise(self)
        self.frozen_stages = frozen_stages
        for module in self._frozen():
            module.requires_grad_(False).eval()

    def _stages(self) -> list[nn.Sequential]:
        return [getattr(self, f"layer{i}") for i in range(1, len(self.channels) + 1)]

    def _frozen(self) -> list[nn.Module]:
        parts = [(self.conv1, self.bn1), *((stage,) for stage in self._stages())]
        return [module for part in parts[: self.frozen_stages] for module in part]

    def train(self, mode: bool = True) -> "ResNet":
        """Train, or evaluate; what is frozen evaluates in either mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps of the wanted levels for normalised images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = {}
        for level, stage in zip(self.channels, self._stages()):
            x = stage(x)
            if level in self.levels:
                features[level] = x
        return features


VGG_LEVELS = {"c2": 15, "c3": 22, "c4": 29, "c5": 30}  # index of the layer in torchvision's `features`


class VGG16(nn.Module):
    """VGG-16's convolutions (torchvision's layers and parameter names) as a backbone with levels.

    C2 is conv3_3 (stride 4), C3 conv4_3 (stride 8), C4 conv5_3 (stride 16), C5 the last pooling (stride 32).

    Shapes: (B, 3, H, W) to {"c3": (B, 512, H/8, W/8), …}. Raises ValueError for an unknown level.
    Source: Simonyan & Zisserman, Very Deep Convolutional Networks, 2015, configuration D.
    """

    def __init__(self, *, levels: tuple[str, ...] = ("c3", "c4", "c5")):
        super().__init__()
        if unknown := set(levels) - set(VGG_LEVELS):
            raise ValueError(f"unknown levels {sorted(unknown)}: expected some of c2, c3, c4, c5")
        # torchvision's VGG class would also build the classifier, 124 million weights.
        self.features = make_layers(cfgs["D"], batch_norm=False)
        self.levels = tuple(levels)
        self.channels = {"c2": 256, "c3": 512, "c4": 512, "c5": 512}
        initialise(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps of the wanted levels for normalised images (B, 3, H, W)."""
        level_at = {VGG_LEVELS[level]: level for level in self.levels}
        x, features = images, {}
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in level_at:
                features[level_at[i]] = x
        return features
