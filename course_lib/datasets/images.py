"""Reading an image file: upright, RGB, eight bits, and optionally down-scaled while it is decoded."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXIF_ORIENTATION = 0x0112
SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap width and height


class WrongSize(ValueError):
    """An image file whose size is not the one that its record gives."""


def scaled_size(height: int, width: int, max_size: int | None) -> tuple[int, int]:
    """Size (height, width) in pixels after down-scaling to a longer side of at most `max_size`.

    Never enlarges; sides are rounded and stay at least 1.
    """
    longer = max(height, width)
    if max_size is None or longer <= max_size:
        return height, width
    return max(1, round(height * max_size / longer)), max(1, round(width * max_size / longer))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Size (height, width) in pixels that `image` has once its EXIF orientation is applied."""
    width, height = image.size
    if image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:
        width, height = height, width
    return height, width


def read_image(path: Path, *, max_size: int | None = None, expected: tuple[int, int] | None = None) -> np.ndarray:
    """Read any image that Pillow reads as an RGB uint8 array (H, W, 3), EXIF rotation applied.

    Grayscale is repeated over the channels, palettes are looked up, alpha is dropped, and of 16-bit samples
    the upper eight bits are kept. `max_size` limits the longer side in pixels (a JPEG is then decoded at a
    fraction of its size, which is several times faster). `expected`: (height, width) that the record gives. Where that
    is the size of the pixels as they are stored, and not of the upright picture, the annotations were made on the
    stored pixels, and these are returned.

    Raises ValueError naming the file: missing, not an image, truncated; WrongSize if it is not as expected.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such image file")
    try:
        with Image.open(path) as image:
            size, stored = upright_size(image), (image.height, image.width)
            upright = expected is None or tuple(expected) == size
            if upright or tuple(expected) == stored:
                return _decode(image, scaled_size(*(size if upright else stored), max_size), upright=upright)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{path}: not a readable image ({error}); replace the file or its record") from error
    raise WrongSize(
        f"{path}: the file is {size[1]}x{size[0]}, its record says {expected[1]}x{expected[0]}; "
        "correct width and height in the JSON, or restore the image that was annotated"
    )


def _decode(image: Image.Image, size: tuple[int, int], *, upright: bool) -> np.ndarray:
    """Decode, turn upright if asked to, resize to (height, width) `size`, convert to RGB uint8 (H, W, 3)."""
    if size != (upright_size(image) if upright else (image.height, image.width)):
        # Twice the wanted size leaves the final, well-filtered resize something to average.
        image.draft("RGB", (2 * max(size), 2 * max(size)))
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB")
    if size != (image.height, image.width):
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(image)
