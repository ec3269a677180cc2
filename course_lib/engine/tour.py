"""The main job: from nothing to measured networks and a report, in one call that can be stopped at any time."""

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torchvision

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.coco_panoptic import panoptic_file
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import TITLES, get_preset
from course_lib.engine import checkpoint
from course_lib.engine.evaluate import answers, detect_dataset, evaluate_results
from course_lib.engine.mistakes import worst_mistakes
from course_lib.engine.page import number
from course_lib.engine.panoptic import evaluate_panoptic
from course_lib.engine.recipe import Recipe
from course_lib.engine.report import render_report
from course_lib.engine.report_panoptic import FAMILY as PANOPTIC
from course_lib.engine.report_panoptic import SHOWN, no_panoptic_page, panoptic_page
from course_lib.engine.run import train_run
from course_lib.engine.train import Trainer, read_log
from course_lib.machine import processor_name

# Of the training time: the course's first detector gets the most.
SHARES = {"retinanet": 0.494, "faster_rcnn": 0.266, PANOPTIC: 0.24}
STEPS = 2 + len(SHARES)


class Stopwatch:
    """Named wall-clock times of the parts of a job, in seconds."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to `name`."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 2)


def run_tour(out: Path, *, minutes: float, images: int, seed: int, precision: str, progress: bool = True) -> dict:
    """Make Town, train the families of `SHARES` in their tiny presets, measure them, and write the report into `out`.

    What is already there is used: a finished Town, a run that was cut off. So the same call after an interruption
    goes on, and after the end it only writes the report again.

    Args:
        out: the folder; `town/`, a run folder for each family, `report.html` and `report.json` go into it.
        minutes: training time, shared out by `SHARES`.
        images: training images; an eighth as many are for validation. The Town is always that of seed 0.
        seed: of the training.
        precision: "fp32" or "bf16".
        progress: show bars and what is being done.

    Returns:
        what `report.json` holds. Where the Town lies there without panoptic truth, the panoptic detector is left out.

    Raises:
        ValueError: if `out` holds a tour with other settings.
        KeyboardInterrupt: after Ctrl-C; nothing is lost.
    """
    say = print if progress else lambda *_: None
    watch = Stopwatch()
    out = Path(out)
    config = TownConfig()
    with watch.time("data"):
        say(f"1/{STEPS}  Town: {images} images to learn from, {images // 8} to be judged on")
        make_town(out / "town", train=images, val=images // 8, config=config, seed=0, progress=progress)
        train_data = open_split(out / "town", "train")
        val_data = open_split(out / "town", "val", label_map=train_data.label_map)
    absent = missing_panoptic(train_data, val_data)
    trainers = {}
    for step, (family, share) in enumerate(SHARES.items(), start=2):
        if family == PANOPTIC and absent:
            say(f"{step}/{STEPS}  no {TITLES[family]}: there is no {absent} to learn from")
            continue
        say(f"{step}/{STEPS}  {TITLES[family]}, {minutes * share:.1f} minutes of training")
        recipe = Recipe(minutes=round(minutes * share, 4), seed=seed, precision=precision)
        trainers[family] = train_run(
            get_preset("tiny", family),
            recipe,
            train_data=train_data,
            val_data=None if family == PANOPTIC else val_data,  # on the way only boxes are judged; maps take time
            out=out / family,
            resume=True,
            progress=progress,
        )
    watch.seconds["training"] = round(
        sum(t.seconds for t in trainers.values()), 2
    )  # of all sittings, if it was cut off
    say(f"{STEPS}/{STEPS}  measuring, and writing the report")
    facts, logs, outputs = {}, {}, {}
    with watch.time("evaluation"):
        for family, trainer in trainers.items():
            facts[family], outputs[family] = judge(trainer, val_data, precision, progress)
            final = {"minutes": round(trainer.seconds / 60, 4), "AP": facts[family]["summary"]["AP"]}  # on all images
            logs[family] = [*read_log(out / family / checkpoint.LOG), final]
    facts |= {
        "town": {"train": len(train_data), "val": len(val_data), "seed": 0, **config.to_dict(), **town_facts(val_data)},
        "machine": machine_facts(),
        "seconds": watch.seconds,
    }
    with watch.time("report"):
        mistakes = worst_mistakes(val_data, outputs["retinanet"], count=12)
        if absent:
            panoptic = no_panoptic_page(absent)
        else:
            panoptic = panoptic_page(facts[PANOPTIC], val_data.with_panoptic(), outputs.pop(PANOPTIC))
        html = render_report(facts, logs, val_data, outputs, mistakes, panoptic)
        checkpoint.write_text(out / "report.html", html)
    checkpoint.write_text(out / "report.json", json.dumps(facts, indent=1))
    return facts


def judge(trainer: Trainer, val_data: CocoDetection, precision: str, progress: bool) -> tuple[dict, list[dict]]:
    """What the report says of a detector after its training, and its outputs on the validation images.

    On all of them; of a panoptic detector, whose maps would fill the memory, on the first `SHOWN`.
    """
    how = {"precision": precision, "progress": progress}
    with trainer.averaged() as model:
        if getattr(model, "uses_semantic", False):
            metrics, _, seconds = evaluate_panoptic(model, val_data.with_panoptic(), **how)
            first = range(min(SHOWN, len(val_data)))
            outputs = [answer for _, answer, _ in answers(model, val_data, first, precision=precision)]
        else:
            results, outputs, seconds = detect_dataset(model, val_data, **how)
            metrics = evaluate_results(val_data.coco, results)
    trained = trainer.iteration * trainer.recipe.batch_size
    facts = {
        **metrics.to_dict(),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "iterations": trainer.iteration,
        "images_per_second": {
            "training": round(trained / trainer.seconds, 1),
            "inference": round(len(val_data) / seconds, 1),
        },
        "preset": trainer.header["preset"],
        "recipe": trainer.header["recipe"],
    }
    return facts, outputs


def missing_panoptic(*splits: CocoDetection) -> Path | None:
    """The first file of panoptic truth that one of the splits lacks; None if all have theirs."""
    files = (panoptic_file(split.annotations) for split in splits)
    return next((file for file in files if not file.is_file()), None)


def headline(facts: Mapping) -> str:
    """The result in a line: PQ of the panoptic detector, AP of the others."""
    measures = {f: ("AP", facts[f]["summary"]["AP"]) for f in SHARES if f in facts}
    if PANOPTIC in facts:
        measures[PANOPTIC] = ("PQ", facts[PANOPTIC]["pq"]["all"]["pq"])
    return ", ".join(f"{TITLES[family]} {name} {number(value)}" for family, (name, value) in measures.items())


def town_facts(dataset: CocoDetection) -> dict:
    """How hard a Town is: objects an image, the share of small ones, the share that is mostly or partly hidden."""
    objects = [a for a in dataset.coco.dataset["annotations"] if not a["iscrowd"]]
    small = sum(max(a["bbox"][2:]) < 14 for a in objects)
    hidden = sum(a["hidden"] > 1 / 3 for a in objects)
    return {
        "objects_per_image": round(len(objects) / len(dataset), 2),
        "share_under_14_px": round(small / len(objects), 4),
        "share_over_a_third_hidden": round(hidden / len(objects), 4),
    }


def machine_facts() -> dict:
    """What ran it: processor, threads, versions."""
    return {
        "processor": processor_name(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
