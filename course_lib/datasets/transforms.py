"""Training augmentation and evaluation resizing: `transforms.v2` functionals that keep boxes and masks right.

v2's random classes draw from the global generator; here every random number comes from the one passed in, so
that a resumed run sees the same crops, bit by bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from course_lib.ops.semantic import IGNORE

IMAGENET_GRAY = (124, 116, 104)  # mean RGB of ImageNet: about zero once a model has normalised it
LUMA = (0.299, 0.587, 0.114)  # weights of R, G, B in perceived brightness (ITU-R BT.601)
MIN_SIDE = 2.0  # pixels; objects cut down to less on either side are dropped
MIN_SHARE = 0.25  # of its box; objects of which a crop leaves less are dropped

Target = dict[str, Any]


def train_transform(
    size: int | tuple[int, int],
    *,
    flip: bool = True,
    scale: tuple[float, float] = (0.6, 1.4),
    photometric: bool = True,
) -> "TrainTransform":
    """Augmentation to a fixed output size: large-scale jitter, horizontal flip, photometric jitter.

    size: output side, or (height, width), in pixels. scale: range of the random scale; at 1 the image just
    fits into the output. Call the result as `transform(image, target, generator)`.
    Raises ValueError for a size or scale that is not positive.
    """
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale is {scale}, expected (low, high) with 0 < low <= high")
    return TrainTransform(_pair(size), flip, scale, photometric)


def eval_transform(size: int | tuple[int, int]) -> "EvalTransform":
    """Resizing to fit inside `size` (side, or (height, width), in pixels), aspect kept, nothing cropped.

    Call the result as `transform(image, target)`. Raises ValueError for a size that is not positive.
    """
    return EvalTransform(_pair(size))


@dataclass(frozen=True)
class TrainTransform:
    """Random scale and crop or pad to `size`, then flip and photometric jitter (see `train_transform`).

    Large-scale jitter: Ghiasi et al. 2021, "Simple Copy-Paste", section 3; a narrower range for small models.
    One crop, one resize, one pad: what a scale above 1 would push out of the output is cut off before.
    """

    size: tuple[int, int]
    flip: bool
    scale: tuple[float, float]
    photometric: bool

    def __call__(
        self, image: tv_tensors.Image, target: Target, generator: torch.Generator
    ) -> tuple[tv_tensors.Image, Target]:
        """Transform image (3, h, w) uint8 and its target to (3, H, W).

        The target's per-object fields (every tensor but `semantic`) lose the objects of which too little is left.
        Always draws the same number of random numbers, whatever the options and the image.
        """
        u = torch.rand(7, generator=generator).tolist()
        height, width = image.shape[-2:]
        low, high = self.scale
        fit = min(self.size[0] / height, self.size[1] / width) * (low + u[0] * (high - low))
        y = Axis.draw(height, self.size[0], fit, u[1])
        x = Axis.draw(width, self.size[1], fit, u[2])

        pixels = F.resized_crop(image, y.start, x.start, y.length, x.length, [y.new, x.new])
        if self.photometric:
            pixels = jitter_color(pixels, *(0.7 + 0.6 * v for v in u[3:6]))  # each in 0.7..1.3
        canvas = image.new_tensor(IMAGENET_GRAY)[:, None, None].repeat(1, *self.size)
        canvas[:, y.window, x.window] = pixels
        target = _warp(target, y, x, self.size)
        if self.flip and u[6] < 0.5:
            canvas, target = hflip(canvas, target)
        return tv_tensors.Image(canvas), target


@dataclass(frozen=True)
class EvalTransform:
    """Resize to fit inside `size` (see `eval_transform`)."""

    size: tuple[int, int]

    def __call__(
        self, image: tv_tensors.Image, target: Target | None = None
    ) -> tuple[tv_tensors.Image, Target | None, Tensor]:
        """Resize image (3, h, w) and its target.

        Returns image, target, and the scale (4,) float32 (x, y, x, y): `boxes / scale` takes boxes back to
        the pixels of the given image.
        """
        height, width = image.shape[-2:]
        fit = min(self.size[0] / height, self.size[1] / width)
        y, x = Axis.fitted(height, self.size[0], fit), Axis.fitted(width, self.size[1], fit)
        if target is not None:
            target = _warp(target, y, x, (y.new, x.new), clean=False)
        image = F.resize(image, [y.new, x.new])
        return image, target, torch.tensor([x.scale, y.scale, x.scale, y.scale])


@dataclass(frozen=True)
class Axis:
    """How one image axis maps to the output: pixels start..start+length become offset..offset+new."""

    start: int
    length: int
    new: int
    offset: int

    @classmethod
    def fitted(cls, old: int, size: int, scale: float) -> "Axis":
        """The whole axis of `old` pixels, scaled, at offset 0; between 1 and `size` pixels."""
        return cls(0, old, min(size, max(1, round(old * scale))), 0)

    @classmethod
    def draw(cls, old: int, size: int, scale: float, u: float) -> "Axis":
        """Scale an axis of `old` pixels; crop it to `size` or place it within, at random by u in 0..1."""
        if round(old * scale) <= size:
            new = max(1, round(old * scale))
            return cls(0, old, new, int(u * (size - new + 1)))
        length = min(old, max(1, round(size / scale)))
        return cls(int(u * (old - length + 1)), length, size, 0)

    @property
    def scale(self) -> float:
        """New pixels per old pixel, exactly."""
        return self.new / self.length

    @property
    def sources(self) -> np.ndarray:
        """(new,) the old pixel under the centre of each new one."""
        return ((np.arange(self.new) + 0.5) / self.scale).astype(np.int64) + self.start

    @property
    def window(self) -> slice:
        """Where the pixels land in the output."""
        return slice(self.offset, self.offset + self.new)


def jitter_color(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Change brightness, contrast and saturation of a uint8 image (3, H, W); 1 leaves each as it is.

    All three are affine in (R, G, B), so they are composed into one 3x3 matrix and an offset, and the image
    is read and written once: brightness b x, contrast c x + (1 - c) 128, saturation s x + (1 - s) luma(x).
    """
    gain, shift = contrast * brightness, (1 - contrast) * 128.0
    matrix = gain * (saturation * torch.eye(3) + (1 - saturation) * torch.tensor(LUMA).expand(3, 3))
    flat = image.as_subclass(Tensor).reshape(3, -1).float()
    mixed = torch.addmm(torch.full((3, 1), shift + 0.5), matrix, flat)  # 0.5: the cast below rounds down
    return mixed.clamp_(0, 255).to(torch.uint8).view(image.shape)


def hflip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirror image (..., H, W), boxes (N, 4), masks (N, H, W) and semantic (H, W) left to right."""
    width = image.shape[-1]
    x1, y1, x2, y2 = target["boxes"].as_subclass(Tensor).unbind(1)
    flipped = {"boxes": _boxes(torch.stack([width - x2, y1, width - x1, y2], 1), image.shape[-2:])}
    flipped |= {key: F.horizontal_flip(target[key]) for key in ("masks", "semantic") if key in target}
    return F.horizontal_flip(image), target | flipped


def _warp(target: Target, y: Axis, x: Axis, size: tuple[int, int], *, clean: bool = True) -> Target:
    """Map boxes, masks, areas and semantic by the two axes into an output of `size`; `clean`: drop what is cut off."""
    scale = torch.tensor([x.scale, y.scale, x.scale, y.scale])
    move = torch.tensor([x.offset - x.start * x.scale, y.offset - y.start * y.scale]).repeat(2)
    boxes = target["boxes"].as_subclass(Tensor) * scale + move
    left, top = x.offset, y.offset
    low, high = torch.tensor([left, top, left, top]), torch.tensor([left + x.new, top + y.new]).repeat(2)
    clipped = boxes.clamp(low, high)
    share = _area(clipped) / _area(boxes).clamp(min=1e-9)
    out = target | {"boxes": clipped, "area": target["area"] * (x.scale * y.scale) * share}
    keep = (clipped[:, 2:] - clipped[:, :2] >= MIN_SIDE).all(1) & (share >= MIN_SHARE)
    if "masks" in target:
        masks = torch.zeros((len(boxes), *size), dtype=torch.bool)
        # v2 resizes masks with centres half a pixel off ("nearest"); this takes the pixel under each centre.
        taken = target["masks"].numpy().take(y.sources, axis=1).take(x.sources, axis=2)  # (N, y.new, x.new)
        masks[:, y.window, x.window] = torch.from_numpy(taken)
        out |= {"masks": masks, "area": masks.sum((1, 2)).float()}
        keep &= out["area"] > 0
    if clean and not keep.all():
        out = {k: v[keep] if isinstance(v, Tensor) and k != "semantic" else v for k, v in out.items()}
    if "semantic" in target:
        semantic = torch.full(size, IGNORE)
        taken = target["semantic"].numpy().take(y.sources, axis=0).take(x.sources, axis=1)  # (y.new, x.new)
        semantic[y.window, x.window] = torch.from_numpy(taken)
        out["semantic"] = tv_tensors.Mask(semantic)
    out["boxes"] = _boxes(out["boxes"], size)
    if "masks" in out:
        out["masks"] = tv_tensors.Mask(out["masks"])
    return out


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _boxes(boxes: Tensor, size: Sequence[int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(size))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"size is {size}, expected a side or (height, width) of at least 1 pixel")
    return pair
