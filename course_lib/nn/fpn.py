"""The feature pyramid: strong semantics at every scale (Lin et al., Feature Pyramid Networks, 2017)."""

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.nn.norm import make_norm


class FPN(nn.Module):
    """Lateral 1×1 convolutions, a top-down pathway, 3×3 output convolutions, and coarser levels on top.

    Args:
        in_channels: channels of each backbone level, fine to coarse, by name: {"c3": 512, "c4": 1024, "c5": 2048}.
        channels: channels of every output level (the paper's d = 256).
        extra: "" for none; "p6p7_from_c5" or "p6p7_from_p5" adds RetinaNet's two strided convolutions on that
            source; "p6_from_c5" / "p6_from_p5" only the first of them; "p6_pool" is every second pixel of P5, the level
            that the R-CNN family adds for large anchors alone.
        norm: None, or a name that `make_norm` knows: a norm after each lateral and output convolution, which then
            have no bias.

    Shapes: {"c3": (B, C3, H, W), "c4": (B, C4, H/2, W/2), …} to [(B, channels, H, W), (B, channels, H/2, W/2), …],
    one map per level, fine to coarse. Odd sizes are fine: each coarser map is resized to the finer one.
    Raises ValueError for an unknown `extra`.
    """

    EXTRAS = ("", "p6_from_c5", "p6_from_p5", "p6p7_from_c5", "p6p7_from_p5", "p6_pool")

    def __init__(self, in_channels: dict[str, int], *, channels: int = 256, extra: str = "", norm: str | None = None):
        super().__init__()
        if extra not in self.EXTRAS:
            raise ValueError(f"extra must be one of {', '.join(map(repr, self.EXTRAS))}, not {extra!r}")
        self.in_levels = tuple(in_channels)
        self.channels = channels
        self.lateral = nn.ModuleList(_conv(c, channels, 1, norm) for c in in_channels.values())
        self.output = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in in_channels)
        self.pool_top = extra == "p6_pool"
        self.top_from_backbone = extra.endswith("c5")
        top_channels = list(in_channels.values())[-1] if self.top_from_backbone else channels
        self.p6 = nn.Conv2d(top_channels, channels, 3, stride=2, padding=1) if "from" in extra else None
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if extra.startswith("p6p7") else None
        self.num_levels = len(in_channels) + (self.p6 is not None) + (self.p7 is not None) + self.pool_top
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """The pyramid's maps, fine to coarse."""
        backbone_maps = [features[level] for level in self.in_levels]
        merged = [lateral(x) for lateral, x in zip(self.lateral, backbone_maps)]
        for fine in range(len(merged) - 2, -1, -1):  # top-down: each level adds the upsampled coarser one
            merged[fine] = merged[fine] + F.interpolate(merged[fine + 1], size=merged[fine].shape[-2:], mode="nearest")
        maps = [output(x) for output, x in zip(self.output, merged)]
        if self.p6 is not None:
            maps.append(self.p6(backbone_maps[-1] if self.top_from_backbone else maps[-1]))
        if self.p7 is not None:
            maps.append(self.p7(F.relu(maps[-1])))
        if self.pool_top:
            maps.append(maps[-1][..., ::2, ::2])
        return maps


def _conv(in_channels: int, out_channels: int, kernel: int, norm: str | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm is None)
    return conv if norm is None else nn.Sequential(conv, make_norm(norm, out_channels))
