"""The stage of a Town scene: sky, skyline, and the bands of ground in perspective (the *stuff* classes)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from course_lib.datasets.town_shapes import DARK, LIGHT, MAIN, PARTS, TYRE, proportions, render, stamp, unit
from course_lib.datasets.town_sprites import TREES

STUFF = ("sky", "building", "tree", "grass", "pavement", "road", "water")
SKY, BUILDING, TREE, GRASS, PAVEMENT, ROAD, WATER = range(7)

# A mood: the top of the sky, the foot of the sky (also the haze), the light that multiplies every colour.
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
_GLASS, _LIT = np.array((10, 16, 26)), np.array((255, 222, 150))  # windows by day and by night
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
_MARGIN = 64  # how much larger the noise banks are than a picture: room to cut at random


@dataclass
class Stage:
    """A scene without things: its picture, its stuff, and the light that things will stand in."""

    image: np.ndarray  # (3, H, W) float32, 0..255
    stuff: np.ndarray  # (H, W) int64, index into STUFF
    foot: int  # the row where the ground begins
    light: np.ndarray  # (3,) float32, multiplies colours
    haze: np.ndarray  # (3,) float32, the colour that far things fade to
    sun: float  # -1..1, the side that shadows fall to


@dataclass
class _Banks:
    """Noise to cut patches from, made once for each picture size; all of unit variance."""

    white: np.ndarray  # (3, h, w) the sensor's
    cloud: np.ndarray  # (h, w) soft
    curves: np.ndarray  # (64, w) smooth lines
    texture: dict[int, np.ndarray]  # stuff -> (h, w), in levels of brightness


@functools.cache
def _banks(height: int, width: int) -> _Banks:
    rng = np.random.default_rng(20)
    h, w = height + _MARGIN, width + 2 * _MARGIN
    side = min(height, width)
    fy, fx = np.fft.fftfreq(h)[:, None] * side, np.fft.rfftfreq(w) * side  # waves per side of the picture

    def unit_variance(z: np.ndarray) -> np.ndarray:
        return (np.round(z / z.std() * 256) / 256).astype(np.float32)  # rounded: the same on every machine

    def smooth(gain: np.ndarray) -> np.ndarray:
        """Noise with the given gain at each frequency."""
        return unit_variance(np.fft.irfft2(np.fft.rfft2(rng.standard_normal((h, w))) * gain, (h, w)))

    white = rng.standard_normal((3, h, w), dtype=np.float32)
    cloud = smooth(1 / (1 + (1.6 * fx) ** 2 + fy**2))
    ripple = smooth(1 / (60 + (9 * fx) ** 2 + fy**2))
    patch = smooth(1 / (20 + (2 * fx) ** 2 + fy**2))
    curves = unit_variance(np.fft.irfft(np.fft.rfft(rng.standard_normal((64, w))) / (8 + fx**3), w))
    texture = {
        GRASS: 7 * white[0] + 6 * patch,
        PAVEMENT: 2.5 * white[1] + 3 * patch,
        ROAD: 3 * white[2] + 3 * patch,
        WATER: 1.5 * white[0] + 9 * ripple,
    }
    return _Banks(white, cloud, curves, texture)


def _cut(bank: np.ndarray, rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """A random patch (..., rows, cols) of a bank (..., h, w)."""
    y, x = (rng.random(2) * (bank.shape[-2] - rows + 1, bank.shape[-1] - cols + 1)).astype(int)
    return bank[..., y : y + rows, x : x + cols]


def sensor_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """White noise (3, height, width) float32 of unit variance."""
    return _cut(_banks(height, width).white, rng, height, width)


def _tint(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """One of the colours, (3,) float, varied a little in brightness and less in hue."""
    z = rng.standard_normal(4)
    return np.asarray(colours[rng.integers(len(colours))]) + 8 * z[0] + 3 * z[1:]


def _planes(colour: np.ndarray) -> np.ndarray:
    return np.asarray(colour, np.float32)[:, None, None]


def lay_stage(height: int, width: int, rng: np.random.Generator) -> Stage:
    """Draw sky, skyline and ground: everything that the scene's things will stand on."""
    top, low, light = (np.asarray(z, np.float32) for z in _MOODS[rng.integers(len(_MOODS))])
    top, low = (z + rng.normal(0, 5, 3).astype(np.float32) for z in (top, low))
    foot = int(height * rng.uniform(0.38, 0.5))
    stage = Stage(
        image=np.zeros((3, height, width), np.float32),
        stuff=np.zeros((height, width), np.int64),  # SKY
        foot=foot,
        light=light,
        haze=low,
        sun=rng.uniform(-1, 1),
    )
    _sky(stage, top, rng)
    _skyline(stage, rng)
    _ground(stage, rng)
    return stage


def _sky(stage: Stage, top: np.ndarray, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    sky = stage.image[:, : stage.foot + height // 8]  # a little below the foot: the ground's edge is wavy
    rows = sky.shape[1]
    fall = (np.arange(rows, dtype=np.float32) / rows)[:, None]
    sky[:] = _planes(top) + _planes(stage.haze - top) * fall
    cover = 0.45 * _cut(_banks(height, width).cloud, rng, rows, width) + np.float32(rng.uniform(-0.5, 0.2))
    np.clip(cover, 0, 0.75, out=cover)
    sky += (_planes(0.4 * stage.haze + 150) - sky) * cover


def _skyline(stage: Stage, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    side = min(height, width)
    base = stage.foot + max(2, side // 24)
    right = -int(side * 0.1 * rng.random())
    while right < width:
        left = right
        right = left + max(6, int(side * rng.uniform(0.18, 0.4)))
        if rng.random() < 0.2:  # a gap with a tree instead of a house
            _tree(stage, (left + right) // 2, base, rng)
        elif right > 1:
            _house(stage, left, right, base, rng)
    for _ in range(rng.integers(0, 3)):
        _tree(stage, int(rng.integers(0, width)), base, rng)


def _house(stage: Stage, left: int, right: int, base: int, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    side = min(height, width)
    u = rng.random(4)
    top = max(stage.foot - int(height * (0.1 + 0.24 * u[0])), 2)
    x0, x1 = max(left, 0), min(right, width)
    wall = _tint(rng, _WALLS) * stage.light * 0.85 + stage.haze * 0.15
    evening = stage.light[0] < 0.9
    # Windows in a grid of cells `down` × `across` pixels: 0 wall, 1 dark pane, 2 lit pane.
    down, across = max(4, int(side * (0.06 + 0.03 * u[1]))), max(4, int(side * (0.05 + 0.03 * u[2])))
    y, x = np.arange(base - top)[:, None], np.arange(x1 - x0)
    pane = (y % down >= down // 3) & (y < stage.foot - top - down // 3) & (x % across >= across // 3)
    lit = rng.random((len(y) // down + 1, len(x) // across + 1)) < (0.4 if evening else 0.12)
    code = pane * (1 + lit[y // down, x // across])
    dark, bright = wall * 0.45 + _GLASS, wall * 0.1 + _LIT * (0.95 if evening else 0.6)
    picture = np.array((wall, dark, bright), np.float32).T.take(code, axis=1)
    picture[:, 0] *= 0.8  # the eave, and the corner that is turned away
    picture[:, :, -1] *= 0.8
    stage.image[:, top:base, x0:x1] = picture
    stage.stuff[top:base, x0:x1] = BUILDING
    if u[3] < 0.45:
        _roof(stage, left, right, top, _tint(rng, _ROOFS) * stage.light * 0.88 + stage.haze * 0.12)


def _roof(stage: Stage, left: int, right: int, eave: int, colour: np.ndarray) -> None:
    rise = max(2, min(int((right - left) * 0.35), eave - 1))
    cols = slice(max(left, 0), min(right, stage.image.shape[2]))
    centre, half = (left + right - 1) / 2, (right - left) / 2
    slope = np.abs(np.arange(cols.start, cols.stop, dtype=np.float32) - centre) * (rise / half)
    cover = unit(np.arange(1, rise + 1, dtype=np.float32)[:, None] - slope)
    window = stage.image[:, eave - rise : eave, cols]
    window += (_planes(colour) - window) * cover
    stage.stuff[eave - rise : eave, cols][cover >= 0.5] = BUILDING


def _tree(stage: Stage, x: int, base: int, rng: np.random.Generator) -> None:
    side = min(stage.stuff.shape)
    sprite = TREES[rng.integers(len(TREES))]
    h = max(6, int(side * rng.uniform(0.14, 0.3)))
    w = max(4, int(h * proportions(sprite) * rng.uniform(0.85, 1.3)))
    palette = np.zeros((4, PARTS), np.float32)
    palette[:3, (MAIN, DARK, LIGHT)] = np.outer(_tint(rng, _LEAVES) * stage.light, (0.9, 0.68, 1.04))
    palette[:3, TYRE] = (96, 74, 58)  # the trunk
    palette = np.rint(np.clip(palette, 0, 255))
    palette[3, 1:] = 1
    rows, cols, solid = stamp(stage.image, render(sprite, palette, h, w), base - h, x - w // 2)
    stage.stuff[rows, cols][solid] = TREE


def _ground(stage: Stage, rng: np.random.Generator) -> None:
    _, height, width = stage.image.shape
    banks = _banks(height, width)
    depth = height - stage.foot
    layout = _LAYOUTS[rng.integers(len(_LAYOUTS))]
    kinds = [kind for kind, _ in layout]
    lines = _edges(stage, layout, banks.curves, rng)
    yy = (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    fade = 0.22 * unit((height - yy) / depth) ** 2  # the haze of each row
    for k, kind in enumerate(kinds):
        line, end = lines[k], lines[k + 1]
        top, bottom = max(int(line.min()) - 1, 0), min(int(end.max()) + 2, height)
        inside = yy[top:bottom] - line  # pixels below the band's far edge
        tone = _cut(banks.texture[kind], rng, bottom - top, width).copy()
        if kind == PAVEMENT:
            tone += _slabs(yy[top:bottom], stage, width)
        if ROAD in (kind, kinds[k - 1] if k else None):  # the kerb
            tone += 24 * unit(1 + 0.02 * (line.mean() - stage.foot) - inside)
        if kind == ROAD:  # the dashes along its middle
            dash = (np.arange(width) * 14 // width + rng.integers(2)) % 2
            off = np.abs(yy[top:bottom] - (0.45 * line + 0.55 * end))
            tone += unit(1 + 0.008 * depth - off) * (84 * dash).astype(np.float32)
        haze = fade[top:bottom]
        colour = _planes(_tint(rng, _GROUND[kind]) * stage.light)
        picture = colour + (_planes(stage.haze) - colour) * haze + tone * (1 - haze)
        # The rows that the wavy edge crosses are blended; those below it are simply replaced.
        edge = min(int(line.max()) + 2 - top, bottom - top)
        window = stage.image[:, top : top + edge]
        window += (picture[:, :edge] - window) * unit(inside[:edge] + 0.5)
        stage.image[:, top + edge : bottom] = picture[:, edge:]
        stage.stuff[top : top + edge][inside[:edge] >= 0] = kind
        stage.stuff[top + edge : bottom] = kind


def _edges(stage: Stage, layout: tuple, curves: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The far edge of each band, in rows at each column (W,), and last the foot of the picture."""
    height, width = stage.stuff.shape
    depth = height - stage.foot
    shares = np.array([share for _, share in layout]) * rng.uniform(0.8, 1.2, len(layout))
    starts = stage.foot + depth * np.cumsum(shares / shares.sum())
    tilt = rng.normal(0, 0.02) * depth * ((np.arange(width) - width / 2) * (2 / width))
    natural = [kind in (GRASS, WATER) for kind, _ in layout]
    lines: list[np.ndarray] = []
    for k in range(len(layout)):
        start = starts[k - 1] if k else stage.foot
        wild = natural[k] or (k > 0 and natural[k - 1])
        wave = _cut(curves, rng, 1, width)[0] * (depth * (0.03 if wild else 0.006))
        line = start + tilt + wave
        lines.append((np.maximum(line, lines[-1] + 1) if lines else line).astype(np.float32))
    return [*lines, np.full(width, height + 1, np.float32)]


def _slabs(yy: np.ndarray, stage: Stage, width: int) -> np.ndarray:
    """Paving in perspective: a faint chequer that closes up towards the horizon."""
    far = 1 / (0.25 + np.maximum(yy - stage.foot, 0) / (stage.stuff.shape[0] - stage.foot))  # (rows, 1)
    across = (np.arange(width, dtype=np.float32) - width / 2) / min(stage.stuff.shape)
    row, column = (far * 6).astype(np.int32), (across * (far * 5) + 64).astype(np.int32)
    return (((row + column) & 1) - np.float32(0.5)) * (7 * unit(1.6 - 0.5 * far))
