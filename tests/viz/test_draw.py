import numpy as np
import pytest
import torch
from PIL import ImageColor
from torchvision import tv_tensors

from course_lib.viz.draw import DASH_DOT, DASHED, DOTTED, MASK_OPACITY, Mark, draw_boxes, draw_marks
from course_lib.viz.palette import PALETTE, class_color

GREY = np.full((96, 128, 3), 120, np.uint8)


def pixels(picture):
    return np.asarray(picture).astype(int)


def is_color(picture, color):
    return (pixels(picture) == ImageColor.getrgb(color)).all(-1)


def test_line_runs_just_within_the_box():
    found = is_color(draw_boxes(GREY, [(10, 20, 50, 60)], scale=1), PALETTE[0])
    expected = np.zeros((96, 128), bool)
    expected[20:60, 10:50] = True
    expected[22:58, 12:48] = False
    assert (found == expected).all()


def test_coordinates_are_enlarged_with_the_picture():
    picture = draw_boxes(GREY, [(10, 20, 50, 60)])
    rows, columns = np.nonzero(is_color(picture, PALETTE[0]))
    assert picture.size == (512, 384)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (40, 199, 80, 239)


def test_a_rim_lifts_the_line_off_the_image():
    picture = pixels(draw_boxes(GREY, [(10, 20, 50, 60)], colors="#F0E442", scale=1))
    assert picture[40, 8].tolist() == [120] * 3
    assert picture[40, 9].tolist() == [0] * 3  # yellow has a black rim
    assert picture[40, 12].tolist() == [0] * 3
    assert pixels(draw_boxes(GREY, [(10, 20, 50, 60)], colors="#0072B2", scale=1))[40, 9].tolist() == [255] * 3


def test_the_image_itself_is_not_changed():
    before = GREY.copy()
    draw_boxes(GREY, [(10, 20, 50, 60)], [0], scale=1)
    assert (before == GREY).all()


@pytest.mark.parametrize("boxes", [[], torch.zeros(0, 4), np.zeros((0, 4))])
def test_no_boxes_draw_nothing(boxes):
    empty = torch.zeros(0)
    picture = draw_boxes(GREY, boxes, empty.long(), empty, names=["a"], masks=torch.zeros(0, 96, 128), scale=1)
    assert (pixels(picture) == 120).all()


def test_detector_output_is_taken_as_it_is():
    corners = torch.tensor([[10.0, 20, 50, 60], [60, 20, 100, 60]])
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(96, 128))
    labels, scores = torch.tensor([2, 1]), torch.tensor([0.9, 0.5])
    picture = draw_boxes(torch.zeros(3, 96, 128), boxes, labels, scores, names=("a", "b", "c"))
    assert is_color(picture, class_color(2)).any()
    assert is_color(picture, class_color(1)).any()


def letters(box):
    """Where the text of a box is black: (H, W) bool."""
    with_text, without = (pixels(draw_marks(GREY, [Mark(box, "#CC79A7", text)], scale=2)) for text in ("dog 0.50", ""))
    return (with_text.sum(-1) < 90) & (without.sum(-1) >= 90)


EDGES = [(0, 0, 20, 9), (110, 0, 128, 9), (100, 86, 128, 96), (0, 86, 5, 96), (-50, -50, 200, 200)]


@pytest.mark.parametrize("box", EDGES)
def test_plate_lies_whole_in_the_picture(box):
    free, here = letters(np.array((40, 40, 80, 60))), letters(np.array(box))
    size = lambda found: [np.ptp(places) for places in np.nonzero(found)]  # noqa: E731
    assert size(here) == pytest.approx(size(free), abs=1)  # the box's own rim may touch a letter
    assert here.sum() == pytest.approx(free.sum(), rel=0.1)
    assert not here[[0, -1]].any()
    assert not here[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"labels": [1], "scores": [0.734], "names": ["a", "dog"]}, "dog 0.73"),
        ({"labels": [1]}, "1"),
        ({"labels": [1], "names": ["a", "dog"]}, "dog"),
        ({"scores": [0.5], "colors": class_color(1)}, "0.50"),
    ],
)
def test_plate_names_and_scores(arguments, text):
    box = (10, 30, 50, 60)
    expected = draw_marks(GREY, [Mark(np.array(box), class_color(1), text)])
    assert (pixels(draw_boxes(GREY, [box], **arguments)) == pixels(expected)).all()


def test_a_long_name_is_cut_and_a_tiny_picture_has_none():
    long = pixels(draw_boxes(GREY, [(10, 40, 50, 60)], [0], names=["x" * 100], scale=1))
    assert long.shape == (96, 128, 3)
    tiny = draw_boxes(np.zeros((4, 300, 3), np.uint8), [(0, 0, 4, 4)], [0], names=["cell"], scale=1)
    assert tiny.size == (300, 4)
    narrow = draw_boxes(np.zeros((300, 4, 3), np.uint8), [(0, 0, 4, 4)], [0], names=["cell"], scale=1)
    assert narrow.size == (4, 300)


@pytest.mark.parametrize(("scores", "color"), [([0.1, 0.9], [0, 255, 0]), ([0.9, 0.1], [255, 0, 0])])
def test_the_best_score_lies_on_top(scores, color):
    picture = draw_boxes(GREY, [(10, 20, 50, 60)] * 2, scores=scores, colors=["#FF0000", "#00FF00"], scale=1)
    assert pixels(picture)[50, 10].tolist() == color


def test_what_lies_outside_is_cut_off():
    picture = draw_boxes(GREY, [(-20, -20, 40, 40), (200, 200, 300, 300)], colors=["#FF0000", "#00FF00"], scale=1)
    assert is_color(picture, "#FF0000")[0, :40].all()  # the cut edge runs along the picture's
    assert not is_color(picture, "#00FF00").any()


def test_mask_is_blended_and_outlined():
    mask = np.zeros((1, 96, 128), bool)
    mask[0, 30:60, 20:90] = True
    picture = pixels(draw_boxes(GREY, [(20, 30, 90, 60)], masks=mask, colors="#FFFF00", scale=2))
    blended = 120 + MASK_OPACITY * (np.array((255, 255, 0)) - 120)
    assert picture[90, 100] == pytest.approx(blended, abs=1)
    assert picture[10, 10].tolist() == [120] * 3
    far = np.array((200, 0, 220, 10)) / 2  # the same mask with its box elsewhere shows the outline
    outline = pixels(draw_boxes(GREY, [far], masks=torch.from_numpy(mask), colors="#FFFF00", scale=2))
    assert outline[60, 100].tolist() == [0, 0, 0]
    assert outline[61, 100].tolist() == [255, 255, 0]
    assert outline[62, 100] == pytest.approx(blended, abs=1)


@pytest.mark.parametrize(("dash", "share"), [(DASHED, 5 / 9), (DASH_DOT, 7 / 13), (DOTTED, 1 / 3)])
def test_broken_lines_leave_gaps(dash, share):
    picture = draw_marks(GREY, [Mark(np.array((10, 20, 118, 90)), "#FF0000", dash=dash)], scale=1)
    row = is_color(picture, "#FF0000")[20, 13:115]
    assert row.mean() == pytest.approx(share, abs=0.1)
    assert is_color(picture, "#FF0000")[20, 10]  # it starts in the corner


def test_boxes_of_one_pixel_are_seen():
    assert is_color(draw_boxes(GREY, [(5, 5, 6, 6)], colors="#FF0000", scale=1), "#FF0000").sum() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": [(1, 2, 3)]}, r"boxes: found shape \(1, 3\), expected \(N, 4\)"),
        ({"boxes": [(0, 0, 5, 5), (9, 0, 5, 5)]}, r"box 1: found \[9.0, 0.0, 5.0, 5.0\], expected finite x1 <= x2"),
        ({"boxes": [(0, 0, np.nan, 5)]}, "box 0"),
        ({"labels": [1, 2]}, "labels: found 2, expected one for each of 1 boxes"),
        ({"scores": [1, 2]}, "scores: found 2"),
        ({"colors": ["#FF0000"] * 2}, "colors: found 2"),
        ({"labels": [7], "names": ["a", "b"]}, "label 7: found 2 names"),
        ({"labels": [-1], "names": ["a", "b"]}, "label -1"),
        ({"masks": np.zeros((1, 5, 5))}, r"mask 0: found shape \(5, 5\), expected the image's \(96, 128\)"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_boxes(GREY, **{"boxes": [(0, 0, 5, 5)], **arguments})
