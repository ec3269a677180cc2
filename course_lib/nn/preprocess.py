"""From pictures of any size to one normalised batch, and boxes back again."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]  # (height, width)
RESIZES = ("none", "fit", "stretch_float", "shortest_float", "shortest_uint8")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network wants to see.

    Attributes:
        mean, std: per channel, in the units of `scale`.
        bgr: channel order blue, green, red (Detectron2's zoo) instead of RGB.
        scale: pixel values for white, 1.0 or 255.0.
        resize: "none"; "fit" (the image fills (height, width) = `size`, aspect kept, antialiased); "stretch_float"
            (torchvision's SSD: to (height, width) = `size`, aspect lost; float interpolation after normalising);
            "shortest_float" (torchvision: shorter side to size[0] unless the longer passes size[1]; float
            interpolation *after* normalising, sizes rounded down); "shortest_uint8" (Detectron2: the same rule on
            8-bit pixels through PIL, sizes rounded to nearest).
        size: two numbers whose meaning `resize` gives.
        divisor: batches are padded with zeros, after normalising, to a multiple of this.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    bgr: bool = False
    scale: float = 1.0
    resize: str = "none"
    size: Size = (800, 1333)
    divisor: int = 32


@dataclass
class Batch:
    """A normalised, padded batch.

    Attributes:
        images: (B, 3, H, W).
        sizes: each image's (height, width) inside the batch, without padding.
        original_sizes: each image's (height, width) as it was given.
    """

    images: Tensor
    sizes: list[Size]
    original_sizes: list[Size]


class Preprocess(nn.Module):
    """Resize, normalise and pad: every model owns one, so that any picture can be handed to any model.

    Args:
        spec: what the network wants.
    """

    def __init__(self, spec: InputSpec):
        super().__init__()
        if spec.resize not in RESIZES:
            raise ValueError(f"resize must be one of {', '.join(RESIZES)}, not {spec.resize!r}")
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor | list[Tensor]) -> Batch:
        """A batch from RGB images.

        Args:
            images: a list of (3, H, W), float in 0 … 1 or uint8, sizes may differ; or one tensor (B, 3, H, W) whose
                images are already of the network's size (the training loop's fast path: nothing is resized).

        Raises:
            ValueError: for an image that is not (3, H, W) or not of these types.
        """
        one_batch = isinstance(images, Tensor) and images.ndim == 4
        for i, image in enumerate(images):
            if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
                raise ValueError(f"image {i} has shape {tuple(image.shape)}: expected (3, H, W) with H, W ≥ 1")
            if not (image.is_floating_point() or image.dtype == torch.uint8):
                raise ValueError(f"image {i} is {image.dtype}: expected float in 0 … 1 or uint8")
        if one_batch:
            size = tuple(images.shape[-2:])
            return Batch(self._pad([self._normalise(images)]), [size] * len(images), [size] * len(images))
        originals = [tuple(image.shape[-2:]) for image in images]
        resized = [self._resize_and_normalise(image) for image in images]
        return Batch(self._pad(resized), [tuple(x.shape[-2:]) for x in resized], originals)

    def _resize_and_normalise(self, image: Tensor) -> Tensor:
        original = tuple(image.shape[-2:])
        size = network_size(original, self.spec)
        match self.spec.resize:
            case "none":
                return self._normalise(image)
            case "fit":
                if size != original:
                    image = _to_float(image)
                    image = F.interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
                return self._normalise(image)
            case "stretch_float" | "shortest_float":
                return F.interpolate(self._normalise(image)[None], size, mode="bilinear", align_corners=False)[0]
        # shortest_uint8
        picture = Image.fromarray(to_bytes(image).permute(1, 2, 0).cpu().numpy())
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
        return self._normalise(torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(image.device))

    def _normalise(self, image: Tensor) -> Tensor:
        """(…, 3, H, W) in 0 … 1 or uint8 to the network's units."""
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype)
            image = image if self.spec.scale == 255 else image * (self.spec.scale / 255)
        elif self.spec.scale != 1:
            image = image * self.spec.scale
        if self.spec.bgr:
            image = image.flip(-3)
        return (image - self.mean) / self.std

    def _pad(self, images: list[Tensor]) -> Tensor:
        """A list of (3, H, W) or a list of one batch (B, 3, H, W), padded to one size: (B, 3, H', W')."""
        divisor = self.spec.divisor
        height = -(-max(x.shape[-2] for x in images) // divisor) * divisor
        width = -(-max(x.shape[-1] for x in images) // divisor) * divisor
        padded = [F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])) for x in images]
        return padded[0] if padded[0].ndim == 4 else torch.stack(padded)


def _to_float(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image


def to_bytes(image: Tensor) -> Tensor:
    """An image in 0 … 1 as uint8 0 … 255, rounded to the nearest; one that is uint8 stays as it is."""
    return image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255).to(torch.uint8)


def network_size(size: Size, spec: InputSpec) -> Size:
    """(height, width) at which the network sees an image of this size, before padding."""
    height, width = size
    match spec.resize:
        case "none":
            return size
        case "fit":
            factor = min(spec.size[0] / height, spec.size[1] / width)
            return max(1, round(height * factor)), max(1, round(width * factor))
        case "stretch_float":
            return spec.size
        case "shortest_float":
            factor = min(spec.size[0] / min(height, width), spec.size[1] / max(height, width))
            return max(1, math.floor(height * factor)), max(1, math.floor(width * factor))
    factor = spec.size[0] / min(height, width)
    if max(height, width) * factor > spec.size[1]:
        factor = spec.size[1] / max(height, width)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def rescale_boxes(boxes: Tensor, from_size: Size, to_size: Size) -> Tensor:
    """Boxes (N, 4) of an image of `from_size` in the pixels of the same image at `to_size`."""
    ratio_y, ratio_x = (boxes.new_tensor(to) / boxes.new_tensor(frm) for to, frm in zip(to_size, from_size))
    return boxes * torch.stack((ratio_x, ratio_y, ratio_x, ratio_y))
