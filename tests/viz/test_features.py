import pytest
import torch

from course_lib.viz.features import activations, fpn_diagram, receptive_fields
from tests.viz.fits import drawn_whole

MAPS = [torch.rand(8, 8), torch.rand(4, 4)]
FIGURES = {
    "activations": lambda: activations(
        [torch.rand(3, 32, 32)] * 2, [MAPS] * 2, ["image", "C2", "a title of some words"]
    ),
    "fields": lambda: receptive_fields(
        [torch.rand(9, 9)] * 6, [7] * 6, [3] * 6, ["ResNet-50 C5: 427, 139 px"] * 6, rows=2
    ),
    "pyramid": fpn_diagram,
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name):
    drawn_whole(FIGURES[name])


def test_each_map_has_its_own_scale():
    figure = activations([torch.rand(3, 8, 8)], [[torch.tensor([[0.0, 2]]), torch.tensor([[0.0, 50]])]], ["", "a", "b"])
    assert [axes.images[0].get_clim() for axes in figure.axes[1:]] == [(0, 2), (0, 50)]
    with pytest.raises(ValueError, match=r"found 1 images, rows of \[2\] maps, 2 titles, 1 names"):
        activations([torch.rand(3, 8, 8)], [MAPS], ["", "a"])


def test_the_squares_lie_about_the_centre_of_what_was_measured():
    field = torch.zeros(9, 9)
    field[6, 2] = 1
    (axes,) = receptive_fields([field], [5], [1], ["one"]).axes
    assert [tuple(patch.get_center()) for patch in axes.patches] == [(2, 6), (2, 6)]
    assert [patch.get_width() for patch in axes.patches] == [5, 1]
    with pytest.raises(ValueError, match="found 1 fields, 1 and 1 sides, 1 titles, 2 rows"):
        receptive_fields([field], [5], [1], ["one"], rows=2)


def test_the_pyramid_names_its_maps():
    texts = {text.get_text() for text in fpn_diagram().axes[0].texts}
    assert {"C3", "C4", "C5", "P3", "P4", "P5", "P6", "P7", "1×1", "3×3"} <= texts
