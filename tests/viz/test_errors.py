import numpy as np
import pytest
from PIL import Image

from course_lib.viz.errors import draw_error, error_costs, read_curve
from course_lib.viz.show import to_png_bytes


def test_the_saw_and_its_readings():
    correct = [True, False, True, True]
    figure = read_curve(correct, 4, {"two points": ([0, 0.5], [1, 0.75])})
    saw, read = figure.axes
    assert np.allclose(saw.lines[0].get_xydata(), np.array([[1, 4], [1, 2], [2, 8 / 3], [3, 3]]) / 4)
    assert read.get_title(loc="left") == "two points"
    assert read.lines[1].get_xydata().tolist() == [[0, 1], [0.5, 0.75]]
    assert to_png_bytes(figure) == to_png_bytes(read_curve(correct, 4, {"two points": ([0, 0.5], [1, 0.75])}))


def test_a_bar_for_each_kind_and_group():
    figure = error_costs({"small": {"missed": 0.1, "both": 0.0}, "large": {"missed": 0.2, "both": 0.01}})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.0, 0.2, 0.01]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["missed", "both"]
    assert len(figure.legends) == 1
    assert not error_costs({"all": {"missed": 0.1}}).legends
    with pytest.raises(ValueError, match=r"group 'b': found \['both'\], expected \['missed'\]"):
        error_costs({"a": {"missed": 0.1}, "b": {"both": 0.1}})


@pytest.mark.parametrize("box", [(0, 0, 6, 6), (90, 40, 100, 60), (0, 0, 100, 60)])
def test_an_error_is_in_the_picture_wherever_it_lies(box):
    image = Image.new("RGB", (100, 60), "#777777")
    picture = np.asarray(draw_error(image, box, "car 0.90", (10, 10, 20, 20), "bus"))
    assert max(picture.shape) == 160
    colors = {tuple(color) for color in picture.reshape(-1, 3)}
    assert {(0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)} <= colors


def test_a_missed_object_has_no_detection():
    image = Image.new("RGB", (100, 60), "#777777")
    colors = {tuple(c) for c in np.asarray(draw_error(image, None, "", (10, 10, 20, 20), "bus")).reshape(-1, 3)}
    assert (0xE6, 0x9F, 0x00) not in colors
    with pytest.raises(ValueError, match="found no box and no object"):
        draw_error(image, None, "")
