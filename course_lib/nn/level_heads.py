"""SSD's heads: what a dense head is where each level has weights of its own."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from course_lib.nn.heads import by_anchor
from course_lib.nn.norm import make_norm


class LevelHeads(nn.Module):
    """A 3×3 predictor for each level, since the levels differ in channels and anchors.

    Args:
        channels: of each level's map.
        num_anchors: of each level, per location.
        outputs: numbers per anchor, K: the classes and background, or 4 deltas.
        depth: convolutions before each predictor; the paper has none.
        norm: of them, a name that `make_norm` knows, or None.
        std: of the predictors' first weights; None for Xavier's, as in the paper.

    Shapes: list of (B, channels[l], H_l, W_l) to list of (B, H_l·W_l·A_l, outputs); rows as in `grid_anchors`.
    Source: Liu et al., SSD, 2016, §2.1 and Fig. 2.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_anchors: Sequence[int],
        outputs: int,
        depth: int = 0,
        norm: str | None = None,
        std: float | None = None,
    ):
        super().__init__()
        self.towers = nn.ModuleList(nn.Sequential(*_tower(c, depth, norm)) for c in channels)
        self.predictors = nn.ModuleList(nn.Conv2d(c, a * outputs, 3, padding=1) for c, a in zip(channels, num_anchors))
        self.outputs = outputs
        for predictor in self.predictors:
            if std is None:
                nn.init.xavier_uniform_(predictor.weight)
            else:
                nn.init.normal_(predictor.weight, std=std)
            nn.init.zeros_(predictor.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Predictions of every level, each (B, H·W·A, outputs)."""
        return [
            by_anchor(predictor(tower(x)), self.outputs)
            for tower, predictor, x in zip(self.towers, self.predictors, features)
        ]


def _tower(channels: int, depth: int, norm: str | None) -> Iterator[nn.Module]:
    for _ in range(depth):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        yield conv
        if norm is not None:
            yield make_norm(norm, channels)
        yield nn.ReLU(inplace=True)
