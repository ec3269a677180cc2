"""A figure as it will be shown: nothing may stick out of it, and matplotlib may not complain."""

import warnings
from collections.abc import Callable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def drawn_whole(draw: Callable[[], Figure]) -> Figure:
    """The figure that `draw` makes, drawn at 80 dpi, once it is sure that nothing in it is clipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw()
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(80)
        canvas.draw()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox(canvas.get_renderer())  # inches
    assert min(box.x0, box.y0) >= -0.01, box
    assert box.x1 <= width + 0.01, box
    assert box.y1 <= height + 0.01, box
    return figure
