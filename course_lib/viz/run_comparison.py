"""Several trainings in the same axes: whose curve leaves the others says what is wrong with it."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import LINE_STYLES, style


def compare_runs(
    runs: Mapping[str, Sequence[Mapping]], quantities: Sequence[str], *, x: str = "iteration", log: Sequence[str] = ()
) -> Figure:
    """Plot the same quantities of several training logs, a panel for each quantity and a line for each run.

    Args:
        runs: by name, records with `x` and some of the quantities; those that a record lacks are skipped there.
        quantities: what to plot, one panel each, in this order; the key is the panel's title.
        x: the key of the horizontal axis.
        log: quantities whose axis is logarithmic. The others start at 0.

    Raises:
        ValueError: without runs or quantities, or for a quantity that no record has.
    """
    if not runs or not quantities:
        raise ValueError(
            f"compare_runs: found {len(runs)} runs and {len(quantities)} quantities, expected some of each"
        )
    with style():
        columns = min(2, len(quantities))
        rows = -(-len(quantities) // columns)
        figure = Figure(figsize=(WIDTH, 0.5 + 2.3 * rows))
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten()
        for axes, quantity in zip(grid, quantities):
            _draw_quantity(axes, runs, quantity, x)
            axes.set(title=quantity.replace("_", " "))
            if quantity in log:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
        for axes in grid[len(quantities) :]:
            axes.set_axis_off()
        for axes in grid[max(0, len(quantities) - columns) : len(quantities)]:
            axes.set_xlabel(x)
            axes.xaxis.set_tick_params(labelbottom=True)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure


def _draw_quantity(axes, runs: Mapping[str, Sequence[Mapping]], quantity: str, x: str) -> None:
    drawn = False
    for (name, records), (color, dash) in zip(runs.items(), LINE_STYLES):
        points = [(r[x], r[quantity]) for r in records if r.get(quantity) is not None]
        drawn |= bool(points)
        marker = {"marker": "o", "markersize": 4} if len(points) < 12 else {}
        axes.plot(*zip(*points) if points else ([], []), color=color, linestyle=dash, label=name, **marker)
    if not drawn:
        raise ValueError(f"compare_runs: found no {quantity!r} in any record")
