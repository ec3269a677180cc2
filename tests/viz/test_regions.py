import pytest
import torch
from matplotlib.figure import Figure

from course_lib.ops.regions import pool_regions
from course_lib.viz.regions import pool_beside_align, recall_over_number, rounded_region, time_by_part
from tests.viz.fits import drawn_whole

MAP = torch.arange(25).reshape(5, 5)
TIMES = {"R-CNN": {"proposals": 160.0, "network": 400.0}, "Faster R-CNN": {"network": 9.0, "the rest": 3.0}}
FIGURES = {
    "two bins": lambda: pool_beside_align(MAP, (6, 10, 27, 30), stride=8, size=2),
    "one bin": lambda: pool_beside_align(MAP, (0, 0, 40, 40), stride=8, size=1, samples=1),
    "narrow": lambda: pool_beside_align(MAP, (35.5, 1, 36, 39), stride=8, size=4),
    "recall": lambda: recall_over_number({"grouping": [(10, 0.1), (100, 0.4)], "RPN": [(10, 0.9), (300, 1.0)]}),
    "times": lambda: time_by_part(TIMES),
}


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name: str) -> None:
    drawn_whole(FIGURES[name])


def test_the_rounded_region_is_what_pooling_reads() -> None:
    boxes = torch.tensor([[6.0, 10, 27, 30], [4, 12, 4, 12], [3, 3, 36, 19]])
    region = rounded_region(boxes, 8)
    assert region.tolist() == [[8, 8, 32, 40], [8, 16, 16, 24], [0, 0, 48, 24]]
    inside = torch.zeros(3, 5, 5)
    for cells, (x1, y1, x2, y2) in zip(inside, (region / 8).int().tolist()):
        cells[y1:y2, x1:x2] = 1
    everywhere = torch.full((1, 5, 5), 1.0).requires_grad_()
    for box, cells in zip(boxes, inside):
        (gradient,) = torch.autograd.grad(pool_regions(everywhere * 1, box[None], 1 / 8, 7).sum(), everywhere)
        assert ((gradient[0] != 0) <= (cells > 0)).all()


def test_both_results_and_the_overlap_are_written() -> None:
    left, right = FIGURES["two bins"]().axes
    assert left.get_title(loc="left") == "RoIPool: IoU with the box 0.47"
    assert left.get_xlabel() == "x, px\n\n12  13\n22  23"
    assert right.get_xlabel().startswith("x, px\n\n7.")


def test_the_sum_of_the_times_is_written() -> None:
    figure = time_by_part(TIMES)
    assert texts(figure) == ["560 ms", "12 ms"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["proposals", "network", "the rest"]
