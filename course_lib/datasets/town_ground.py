"""The stage of a Town scene: sky, skyline, and the bands of ground in perspective (the *stuff* classes)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from course_lib.datasets.town_shapes import (
    DARK,
    LIGHT,
    MAIN,
    PARTS,
    TREES,
    TYRE,
    proportions,
    render,
)

VOID, SKY, BUILDING, TREE, GRASS, PAVEMENT, ROAD, WATER = range(8)

# A mood: top of the sky, foot of the sky (also the haze), the light that multiplies every colour.
_MOODS = (
    ((96, 158, 216), (206, 226, 236), (1.0, 1.0, 0.98)),  # clear noon
    ((120, 176, 206), (240, 226, 196), (1.04, 0.98, 0.88)),  # golden morning
    ((158, 172, 184), (208, 212, 214), (0.9, 0.92, 0.94)),  # overcast
    ((112, 112, 168), (244, 186, 160), (0.98, 0.86, 0.84)),  # pink dusk
    ((64, 92, 140), (178, 176, 196), (0.78, 0.8, 0.92)),  # blue evening
    ((104, 186, 206), (226, 238, 226), (1.02, 1.02, 0.96)),  # fresh spring
)
_WALLS = (
    (206, 176, 146), (188, 122, 98), (222, 206, 178), (150, 156, 164), (176, 148, 136),
    (128, 142, 152), (214, 186, 120), (164, 108, 92), (198, 200, 196), (140, 160, 146),
)  # fmt: skip
_ROOFS = ((150, 84, 66), (104, 96, 100), (124, 108, 92), (84, 92, 108))
_LEAVES = ((86, 134, 72), (70, 116, 78), (120, 144, 70), (150, 132, 62), (96, 142, 96))
_GROUND = {
    GRASS: ((120, 160, 82), (104, 148, 84), (146, 164, 88)),
    PAVEMENT: ((190, 184, 174), (176, 174, 172), (202, 188, 166)),
    ROAD: ((104, 104, 110), (116, 112, 112), (92, 96, 104)),
    WATER: ((92, 146, 170), (86, 132, 150), (104, 156, 168)),
}
# Bands from the buildings down to the viewer, each with its share of the ground's rows.
_LAYOUTS = (
    ((PAVEMENT, 0.16), (ROAD, 0.42), (PAVEMENT, 0.42)),
    ((GRASS, 0.2), (PAVEMENT, 0.14), (ROAD, 0.36), (PAVEMENT, 0.3)),
    ((PAVEMENT, 0.1), (ROAD, 0.36), (PAVEMENT, 0.2), (GRASS, 0.34)),
    ((PAVEMENT, 0.12), (WATER, 0.16), (PAVEMENT, 0.16), (ROAD, 0.34), (PAVEMENT, 0.22)),
    ((GRASS, 0.14), (ROAD, 0.34), (GRASS, 0.16), (PAVEMENT, 0.36)),
    ((PAVEMENT, 0.2), (ROAD, 0.36), (GRASS, 0.16), (WATER, 0.28)),
)
_GRAIN = {GRASS: 11.0, PAVEMENT: 4.0, ROAD: 4.5, WATER: 4.0}


@dataclass
class Stage:
    """An empty scene: `image` (3, H, W) float32 in 0..255, `stuff` (H, W) int64 of stuff numbers, and its light."""

    image: np.ndarray
    stuff: np.ndarray
    foot: int  # row where the ground begins
    light: np.ndarray  # (3,) multiplies colours
    haze: np.ndarray  # (3,) colour of far things
    sun: float  # -1..1: where the shadows fall


@functools.cache
def _noise(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Banks to cut patches from: white noise (3, h, w), soft clouds (h, w), smooth curves (64, w); unit variance."""
    rng = np.random.default_rng(20)
    h, w = height + 64, 2 * width + 64
    white = rng.standard_normal((3, h, w), dtype=np.float32)
    curves = rng.standard_normal((64, w))
    cloud = rng.standard_normal((h, w))
    fy, fx = np.fft.fftfreq(h, 1 / h)[:, None], np.fft.rfftfreq(w, 1 / w)[None]
    cloud = np.fft.irfft2(np.fft.rfft2(cloud) / (4 + fx * fx + 6 * fy * fy), (h, w))
    curves = np.fft.irfft(np.fft.rfft(curves) / (9 + fx * fx), w)
    quantise = [np.round(z / z.std() * 256).astype(np.float32) / 256 for z in (cloud, curves)]
    return white, quantise[0], quantise[1]


def cut_noise(rng: np.random.Generator, height: int, width: int, rows: int) -> np.ndarray:
    """A patch (3, rows, width) of white noise of unit variance."""
    white = _noise(height, width)[0]
    y, x = rng.integers(0, 64), rng.integers(0, width + 64)
    return white[:, y : y + rows, x : x + width]


def tint(rng: np.random.Generator, colour: tuple[int, int, int], spread: float = 8.0) -> np.ndarray:
    """A colour (3,) float, varied a little in brightness and a little in hue."""
    return np.asarray(colour) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3)


def stamp(image: np.ndarray, picture: np.ndarray, top: int, left: int) -> tuple[slice, slice, np.ndarray]:
    """Blend a rendered sprite (4, h, w) into the image; returns the window (rows, columns) and the solid part."""
    _, h, w = picture.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + h, image.shape[1]), min(left + w, image.shape[2])
    rows, cols = slice(y0, max(y1, y0)), slice(x0, max(x1, x0))
    part = picture[:, y0 - top : rows.stop - top, x0 - left : cols.stop - left]
    window = image[:, rows, cols]
    window *= 1 - part[3]
    window += part[:3]
    return rows, cols, part[3] >= 0.5


def lay_stage(height: int, width: int, rng: np.random.Generator) -> Stage:
    """Draw sky, skyline and ground; everything that the scene's things will stand on."""
    side = min(height, width)
    top, low, light = (np.asarray(z, float) for z in _MOODS[rng.integers(len(_MOODS))])
    top, low = top + rng.normal(0, 6, 3), low + rng.normal(0, 5, 3)
    foot = int(height * rng.uniform(0.38, 0.5))
    image = np.empty((3, height, width), np.float32)
    stuff = np.full((height, width), SKY, np.int64)
    stage = Stage(image, stuff, foot, light.astype(np.float32), low, rng.uniform(-1, 1))
    _sky(stage, top, low, rng)
    _skyline(stage, side, rng)
    _bands(stage, rng)
    return stage


def _sky(stage: Stage, top: np.ndarray, low: np.ndarray, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    rows = stage.foot + 2
    t = (np.arange(rows) / rows)[None, :, None]
    stage.image[:, :rows] = top[:, None, None] * (1 - t) + low[:, None, None] * t
    cloud = _noise(height, width)[1]
    y, x = rng.integers(0, 64), rng.integers(0, width + 64)
    cover = np.clip(cloud[y : y + rows, x : x + width] * 0.5 + rng.uniform(-0.5, 0.3), 0, 0.8)
    white = (0.4 * low + 0.6 * 250).astype(np.float32)[:, None, None]
    stage.image[:, :rows] += (white - stage.image[:, :rows]) * cover


def _skyline(stage: Stage, side: int, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    base = stage.foot + max(2, side // 32)
    light, haze = stage.light, stage.haze
    evening = light[0] < 0.9
    x = -int(rng.integers(0, max(1, side // 8)))
    while x < width:
        w = int(side * rng.uniform(0.16, 0.36))
        h = int(height * rng.uniform(0.1, 0.34))
        x0, x1 = max(x, 0), min(x + w, width)
        x += w
        if x1 <= x0:
            continue
        if rng.random() < 0.2:  # a gap: lower greenery instead of a house
            _tree(stage, (x0 + x1) // 2, base, side, rng)
            continue
        y0 = max(stage.foot - h, 2)
        wall = tint(rng, _WALLS[rng.integers(len(_WALLS))]) * light * 0.85 + haze * 0.15
        gable = rng.random() < 0.45
        if gable:
            _roof(
                stage, x - w, w, y0, tint(rng, _ROOFS[rng.integers(len(_ROOFS))]) * light * 0.88 + haze * 0.12
            )
        stage.image[:, y0:base, x0:x1] = wall[:, None, None]
        stage.stuff[y0:base, x0:x1] = BUILDING
        # windows: a grid of cells, each with its own share of light
        p, q = max(4, int(side * rng.uniform(0.05, 0.08))), max(4, int(side * rng.uniform(0.06, 0.09)))
        cx, cy = np.arange(x1 - x0), np.arange(base - y0)
        pane = (cx % p >= p // 3) & (((cy % q >= q // 3) & (cy < base - y0 - q // 2))[:, None])
        dark, lit = (
            wall * 0.45 + (10, 16, 26),
            np.array((255.0, 222, 150)) * (1.0 if evening else 0.6) + wall * 0.1,
        )
        share = (rng.random((len(cy) // q + 1, len(cx) // p + 1)) < (0.4 if evening else 0.12))[cy // q][
            :, cx // p
        ]
        window = stage.image[:, y0:base, x0:x1]
        np.copyto(window, dark[:, None, None].astype(np.float32), where=pane)
        np.copyto(window, lit[:, None, None].astype(np.float32), where=pane & share)
        stage.image[:, y0 : y0 + 1, x0:x1] = (wall * 0.8)[:, None, None]
        stage.image[:, y0:base, x1 - 1 : x1] *= 0.8
    for _ in range(rng.integers(0, 4)):
        _tree(stage, int(rng.integers(0, width)), base, side, rng)


def _roof(stage: Stage, left: int, w: int, eave: int, colour: np.ndarray) -> None:
    rise = max(2, min(int(w * 0.35), eave - 1))
    y0, width = eave - rise, stage.image.shape[2]
    xs = np.arange(max(left, 0), min(left + w, width))
    half = np.abs(xs + 0.5 - left - w / 2) / (w / 2)
    inside = (np.arange(rise)[:, None] + 0.5) / rise >= half
    np.copyto(
        stage.image[:, y0:eave, xs[0] : xs[-1] + 1], colour[:, None, None].astype(np.float32), where=inside
    )
    stage.stuff[y0:eave, xs[0] : xs[-1] + 1][inside] = BUILDING


def _tree(stage: Stage, x: int, base: int, side: int, rng: np.random.Generator) -> None:
    sprite = TREES[rng.integers(len(TREES))]
    h = max(6, int(side * rng.uniform(0.14, 0.3)))
    w = max(4, int(h * proportions(sprite) * rng.uniform(0.85, 1.3)))
    leaf = tint(rng, _LEAVES[rng.integers(len(_LEAVES))])
    palette = np.zeros((4, PARTS), np.float32)
    for part, colour in ((MAIN, leaf), (DARK, leaf * 0.75), (LIGHT, leaf * 1.15), (TYRE, (96, 74, 58))):
        palette[:3, part] = np.clip(np.rint(colour * stage.light * 0.9 + stage.haze * 0.1), 0, 255)
        palette[3, part] = 255
    picture = render(sprite, palette, h, w, bool(rng.integers(2)))
    rows, cols, solid = stamp(stage.image, picture, base - h, x - w // 2)
    stage.stuff[rows, cols][solid] = TREE


def _bands(stage: Stage, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    foot, depth = stage.foot, height - stage.foot
    layout = _LAYOUTS[rng.integers(len(_LAYOUTS))]
    shares = np.array([share for _, share in layout]) * rng.uniform(0.8, 1.2, len(layout))
    edges = foot + depth * np.concatenate([[0], np.cumsum(shares / shares.sum())])
    tilt = rng.normal(0, 0.02) * depth
    curves = _noise(height, width)[2]
    across = np.linspace(-1, 1, width)
    yy = np.arange(height)[:, None] + 0.5
    lines, before = [], None
    for edge, (kind, _) in zip(edges, layout):
        soft = kind in (GRASS, WATER) or before in (GRASS, WATER)
        x = rng.integers(0, width + 64)
        wave = curves[rng.integers(64), x : x + width] * depth * (0.035 if soft else 0.008)
        line = edge + tilt * across + wave
        lines.append(np.maximum(line, lines[-1] + 1) if lines else line)
        before = kind
    near = (np.arange(height) - foot) / depth  # 0 at the far end, 1 at the viewer
    for k, (kind, _) in enumerate(layout):
        line = lines[k]
        y0 = max(0, int(line.min()))
        below = yy[y0:] >= line
        colours = _GROUND[kind]
        colour = tint(rng, colours[rng.integers(len(colours))]) * stage.light
        texture = cut_noise(rng, height, width, height - y0)[:1] * _GRAIN[kind] + colour[:, None, None]
        np.copyto(stage.image[:, y0:], texture, where=below, casting="unsafe")
        stage.stuff[y0:][below] = kind
        if kind == ROAD or (k and layout[k - 1][0] == ROAD):  # kerb
            thick = 1 + 0.02 * depth * near[y0]
            kerb = below & (yy[y0:] < line + thick)
            stage.image[:, y0:][:, kerb] += 26
        if kind == ROAD:
            end = lines[k + 1] if k + 1 < len(lines) else np.full(width, height)
            middle = 0.45 * line + 0.55 * end
            thick = 0.5 + 0.008 * depth
            m0, m1 = int(middle.min() - thick), int(middle.max() + thick) + 2
            dash = ((np.arange(width) + rng.integers(0, 64)) // max(3, width // 14)) % 2 == 0
            mark = (np.abs(yy[m0:m1] - middle) <= thick) & dash & below[m0 - y0 : m1 - y0]
            stage.image[:, m0:m1][:, mark] += 84
    haze = (0.22 * (1 - np.clip(near[foot:], 0, 1)) ** 2).astype(np.float32)[:, None]
    ground = stage.image[:, foot:]
    ground += (stage.haze[:, None, None].astype(np.float32) - ground) * haze
