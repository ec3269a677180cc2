import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.viz import figures
from course_lib.viz.figures import ap_per_class, box_sizes, image_grid, learning_curve, precision_recall
from tests.viz.fits import drawn_whole

NAMES = [f"a class called {k}" for k in range(80)]
RECALL = np.linspace(0, 1, 101)
RECORDS = [
    {"iteration": 20 * i, "minutes": 0.1 * i, "lr": 0.1, "classification": 2 / i, "bbox_regression": 1 / i}
    for i in range(1, 40)
]
RECORDS[19]["AP"], RECORDS[38]["AP"] = 0.25, 0.5
RESULTS = {
    "car": {"AP": 0.25, "AP50": 0.5, "objects": 12},
    "bus": {"AP": 0.75, "AP50": 1.0, "objects": 3},
    "dog": {"AP": None, "AP50": None, "objects": 0},
}
BOXES = torch.tensor([[0, 0, 10, 20], [5, 5, 45, 45], [0.0, 0, 30, 30]])

FIGURES = {
    "learning curve": lambda: learning_curve(RECORDS),
    "learning curve over iterations": lambda: learning_curve(RECORDS[:9], x="iteration"),
    "empty log": lambda: learning_curve([]),
    "precision recall": lambda: precision_recall(dict.fromkeys(NAMES[:5], (RECALL, 1 - RECALL)), title="At IoU 0.5"),
    "80 classes": lambda: precision_recall(dict.fromkeys(NAMES, (RECALL, 1 - RECALL))),
    "no curves": lambda: precision_recall({}),
    "AP": lambda: ap_per_class(RESULTS),
    "AP of 80 classes": lambda: ap_per_class(dict.fromkeys(NAMES, RESULTS["bus"])),
    "AP of one class": lambda: ap_per_class({"dog": RESULTS["dog"]}),
    "sizes": lambda: box_sizes(BOXES, BOXES - 20),
    "sizes of nothing": lambda: box_sizes([]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_labelled_and_nothing_is_clipped(name):
    figure = drawn_whole(FIGURES[name])
    for axes in figure.axes:
        assert axes.get_ylabel()
    assert figure.axes[-1].get_xlabel()


def line(axes, label):
    return next(found for found in axes.lines if found.get_label() == label)


def test_learning_curve_shows_losses_over_ap():
    losses, quality = learning_curve(RECORDS).axes
    assert line(losses, "bbox regression").get_xdata() == pytest.approx([r["minutes"] for r in RECORDS])
    assert {label for label in (found.get_label() for found in losses.lines) if not label.startswith("_")} == {
        "classification",
        "bbox regression",
    }
    assert quality.lines[0].get_xydata() == pytest.approx(np.array([(2.0, 0.25), (3.9, 0.5)]))
    assert quality.texts[0].get_text() == "0.500"
    assert losses.get_ylim()[0] == 0


def test_learning_curve_without_ap_has_one_panel():
    assert len(learning_curve([{**record, "AP": None} for record in RECORDS]).axes) == 1
    assert learning_curve([]).axes[0].texts[0].get_text() == "no records yet"
    with pytest.raises(ValueError, match=r"record 0: found \['loss'\], expected 'minutes'"):
        learning_curve([{"loss": 1.0}])


def test_running_mean_does_not_lag():
    assert figures._running_mean(np.arange(5.0)) == pytest.approx(np.arange(5.0))  # few values stay as they are
    assert figures._running_mean(np.arange(30.0)) == pytest.approx(np.r_[0.5, np.arange(1, 29), 28.5])
    assert len(figures._running_mean(np.zeros(0))) == 0


def test_precision_recall_has_a_line_a_name_and_a_colour_for_each():
    figure = precision_recall({"car": (RECALL, 1 - RECALL), "bus": ([], [])})
    car, bus = figure.axes[0].lines
    assert (car.get_label(), bus.get_label()) == ("car", "bus (none)")
    assert car.get_ydata() == pytest.approx(1 - RECALL)
    assert car.get_color() != bus.get_color()
    assert car.get_linestyle() != bus.get_linestyle()
    with pytest.raises(ValueError, match=r"curve 'car': found recall \(101,\) and precision \(3,\)"):
        precision_recall({"car": (RECALL, [1, 1, 1])})


def test_ap_per_class_is_sorted_and_says_what_has_no_objects():
    axes = ap_per_class(RESULTS).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["dog (0)", "car (12)", "bus (3)"]  # from below
    assert [bar.get_width() for bar in axes.patches] == [0, 0.25, 0.75]
    assert [text.get_text() for text in axes.texts] == ["–", "0.250", "0.750", "AP"]
    with pytest.raises(ValueError, match="no classes"):
        ap_per_class({})


def test_box_sizes_count_every_box():
    left, right = box_sizes(BOXES, BOXES - 20).axes
    assert sum(bar.get_height() for bar in left.patches) == 3
    assert [found.get_xdata()[0] for found in left.lines] == pytest.approx([200**0.5, 30, 40], abs=0.01)
    assert right.lines[0].get_xydata().tolist() == [[10, 20], [40, 40], [30, 30]]
    with pytest.raises(ValueError, match="box 1: found width 0 and height 9"):
        box_sizes([(0, 0, 5, 5), (3, 0, 3, 9)])


def test_image_grid_mixes_images_and_maps_on_one_scale():
    maps = [torch.tensor([[0.0, 1.0]]), np.array([[2.0, 5.0]])]
    figure = image_grid(
        [torch.zeros(3, 4, 4), *maps], ["image", "P3", "P4 under a title that is too long for one line"], columns=2
    )
    FigureCanvasAgg(figure).draw()
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(shown) == 3
    assert shown[1].get_clim() == shown[2].get_clim() == (0, 5)
    assert len(figure.axes) == 5  # two rows of two, one colour bar
    assert "\n" in figure.axes[2].get_title(loc="left")
    with pytest.raises(ValueError, match="found 1 images and 2 titles"):
        image_grid([torch.zeros(3, 4, 4)], ["a", "b"])
    with pytest.raises(ValueError, match="found 0 images"):
        image_grid([])
