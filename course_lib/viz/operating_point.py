"""What a detector says at a score threshold: on one image, and over a whole data set."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from course_lib.viz.comparison import draw_comparison, judge
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, style
from course_lib.viz.picture import Picture, to_numpy


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
) -> Figure:
    """One image as the detector answers at a threshold, beside precision and recall of the whole set.

    Args:
        image, truth, prediction, names: as `draw_comparison` takes them.
        points: of the set.
        threshold: detections that score less are not made.
    """
    here = OperatingPoints([truth], [prediction])
    picture = draw_comparison(image, truth, prediction, names, min_score=threshold, scale=3)
    grid = np.linspace(0.05, 0.95, 46)
    precision, recall = np.array([points.at(t) for t in grid]).T
    with style():
        figure = Figure(figsize=(WIDTH, 4.3))
        left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
        left.imshow(picture, interpolation="antialiased")
        left.set_axis_off()
        left.set_title("this image:\nprecision {:.2f}, recall {:.2f}".format(*here.at(threshold)), fontsize=11)
        for name, values, (color, dash) in zip(("precision", "recall"), (precision, recall), LINE_STYLES):
            right.plot(grid, values, color=color, linestyle=dash, label=name)
        right.axvline(threshold, color=INK, linestyle=":")
        right.set_title("all images:\nprecision {:.2f}, recall {:.2f}".format(*points.at(threshold)), fontsize=11)
        right.set(xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.02))
        right.legend(loc="lower center")
    return figure
