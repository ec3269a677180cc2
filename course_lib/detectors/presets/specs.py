"""Specs of parts that several detectors have."""

from dataclasses import dataclass

from course_lib.nn.backbones import BLOCKS


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """Arguments of `ResNet`, where they are explained."""

    blocks: tuple[int, int, int, int] = BLOCKS[50]
    bottleneck: bool = True
    stem_width: int = 64
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    groups: int = 1
    widening: int = 1
    stem: str = "7x7"
    norm: str = "frozen"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    stride_in: str = "3x3"
    frozen_stages: int = 2
    levels: tuple[str, ...] = ("c3", "c4", "c5")
