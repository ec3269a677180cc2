"""What a detector says at a score threshold: on one image, and over a whole data set."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from course_lib.viz.comparison import draw_comparison, judge
from course_lib.viz.palette import INK, LINE_STYLES, style
from course_lib.viz.picture import Picture, to_numpy
from course_lib.viz.sheet import side_by_side
from course_lib.viz.show import to_png_bytes


class OperatingPoints:
    """Precision and recall of a set of images at every score threshold.

    Args:
        truths: for each image boxes (G, 4), labels (G,), and optionally iscrowd (G,).
        predictions: for each image boxes (N, 4), labels (N,), scores (N,).
        iou: least overlap that counts.

    A threshold changes nothing about the detections above it: the best score chooses first. So every detection is
    judged once, and a threshold only says how many of them count. Raises ValueError if there are not as many
    predictions as images.
    """

    def __init__(self, truths: Sequence[Mapping], predictions: Sequence[Mapping], iou: float = 0.5):
        if len(truths) != len(predictions):
            raise ValueError(f"found {len(truths)} images and predictions for {len(predictions)}, expected as many")
        scores, correct, self.objects = [np.empty(0)], [np.empty(0, dtype=bool)], 0
        for truth, prediction in zip(truths, predictions):
            outcomes = np.array(judge(truth, prediction, iou).outcomes, dtype=object)
            counts = outcomes != "ignored"
            scores.append(to_numpy(prediction["scores"])[counts])
            correct.append(outcomes[counts] == "correct")
            crowd = to_numpy(truth.get("iscrowd", np.zeros(len(truth["labels"]))))
            self.objects += int((crowd == 0).sum())
        self.scores = np.concatenate(scores)
        self.correct = np.concatenate(correct).astype(bool)

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall of the detections that score at least `threshold`; precision is 1 without any."""
        made = self.scores >= threshold
        right = int((made & self.correct).sum())
        return right / made.sum() if made.any() else 1.0, right / max(self.objects, 1)


def draw_operating_point(
    image: Picture,
    truth: Mapping,
    prediction: Mapping,
    points: OperatingPoints,
    threshold: float,
    *,
    names: Sequence[str] | None = None,
) -> Image.Image:
    """One image as the detector answers at a threshold, beside precision and recall of the whole set.

    Args:
        image, truth, prediction, names: as `draw_comparison` takes them.
        points: of the set.
        threshold: detections that score less are not made.
    """
    picture = draw_comparison(image, truth, prediction, names, min_score=threshold, scale=3)
    curves = Image.open(BytesIO(to_png_bytes(_draw_curves(points, threshold))))
    here = OperatingPoints([truth], [prediction])
    captions = [
        "{}: precision {:.2f}, recall {:.2f}".format(what, *of.at(threshold))
        for what, of in (("this image", here), ("all images", points))
    ]
    return ImageOps.posterize(side_by_side([picture, curves], captions), 5)  # which keeps a notebook small


def _draw_curves(points: OperatingPoints, threshold: float) -> Figure:
    """Precision and recall over the score threshold, with a line at the one that is chosen."""
    grid = np.linspace(0.05, 0.95, 46)
    with style():
        figure = Figure(figsize=(4.4, 4.6))
        axes = figure.subplots()
        for name, values, (color, dash) in zip(("precision", "recall"), zip(*map(points.at, grid)), LINE_STYLES):
            axes.plot(grid, values, color=color, linestyle=dash, label=name)
        axes.axvline(threshold, color=INK, linestyle=":")
        axes.set(xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="lower center")
    return figure
