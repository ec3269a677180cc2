"""Features of regions: what a box shows, cut from the pyramid and brought to one size."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import Barrier

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import roi_pool

from course_lib.ops.boxes import box_area


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """How a region's features are taken.

    Attributes:
        size: bins down and across, S.
        kind: "align" (He et al., Mask R-CNN, 2017, Sec. 3) or "pool" (Girshick, Fast R-CNN, 2015, Sec. 2.1), which
            rounds the region and its bins to whole cells.
        sampling_ratio: points a bin, down and across, of "align"; 0 is one for each cell that the bin spans.
        aligned: True puts a cell's centre at half a cell, where it is (Detectron2); False, half a cell further on
            (torchvision).
        canonical_size: side in pixels of the square box that is taken from the level of stride 16.
        epsilon: what keeps a box on the border between two levels, "inside" the logarithm, log2(s + 1e-8)
            (Detectron2), or "outside", log2(s) + 1e-6 (torchvision).
    """

    size: int = 7
    kind: str = "align"
    sampling_ratio: int = 2
    aligned: bool = True
    canonical_size: float = 224.0
    epsilon: str = "inside"


def assign_levels(boxes: Tensor, strides: Sequence[int], spec: PoolSpec) -> Tensor:
    """The pyramid level that each box is cut from: (N, 4) → (N,) int64, an index into `strides`.

    k = ⌊4 + log2(√(w·h) / 224)⌋, kept within the levels that there are: a box half as large is cut from a map twice
    as fine (Lin et al., Feature Pyramid Networks, 2017, Eq. 1).

    Args:
        boxes: in the network's pixels.
        strides: of the levels, powers of two, fine to coarse.
        spec: its `canonical_size` and `epsilon`.

    Raises:
        ValueError: for an unknown `epsilon`.
    """
    sides = box_area(boxes).sqrt() / spec.canonical_size  # (N,)
    match spec.epsilon:
        case "inside":
            octaves = torch.log2(sides + 1e-8)
        case "outside":
            octaves = torch.log2(sides) + 1e-6
        case _:
            raise ValueError(f"unknown epsilon {spec.epsilon!r}: expected inside or outside")
    finest = strides[0].bit_length() - 1  # of stride 4 it is 2
    return (torch.floor(4 + octaves).clamp(finest, finest + len(strides) - 1) - finest).long()


class RoIPool(nn.Module):
    """Regions of any size as maps of one size.

    Args:
        spec: how.
        strides: of the levels to cut from, fine to coarse; a pyramid may have more, they are not used.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, spec: PoolSpec, strides: Sequence[int]):
        super().__init__()
        if spec.kind not in ("align", "pool"):
            raise ValueError(f"unknown kind of pooling {spec.kind!r}: expected align or pool")
        self.spec = spec
        self.strides = tuple(strides)

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Cut every image's boxes from its maps.

        Args:
            features: maps (B, C, H_l, W_l), one a level.
            boxes: for each of B images (R_i, 4), in the network's pixels; R_i may be 0.

        Returns:
            (R, C, S, S), R = ΣR_i, image after image, in the type of `features`; differentiable in `features` alone.
        """
        owner = torch.cat([torch.full((len(b), 1), i, dtype=b.dtype, device=b.device) for i, b in enumerate(boxes)])
        regions = torch.cat((owner, torch.cat(boxes)), 1)  # (R, 5): image, x1, y1, x2, y2
        levels = assign_levels(regions[:, 1:], self.strides, self.spec)  # (R,)
        order = levels.argsort(stable=True)
        groups = regions[order].split(levels.bincount(minlength=len(self.strides)).tolist())
        pooled = torch.cat([self._pool(*args) for args in zip(features, groups, self.strides)])
        # index_copy, whose gradient is a plain look-up; that of an index would be a slow sum
        return torch.empty_like(pooled).index_copy(0, order, pooled).to(features[0].dtype)

    def _pool(self, features: Tensor, regions: Tensor, stride: int) -> Tensor:
        """(B, C, H, W) and regions (R, 5) of one level → (R, C, S, S) float32."""
        spec, features = self.spec, features.float()  # the operators have no bfloat16 on a CPU
        if spec.kind == "pool":
            return roi_pool(features, regions, spec.size, 1 / stride)
        return _RoIAlign.apply(features, regions, (1 / stride, spec.size, spec.size), spec.sampling_ratio, spec.aligned)


class _RoIAlign(torch.autograd.Function):
    """torchvision's operator, which works on one core, with the channels shared out among all of them."""

    @staticmethod
    def forward(ctx, features: Tensor, regions: Tensor, grid: tuple, sampling_ratio: int, aligned: bool) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.settings = features.shape, grid, sampling_ratio, aligned
        operator = torch.ops.torchvision.roi_align
        parts = [part.contiguous() for part in features.detach().chunk(_shares(features), dim=1)]
        return torch.cat(_at_once(lambda part: operator(part, regions, *grid, sampling_ratio, aligned), parts), dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (regions,) = ctx.saved_tensors
        (batch, _, height, width), grid, *how = ctx.settings
        operator = torch.ops.torchvision._roi_align_backward

        def share(part: Tensor) -> Tensor:
            return operator(part, regions, *grid, batch, part.shape[1], height, width, *how)

        parts = upstream.detach().chunk(_shares(upstream), dim=1)
        return torch.cat(_at_once(share, parts), dim=1), None, None, None, None


def _shares(x: Tensor) -> int:
    return torch.get_num_threads() if x.device.type == "cpu" else 1


def _at_once(function: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """The function of each part, each in a thread of its own; torch's operators leave Python's lock while they work."""
    mine, *others = parts
    if not others:
        return [function(mine)]
    running = [_helpers(len(others)).submit(function, part) for part in others]
    return [function(mine), *(share.result() for share in running)]


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """Threads beside the one that asks. Each is told to work alone: with a team of its own it would hinder the others.

    Telling one of them changes what torch tells threads that start later, so the caller's number is set again.
    """
    pool, ready, threads = ThreadPoolExecutor(count, "roi_align"), Barrier(count + 1), torch.get_num_threads()

    def prepare() -> None:
        torch.set_num_threads(1)
        ready.wait()

    for _ in range(count):
        pool.submit(prepare)
    ready.wait()
    torch.set_num_threads(threads)
    return pool
