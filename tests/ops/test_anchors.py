from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from course_lib.ops.anchors import cell_anchors, default_boxes, default_scales, grid_anchors, grid_strides
from course_lib.ops.boxes import box_area, xyxy_to_cxcywh

GOLDEN = Path(__file__).parents[2] / "data/peers/detectron2/retinanet.npz"
RATIOS = (0.5, 1.0, 2.0)


def test_cell_anchors_by_hand():
    # Size 8: area 64. Ratio height / width = 4: half as wide, twice as high.
    anchors = cell_anchors([8], [1.0, 4.0])
    assert anchors.tolist() == [[-4, -4, 4, 4], [-2, -8, 2, 8]]
    assert anchors.dtype == torch.float32


def test_order_says_which_loop_is_outside():
    size_major = cell_anchors([8, 16], [1.0, 4.0])
    ratio_major = cell_anchors([8, 16], [1.0, 4.0], order="ratio")
    assert [box[2].item() for box in size_major] == [4, 2, 8, 4]
    assert [box[2].item() for box in ratio_major] == [4, 8, 2, 4]


def test_rounding_moves_an_edge_by_up_to_a_pixel():
    exact = cell_anchors([40.9], [0.5])
    rounded = cell_anchors([40.9], [0.5], rounding=True)
    assert rounded.tolist() == [[-28, -14, 28, 14]]
    assert 0 < (exact - rounded).abs().max() <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(4, 600), min_size=1, max_size=4), st.lists(st.floats(0.2, 5), min_size=1, max_size=4))
def test_anchors_have_their_area_ratio_and_centre(sizes, ratios):
    anchors = cell_anchors(sizes, ratios).reshape(len(sizes), len(ratios), 4)
    cx, cy, w, h = xyxy_to_cxcywh(anchors).unbind(-1)
    torch.testing.assert_close(box_area(anchors), (torch.tensor(sizes)[:, None] ** 2).expand_as(w))
    torch.testing.assert_close(h / w, torch.tensor(ratios).expand_as(w))
    assert (cx == 0).all() and (cy == 0).all()


def test_errors_name_what_was_found():
    with pytest.raises(ValueError, match="found 'area', expected 'size' or 'ratio'"):
        cell_anchors([8], [1.0], order="area")
    with pytest.raises(ValueError, match="expected positive"):
        cell_anchors([8], [0.0])


def test_grid_by_hand():
    # Two rows, three columns, 10 px down and 4 px to the right; the first centre is the image's corner.
    anchors = grid_anchors(cell_anchors([2], [1.0]), (2, 3), (10, 4))
    assert xyxy_to_cxcywh(anchors)[:, :2].tolist() == [[0, 0], [4, 0], [8, 0], [0, 10], [4, 10], [8, 10]]


def test_grid_keeps_a_cells_anchors_together():
    cell = cell_anchors([8, 16], RATIOS)
    anchors = grid_anchors(cell, (3, 5), (8, 8)).reshape(3, 5, 6, 4)
    torch.testing.assert_close(anchors[2, 4], cell + torch.tensor([32.0, 16.0, 32.0, 16.0]))
    assert torch.equal(anchors[0, 0], cell)


def test_grid_of_nothing():
    assert grid_anchors(cell_anchors([8], RATIOS), (0, 4), (8, 8)).shape == (0, 4)
    assert cell_anchors([], RATIOS).shape == (0, 4)


def test_strides():
    assert grid_strides((64, 96), [(8, 12), (4, 6)], mode="fixed", strides=[8, 16]) == [(8, 8), (16, 16)]
    # Figures of an 800×1088 input in torchvision: levels P6 and P7.
    assert grid_strides((800, 1088), [(13, 17), (7, 9)], mode="grid") == [(61, 64), (114, 120)]
    with pytest.raises(ValueError, match="found 'auto'"):
        grid_strides((64, 96), [(8, 12)], mode="auto")
    with pytest.raises(ValueError, match="one for each of 2 levels"):
        grid_strides((64, 96), [(8, 12), (4, 6)], mode="fixed", strides=[8])
    with pytest.raises(ValueError, match="one for each of 1 levels"):
        grid_strides((64, 96), [(8, 12)], mode="fixed")


@pytest.mark.parametrize("size", [(256, 256), (800, 1088), (427, 641), (33, 500), (128, 97)])
def test_equal_to_torchvision(size):
    sizes = [(x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)]
    grids = [(-(-size[0] // s), -(-size[1] // s)) for s in (8, 16, 32, 64, 128)]
    theirs = AnchorGenerator(tuple(sizes), (RATIOS,) * 5)
    images = ImageList(torch.zeros(1, 3, *size), [size])
    expected = theirs(images, [torch.zeros(1, 1, *grid) for grid in grids])[0]
    strides = grid_strides(size, grids, mode="grid")
    ours = [
        grid_anchors(cell_anchors(level, RATIOS, order="ratio", rounding=True), grid, stride)
        for level, grid, stride in zip(sizes, grids, strides)
    ]
    assert torch.equal(torch.cat(ours), expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(4, 600), min_size=1, max_size=4), st.lists(st.floats(0.2, 5), min_size=1, max_size=4))
@example([95], [0.36])  # an edge at x.5: float64 rounds it the other way
def test_cell_equal_to_torchvision(sizes, ratios):
    (expected,) = AnchorGenerator((tuple(sizes),), (tuple(ratios),)).cell_anchors
    assert torch.equal(cell_anchors(sizes, ratios, order="ratio", rounding=True), expected)


def test_equal_to_detectron2():
    golden = np.load(GOLDEN)
    expected = torch.from_numpy(golden["anchors"])
    strides = (8, 16, 32, 64, 128)
    grids = [golden[f"logits/{i}"].shape[-2:] for i in range(5)]
    ours = []
    for grid, stride in zip(grids, grid_strides((160, 224), grids, mode="fixed", strides=strides)):
        sizes = [4 * stride[0] * 2 ** (i / 3) for i in range(3)]
        ours.append(grid_anchors(cell_anchors(sizes, RATIOS), grid, stride))
    torch.testing.assert_close(torch.cat(ours), expected, rtol=0, atol=1e-4)


def test_default_scales_by_hand():
    # Eq. 4 with the paper's 0.2 and 0.9 and six levels: steps of 0.14.
    assert default_scales(6) == pytest.approx([0.2, 0.34, 0.48, 0.62, 0.76, 0.9])
    assert default_scales(2, 0.1, 0.5) == [0.1, 0.5]
    with pytest.raises(ValueError, match="levels: found 1, expected at least 2"):
        default_scales(1)


def test_default_boxes_by_hand():
    # A square of 8, a square of 12, and of area 64 twice as wide as high (ratio 1/4: 16 × 4) and the other way.
    boxes = default_boxes(8, 12, (0.25, 4.0), limit=(100, 100))
    assert boxes.tolist() == [[-4, -4, 4, 4], [-6, -6, 6, 6], [-8, -2, 8, 2], [-2, -8, 2, 8]]
    assert boxes.dtype == torch.float32
    assert default_boxes(8, 12, (), limit=(100, 100)).shape == (2, 4)


def test_no_default_box_is_larger_than_the_image():
    boxes = default_boxes(8, 12, (0.25, 4.0), limit=(6, 10))
    assert boxes.tolist() == [[-4, -3, 4, 3], [-5, -3, 5, 3], [-5, -2, 5, 2], [-2, -3, 2, 3]]


@pytest.mark.parametrize("size, between, ratio", [(0, 12, 2), (8, 0, 2), (8, 12, -1)])
def test_default_boxes_of_no_size(size, between, ratio):
    with pytest.raises(ValueError, match="expected positive numbers"):
        default_boxes(size, between, (ratio,), limit=(100, 100))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(2, 4), max_size=3, unique=True),
    st.floats(0.02, 1.2),
    st.floats(0.02, 1.2),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([8, 64, 100]),
)
def test_default_boxes_equal_to_torchvision(aspects, scale, following, grid, step):
    """Its ratios are width / height, each with its inverse; its scales are parts of the image's side."""
    theirs = DefaultBoxGenerator([aspects], scales=[scale, following], steps=[step])
    images = ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    (expected,) = theirs(images, [torch.zeros(1, 1, *grid)])
    ratios = [ratio for aspect in aspects for ratio in (1 / aspect, aspect)]
    cell = default_boxes(300 * scale, 300 * (scale * following) ** 0.5, ratios, limit=(300, 300))
    torch.testing.assert_close(grid_anchors(cell + step / 2, grid, (step, step)), expected, rtol=1e-6, atol=1e-4)
