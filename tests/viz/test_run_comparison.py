"""Several runs in the same axes."""

import pytest

from course_lib.viz.palette import LINE_STYLES
from course_lib.viz.run_comparison import compare_runs
from course_lib.viz.show import to_png_bytes

RUNS = {
    "as it should be": [{"iteration": 20 * i, "loss": 1 / i, "AP": 0.1 * i if i % 2 else None} for i in range(1, 6)],
    "broken": [{"iteration": 20 * i, "loss": 3 / i} for i in range(1, 30)],
}


def test_a_panel_for_each_quantity_and_a_line_for_each_run() -> None:
    figure = compare_runs(RUNS, ["loss", "AP"], log=["loss"])
    loss, ap = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "AP"]
    assert (loss.get_yscale(), ap.get_yscale()) == ("log", "linear")
    assert [line.get_label() for line in loss.lines] == list(RUNS)
    assert [(line.get_color(), line.get_linestyle()) for line in loss.lines] == list(LINE_STYLES[:2])
    assert list(loss.lines[1].get_xdata()) == [20 * i for i in range(1, 30)]
    assert list(ap.lines[0].get_xdata()) == [20, 60, 100]  # where there is a value
    assert len(ap.lines[1].get_xdata()) == 0
    assert figure.legends[0].get_texts()[1].get_text() == "broken"
    assert ap.get_ylim()[0] == 0
    assert to_png_bytes(figure)


def test_a_panel_too_many_is_empty() -> None:
    runs = {"one": [{"minutes": 1, "a": 1, "b": 2, "c": 3}]}
    figure = compare_runs(runs, ["a", "b", "c"], x="minutes")
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "minutes", "minutes", ""]


@pytest.mark.parametrize(
    ("runs", "quantities", "words"),
    [({}, ["loss"], "0 runs"), (RUNS, [], "0 quantities"), (RUNS, ["loss", "speed"], "no 'speed'")],
)
def test_what_cannot_be_drawn_is_said(runs: dict, quantities: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare_runs(runs, quantities)
