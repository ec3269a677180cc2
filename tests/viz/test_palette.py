import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import ImageColor

from course_lib.viz import palette
from course_lib.viz.palette import PALETTE, class_color, contrast_color, luminance, style

# Viénot, Brettel and Mollon 1999: linear RGB → cone responses L, M, S, and what is seen without one cone.
CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
WITHOUT = {
    "nothing": np.eye(3),
    "red cones": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "green cones": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}
XYZ = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07217], [0.01933, 0.11919, 0.95030]])  # of sRGB


def lab(colors, without="nothing"):
    """CIE L*a*b* (D65) of "#RRGGBB" colours as someone without these cones sees them: (N, 3)."""
    rgb = np.array([ImageColor.getrgb(c) for c in colors]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ (np.linalg.inv(CONES) @ WITHOUT[without] @ CONES).T).clip(0, 1)
    x, y, z = np.cbrt((seen @ XYZ.T / [0.95047, 1, 1.08883]).clip(1e-4)).T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def least_distance(colors, without):
    points = lab(colors, without)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return distances[np.triu_indices(len(points), 1)].min()


def test_simulation_confuses_what_colour_blind_readers_confuse():
    assert lab(["#FFFFFF"])[0] == pytest.approx([100, 0, 0], abs=0.1)
    assert lab(["#FF0000"])[0] == pytest.approx([53.2, 80.1, 67.2], abs=0.1)
    grey = lab(["#808080"])
    assert lab(["#808080"], "red cones") == pytest.approx(grey, abs=0.5)  # greys stay
    red_and_olive = ["#C83C00", "#6E6E00"]
    assert least_distance(red_and_olive, "nothing") > 60
    assert least_distance(red_and_olive, "red cones") < 15


@pytest.mark.parametrize("without", WITHOUT)
def test_colours_are_told_apart(without):
    assert least_distance(PALETTE[:8], without) > 15
    assert least_distance(PALETTE, without) > 12
    outcomes = [palette.CORRECT, palette.WRONG, palette.MISSED, palette.INVENTED]
    assert least_distance(outcomes, without) > 30
    assert least_distance([palette.TRUTH, palette.PREDICTION], without) > 80


def test_class_colours_are_stable_and_repeat():
    assert len(set(PALETTE)) == 20
    assert [class_color(k) for k in range(20)] == list(PALETTE)
    assert class_color(23) == class_color(3)


def test_text_stands_out_on_every_colour():
    assert luminance("#FFFFFF") == pytest.approx(1)
    assert luminance("#000000") == 0
    assert luminance("#FF0000") == pytest.approx(0.2126)
    assert contrast_color("#F0E442") == "#000000"
    assert contrast_color("#0072B2") == "#FFFFFF"
    for color in PALETTE:
        dark, light = sorted((luminance(color), luminance(contrast_color(color))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG AA


def test_style_holds_only_inside():
    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.grid"]
    with style():
        axes = Figure().subplots()
        first, second = axes.plot([0, 1])[0], axes.plot([0, 1])[0]
        assert matplotlib.rcParams["font.size"] == 11
    assert (first.get_color(), second.get_color()) == PALETTE[:2]
    assert first.get_linestyle() != second.get_linestyle()
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.grid"]) == before
