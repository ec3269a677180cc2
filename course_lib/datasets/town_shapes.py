"""How Town draws a shape: paint part numbers on a fine grid once, colour them, average them down to any size.

A sprite is a small picture of *part numbers* (body, glass, tyre, skin, …), not of colours. Its palette comes when
it is used, so one painting serves every size, colour, light and distance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Part numbers. MAIN comes in three tones so that a shape has form; 0 is transparent.
MAIN, DARK, LIGHT, GLASS, TYRE, ACCENT, SKIN, HAIR, WHITE, LAMP = range(1, 11)
PARTS = 11

_LEVELS = (96, 192, 384, 768, 1536)  # rows of the fine grids


class Canvas:
    """A grid of part numbers to paint on; its height is 1, its width `aspect`, its origin the top left corner."""

    def __init__(self, rows: int, aspect: float) -> None:
        self.index = np.zeros((rows, max(1, round(rows * aspect))), np.uint8)
        self.y = ((np.arange(rows) + 0.5) / rows)[:, None]
        self.x = ((np.arange(self.index.shape[1]) + 0.5) / rows)[None, :]

    def box(self, part: int, x0: float, y0: float, x1: float, y1: float, r: float = 0.0) -> None:
        """Fill the rectangle x0..x1, y0..y1, its corners rounded by radius r."""
        dx = np.maximum(np.maximum(x0 + r - self.x, self.x - (x1 - r)), 0)
        dy = np.maximum(np.maximum(y0 + r - self.y, self.y - (y1 - r)), 0)
        self.index[dx**2 + dy**2 <= r * r] = part

    def ellipse(self, part: int, cx: float, cy: float, rx: float, ry: float | None = None) -> None:
        """Fill the ellipse about (cx, cy) with radii rx, ry (a circle if ry is left out)."""
        self.index[((self.x - cx) / rx) ** 2 + ((self.y - cy) / (ry or rx)) ** 2 <= 1] = part

    def limb(self, part: int, x0: float, y0: float, x1: float, y1: float, width: float) -> None:
        """Draw a thick line with round ends."""
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        near = (self.x - x0 - t * dx) ** 2 + (self.y - y0 - t * dy) ** 2 <= (width / 2) ** 2
        self.index[near] = part

    def poly(self, part: int, *points: tuple[float, float]) -> None:
        """Fill a polygon (even-odd rule)."""
        inside = np.zeros(self.index.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            if y0 != y1:
                inside ^= ((self.y < y0) != (self.y < y1)) & (self.x < x0 + (self.y - y0) * (x1 - x0) / (y1 - y0))
        self.index[inside] = part


@dataclass(frozen=True)
class Sprite:
    """One variant of a class: how to paint it, and its height in persons (a standing person is 1)."""

    paint: Callable[[Canvas], None]
    aspect: float
    height: float


@functools.cache
def _painting(sprite: Sprite, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A sprite as a summed-area table (Crow 1984), from which the parts' shares in a rectangle take four look-ups.

    Returns how many cells of each part lie above and left of each grid corner, (rows + 1, columns + 1, P) float32,
    and the numbers (P,) of the parts that the sprite has.
    """
    canvas = Canvas(rows, sprite.aspect)
    sprite.paint(canvas)
    filled = canvas.index > 0  # crop to what is painted: the box of a sprite is then tight
    ys, xs = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
    index = canvas.index[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    parts = np.unique(index[index > 0])
    cells = (index[:, :, None] == parts).cumsum(0).cumsum(1)
    return np.pad(cells, ((1, 0), (1, 0), (0, 0))).astype(np.float32), parts


@functools.cache
def _cuts(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Where to cut `source` cells into `target` pixels: the target + 1 cuts, and the cells of each pixel."""
    cuts = np.rint(np.arange(target + 1) * (source / target)).astype(int)
    return cuts, np.diff(cuts).astype(np.float32)


@functools.cache
def proportions(sprite: Sprite) -> float:
    """Width divided by height of the painted part of a sprite."""
    rows, columns, _ = _painting(sprite, _LEVELS[0])[0].shape
    return (columns - 1) / (rows - 1)


def render(sprite: Sprite, palette: np.ndarray, height: int, width: int, flip: bool = False) -> np.ndarray:
    """Colour a sprite and average it to a size.

    `palette` is (4, PARTS) float32: red, green, blue in 0..255 and opacity 0 or 1 of each part (column 0 is zero).
    All whole numbers, so that the sums are exact and the same on every machine.
    Returns (4, height, width) float32: colour times opacity, and opacity.
    """
    table, parts = _painting(sprite, next((r for r in _LEVELS if r >= 3 * height), _LEVELS[-1]))
    y, tall = _cuts(table.shape[0] - 1, height)
    x, wide = _cuts(table.shape[1] - 1, width)
    corners = table.reshape(-1, len(parts)).take(y[:, None] * table.shape[1] + x, axis=0)
    below = corners[1:] - corners[:-1]
    cells = below[:, 1:] - below[:, :-1]  # (height, width, P)
    # One small product for each row: too small for BLAS to start threads, which would fight over the cores.
    picture = palette[:, parts] @ cells.transpose(0, 2, 1)  # (height, 4, width)
    picture /= tall[:, None, None] * wide
    picture = picture.transpose(1, 0, 2)
    return picture[:, :, ::-1] if flip else picture


def unit(values: np.ndarray) -> np.ndarray:
    """Values limited to 0..1 (for small arrays several times as fast as np.clip)."""
    return np.minimum(np.maximum(values, 0), 1)


def stamp(image: np.ndarray, picture: np.ndarray, top: int, left: int) -> tuple[slice, slice, np.ndarray]:
    """Blend a rendered sprite (4, h, w) into an image (3, H, W), clipped to it.

    Returns the window that it touched (a slice of rows, a slice of columns) and where it is solid in that window.
    """
    y0, x0 = max(top, 0), max(left, 0)
    picture = picture[:, y0 - top :, x0 - left :]
    rows = slice(y0, min(y0 + picture.shape[1], image.shape[1]))
    cols = slice(x0, min(x0 + picture.shape[2], image.shape[2]))
    window = image[:, rows, cols]
    picture = picture[:, : window.shape[1], : window.shape[2]]
    window *= 1 - picture[3]
    window += picture[:3]
    return rows, cols, picture[3] >= 0.5
