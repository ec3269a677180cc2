"""What hard-negative mining keeps: a histogram of the background's losses."""

import numpy as np
from matplotlib.figure import Figure

from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, PREDICTION, TRUTH, style
from course_lib.viz.picture import to_numpy

LIMITS = (1e-4, 20.0)  # of the loss
DROPPED = LINE_STYLES[4][0]


def mined_losses(loss, positive, kept, *, title: str = "", bins: int = 48) -> Figure:
    """How many boxes have which loss: background that is left out, background that is learnt, objects.

    loss: each box's classification loss, any shape; positive, kept: masks of that shape, the boxes on objects and the
    background that mining keeps. What lies beyond the axis is counted in its first or last bin. The legend says how
    many boxes and which share of all the loss each kind holds. Both axes are logarithmic.
    Raises ValueError if the shapes differ, or a box on an object is kept as background.
    """
    loss = to_numpy(loss).astype(float)
    positive, kept = to_numpy(positive).astype(bool), to_numpy(kept).astype(bool)
    if not loss.shape == positive.shape == kept.shape:
        raise ValueError(f"mined_losses: found shapes {loss.shape}, {positive.shape}, {kept.shape}, expected one")
    if (positive & kept).any():
        raise ValueError(f"mined_losses: found {(positive & kept).sum()} boxes on objects among the background kept")
    kinds = (
        ("left out", ~positive & ~kept, {"fill": True, "color": DROPPED, "alpha": 0.85}),
        ("learnt", kept, {"fill": True, "color": PREDICTION}),
        ("on objects", positive, {"color": TRUTH, "linewidth": 2}),
    )
    edges = np.geomspace(*LIMITS, bins + 1)
    total, tallest = loss.sum() or 1.0, 1
    with style():
        figure = Figure(figsize=(WIDTH, 3.6))
        axes = figure.subplots()
        for name, mask, look in kinds:
            heights, _ = np.histogram(loss[mask].clip(*LIMITS), edges)
            label = f"{name}: {mask.sum():,} boxes, {loss[mask].sum() / total:.0%} of the loss"
            axes.stairs(heights, edges, label=label, **look)
            tallest = max(tallest, heights.max())
        axes.set(xlabel="classification loss of a box", ylabel="how many", xlim=LIMITS, ylim=(0.7, 2 * tallest))
        axes.set(xscale="log", yscale="log")
        axes.set_title(title)
        axes.tick_params(which="minor", color=INK)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
