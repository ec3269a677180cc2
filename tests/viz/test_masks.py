import torch

from course_lib.viz.masks import mask_steps
from tests.viz.fits import drawn_whole

IMAGE = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
BOX = torch.tensor([10.0, 8, 30, 28])


def test_the_pixels_from_the_threshold_on_are_counted():
    grid = torch.zeros(14, 14)
    grid[:, :7] = 1
    figure = drawn_whole(lambda: mask_steps(IMAGE, BOX, grid))
    titles = [axes.get_title(loc="left") for axes in figure.axes[:4]]
    assert titles == ["the box", "14×14 answers", "pasted", "≥ 0.5: 200 px"]  # the left half of 20×20
    assert (
        drawn_whole(lambda: mask_steps(IMAGE, BOX, grid, threshold=1.5)).axes[3].get_title(loc="left") == "≥ 1.5: 0 px"
    )


def test_a_box_at_the_border_of_an_image_of_bytes():
    image = (IMAGE * 255).byte()
    drawn_whole(lambda: mask_steps(image, torch.tensor([-3.0, 20, 12, 45]), torch.rand(28, 28)))


def test_what_is_no_mask_is_grey():
    figure = mask_steps(IMAGE, BOX, torch.zeros(14, 14))
    shown = figure.axes[3].images[0].get_array()
    assert (shown[..., 0] == shown[..., 1]).all()
