"""Figures of lesson 02: the focal loss and its gradient, how sure a detector is, who has the say in the loss.

Their x axis is p_t, the probability that the network gives to the truth, spread by its logit log(p_t / (1 − p_t)). Else
0.99 and 0.999 would be one point, and there nearly all background lies.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from course_lib.ops.losses import sigmoid_focal_loss
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, PREDICTION, TRUTH, style
from course_lib.viz.picture import to_numpy

OBJECT, BACKGROUND = TRUTH, PREDICTION  # blue, orange
TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
LIMITS = (-7.5, 7.5)  # of the logit
EASY_P, HARD_P = 0.99, 0.1  # the examples in the title of `focal_curves`


def focal_curves(alpha: float | None, gamma: float) -> Figure:
    """Draw what an object's and a background's answer cost, and how hard they pull, over the probability of the truth.

    alpha: weight of the objects; None for no weights. gamma: focusing parameter, at least 0.
    Left: loss −α_t (1 − p_t)^γ log p_t. Right: |d loss / d logit|. Thin lines are cross entropy, γ = 0 without α.
    The title compares an object at p_t = 0.1 with background at 0.99.
    Raises ValueError for γ below 0 or α outside 0…1.
    """
    if gamma < 0 or (alpha is not None and not 0 <= alpha <= 1):
        raise ValueError(f"focal_curves: found alpha {alpha}, gamma {gamma}, expected alpha in 0…1, gamma at least 0")
    z = torch.linspace(*LIMITS, 241, dtype=torch.float64)
    curves = (
        ("object", OBJECT, "-", *_loss_and_pull(z, 1.0, alpha, gamma)),
        ("background", BACKGROUND, "--", *_loss_and_pull(z, 0.0, alpha, gamma)),
        ("cross entropy", INK, ":", *_loss_and_pull(z, 1.0, None, 0.0)),
    )
    at = torch.tensor([HARD_P, EASY_P], dtype=torch.float64).logit()
    hard = _loss_and_pull(at[:1], 1.0, alpha, gamma)[0].item()
    easy = _loss_and_pull(at[1:], 0.0, alpha, gamma)[0].item()
    with style():
        figure = Figure(figsize=(WIDTH, 3.7))
        panels = figure.subplots(1, 2)
        for name, color, dash, *values in curves:
            width = 1.2 if color == INK else 2.2
            for axes, y in zip(panels, values):
                axes.plot(z.numpy(), y.numpy(), color=color, linestyle=dash, linewidth=width, label=name)
        for axes, (label, top) in zip(panels, (("loss", 5.0), ("pull, |d loss / d logit|", 1.2))):
            _truth_axis(axes)
            axes.set(ylabel=label, ylim=(0, top))
        figure.suptitle(_balance(hard, easy), fontsize=11)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def truth_histogram(panels: Mapping[str, tuple], *, bins: int = 60) -> Figure:
    """How many objects and how much background have which probability of the truth; counts on a logarithmic axis.

    panels: by title, two arrays of any length: p_t in 0…1 at objects, p_t at background. What lies beyond the axis is
    counted in its first or last bin. Raises ValueError without panels.
    """
    if not panels:
        raise ValueError("truth_histogram: found no panels, expected at least one")
    edges = np.linspace(*LIMITS, bins + 1)
    with style():
        figure = Figure(figsize=(WIDTH, 0.6 + 2.1 * len(panels)))
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, (objects, background)) in zip(rows, panels.items()):
            for name, values, look in (
                ("background", background, {"fill": True, "color": BACKGROUND, "alpha": 0.75}),
                ("objects", objects, {"color": OBJECT, "linewidth": 2}),
            ):
                heights, _ = np.histogram(_logit(values).clip(*LIMITS), edges)
                axes.stairs(heights, edges, label=name, **look)
            axes.set(yscale="log", ylabel="how many", title=title)
            axes.set_ylim(bottom=0.7)
            _truth_axis(axes, label=axes is rows[-1])
        figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def loss_shares(p_t: Mapping[str, Sequence[float]], gammas: Sequence[float]) -> Figure:
    """Which share of the loss the easiest examples hold, for each γ (Lin et al. 2017, Figure 4).

    p_t: by title, the probabilities (N,) given to the truth, in any order. gammas: a line for each.
    Raises ValueError naming the title without examples.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.5))
        panels = figure.subplots(1, len(p_t), sharey=True, squeeze=False)[0]
        for axes, (title, values) in zip(panels, p_t.items()):
            values = np.sort(to_numpy(values).astype(float))[::-1].clip(1e-12, 1 - 1e-12)  # easiest first
            if not len(values):
                raise ValueError(f"loss_shares, {title}: found no examples, expected at least one")
            places = np.arange(1, len(values) + 1) / len(values)
            for gamma, (color, dash) in zip(gammas, LINE_STYLES):
                shares = np.cumsum(-((1 - values) ** gamma) * np.log(values))
                shown = np.unique(np.linspace(0, len(values) - 1, 2000).astype(int))
                line = {"color": color, "linestyle": dash, "label": f"γ = {gamma:g}"}
                axes.plot(np.r_[0, places[shown]], np.r_[0, (shares / shares[-1])[shown]], **line)
            axes.set(title=title, xlabel="examples, easiest first", xlim=(0, 1), ylim=(0, 1.01))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1.0))
        panels[0].set_ylabel("share of the loss")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(gammas))
    return figure


def pull_curves(gammas: Sequence[float]) -> Figure:
    """Draw |d FL / d z| over the probability of the truth, without α; a dot marks where a line is highest.

    z: the logit of the truth. γ = 0 is cross entropy, whose pull is 1 − p_t.
    """
    z = torch.linspace(*LIMITS, 601, dtype=torch.float64)
    with style():
        figure = Figure(figsize=(WIDTH, 3.4))
        axes = figure.subplots()
        for gamma, (color, dash) in zip(gammas, LINE_STYLES):
            _, pull = _loss_and_pull(z, 1.0, None, gamma)
            axes.plot(z.numpy(), pull.numpy(), color=color, linestyle=dash, label=f"γ = {gamma:g}")
            top = int(pull.argmax())
            if 0 < top < len(z) - 1:
                axes.plot(z[top].item(), pull[top].item(), "o", color=color, markersize=6)
        axes.set(ylabel="pull, |d FL / d z|")
        axes.set_ylim(bottom=0)
        _truth_axis(axes)
        axes.legend(loc="upper right")
    return figure


def _loss_and_pull(z: torch.Tensor, target: float, alpha: float | None, gamma: float) -> tuple:
    """Loss and absolute slope at logits z of the truth (N,); the network's own logit is z at objects, else −z."""
    x = (z if target else -z).clone().requires_grad_()
    loss = sigmoid_focal_loss(x, torch.full_like(x, target), alpha, gamma)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), slope.abs()


def _balance(hard: float, easy: float) -> str:
    """How many easy background answers cost as much as one hard object, in words."""
    what = f"an object at {HARD_P:g} costs {hard:.3g}"
    if easy == 0:
        return f"{what}, background at {EASY_P:g} costs nothing"
    ratio = hard / easy
    count = f"{ratio:,.0f}" if 10 <= ratio < 1e9 else f"{ratio:.2g}"
    return f"{what}, as much as {count} times background at {EASY_P:g}"


def _logit(p_t) -> np.ndarray:
    p_t = to_numpy(p_t).astype(float).ravel().clip(1e-12, 1 - 1e-12)
    return np.log(p_t / (1 - p_t))


def _truth_axis(axes: Axes, *, label: bool = True) -> None:
    """The x axis: logits of the truth, at which stand the probabilities."""
    axes.set_xticks(_logit(TICKS), [f"{p:g}" for p in TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(*LIMITS)
    if label:
        axes.set_xlabel("$p_t$, probability given to the truth")
    axes.tick_params(axis="x", labelsize=9)
