import numpy as np
import pytest

from course_lib.viz.rivals import ap_over_time, ranges_by_group, speed_accuracy, time_parts
from tests.viz.fits import drawn_whole

TITLES = ("RetinaNet", "SSD", "YOLO", "Faster R-CNN", "Mask R-CNN")
CURVES = {
    title: [[(0.6 * i, 0.1 * i + 0.02 * k + 0.01 * s) for i in range(1, 6)] for s in range(3)]
    for k, title in enumerate(TITLES)
}
POINTS = {title: [(10 + 4 * k + s, 0.5 + 0.03 * k - 0.01 * s) for s in range(3)] for k, title in enumerate(TITLES)}
ORDER = ("preprocess", "backbone", "proposals", "head", "postprocess")
PARTS = {title: {part: 0.5 + k * 1.5 for k, part in enumerate(ORDER)} for title in TITLES}
GROUPS = ("all", "small", "medium", "large", "alone", "crowded")
FOUND = {
    title: {group: [0.3 + 0.08 * g + 0.02 * k, 0.35 + 0.08 * g] for g, group in enumerate(GROUPS)}
    for k, title in enumerate(TITLES)
}

FIGURES = {
    "over time": lambda: ap_over_time(CURVES),
    "one seed": lambda: ap_over_time({"SSD": CURVES["SSD"][:1]}),
    "speed and accuracy": lambda: speed_accuracy(POINTS),
    "speed and accuracy of one": lambda: speed_accuracy({"SSD": POINTS["SSD"][:1]}),
    "parts": lambda: time_parts(PARTS),
    "parts of one": lambda: time_parts({"SSD": PARTS["SSD"]}),
    "found": lambda: ranges_by_group(FOUND, "share found"),
    "found by one": lambda: ranges_by_group({"SSD": FOUND["SSD"]}, "share found"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_nothing_is_clipped(name):
    (axes,) = drawn_whole(FIGURES[name]).axes
    assert axes.get_xlabel()
    assert axes.get_ylabel() or [text.get_text() for text in axes.get_yticklabels()]


def lines(axes, label):
    return next(found for found in axes.lines if found.get_label() == label)


def test_the_thick_line_is_the_mean_over_seeds():
    (axes,) = ap_over_time(CURVES).axes
    assert lines(axes, "SSD").get_xydata() == pytest.approx(np.array(CURVES["SSD"]).mean(0))
    assert len(axes.lines) == len(TITLES) * (3 + 1)
    looks = {(lines(axes, t).get_color(), lines(axes, t).get_linestyle(), lines(axes, t).get_marker()) for t in TITLES}
    assert len(looks) == len({marker for *_, marker in looks}) == len(TITLES)  # told apart without colour too
    assert len(ap_over_time({"SSD": CURVES["SSD"][:1]}).axes[0].lines) == 1


def test_a_seed_that_was_measured_more_often_is_read_where_the_other_was():
    (axes,) = ap_over_time({"SSD": [[(1, 0.1), (3, 0.5)], [(1, 0.2), (2, 0.4), (3, 0.7)]]}).axes
    assert lines(axes, "SSD").get_xydata() == pytest.approx(np.array([[1, 0.15], [3, 0.6]]))
    assert [len(line.get_xydata()) for line in axes.lines] == [2, 3, 2]


def test_the_large_mark_is_the_mean_and_the_cross_the_ranges():
    (axes,) = speed_accuracy({"SSD": [(10, 0.5), (14, 0.6)]}).axes
    seeds, across, up, mean = (line.get_xydata().tolist() for line in axes.lines)
    assert seeds == [[10, 0.5], [14, 0.6]]
    assert across == pytest.approx(np.array([[10, 0.55], [14, 0.55]]))
    assert up == pytest.approx(np.array([[12, 0.5], [12, 0.6]]))
    assert mean == pytest.approx(np.array([[12, 0.55]]))


def test_the_stretches_follow_one_another():
    (axes,) = time_parts({"SSD": {"backbone": 3.0, "head": 2.0}}).axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 3), (3, 2)]
    assert axes.texts[0].get_text() == "5.0"


def test_shares_are_means_and_ranges():
    (axes,) = ranges_by_group({"SSD": {"small": [0.2, 0.4]}}, "share").axes
    assert axes.lines[0].get_xdata() == pytest.approx([0.3])
    assert axes.collections[0].get_segments()[0][:, 0] == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize(
    "figure", [ap_over_time, speed_accuracy, time_parts, lambda values: ranges_by_group(values, "AP")]
)
def test_nothing_to_draw(figure):
    with pytest.raises(ValueError, match="no models"):
        figure({})


def test_models_that_do_not_match():
    with pytest.raises(ValueError, match="a model without points"):
        speed_accuracy({"a": []})
    with pytest.raises(ValueError, match=r"model 'b': found \['head'\], expected \['backbone'\]"):
        time_parts({"a": {"backbone": 1.0}, "b": {"head": 1.0}})
    with pytest.raises(ValueError, match=r"model 'b': found \['large'\], expected \['small'\]"):
        ranges_by_group({"a": {"small": [1.0]}, "b": {"large": [1.0]}}, "AP")
