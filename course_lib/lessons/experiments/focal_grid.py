"""Lesson 02's experiment: γ and α of the focal loss on a quiet Town; all else stays the same.

The settings are those of Lin et al. (Focal Loss, 2017, Tables 1a and 1b) in small: α at γ = 0, which is weighted cross
entropy, then γ with the α that suits it. In addition cross entropy without α, and γ = 2 with the α of cross entropy.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import TINY
from course_lib.detectors.retinanet import RetinaNet
from course_lib.detectors.targets import assign
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import train_run
from course_lib.lessons.experiments import sweep
from course_lib.nn.preprocess import rescale_boxes

TOWN = TownConfig(size=96, objects=2.0, scale=(0.14, 0.5), rarity=0.0)  # few objects: more imbalance, as in photographs
TRAIN, VAL = 800, 300
ITERATIONS = 300
SEEDS = (0, 1)
SETTINGS = (  # γ, α; None: no weights
    (0.0, None), (0.0, 0.25), (0.0, 0.75), (0.0, 0.95), (0.5, 0.5), (1.0, 0.25), (2.0, 0.25), (2.0, 0.75), (5.0, 0.25),
)  # fmt: skip
PROBED = 64  # validation images that `probe` looks at


def run(progress: bool) -> dict:
    """Train and judge every setting with every seed, about ten minutes on two cores."""
    with tempfile.TemporaryDirectory(prefix="course_") as folder:
        town = Path(folder) / "town"
        make_town(town, train=TRAIN, val=VAL, config=TOWN, seed=0, progress=False)
        train_data = open_split(town, "train")
        val_data = open_split(town, "val", label_map=train_data.label_map)

        def measure(gamma: float, alpha: float | None, seed: int) -> dict:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                return train_and_judge(gamma, alpha, seed, train_data, val_data, Path(out))

        cases = [{"gamma": gamma, "alpha": alpha, "seed": seed} for seed in SEEDS for gamma, alpha in SETTINGS]
        rows = sweep("focal_grid", cases, measure, progress=progress)
        objects = sum(map(len, val_data.all_boxes()))
    settings = {"town": TOWN.to_dict(), "train": TRAIN, "val": VAL, "iterations": ITERATIONS, "objects": objects}
    return {"settings": settings, "rows": rows}


def train_and_judge(
    gamma: float, alpha: float | None, seed: int, train_data: CocoDetection, val_data: CocoDetection, out: Path
) -> dict:
    """AP, AP50 and what `probe` says of one training from random weights."""
    preset = replace(TINY, loss=replace(TINY.loss, gamma=gamma, alpha=-1.0 if alpha is None else alpha))
    recipe = Recipe(iterations=ITERATIONS, seed=seed, augmentation="flip")
    trainer = train_run(preset, recipe, train_data=train_data, val_data=None, out=out, progress=False)
    with trainer.averaged() as model:
        results, _, _ = detect_dataset(model, val_data)
        summary = evaluate_results(val_data.coco, results).summary
        found = probe(model, val_data)
    return {"AP": round(summary["AP"], 4), "AP50": round(summary["AP50"], 4), **found}


@torch.inference_mode()
def probe(model: RetinaNet, data: CocoDetection) -> dict[str, float]:
    """How sure the model is on the first images.

    Returns:
        object_score: the median probability that an anchor on an object gives to the object's class.
        background_per_object: how many zeros, among the targets of all anchors and classes, come to a one.
    """
    images, targets = zip(*(data[i] for i in range(min(PROBED, len(data)))))
    model.eval()
    batch = model.preprocess(list(images))
    logits, _, levels = model.dense(batch.images)
    sizes = zip(batch.original_sizes, batch.sizes)
    boxes = [rescale_boxes(t["boxes"][~t["iscrowd"]], *size) for t, size in zip(targets, sizes)]
    classes = [t["labels"][~t["iscrowd"]] for t in targets]
    labels, _ = assign(torch.cat(levels), boxes, classes, model.match_spec)
    image, anchor = (labels >= 0).nonzero(as_tuple=True)
    scores = torch.cat(logits, 1)[image, anchor, labels[image, anchor]].sigmoid()
    zeros = (labels != -2).sum() * model.num_classes - len(scores)
    return {
        "object_score": round(scores.median().item(), 4),
        "background_per_object": round(zeros.item() / max(len(scores), 1), 1),
    }
