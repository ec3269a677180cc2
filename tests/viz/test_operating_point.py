"""Precision and recall at a score threshold, worked by hand."""

import time

import numpy as np
import pytest
import torch

from course_lib.viz.operating_point import OperatingPoints, _draw_curves, draw_operating_point

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]])
TRUTHS = [
    {"boxes": BOXES[:2], "labels": torch.tensor([0, 1])},
    {"boxes": BOXES, "labels": torch.tensor([0, 1, 1]), "iscrowd": torch.tensor([False, False, True])},
]
PREDICTIONS = [
    # right; a second one on the same object; right
    {"boxes": BOXES[[0, 0, 1]], "labels": torch.tensor([0, 0, 1]), "scores": torch.tensor([0.9, 0.8, 0.3])},
    # wrong class; on the crowd
    {"boxes": BOXES[[0, 2]], "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.6, 0.95])},
]
POINTS = OperatingPoints(TRUTHS, PREDICTIONS)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.05, (2 / 4, 2 / 4)), (0.3, (2 / 4, 2 / 4)), (0.5, (1 / 3, 1 / 4)), (0.85, (1, 1 / 4)), (0.92, (1, 0))],
)
def test_precision_and_recall_by_hand(threshold: float, expected: tuple[float, float]) -> None:
    assert POINTS.objects == 4  # a crowd is no object
    assert POINTS.at(threshold) == pytest.approx(expected, abs=1e-6)


def test_nothing_to_find_and_nothing_found() -> None:
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert OperatingPoints([empty], [empty]).at(0.5) == (1.0, 0.0)


def test_as_many_predictions_as_images() -> None:
    with pytest.raises(ValueError, match="2 images and predictions for 1"):
        OperatingPoints(TRUTHS, PREDICTIONS[:1])


def test_the_curves_are_those_of_the_set_and_a_line_marks_the_threshold() -> None:
    axes = _draw_curves(POINTS, 0.5).axes[0]
    precision, recall, line = axes.lines
    assert [precision.get_label(), recall.get_label()] == ["precision", "recall"]
    assert (precision.get_ydata()[0], recall.get_ydata()[0]) == POINTS.at(0.05)
    assert np.allclose(line.get_xdata(), 0.5)


def test_the_picture_shows_image_and_curves_and_is_quick() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    began = time.process_time()
    low, high = (
        draw_operating_point(image, TRUTHS[0], PREDICTIONS[0], POINTS, t, names=["a", "b"]) for t in (0.2, 0.95)
    )
    assert time.process_time() - began < 3  # a redraw takes a tenth of that; fonts are loaded at first
    assert low.width > 3 * 64 + 300
    assert low.tobytes() != high.tobytes()
