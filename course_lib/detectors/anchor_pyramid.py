"""Anchors over a pyramid, laid out once for each image size (Lin et al., Focal Loss, 2017, Sec. 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib.nn.preprocess import Size
from course_lib.ops.anchors import cell_anchors, grid_anchors, grid_strides


@dataclass(frozen=True, kw_only=True)
class AnchorSpec:
    """Anchors of each level (Sec. 4: three sizes × three ratios).

    Attributes:
        sizes: for each level, the anchors' square-root areas in pixels of the network's input.
        ratios: height / width.
        strides: pixels between neighbouring anchors, by level; what "fixed" below uses.
        order: of the anchors in a location's channels, "size" (Detectron2) or "ratio" (torchvision) major.
        rounding: whole-pixel corners, as torchvision has them.
        stride_mode: "fixed", or "grid": image size // grid size, as torchvision computes it.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    order: str = "size"
    rounding: bool = False
    stride_mode: str = "fixed"


def pyramid_anchors(spec: AnchorSpec, image_size: Size, grids: Sequence[Size]) -> list[Tensor]:
    """Anchors (A_l, 4) of every level for an input of `image_size` and maps of the given (H_l, W_l)."""
    strides = grid_strides(image_size, grids, mode=spec.stride_mode, strides=spec.strides)
    return [
        grid_anchors(cell_anchors(sizes, spec.ratios, order=spec.order, rounding=spec.rounding), grid, stride)
        for sizes, grid, stride in zip(spec.sizes, grids, strides)
    ]


class AnchorPyramid:
    """The anchors of a spec for maps of any size; computed once for each image size and device, then remembered.

    Args:
        spec: what `lay_out` lays out.
        lay_out: from a spec, (height, width) of the input and each map's (H_l, W_l) to each level's anchors.
    """

    def __init__(self, spec: Any, lay_out: Callable[[Any, Size, Sequence[Size]], list[Tensor]] = pyramid_anchors):
        self.spec, self.lay_out = spec, lay_out
        self._cache: dict = {}

    def __call__(self, image_size: Size, grids: Sequence[Size], device: torch.device) -> list[Tensor]:
        """Anchors (A_l, 4) of every level for an input of `image_size` and maps of the given (H_l, W_l)."""
        if torch.compiler.is_exporting():  # sizes are symbols then, which nothing may be remembered by
            return self.lay_out(self.spec, image_size, grids)
        key = (image_size, tuple(grids), device)
        if key not in self._cache:
            self._cache[key] = [x.to(device) for x in self.lay_out(self.spec, image_size, grids)]
        return self._cache[key]
