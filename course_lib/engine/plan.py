"""From the data and the budget to a recipe: input size, anchors, augmentation. Nothing to set by hand.

A fixed recipe fits one data set. Objects of 10 px in photographs of 2,000 px need other inputs and other anchors than
cells of 80 px in pictures of 320 px, and four minutes allow other inputs than an hour. All of it follows from facts
that are read from the annotations before the first image is opened: image sizes, box sizes, number of images.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.presets import Preset
from course_lib.detectors.presets.ssd import SSDPreset
from course_lib.detectors.presets.yolo import YOLOPreset
from course_lib.detectors.targets import MatchSpec
from course_lib.detectors.yolo import PriorSpec
from course_lib.engine.recipe import Recipe
from course_lib.ops.kmeans import kmeans_anchors

PIXELS_PER_SECOND = 2e6  # that the tiny preset trains on two cores; only its order of magnitude matters
VIEWS = 10_000  # images that a training should see
FEWEST_VIEWS = 4_000  # … or, where only large inputs show the small objects, at least these
PASSES = 5  # … and each image so often
SMALL_OBJECT = 8.0  # network pixels that a small object (10 % quantile) should have: two cells of the finest level
LARGEST_FACTOR = 2.0  # enlarging adds no detail
STRIDES_AN_OBJECT = 8  # larger ones get a coarser level …
SSD_STRIDES_AN_OBJECT = 4  # … where no pyramid brings what it sees back to the finer ones
NEARLY_SQUARE = 1.15  # a ratio for which SSD's squares will do
STUFF_SHARE = 4096 / (480 * 640)  # of a picture; a class of stuff that fills less becomes void: as on COCO
MANY_SMALL = 0.25  # share of the objects
MANY_PASSES = 20  # from here on a network begins to know the images by heart, and augmentation pays


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

    def shapes(self) -> np.ndarray:
        """Width and height of each box in pixels, (N, 2)."""
        root = np.sqrt(self.ratios)
        return np.stack((self.sizes / root, self.sizes * root), axis=1)

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


def fit(preset: Preset, recipe: Recipe, stats: BoxStatistics, *, keep: bool = False) -> tuple[Preset, Recipe]:
    """The preset and the recipe, made for this data and this budget.

    Args:
        preset: one whose input is resized by "fit" gets an input size and anchors; any other keeps its own, for
            they belong to published weights.
        recipe: gets the preset's learning rate and an augmentation, unless they are set.
        stats: of the training split.
        keep: let the preset be as it is, for the training starts from weights that were made with it.
    """
    if preset.input.resize == "fit" and not keep:
        divisor = preset.input.divisor
        size = recipe.input_size or input_size(stats, recipe, divisor=divisor)
        size = tuple(max(2, math.ceil(side / divisor)) * divisor for side in size)
        factor = min(size[0] / stats.height, size[1] / stats.width)
        fit_boxes = {"ssd": _fit_default_boxes, "yolo": _fit_priors}.get(preset.family, _fit_pyramid)
        preset = replace(fit_boxes(preset, stats, factor), input=replace(preset.input, size=size))
        if hasattr(preset, "fusion"):
            stuff_area = round(STUFF_SHARE * stats.height * stats.width)
            preset = replace(preset, fusion=replace(preset.fusion, stuff_area=stuff_area))
    if recipe.learning_rate is None:
        recipe = replace(recipe, learning_rate=preset.learning_rate)
    if recipe.augmentation == "auto":
        passes = views(recipe, preset.input.size) / stats.images
        recipe = replace(recipe, augmentation="strong" if passes >= MANY_PASSES else "flip")
    return preset, recipe


def _fit_pyramid(preset: Preset, stats: BoxStatistics, factor: float) -> Preset:
    """Anchors, levels and matching of a detector with an anchor pyramid; factor: network pixels per image pixel."""
    strides = preset.anchors.strides
    sizes = anchor_sizes(stats, factor, strides, per_level=len(preset.anchors.sizes[0]))
    levels = preset.backbone.levels
    if not hasattr(preset, "num_stuff"):  # stuff is told by what is around it, which only coarse levels see
        levels = levels[: len(sizes)]
    return replace(
        preset,
        anchors=replace(preset.anchors, sizes=sizes, strides=strides[: len(sizes)], ratios=anchor_ratios(stats)),
        backbone=replace(preset.backbone, levels=levels),
        matching=thresholds(preset.matching, stats, factor, strides[0]),
    )


def _fit_default_boxes(preset: SSDPreset, stats: BoxStatistics, factor: float) -> SSDPreset:
    """As `_fit_pyramid`; the sizes are one sequence, so a level's second is that between its first and the next's."""
    strides = preset.anchors.strides
    sizes = anchor_sizes(stats, factor, strides, per_level=2, strides_an_object=SSD_STRIDES_AN_OBJECT)
    ratios = tuple(r for r in anchor_ratios(stats) if not 1 / NEARLY_SQUARE < r < NEARLY_SQUARE)
    match_iou = thresholds(MatchSpec(high=preset.loss.match_iou), stats, factor, strides[0]).high
    return replace(
        preset,
        anchors=replace(preset.anchors, sizes=sizes, ratios=(ratios,) * len(sizes), strides=strides[: len(sizes)]),
        backbone=replace(preset.backbone, levels=preset.backbone.levels[: len(sizes)]),
        loss=replace(preset.loss, match_iou=match_iou),
    )


def _fit_priors(preset: YOLOPreset, stats: BoxStatistics, factor: float) -> YOLOPreset:
    """Priors by k-means on the data's boxes, shared out over the preset's levels."""
    shapes = torch.from_numpy(stats.shapes() * factor).clamp(min=1.0)
    anchors = kmeans_anchors(
        shapes,
        sum(len(level) for level in preset.priors.shapes),
        generator=torch.Generator().manual_seed(0),
        weights=torch.from_numpy(stats.weights),
    )
    return replace(preset, priors=PriorSpec.from_shapes(anchors, preset.priors.strides))


def views(recipe: Recipe, size: tuple[int, int]) -> float:
    """About how many images the budget lets a training see at this input size."""
    if recipe.iterations is not None:
        return recipe.iterations * recipe.batch_size
    return 60 * recipe.minutes * PIXELS_PER_SECOND / (size[0] * size[1])


def input_size(stats: BoxStatistics, recipe: Recipe, *, divisor: int) -> tuple[int, int]:
    """(height, width) of the network's input in multiples of `divisor`: as large as the budget allows.

    The budget should buy `VIEWS` images, and `PASSES` over a large data set. If small objects then cover less than two
    cells of the finest level the input is larger, and fewer images are seen. Images are enlarged for that reason alone.
    """
    area = stats.height * stats.width
    show = SMALL_OBJECT / stats.size_quantile(0.1)  # scales the small objects to what the network can see
    pixels = PIXELS_PER_SECOND * 60 * (recipe.minutes or 4.0)  # a budget in iterations says nothing of time
    afford = math.sqrt(pixels / max(VIEWS, PASSES * stats.images) / area)
    most = math.sqrt(pixels / FEWEST_VIEWS / area)
    factor = min(max(show, min(afford, 1.0)), most, LARGEST_FACTOR)
    return tuple(max(2, round(side * factor / divisor)) * divisor for side in (stats.height, stats.width))


def anchor_sizes(
    stats: BoxStatistics,
    factor: float,
    strides: tuple[int, ...],
    *,
    per_level: int,
    strides_an_object: int = STRIDES_AN_OBJECT,
) -> tuple[tuple[float, ...], ...]:
    """Anchor sizes of each level: a geometric sequence over the sizes that occur, in network pixels.

    The paper's anchors are four to six strides large. Much smaller ones lie so far apart that few of them overlap an
    object well, and training starves: a coarse level is only added for objects over `strides_an_object` strides of the
    level before it, which sees no further. There are two levels at least.
    """
    low = max(stats.size_quantile(0.02) * factor, strides[0]) * 1.1
    high = max(stats.size_quantile(0.98) * factor / 1.1, 2 * low)
    levels = next((n for n in range(2, len(strides)) if high <= strides_an_object * strides[n - 1]), len(strides))
    sizes = np.geomspace(low, high, per_level * levels).reshape(levels, per_level)
    return tuple(tuple(round(float(s), 1) for s in level) for level in sizes)


def thresholds(matching: MatchSpec, stats: BoxStatistics, factor: float, stride: int) -> MatchSpec:
    """The matching, with lower thresholds where many objects are under three cells of the finest level.

    Anchors lie a cell apart, so even the best of them overlap so small an object little. Larger objects are better
    served by high thresholds, above all where they touch one another.
    """
    if stats.size_quantile(MANY_SMALL) * factor < 3 * stride:
        return replace(matching, low=round(matching.low - 0.1, 3), high=round(matching.high - 0.1, 3))
    return matching


def anchor_ratios(stats: BoxStatistics) -> tuple[float, float, float]:
    """Three ratios height / width: the middle of the data's, and both sides of it, at least a factor 1.4 apart."""
    low, middle, high = (stats.ratio_quantile(q) for q in (0.15, 0.5, 0.85))
    low, high = min(low, middle / 1.4), max(high, middle * 1.4)
    return tuple(round(float(np.clip(r, 0.2, 5)), 2) for r in (low, middle, high))
