"""The mask head: for each box and each class, a small picture of the object's shape (He et al., Mask R-CNN, 2017)."""

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.nn.norm import make_norm
from course_lib.nn.roi import RoIPool


class MaskHead(nn.Module):
    """Regions cut from the pyramid, 3×3 convolutions, a deconvolution that doubles the grid, a mask a class (Fig. 4).

    Every class has a mask of its own and each mask cell a sigmoid: shape does not compete with class (Sec. 3).

    Args:
        in_channels: of the pyramid.
        num_classes: foreground classes K.
        pool: cuts the regions, S×S each.
        channels: of the convolutions.
        depth: how many of them.
        norm: None or a name that `make_norm` knows, after each of them.

    Shapes: maps and each image's boxes (R_i, 4) to logits (R, K, 2S, 2S), R = ΣR_i.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        pool: RoIPool,
        channels: int = 256,
        depth: int = 4,
        norm: str | None = None,
    ):
        super().__init__()
        self.pool = pool
        widths = [in_channels, *[channels] * depth]
        self.convs = nn.ModuleList(nn.Conv2d(width, channels, 3, padding=1, bias=norm is None) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.Identity() if norm is None else make_norm(norm, channels) for _ in range(depth))
        self.upsample = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, num_classes, 1)
        for conv in (*self.convs, self.upsample):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.normal_(self.predictor.weight, std=0.001)  # every cell starts undecided
        nn.init.zeros_(self.predictor.bias)

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Mask logits (R, K, 2S, 2S) of all images' boxes, image after image."""
        return self.predict(self.pool(features, boxes))

    def predict(self, x: Tensor) -> Tensor:
        """Mask logits (R, K, 2S, 2S) of regions as the pool cuts them, (R, in_channels, S, S)."""
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x)), inplace=True)
        x = F.relu(self.upsample(x), inplace=True)  # (R, channels, 2S, 2S)
        return self.predictor(x)
