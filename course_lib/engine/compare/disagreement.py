"""The pictures on which the models disagree most: there one sees what the averages hide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from course_lib.datasets.coco import CocoDetection
from course_lib.viz.comparison import draw_comparison, judge
from course_lib.viz.sheet import side_by_side


@dataclass(frozen=True)
class Disagreement:
    """An image on which models differ.

    index: of the image in the data set. score: for each object the models that find it times those that do not, and
    for each model its inventions beyond the fewest that any has. text: a caption.
    """

    index: int
    score: int
    text: str


def to_prediction(detections: Sequence[Mapping], dataset: CocoDetection) -> dict[str, np.ndarray]:
    """Boxes (N, 4) xyxy, labels (N,) and scores (N,) from what `judge.best_detections` keeps of an image."""
    boxes = np.array([d["bbox"] for d in detections], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([dataset.label_map.labels[d["category_id"]] for d in detections], dtype=np.int64)
    return {"boxes": boxes, "labels": labels, "scores": np.array([d["score"] for d in detections], dtype=np.float32)}


def disagreements(
    dataset: CocoDetection, detections: Mapping[str, Mapping[str, Sequence[Mapping]]], *, count: int
) -> list[Disagreement]:
    """The images on which the models differ most in what they find and what they invent.

    Args:
        dataset: the images, whose targets are the truth.
        detections: by model, by image id as text, its detections (`judge.best_detections`).
        count: how many images at most; those without any difference are left out.
    """
    ranked = []
    for index, image_id in enumerate(dataset.image_ids):
        truth = dataset[index][1]
        found, invented = {}, {}
        for name, by_image in detections.items():
            judgement = judge(truth, to_prediction(by_image.get(str(image_id), []), dataset))
            correct = [j for j, o in zip(judgement.matched, judgement.outcomes) if o == "correct"]
            found[name], invented[name] = set(correct), judgement.outcomes.count("invented")
        split = 0
        for number in range(len(truth["boxes"])):
            finders = sum(number in objects for objects in found.values())
            split += finders * (len(found) - finders)
        score = split + sum(invented.values()) - len(invented) * min(invented.values())
        if score:
            total = len(truth["boxes"]) - int(np.asarray(truth["iscrowd"]).sum())
            parts = [f"{name} {len(found[name])} and {invented[name]} invented" for name in detections]
            ranked.append(Disagreement(index, score, f"of {total} objects: {', '.join(parts)}"))
    return sorted(ranked, key=lambda d: (-d.score, d.index))[:count]


def draw_disagreement(
    dataset: CocoDetection, detections: Mapping[str, Mapping[str, Sequence[Mapping]]], index: int
) -> Image.Image:
    """Truth against each model's detections on one image, side by side under the models' names."""
    image, truth = dataset[index]
    names = dataset.label_map.names
    pictures = []
    for by_image in detections.values():
        prediction = to_prediction(by_image.get(str(dataset.image_ids[index]), []), dataset)
        pictures.append(draw_comparison(image, truth, prediction, names))
    return side_by_side(pictures, list(detections), columns=2)
