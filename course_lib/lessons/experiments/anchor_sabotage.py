"""Lesson 03's experiment: one detector, trained with anchors and a matching that are right, and with broken ones.

Town, network, order of the images, iterations and seed stay the same. A case changes only where or how large the
anchors are, or which of them learn an object. Coverage of the training objects is recorded beside the AP by size.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.anchor_pyramid import AnchorPyramid, AnchorSpec, pyramid_anchors
from course_lib.detectors.presets import TINY, RetinaNetPreset
from course_lib.detectors.targets import MatchSpec
from course_lib.engine.coverage import coverage
from course_lib.engine.evaluate import detect_dataset
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import Trainer
from course_lib.lessons.experiments import sweep
from course_lib.lessons.experiments.fpn_levels import ap_by_size
from course_lib.nn.preprocess import Size

TOWN = TownConfig(size=96, scale=(0.1, 0.5))
TRAIN, VAL = 800, 200
ITERATIONS = 400
SEED = 0
PRESET = replace(
    TINY,
    backbone=replace(TINY.backbone, levels=("c2", "c3")),
    anchors=AnchorSpec(sizes=((7.0, 10.0, 15.0), (22.0, 32.0, 47.0)), ratios=(0.5, 0.75, 2.0), strides=(4, 8)),
    matching=MatchSpec(low=0.3, high=0.4),
    input=replace(TINY.input, size=TOWN.size),
)
ENLARGE = 2.0  # COCO's limits of 32 and 96 px: small is then below 16 px of Town, large above 48 px
LARGE_SIZES = ((24.0, 28.0, 33.0), (39.0, 46.0, 54.0))  # px: as many as in PRESET, none of them small
CASES = ("fitted", "no low-quality", "no small sizes", "no small sizes, no low-quality", "x and y swapped")


def swapped_anchors(spec: AnchorSpec, image_size: Size, grids: Sequence[Size]) -> list[Tensor]:
    """`pyramid_anchors` on square grids, where the anchor at row r and column c is that of row c and column r."""
    levels = zip(pyramid_anchors(spec, image_size, grids), grids)
    return [a.reshape(*grid, -1, 4).transpose(0, 1).reshape(-1, 4) for a, grid in levels]


def broken(case: str) -> RetinaNetPreset:
    """PRESET with what one of CASES changes."""
    preset = PRESET
    if "no small sizes" in case:
        preset = replace(preset, anchors=replace(preset.anchors, sizes=LARGE_SIZES))
    if "no low-quality" in case:
        preset = replace(preset, matching=replace(preset.matching, low_quality=False))
    return preset


def train_and_judge(case: str, train_data: CocoDetection, val_data: CocoDetection, iterations: int, out: Path) -> dict:
    """Coverage of the training objects under one of CASES, and AP by size after training."""
    recipe = Recipe(iterations=iterations, seed=SEED, augmentation="flip")
    preset = broken(case)
    torch.manual_seed(SEED)
    model = preset.build(len(train_data.label_map))
    if case == "x and y swapped":
        model.anchors = AnchorPyramid(preset.anchors, swapped_anchors)
    trainer = Trainer(
        model, recipe, train_data=train_data, val_data=None, out=out, header={}, size=preset.input.size, progress=False
    )
    trainer.run()
    with trainer.averaged():
        results, _, _ = detect_dataset(model, val_data)
    found = coverage(train_data, preset.anchors, preset.input, preset.matching)
    by_size = {
        key: None if ap is None else round(ap, 4) for key, ap in ap_by_size(val_data.coco, results, ENLARGE).items()
    }
    small = found.sizes < 32 / ENLARGE
    return {
        "reached": round(found.total().reached, 4),
        "small_reached": round(float(found.reached[small].mean()), 4),
        "small_unlearnt": round(float((found.positives[small] == 0).mean()), 4),
        **by_size,
    }


def run(progress: bool, iterations: int = ITERATIONS, train: int = TRAIN, val: int = VAL) -> dict:
    """Train and judge all cases; a few minutes on two cores."""
    with tempfile.TemporaryDirectory(prefix="course_") as folder:
        town = Path(folder) / "town"
        make_town(town, train=train, val=val, config=TOWN, seed=SEED, progress=False)
        train_data = open_split(town, "train")
        val_data = open_split(town, "val", label_map=train_data.label_map)

        def measure(case: str) -> dict:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                return train_and_judge(case, train_data, val_data, iterations, Path(out))

        rows = sweep("anchor_sabotage", [{"case": case} for case in CASES], measure, progress=progress)
    settings = {"town": TOWN.to_dict(), "train": train, "val": val, "iterations": iterations, "seed": SEED}
    return {"settings": settings | {"limits_px": [32 / ENLARGE, 96 / ENLARGE]}, "rows": rows}
