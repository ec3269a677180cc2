"""Make a detector of the zoo again, from the data set to the manifest.

    python -m course_lib.engine.make_zoo NAME

A budget in iterations gives the same weights again on the same machine; one in minutes, that of lesson 10's
comparison, gives others as good. Data and run go to runs/zoo/NAME; after an interruption the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from course_lib.datasets.coco import open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import VERSION, make_town
from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.presets import SSD_TINY, TINY, YOLO_TINY, Preset, mask_rcnn, panoptic_fpn, upsnet
from course_lib.engine import checkpoint
from course_lib.engine.command import run_command
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.panoptic import evaluate_panoptic
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import pick_precision, train_run
from course_lib.engine.tour import machine_facts
from course_lib.weights.files import load_detector, load_tensors, save_tensors, write_text
from course_lib.weights.zoo import MANIFEST, ZOO, sha256


@dataclass(frozen=True, kw_only=True)
class Animal:
    """What a detector of the zoo is made of: preset, recipe, and its Town with so many images to learn and to judge.

    half: keep the layers' weights as float16, which makes the file half as large; it is judged as it is kept.
    """

    preset: Preset
    recipe: Recipe
    train: int
    val: int
    config: TownConfig
    seed: int = 0  # of the Town
    half: bool = False


# Three levels, for a Town of which the nearest things are larger. Images are not resized, so the anchors stay as given.
_PYRAMID = replace(
    TINY,
    name="tiny_pyramid",
    backbone=replace(TINY.backbone, levels=("c2", "c3", "c4")),
    anchors=AnchorSpec(sizes=((7.0, 10.8), (16.7, 25.9), (40.0, 62.0)), ratios=(0.49, 0.79, 2.1), strides=(4, 8, 16)),
    input=replace(TINY.input, resize="none"),
)
ANIMALS = {
    # As `course tour` trains it, only longer: with the iterations that two quiet cores do in 3.8 minutes.
    "town_retinanet": Animal(preset=TINY, recipe=Recipe(iterations=4000), train=4000, val=500, config=TownConfig()),
    # What lesson 04 looks into.
    "town_pyramid": Animal(
        preset=_PYRAMID, recipe=Recipe(iterations=1500), train=4000, val=300, config=TownConfig(scale=(0.08, 0.6))
    ),
    # What lesson 07 looks into: of `course compare`, those with seed 0.
    "town_ssd": Animal(
        preset=SSD_TINY, recipe=Recipe(minutes=3.0), train=4000, val=500, config=TownConfig(), half=True
    ),
    "town_yolo": Animal(
        preset=YOLO_TINY, recipe=Recipe(minutes=3.0), train=4000, val=500, config=TownConfig(), half=True
    ),
    # What lesson 09 looks into: five minutes' training.
    "town_mask_rcnn": Animal(
        preset=mask_rcnn.TINY, recipe=Recipe(iterations=2400), train=4000, val=500, config=TownConfig(), half=True
    ),
    # What lessons 11 and 12 look into: of `engine.panoptic_record`, those with seed 0.
    "town_panoptic_fpn": Animal(
        preset=panoptic_fpn.TINY, recipe=Recipe(minutes=6.0), train=4000, val=500, config=TownConfig(), half=True
    ),
    "town_upsnet": Animal(
        preset=upsnet.TINY, recipe=Recipe(minutes=6.0), train=4000, val=500, config=TownConfig(), half=True
    ),
}


def make(
    name: str, animal: Animal, *, runs: Path, zoo: Path = ZOO, precision: str = "auto", progress: bool = True
) -> dict:
    """Train a detector, judge it, and write its weights and its entry in the manifest; returns the entry.

    Args:
        name: the entry's.
        animal: what it is made of.
        runs: the folder for data and run; what is already there is used.
        zoo: the folder of weights and manifest.
        precision: of the training: auto, fp32 or bf16.
        progress: show bars.

    Raises:
        ValueError: if `runs` holds data or a run with other settings.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    town, run = runs / "town", runs / "run"
    make_town(town, train=animal.train, val=animal.val, config=animal.config, seed=animal.seed, progress=progress)
    train_data = open_split(town, "train")
    val_data = open_split(town, "val", label_map=train_data.label_map)
    recipe = Recipe(**{**asdict(animal.recipe), "precision": pick_precision(precision)})
    trainer = train_run(
        animal.preset, recipe, train_data=train_data, val_data=val_data, out=run, resume=True, progress=progress
    )
    weights, header = load_tensors(run / checkpoint.WEIGHTS)
    if animal.half:
        weights = {key: value.half() if value.ndim > 1 else value for key, value in weights.items()}
    kept = ("preset", "label_map", "stuff_map", "recipe", "course_lib")  # no path, no time
    header = {key: header[key] for key in kept if key in header}
    zoo.mkdir(parents=True, exist_ok=True)
    path = zoo / f"{name}.safetensors"
    save_tensors(path, weights, header)
    model, _, _ = load_detector(path)
    more = {}
    if getattr(model, "uses_semantic", False):
        metrics, results, _ = evaluate_panoptic(model, val_data.with_panoptic(), progress=progress)
        more["PQ"] = {group: round(q.pq, 4) for group, q in metrics.quality.summary().items()}
    else:
        results, _, _ = detect_dataset(model, val_data, precision="fp32", progress=progress)
    summary = evaluate_results(val_data.coco, results).summary
    if getattr(model, "uses_masks", False):
        more["mask_AP"] = round(evaluate_results(val_data.coco, results, iou_type="segm").summary["AP"], 4)
    entry = {
        "file": path.name,
        "sha256": sha256(path),
        "command": f"python -m course_lib.engine.make_zoo {name}",
        "seed": recipe.seed,
        "iterations": trainer.iteration,
        "minutes": round(trainer.seconds / 60, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "AP": round(summary["AP"], 4),
        "AP50": round(summary["AP50"], 4),
        "AP75": round(summary["AP75"], 4),
        **more,
        "data": {
            "name": "town",
            "version": VERSION,
            "seed": animal.seed,
            "train": animal.train,
            "val": animal.val,
            "config": animal.config.to_dict(),
        },
        "recipe": header["recipe"],
        "machine": machine_facts(),
    }
    manifest = zoo / MANIFEST
    entries = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    write_text(manifest, json.dumps({**entries, name: entry}, indent=1, sort_keys=False) + "\n")
    return entry


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 2 for a user's mistake, 130 after Ctrl-C, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.engine.make_zoo", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(ANIMALS), help="which detector to make")
    parser.add_argument("--list", action="store_true", help="say which detectors can be made")
    parser.add_argument("--runs", type=Path, default=Path("runs/zoo"), help="the folder for data and runs")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the folder to write to")
    arguments = parser.parse_args(argv)
    if arguments.list or arguments.name is None:
        print(*sorted(ANIMALS), sep="\n")
        return 0
    name = arguments.name

    def make_one() -> str:
        entry = make(name, ANIMALS[name], runs=arguments.runs / name, zoo=arguments.zoo)
        return f"{name}: AP {entry['AP']:.3f} after {entry['minutes']} minutes, {torch.get_num_threads()} threads"

    return run_command(make_one)


if __name__ == "__main__":
    sys.exit(main())
