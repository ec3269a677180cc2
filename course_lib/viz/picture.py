"""What the course accepts as an image, as one kind of picture: PIL, RGB, large enough to write on."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageFont
from torch import Tensor

COMFORTABLE = 512  # px, the longer side that small pictures are enlarged towards

Picture = Image.Image | Tensor | np.ndarray


def to_picture(image: Picture) -> Image.Image:
    """Turn an image into a PIL picture in RGB.

    image: tensor (3, H, W), array (H, W, 3), or a PIL image; numbers as uint8 in 0…255 or float in 0…1 (what
    resizing overshoots is clipped).
    Raises ValueError for another shape or type, NaN, or floats that are plainly not in 0…1.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = to_numpy(image)
    if isinstance(image, Tensor):
        if pixels.ndim != 3 or pixels.shape[0] != 3:
            raise ValueError(f"image tensor: found shape {tuple(pixels.shape)}, expected (3, H, W)")
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image: found shape {tuple(pixels.shape)}, expected (H, W, 3) with pixels in it")
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = pixels.min(), pixels.max()
        if not (low >= -0.5 and high <= 1.5):  # also when NaN
            raise ValueError(f"float image: found values {low:g}…{high:g}, expected 0…1")
        pixels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"image: found {pixels.dtype}, expected uint8 in 0…255 or float in 0…1")
    return Image.fromarray(np.ascontiguousarray(pixels))


def enlarge(picture: Image.Image, scale: int | str = "auto") -> tuple[Image.Image, int]:
    """Enlarge a picture by a whole factor, each pixel to a square: what the detector saw stays visible.

    scale: the factor, or "auto" for the one that brings the longer side nearest to 512 px (never below 1).
    Returns the picture and the factor. Raises ValueError for anything else.
    """
    factor = max(1, round(COMFORTABLE / max(picture.size))) if scale == "auto" else scale
    if not isinstance(factor, int) or factor < 1:
        raise ValueError(f"scale: found {scale!r}, expected a whole number of at least 1, or 'auto'")
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST), factor


def text_size(picture: Image.Image) -> int:
    """Size in px of legible text on a picture: 1/40 of its longer side, at least 11."""
    return max(11, round(max(picture.size) / 40))


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font for pictures, `size` px high: DejaVu Sans out of matplotlib's own data, the same everywhere.

    (Pillow's built-in font has no ü, é, × or Cyrillic.)
    """
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def to_numpy(values) -> np.ndarray:
    """Tensor on any device, array or sequence → array; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().as_subclass(torch.Tensor)
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)
