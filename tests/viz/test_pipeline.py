import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from course_lib.viz.palette import PALETTE
from course_lib.viz.pipeline import BLOCKS, pipeline


def lit(figure) -> int:
    return sum(to_hex(patch.get_facecolor()).upper() == PALETTE[0] for patch in figure.axes[0].patches)


def test_the_named_blocks_are_lit_and_without_names_all():
    assert lit(pipeline()) == len(BLOCKS) == len(pipeline().axes[0].patches)
    assert lit(pipeline("matching", "loss")) == 2


def test_every_blocks_text_is_within_the_block():
    figure = pipeline("fpn")
    figure.set_dpi(80)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [patch.get_window_extent(canvas.get_renderer()) for patch in figure.axes[0].patches]
    for title, gives, _ in BLOCKS.values():
        for words in (title, gives):
            text = next(t for t in figure.axes[0].texts if t.get_text() == words)
            extent = text.get_window_extent(canvas.get_renderer())
            assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in boxes), words


def test_an_unknown_block_is_refused():
    with pytest.raises(ValueError, match="found 'neck', expected some of data, backbone, fpn"):
        pipeline("fpn", "neck")
