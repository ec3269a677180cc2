"""The course's colours, from one place, told apart by colour-blind readers too.

The first seven are those of Okabe and Ito (2008, "Color Universal Design") without black. The others were chosen
one after the other, each as far as possible from all before it as seen with normal vision, without red cones
(protanopia) and without green cones (deuteranopia); tests/viz/test_palette.py measures it.
No figure relies on colour alone: lines also differ in dash, boxes carry their names.
"""

from contextlib import AbstractContextManager

import matplotlib
from cycler import cycler
from PIL import ImageColor

PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#5A3C4B", "#960000", "#96E1B4",
    "#2D2DB4", "#3C694B", "#C30F78", "#4BE1E1", "#FF5A78", "#1E6978", "#7878FF", "#D21E4B", "#E1C378", "#F0A5C3",
)  # fmt: skip

TRUTH, PREDICTION = PALETTE[0], PALETTE[1]  # blue, orange
CORRECT, WRONG, MISSED, INVENTED = PALETTE[2], PALETTE[6], PALETTE[5], PALETTE[4]  # green, yellow, red, sky blue
INK, PAPER, GRID = "#222222", "#FFFFFF", "#D8D8D8"

DASHES = ("-", "--", "-.", ":")
LINE_STYLES = tuple((color, DASHES[k % len(DASHES)]) for k, color in enumerate(PALETTE))

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=[dash for _, dash in LINE_STYLES]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.8,  # long enough to show the dash
    "lines.linewidth": 1.8,
    "savefig.dpi": "figure",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 10,
    "ytick.color": INK,
    "ytick.labelsize": 10,
}


def class_color(label: int) -> str:
    """Colour "#RRGGBB" of class index `label`; the same label always has the same one, from 20 on they repeat."""
    return PALETTE[label % len(PALETTE)]


def luminance(color: str) -> float:
    """Relative luminance of a colour, 0 (black) to 1 (white): WCAG 2, after linearising sRGB."""
    channels = (value / 255 for value in ImageColor.getrgb(color)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast_color(color: str) -> str:
    """Black or white, whichever stands out more on `color`: contrast ratio (L1 + 0.05) / (L2 + 0.05), WCAG 2."""
    return "#000000" if luminance(color) + 0.05 > 0.05**0.5 * 1.05**0.5 else "#FFFFFF"


def style() -> AbstractContextManager:
    """Context in which matplotlib draws as the course does: `with style(): figure = Figure()`."""
    return matplotlib.rc_context(STYLE)
