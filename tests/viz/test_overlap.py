import pytest
from matplotlib.figure import Figure

from course_lib.viz.overlap import pixels_and_edges, slide
from tests.viz.fits import drawn_whole

FIGURES = {
    "equal": lambda: slide(0.0),
    "half": lambda: slide(5.0),
    "apart": lambda: slide(30.0, 20.0),
    "to the left": lambda: slide(-5.0, -5.0),
    "pixels": lambda: pixels_and_edges(2, 5),
    "one pixel at the border": lambda: pixels_and_edges(0, 0),
}


def values(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[1].get_legend().get_texts()]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name: str) -> None:
    drawn_whole(FIGURES[name])


def test_the_legend_gives_the_values_at_the_shift() -> None:
    assert values(slide(0.0)) == ["IoU 1.00", "GIoU 1.00"]
    assert values(slide(5.0)) == ["IoU 0.33", "GIoU 0.33"]  # the hull is the union
    assert values(slide(10.0, 10.0)) == ["IoU 0.00", "GIoU -0.50"]  # 200 of 400 px² are empty
    assert values(slide(30.0)) == ["IoU 0.00", "GIoU -0.50"]


def test_the_boxes_and_their_hull_are_drawn() -> None:
    corners = [(*p.get_xy(), p.get_width(), p.get_height()) for p in slide(15.0, 5.0).axes[0].patches]
    assert corners == [(0, 0, 10, 10), (15, 5, 10, 10), (0, 0, 25, 15)]


def test_the_right_edge_is_one_more_than_the_last_pixel() -> None:
    texts = [text.get_text() for text in pixels_and_edges(2, 5).axes[0].texts]
    assert "left edge 2" in texts
    assert "right edge 6" in texts


def test_pixels_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="found first 5 and last 2"):
        pixels_and_edges(5, 2)
