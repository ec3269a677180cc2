"""From the data and the budget to a recipe: input size, anchors, batch, schedule. Nothing to set by hand.

A fixed recipe fits one data set. Objects of 10 px in photographs of 2,000 px need other inputs and other anchors than
cells of 80 px in pictures of 320 px, and four minutes allow other inputs than an hour. All of it follows from three
facts that are read from the annotations before the first image is opened: image sizes, box sizes, number of images.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.presets import RetinaNetPreset

SMALLEST = 16.0  # network pixels that a small object (10 % quantile) should have: two cells of the finest level
PIXELS_PER_SECOND = 2.5e6  # that the tiny preset trains on two ordinary cores; only its order of magnitude matters
VIEWS = 6000  # images that a training should at least see, whatever the input size


@dataclass(frozen=True)
class BoxStatistics:
    """What the plan needs to know of a data set.

    Attributes:
        height, width: the median image.
        sizes: square roots of the boxes' areas in pixels, (N,).
        ratios: height / width, (N,).
        weights: (N,), summing to 1; every class counts alike, since AP is a mean over classes.
        images: number of images.
    """

    height: float
    width: float
    sizes: np.ndarray
    ratios: np.ndarray
    weights: np.ndarray
    images: int

    def size_quantile(self, q: float) -> float:
        """The class-balanced quantile of the boxes' sizes, in pixels."""
        return _quantile(self.sizes, self.weights, q)

    def ratio_quantile(self, q: float) -> float:
        """The class-balanced quantile of the boxes' height / width."""
        return _quantile(self.ratios, self.weights, q)


def box_statistics(dataset: CocoDetection) -> BoxStatistics:
    """Read the statistics from a data set's annotations; no image is opened.

    Raises:
        ValueError: if the data set has no image or no object.
    """
    objects = [a for a in dataset.coco.dataset["annotations"] if not a["iscrowd"]]
    if not objects:
        raise ValueError(f"{dataset.annotations}: {len(dataset)} images and no object; there is nothing to learn")
    width, height = np.array([a["bbox"][2:] for a in objects], dtype=float).T
    _, labels, counts = np.unique([a["category_id"] for a in objects], return_inverse=True, return_counts=True)
    weights = 1 / counts[labels]
    heights, widths = dataset.sizes().T
    return BoxStatistics(
        float(np.median(heights)),
        float(np.median(widths)),
        np.sqrt(width * height),
        height / width,
        weights / weights.sum(),
        len(dataset),
    )


def _quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), q).clip(max=len(values) - 1)])


def fit_preset(preset: RetinaNetPreset, stats: BoxStatistics, seconds: float | None) -> RetinaNetPreset:
    """The preset with input size and anchors made for this data and this budget.

    The image is scaled so that its small objects cover two cells of the finest level, but not so far that the budget
    buys too few looks at the data. Anchor sizes then run geometrically from the smallest objects to the largest, and
    the ratios are the data's own.

    Args:
        preset: one whose input is resized by "fit"; any other is returned as it is, for it belongs to weights.
        stats: of the training split.
        seconds: of training, or None if the budget is in iterations.
    """
    if preset.input.resize != "fit":
        return preset
    size = input_size(stats, seconds, divisor=preset.input.divisor)
    factor = min(size[0] / stats.height, size[1] / stats.width)
    anchors = replace(
        preset.anchors,
        sizes=anchor_sizes(stats, factor, preset.anchors.strides, per_level=len(preset.anchors.sizes[0])),
        ratios=anchor_ratios(stats),
    )
    return replace(preset, anchors=anchors, input=replace(preset.input, size=size))


def input_size(stats: BoxStatistics, seconds: float | None, *, divisor: int) -> tuple[int, int]:
    """(height, width) of the network's input, multiples of `divisor`."""
    factor = SMALLEST / stats.size_quantile(0.1)
    factor = min(factor, 1.5)  # enlarging adds no detail
    if seconds is not None:
        affordable = seconds * PIXELS_PER_SECOND / VIEWS
        factor = min(factor, math.sqrt(affordable / (stats.height * stats.width)))
    factor = max(factor, 128 / max(stats.height, stats.width))
    return tuple(max(divisor, round(side * factor / divisor) * divisor) for side in (stats.height, stats.width))


def anchor_sizes(
    stats: BoxStatistics, factor: float, strides: tuple[int, ...], *, per_level: int
) -> tuple[tuple[float, ...], ...]:
    """Anchor sizes of each level: a geometric sequence over the sizes that occur, in network pixels."""
    low = max(stats.size_quantile(0.02) * factor, strides[0] / 2)
    high = max(stats.size_quantile(0.98) * factor, 2 * low)
    count = per_level * len(strides)
    sizes = np.geomspace(low * 1.1, high / 1.1, count)
    return tuple(tuple(round(float(s), 1) for s in level) for level in sizes.reshape(len(strides), per_level))


def anchor_ratios(stats: BoxStatistics) -> tuple[float, float, float]:
    """Three ratios height / width: the middle of the data's, and both sides of it, at least a factor 1.4 apart."""
    low, middle, high = (stats.ratio_quantile(q) for q in (0.15, 0.5, 0.85))
    low, high = min(low, middle / 1.4), max(high, middle * 1.4)
    return tuple(round(float(np.clip(r, 0.2, 5)), 2) for r in (low, middle, high))
