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
        rows = [(levels == i).nonzero().squeeze(1) for i in range(len(self.strides))]
        maps = [x.float() for x in features[: len(self.strides)]]  # the operators have no bfloat16 on a CPU
        if self.spec.kind == "pool":
            parts = [roi_pool(x, regions[r], self.spec.size, 1 / s) for x, r, s in zip(maps, rows, self.strides)]
            pooled = torch.cat(parts).index_select(0, torch.cat(rows).argsort())
        else:
            pooled = _RoIAlign.apply(self.spec, self.strides, regions, rows, *maps)
        return pooled.to(features[0].dtype)


class _RoIAlign(torch.autograd.Function):
    """torchvision's operator, which works on one core, with the channels shared out among all of them.

    Each thread writes its channels of every level straight to their place: with 1,000 regions of 256 channels, 50 MB,
    each copy counts.
    """

    @staticmethod
    def forward(ctx, spec: PoolSpec, strides: tuple, regions: Tensor, rows: list[Tensor], *maps: Tensor) -> Tensor:
        ctx.save_for_backward(regions)
        ctx.settings = spec, strides, rows, [x.shape for x in maps]
        operator, channels = torch.ops.torchvision.roi_align, maps[0].shape[1]
        pooled = maps[0].new_empty(len(regions), channels, spec.size, spec.size)

        def share(part: slice) -> None:
            for x, index, stride in zip(maps, rows, strides):
                x, grid = x.detach()[:, part], (1 / stride, spec.size, spec.size)
                bins = operator(x, regions[index], *grid, spec.sampling_ratio, spec.aligned)
                pooled[:, part].index_copy_(0, index, bins)

        _at_once(share, channels, maps[0].device)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (regions,) = ctx.saved_tensors
        spec, strides, rows, shapes = ctx.settings
        operator = torch.ops.torchvision._roi_align_backward
        grads = [upstream.new_empty(shape) for shape in shapes]

        def share(part: slice) -> None:
            for grad, index, stride in zip(grads, rows, strides):
                batch, channels, height, width = grad[:, part].shape
                shape = spec.size, spec.size, batch, channels, height, width
                bins = upstream[:, part].index_select(0, index)
                grad[:, part] = operator(bins, regions[index], 1 / stride, *shape, spec.sampling_ratio, spec.aligned)

        _at_once(share, upstream.shape[1], upstream.device)
        return None, None, None, None, *grads


def _at_once(function: Callable[[slice], None], channels: int, device: torch.device) -> None:
    """Call it for all channels, some in each thread; torch's operators leave Python's lock while they work."""
    count = min(torch.get_num_threads(), channels) if device.type == "cpu" else 1
    mine, *others = (slice(channels * i // count, channels * (i + 1) // count) for i in range(count))
    inference = torch.is_inference_mode_enabled()  # a thread does not inherit it

    def elsewhere(part: slice) -> None:
        with torch.no_grad(), torch.inference_mode(inference):
            function(part)

    running = [_helpers(len(others)).submit(elsewhere, part) for part in others]
    function(mine)
    for share in running:
        share.result()


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
