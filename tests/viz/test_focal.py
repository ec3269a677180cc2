"""Figures of lesson 02: what they show, that nothing is clipped, that they redraw fast enough for a slider."""

import time

import numpy as np
import pytest
import torch

from course_lib.viz.focal import focal_curves, loss_shares, pull_curves, truth_histogram
from course_lib.viz.show import to_png_bytes
from tests.viz.fits import drawn_whole

P = np.array([0.5, 0.9, 0.99, 0.999])
FIGURES = {
    "curves": lambda: focal_curves(0.25, 2.0),
    "curves of cross entropy": lambda: focal_curves(None, 0.0),
    "curves where one kind is weighed away": lambda: focal_curves(1.0, 5.0),
    "pull": lambda: pull_curves((0, 0.5, 1, 2, 5)),
    "histogram": lambda: truth_histogram({"before": (P, P), "after": (P[:0], torch.from_numpy(P))}),
    "shares": lambda: loss_shares({"background": P, "objects": P[:2]}, (0, 1, 2)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_nothing_is_clipped(name: str) -> None:
    figure = drawn_whole(FIGURES[name])
    assert figure.axes[0].get_ylabel()
    assert figure.axes[-1].get_xlabel()


def test_curves_pass_through_values_worked_out_by_hand() -> None:
    loss, pull = focal_curves(0.25, 2.0).axes
    objects, background, entropy = loss.lines
    middle = len(objects.get_xdata()) // 2
    assert objects.get_xdata()[middle] == pytest.approx(0.0)  # where p_t is 1/2
    values = [line.get_ydata()[middle] for line in (objects, background, entropy)]
    log2 = np.log(2)
    assert values == pytest.approx([0.25 * 0.25 * log2, 0.75 * 0.25 * log2, log2])
    slopes = [line.get_ydata()[middle] for line in pull.lines]
    focal = 0.25 * (2 * 0.5 * log2 + 0.5)  # (1 − p)^γ (1 − p − γ p log p)
    assert slopes == pytest.approx([0.25 * focal, 0.75 * focal, 0.5])


def test_pull_of_cross_entropy_has_no_top_and_that_of_focal_loss_has() -> None:
    lines = pull_curves((0, 2)).axes[0].lines
    assert [line.get_label() for line in lines[:2]] == ["γ = 0", "γ = 2"]
    z = np.asarray(lines[0].get_xdata())
    assert lines[0].get_ydata() == pytest.approx(1 / (1 + np.exp(z)))
    assert len(lines) == 3  # the third marks the largest pull of γ = 2, which is over 1
    (top,) = lines[2].get_ydata()
    assert top == max(lines[1].get_ydata()) > 1


@pytest.mark.parametrize(
    ("alpha", "gamma", "words"),
    [
        (None, 0.0, "costs 2.3, as much as 229 times background"),  # log 0.1 / log 0.99
        (0.25, 2.0, "costs 0.466, as much as 618,584 times background"),  # 229.1 · 8100 / 3
        (1.0, 2.0, "background at 0.99 costs nothing"),
        (0.0, 2.0, "as much as 0 times"),
    ],
)
def test_the_title_weighs_an_object_against_background(alpha: float | None, gamma: float, words: str) -> None:
    assert words in focal_curves(alpha, gamma).get_suptitle()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found alpha 0\.25, gamma -1"):
        focal_curves(0.25, -1)
    with pytest.raises(ValueError, match="found no panels"):
        truth_histogram({})
    with pytest.raises(ValueError, match="loss_shares, background: found no examples"):
        loss_shares({"background": []}, (0,))


def test_histogram_counts_everything_even_beyond_the_axis() -> None:
    objects, background = np.array([0.0, 1.0, 0.5]), np.full(7, 0.99)
    axes = truth_histogram({"a detector": (objects, background)}).axes[0]
    counts = {patch.get_label(): patch.get_data().values.sum() for patch in axes.patches}
    assert counts == {"objects": 3, "background": 7}
    assert axes.get_yscale() == "log"


def test_shares_rise_from_the_easiest_to_all() -> None:
    axes = loss_shares({"background": [0.5, 0.9]}, (0, 2)).axes[0]
    easy, hard = -np.log(0.9), -np.log(0.5)
    assert axes.lines[0].get_ydata() == pytest.approx([0, easy / (easy + hard), 1])
    easy, hard = 0.01 * easy, 0.25 * hard
    assert axes.lines[1].get_ydata() == pytest.approx([0, easy / (easy + hard), 1])


def test_curves_redraw_while_a_slider_moves() -> None:
    to_png_bytes(focal_curves(0.25, 2.0))  # fonts are found once
    assert min(_seconds() for _ in range(3)) < 0.4


def _seconds() -> float:
    began = time.process_time()  # other processes do not count
    to_png_bytes(focal_curves(0.5, 1.5))
    return time.process_time() - began
