"""The mistakes that cost most, to be looked at: a number says that a detector fails, a picture often says why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from course_lib.datasets.coco import CocoDetection
from course_lib.viz.comparison import draw_comparison, judge

SURE = 0.5  # a score from which a detection counts as said, here and in the drawings: below it most are wrong


@dataclass
class Mistake:
    """One image and what went wrong there.

    index: of the image in the data set. kind: "wrong class", "invented" or "missed". weight: the score of the wrong
    detection, or for a missed object the square root of its area as a share of the image's. text: a caption.
    """

    index: int
    kind: str
    weight: float
    text: str


def worst_mistakes(dataset: CocoDetection, outputs: Sequence[dict], *, count: int) -> list[Mistake]:
    """The gravest mistakes of each kind, at most one an image and a third of `count` each.

    Grave is a confident detection of what is not there or is something else, and a large object that was missed.

    Args:
        dataset: the images, whose targets are the truth.
        outputs: for each image boxes (N, 4), labels (N,), scores (N,).
        count: how many in all.
    """
    found: dict[str, list[Mistake]] = {"wrong class": [], "invented": [], "missed": []}
    names = dataset.label_map.names
    for i, output in enumerate(outputs):
        image, truth = dataset[i]
        sure = {k: v[output["scores"] >= SURE] for k, v in output.items()}
        judgement = judge(truth, sure)
        for kind in ("wrong class", "invented"):
            for n in [n for n, outcome in enumerate(judgement.outcomes) if outcome == kind][:1]:  # best score first
                label, score = names[int(sure["labels"][n])], float(sure["scores"][n])
                text = f"invented {label} {score:.2f}"
                if kind == "wrong class":
                    text = f"{names[int(truth['labels'][judgement.matched[n]])]} taken for {label} {score:.2f}"
                found[kind].append(Mistake(i, kind, score, text))
        boxes = np.asarray(truth["boxes"])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        if len(judgement.missed):
            n = max(judgement.missed, key=lambda n: areas[n])
            weight = float(np.sqrt(areas[n] / (image.shape[-1] * image.shape[-2])))
            found["missed"].append(Mistake(i, "missed", weight, f"missed {names[int(truth['labels'][n])]}"))
    chosen: list[Mistake] = []
    for mistakes in found.values():
        fresh = [m for m in sorted(mistakes, key=lambda m: -m.weight) if m.index not in {c.index for c in chosen}]
        chosen += fresh[: count // 3]
    return chosen


def draw_mistake(dataset: CocoDetection, outputs: Sequence[dict], index: int, scale: int | str = "auto") -> Image.Image:
    """Truth against prediction on one image, at the score from which a detection counts."""
    image, truth = dataset[index]
    names = dataset.label_map.names
    return draw_comparison(image, truth, outputs[index], names, min_score=SURE, scale=scale)
