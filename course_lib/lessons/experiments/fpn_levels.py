"""Lesson 04's experiment: one detector on a single map, on several maps, and on a pyramid with a top-down path.

Town, backbone, heads, anchors, iterations and seeds stay the same. What changes is on which maps the anchors lie, and
how these maps are made: the comparison of Lin et al. (Feature Pyramid Networks, 2017, Table 1) in small.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn

from course_lib.datasets.coco import CocoDetection, coco_index, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.presets import TINY
from course_lib.detectors.retinanet import RetinaNet
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import pick_precision
from course_lib.engine.train import Trainer
from course_lib.lessons.experiments import sweep
from course_lib.nn.backbones import ResNet
from course_lib.nn.fpn import FPN

TOWN = TownConfig(size=128, scale=(0.08, 0.6))  # persons from 10 to 77 px: a wide span of sizes
TRAIN, VAL = 1600, 300
ITERATIONS = 500
SEEDS = (0, 1)  # of weights and order; the Town is always that of seed 0
STRIDES = {"c2": 4, "c3": 8, "c4": 16}
SIZES = {"c2": (7.0, 10.8), "c3": (16.7, 25.9), "c4": (40.0, 62.0)}  # px; geometric over Town's sizes
RATIOS = (0.49, 0.79, 2.1)  # of this Town's boxes, as `engine.plan.anchor_ratios` finds them
ENLARGE = 3.0  # for COCO's limits of 32 and 96 px: small is then below 10.7 px of Town, large above 32 px
LEVELS = tuple(STRIDES)
# By name: the levels that the backbone builds, those on whose maps the anchors lie, and whether they are connected.
NECKS = {
    "C4 alone": (("c4",), ("c4",), False),
    "C2 alone": (("c2",), ("c2",), False),
    "P2 alone": (LEVELS, ("c2",), True),
    "C2, C3, C4": (LEVELS, LEVELS, False),
    "P2, P3, P4": (LEVELS, LEVELS, True),
}


class Unconnected(nn.Module):
    """Each level through a lateral and an output convolution of its own; none hears of another, as in SSD.

    Arguments and shapes are those of `FPN`.
    """

    def __init__(self, in_channels: dict[str, int], *, channels: int):
        super().__init__()
        self.necks = nn.ModuleList(FPN({level: count}, channels=channels) for level, count in in_channels.items())
        self.num_levels = len(in_channels)

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """One map per level, fine to coarse."""
        return [neck(features)[0] for neck in self.necks]


class Finest(nn.Module):
    """The finest map of a pyramid alone; the top-down path has brought it what the coarse maps know."""

    num_levels = 1

    def __init__(self, fpn: FPN):
        super().__init__()
        self.fpn = fpn

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """The finest map, in a list."""
        return self.fpn(features)[:1]


def build(maps: str, num_classes: int) -> RetinaNet:
    """The detector with one of NECKS, fresh weights. A single map carries the anchors of all sizes."""
    levels, used, connected = NECKS[maps]
    backbone = ResNet(**vars(replace(TINY.backbone, levels=levels)))
    in_channels = {level: backbone.channels[level] for level in levels}
    neck = (FPN if connected else Unconnected)(in_channels, channels=TINY.channels)
    sizes = tuple(SIZES[level] for level in used) if len(used) > 1 else (sum(SIZES.values(), ()),)
    return RetinaNet(
        backbone=backbone,
        fpn=neck if len(used) == len(levels) else Finest(neck),
        num_classes=num_classes,
        channels=TINY.channels,
        head_depth=TINY.head_depth,
        head_norm=TINY.head_norm,
        anchors=AnchorSpec(sizes=sizes, ratios=RATIOS, strides=tuple(STRIDES[level] for level in used)),
        matching=TINY.matching,
        loss=TINY.loss,
        detect=TINY.detect,
        input=replace(TINY.input, size=TOWN.size),
    )


def ap_by_size(truth: COCO, results: list[dict], enlarge: float = ENLARGE) -> dict[str, float | None]:
    """AP, and AP of small, medium and large objects, whose limits are COCO's divided by `enlarge`.

    COCO's limits, 32 and 96 px, are for photographs; nearly all of Town would be small. IoU stays the same when
    everything is enlarged. So boxes and areas are, and pycocotools does the rest.
    """
    annotations = [
        {**a, "bbox": [enlarge * side for side in a["bbox"]], "area": enlarge**2 * a["area"]}
        for a in truth.dataset["annotations"]
    ]
    larger = coco_index({**truth.dataset, "annotations": annotations})
    found = [{**result, "bbox": [enlarge * side for side in result["bbox"]]} for result in results]
    summary = evaluate_results(larger, found).summary
    return {key: summary[key] for key in ("AP", "AP_small", "AP_medium", "AP_large")}


def train_and_judge(
    maps: str, seed: int, train_data: CocoDetection, val_data: CocoDetection, iterations: int, out: Path
) -> dict:
    """How many anchors and weights the detector with one of NECKS has, and its AP by size after training."""
    torch.manual_seed(seed)
    model = build(maps, len(train_data.label_map))
    recipe = Recipe(iterations=iterations, seed=seed, augmentation="flip", precision=pick_precision("auto"))
    trainer = Trainer(
        model, recipe, train_data=train_data, val_data=None, out=out, header={}, size=TOWN.size, progress=False
    )
    trainer.run()
    with trainer.averaged(), torch.inference_mode():
        results, _, _ = detect_dataset(model, val_data)
        anchors = sum(len(level) for level in model.dense(torch.zeros(1, 3, *TOWN.size))[2])
    weights = sum(p.numel() for p in model.parameters())
    by_size = {key: None if ap is None else round(ap, 4) for key, ap in ap_by_size(val_data.coco, results).items()}
    return {"anchors": anchors, "weights": weights, **by_size}


def run(progress: bool) -> dict:
    """Train and judge all five detectors with both seeds, about nine minutes on two cores."""
    with tempfile.TemporaryDirectory(prefix="course_") as folder:
        town = Path(folder) / "town"
        make_town(town, train=TRAIN, val=VAL, config=TOWN, seed=0, progress=False)
        train_data = open_split(town, "train")
        val_data = open_split(town, "val", label_map=train_data.label_map)

        def measure(maps: str, seed: int) -> dict:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                return train_and_judge(maps, seed, train_data, val_data, ITERATIONS, Path(out))

        cases = [{"maps": maps, "seed": seed} for maps in NECKS for seed in SEEDS]
        rows = sweep("fpn_levels", cases, measure, progress=progress)
        areas = [a["area"] for a in val_data.coco.dataset["annotations"] if not a["iscrowd"]]
    limits = [32 / ENLARGE, 96 / ENLARGE]
    counts = {
        "small": sum(area < limits[0] ** 2 for area in areas),
        "large": sum(area > limits[1] ** 2 for area in areas),
    }
    counts["medium"] = len(areas) - sum(counts.values())
    settings = {"town": TOWN.to_dict(), "train": TRAIN, "val": VAL, "iterations": ITERATIONS}
    settings["precision"] = pick_precision("auto")
    return {"settings": settings, "limits_px": limits, "objects": counts, "rows": rows}
