import numpy as np
import pytest
import torch

from course_lib.viz.mining import mined_losses
from tests.viz.fits import drawn_whole

LOSS = torch.tensor([[2.0, 0.01, 0.5, 0.001], [1e-9, 50.0, 0.2, 0.289]])
POSITIVE = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
KEPT = torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)


def counts(figure):
    return {patch.get_label(): patch.get_data().values for patch in figure.axes[0].patches}


def test_every_box_is_counted_even_beyond_the_axis():
    figure = drawn_whole(lambda: mined_losses(LOSS, POSITIVE, KEPT, title="two images"))
    found = counts(figure)
    # 53 in all: 0.5 left out, 50.5 learnt, 2 on objects.
    assert {name: values.sum() for name, values in found.items()} == {
        "left out: 5 boxes, 1% of the loss": 5,
        "learnt: 2 boxes, 95% of the loss": 2,
        "on objects: 1 boxes, 4% of the loss": 1,
    }
    learnt = found["learnt: 2 boxes, 95% of the loss"]
    assert learnt[-1] == 1  # the loss of 50
    axes = figure.axes[0]
    assert axes.get_xlabel() and axes.get_ylabel()
    assert axes.get_title(loc="left") == "two images"
    assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_no_boxes(shape):
    nothing = np.zeros(shape)
    found = counts(drawn_whole(lambda: mined_losses(nothing, nothing, nothing)))
    assert list(found) == [f"{name}: 0 boxes, 0% of the loss" for name in ("left out", "learnt", "on objects")]


def test_masks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"found shapes \(2, 4\), \(4,\), \(2, 4\), expected one"):
        mined_losses(LOSS, POSITIVE[0], KEPT)
    with pytest.raises(ValueError, match="found 1 boxes on objects among the background kept"):
        mined_losses(LOSS, POSITIVE, POSITIVE)
