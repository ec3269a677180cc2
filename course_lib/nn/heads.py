"""Dense heads: small fully convolutional networks shared by every pyramid level."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.nn.norm import make_norm


class Tower(nn.Module):
    """3×3 convolutions with ReLU, the same for each pyramid level.

    Args:
        channels: in and out.
        depth: number of convolutions.
        norm: None or a name that `make_norm` knows. The convolutions are shared by all levels, but of "batch" each
            level has its own: the levels' statistics differ, and a shared batch norm would be trained on those of
            one level at a time and evaluated on the mixture of all.
        num_levels: of the pyramid.
    """

    def __init__(self, channels: int, *, depth: int, norm: str | None, num_levels: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None) for _ in range(depth))
        self.norms = nn.ModuleList(  # of each level, or one set for all
            nn.ModuleList(nn.Identity() if norm is None else make_norm(norm, channels) for _ in range(depth))
            for _ in range(num_levels if norm == "batch" else 1)
        )

    def tower(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B, channels, H_l, W_l) of each level to maps of the same shape."""
        maps = []
        for level, x in enumerate(features):
            for conv, norm in zip(self.convs, self.norms[level % len(self.norms)]):
                x = F.relu(norm(conv(x)), inplace=True)
            maps.append(x)
        return maps

    def initialise(self) -> None:
        """Small random weights, biases 0: what the predictors say at first depends on their bias alone."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class DenseHead(Tower):
    """A tower and one predictor, applied to each level with the same weights.

    RetinaNet has two, one for classes and one for boxes (Lin et al., Focal Loss, 2017, Sec. 4).

    Args:
        channels: channels of the pyramid and of the tower.
        num_anchors: anchors per location, A.
        outputs: numbers per anchor, K: the classes, or 4 deltas.
        depth, norm, num_levels: see `Tower`.
        prior: if given, the predictor's bias makes every sigmoid start at this probability: b = −log((1 − π)/π)
            (Sec. 4.1). Without it the first steps are spent on unlearning 0.5 at every anchor.

    Shapes: list of (B, channels, H_l, W_l) to list of (B, H_l·W_l·A, outputs); anchors innermost, as in `grid_anchors`.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_anchors: int,
        outputs: int,
        num_levels: int,
        depth: int = 4,
        norm: str | None = None,
        prior: float | None = None,
    ):
        super().__init__(channels, depth=depth, norm=norm, num_levels=num_levels)
        self.predictor = nn.Conv2d(channels, num_anchors * outputs, 3, padding=1)
        self.outputs = outputs
        self.initialise()
        if prior is not None:
            nn.init.constant_(self.predictor.bias, -math.log((1 - prior) / prior))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Predictions of every level, each (B, H·W·A, outputs)."""
        return [by_anchor(self.predictor(x), self.outputs) for x in self.tower(features)]


class RPNHead(Tower):
    """A tower that one class, "an object", and the boxes share, with a 1×1 predictor for each.

    Beside RetinaNet's two heads it is the older and lighter design (Ren et al., Faster R-CNN, 2015, Sec. 3.1).

    Args:
        channels: channels of the pyramid and of the tower.
        num_anchors: anchors per location, A.
        depth, norm, num_levels: see `Tower`.

    Shapes: list of (B, channels, H_l, W_l) to two lists, logits (B, H_l·W_l·A, 1) and deltas (B, H_l·W_l·A, 4).
    """

    def __init__(self, channels: int, *, num_anchors: int, num_levels: int, depth: int = 1, norm: str | None = None):
        super().__init__(channels, depth=depth, norm=norm, num_levels=num_levels)
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, num_anchors * 4, 1)
        self.initialise()

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits and deltas of every level."""
        maps = self.tower(features)
        return [by_anchor(self.objectness(x), 1) for x in maps], [by_anchor(self.deltas(x), 4) for x in maps]


def by_anchor(x: Tensor, outputs: int) -> Tensor:
    """A predictor's map (B, A·K, H, W) as rows of anchors, in the order of `grid_anchors`: (B, H·W·A, K)."""
    x = x.permute(0, 2, 3, 1)  # (B, H, W, A*K): for free when memory is channels-last
    return x.reshape(x.shape[0], -1, outputs)  # (B, H*W*A, K)
