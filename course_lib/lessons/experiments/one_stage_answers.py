"""Lesson 07's experiment: what SSD and YOLO do about imbalance and shape, each with one choice changed.

Town, backbone, order of the images, iterations and seed stay the same for all; RetinaNet is trained beside them. Each
case says what it changes; "as it is" is the tiny preset, fitted to the data.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import TINY, YOLOPreset, get_preset
from course_lib.detectors.yolo import PriorSpec
from course_lib.detectors.yolo_v1 import V1Spec, YOLOv1
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import Trainer
from course_lib.lessons.experiments import sweep
from course_lib.nn.backbones import ResNet

TOWN = TownConfig(size=96, scale=(0.14, 0.5))  # as in lessons 00, 05 and 07
TRAIN, VAL = 800, 200
ITERATIONS = 400
SEED = 0
ALL = 1e6  # background boxes to an object: more than there are
CASES = (
    ("retinanet", "as it is"),
    ("ssd", "as it is"),
    ("ssd", "1 to 1"),
    ("ssd", "10 to 1"),
    ("ssd", "all background"),
    ("yolo", "as it is"),
    ("yolo", "nothing ignored"),
    ("yolo", "several slots an object"),
    ("yolo", "square priors"),
    ("yolo", "GIoU for boxes"),
    ("yolo", "version 1, 6 × 6 cells"),
    ("yolo", "version 1, 12 × 12 cells"),
)


def changed(family: str, case: str, train_data: CocoDetection, recipe: Recipe) -> tuple[nn.Module, Recipe, tuple]:
    """The model of a case with fresh weights, its recipe, and (height, width) of its input."""
    tiny, recipe = fit(get_preset("tiny", family), recipe, box_statistics(train_data))
    classes = len(train_data.label_map)
    torch.manual_seed(SEED)
    if case.startswith("version 1"):
        grid = int(case.split()[2])
        level = {6: "c4", 12: "c3"}[grid]  # the map that has as many cells
        backbone = ResNet(**{**vars(TINY.backbone), "levels": (level,)})
        model = YOLOv1(
            backbone=backbone,
            channels=backbone.channels[level],
            num_classes=classes,
            spec=V1Spec(grid=grid),
            input=tiny.input,
        )
        return model, recipe, tiny.input.size
    if family == "ssd":
        negatives = {"1 to 1": 1.0, "10 to 1": 10.0, "all background": ALL}.get(case, tiny.loss.negatives)
        tiny = replace(tiny, loss=replace(tiny.loss, negatives=negatives))
    elif family == "yolo":
        tiny = changed_yolo(tiny, case)
    return tiny.build(classes), recipe, tiny.input.size


def changed_yolo(tiny: YOLOPreset, case: str) -> YOLOPreset:
    """A YOLO with what one of its cases changes."""
    match case:
        case "nothing ignored":
            return replace(tiny, matching=replace(tiny.matching, ignore=1.0))
        case "several slots an object":
            return replace(tiny, matching=replace(tiny.matching, extra=0.4))
        case "GIoU for boxes":
            return replace(tiny, loss=replace(tiny.loss, box="giou", box_weight=2.0))
        case "square priors":  # squares of the same areas
            sides = [[(w * h) ** 0.5 for w, h in level] for level in tiny.priors.shapes]
            shapes = tuple(tuple((s, s) for s in level) for level in sides)
            return replace(tiny, priors=PriorSpec(shapes=shapes, strides=tiny.priors.strides))
    return tiny


def train_and_judge(
    family: str, case: str, train_data: CocoDetection, val_data: CocoDetection, iterations: int, out: Path
) -> dict:
    """Train one case; AP, and AP50 and AP75, on all validation images."""
    recipe = Recipe(iterations=iterations, seed=SEED, augmentation="flip")
    model, recipe, size = changed(family, case, train_data, recipe)
    trainer = Trainer(
        model, recipe, train_data=train_data, val_data=None, out=out, header={}, size=size, progress=False
    )
    trainer.run()
    with trainer.averaged():
        results, _, _ = detect_dataset(model, val_data)
    summary = evaluate_results(val_data.coco, results).summary
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_to_train": round(trainer.seconds, 1),
        **{key: None if summary[key] is None else round(summary[key], 4) for key in ("AP", "AP50", "AP75")},
    }


def run(progress: bool, iterations: int = ITERATIONS, train: int = TRAIN, val: int = VAL) -> dict:
    """Train and judge all cases; a few minutes on two cores."""
    with tempfile.TemporaryDirectory(prefix="course_") as folder:
        town = Path(folder) / "town"
        make_town(town, train=train, val=val, config=TOWN, seed=SEED, progress=False)
        train_data = open_split(town, "train")
        val_data = open_split(town, "val", label_map=train_data.label_map)

        def measure(family: str, case: str) -> dict:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                return train_and_judge(family, case, train_data, val_data, iterations, Path(out))

        cases = [{"family": family, "case": case} for family, case in CASES]
        rows = sweep("one_stage_answers", cases, measure, progress=progress)
    settings = {"town": TOWN.to_dict(), "train": train, "val": val, "iterations": iterations, "seed": SEED}
    return {"settings": settings, "rows": rows}
