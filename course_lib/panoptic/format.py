"""COCO's panoptic format: a PNG whose colours are segment ids, and a JSON that says what each id is.

A pixel's id is R + 256 G + 65536 B; 0 is void, a pixel that belongs to no segment.
"""

from pathlib import Path

import numpy as np
from PIL import Image

VOID = 0
LARGEST_ID = 256**3 - 1


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """The picture of a map of segment ids: (H, W) integers 0 … 2²⁴ − 1 → (H, W, 3) uint8.

    Raises ValueError for an id that three bytes cannot hold.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() <= LARGEST_ID:
        raise ValueError(f"ids from {ids.min()} to {ids.max()}: expected 0 … {LARGEST_ID}, what three bytes hold")
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def rgb_to_ids(pixels: np.ndarray) -> np.ndarray:
    """The segment ids in a picture: (H, W, 3) uint8 → (H, W) int32."""
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red | green << 8 | blue << 16


def write_ids(path: Path, ids: np.ndarray) -> None:
    """Write a map of ids (H, W) as a panoptic PNG, beside its target and then renamed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    Image.fromarray(ids_to_rgb(ids)).save(temporary, format="PNG", compress_level=1)
    temporary.replace(path)


def read_ids(path: Path) -> np.ndarray:
    """The map of ids (H, W) int32 of a panoptic PNG.

    Raises:
        ValueError: if the file is missing, damaged, or not an RGB picture (a palette or a grey one holds no ids).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such panoptic PNG")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, …
        raise ValueError(f"{path}: not readable as a picture ({error}); write the file anew") from error
    if image.mode != "RGB":
        raise ValueError(f"{path}: mode is {image.mode}, expected RGB with id = R + 256 G + 65536 B")
    # Pillow keeps RGB in four bytes a pixel: with the fourth, a pixel is one little-endian integer, and no byte moves.
    words = np.asarray(image.convert("RGBA")).view("<u4")[..., 0]
    return (words & LARGEST_ID).view(np.int32)
