"""Lesson 05's experiment: RetinaNet as it should be, and with one choice broken, under two optimizers.

Three sabotages: a head without the prior's bias (every score starts at 0.5), both losses divided by all anchors
instead of the positives, and γ = 0, which is cross entropy. Everything else stays the same: Town, network, order of
the images, iterations, seed. SGD with momentum is what the paper trains with, AdamW what this course trains with.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import TINY, RetinaNetPreset
from course_lib.detectors.retinanet import RetinaNet
from course_lib.detectors.targets import assign
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import Trainer
from course_lib.lessons.experiments import sweep

TOWN = TownConfig(size=96, scale=(0.14, 0.5))  # as in lessons 00 and 05
TRAIN, VAL = 800, 100
ITERATIONS, JUDGED_EVERY, LOGGED_EVERY = 300, 60, 5
SEED = 0
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.06, "weight_decay": 1e-4},  # momentum 0.9
    "adamw": {"optimizer": "adamw", "learning_rate": 6e-3, "weight_decay": 0.02},  # the course's recipe
}
SABOTAGES = ("none", "no prior", "all anchors", "gamma 0")


class DividedByAllAnchors(RetinaNet):
    """A RetinaNet whose sums are divided by all anchors of the batch."""

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:
        """Both losses, as `RetinaNet.losses` with the normalizer "batch" gives them, with the other divisor."""
        right = super().losses(logits, deltas, anchors, boxes, labels)
        positives = (assign(anchors, boxes, labels, self.match_spec)[0] >= 0).sum().clamp(min=1)
        return {name: loss * positives / (len(logits) * len(anchors)) for name, loss in right.items()}


def broken(preset: RetinaNetPreset, sabotage: str, num_classes: int) -> RetinaNet:
    """A detector with fresh weights and one of SABOTAGES."""
    if sabotage == "no prior":
        preset = replace(preset, prior=0.5)  # a bias of 0
    if sabotage == "gamma 0":
        preset = replace(preset, loss=replace(preset.loss, gamma=0.0))
    model = preset.build(num_classes)
    if sabotage == "all anchors":
        model.__class__ = DividedByAllAnchors
    return model


@torch.inference_mode()
def mean_scores(model: RetinaNet, data: CocoDetection, images: int = 32) -> dict[str, float]:
    """The mean score of the right class at object anchors, and of any class at background anchors."""
    samples = [data[i] for i in range(images)]
    batch = model.preprocess([image.as_subclass(Tensor) for image, _ in samples])
    logits, _, anchors = model.dense(batch.images)  # no image is resized, so boxes and anchors agree
    boxes = [t["boxes"].as_subclass(Tensor)[~t["iscrowd"]] for _, t in samples]
    labels = [t["labels"][~t["iscrowd"]] for _, t in samples]
    anchor_labels, _ = assign(torch.cat(anchors), boxes, labels, model.match_spec)
    scores = torch.cat(logits, 1).sigmoid()  # (B, A, K)
    positive = anchor_labels >= 0
    at_objects = scores[positive].gather(1, anchor_labels[positive][:, None])
    at_background = scores[anchor_labels == -1]
    return {"score at objects": at_objects.mean().item(), "score at background": at_background.mean().item()}


def train(sabotage: str, optimizer: str, train_data: CocoDetection, val_data: CocoDetection, iterations: int) -> dict:
    """Train one of them; its records over the iterations and the AP at the end, on all validation images."""
    recipe = Recipe(iterations=iterations, seed=SEED, augmentation="flip", **OPTIMIZERS[optimizer])
    preset, recipe = fit(TINY, recipe, box_statistics(train_data))
    torch.manual_seed(SEED)
    model = broken(preset, sabotage, len(train_data.label_map))
    records = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model, recipe, train_data=train_data, val_data=val_data, out=Path(folder), header={},
            size=preset.input.size, progress=False,
        )  # fmt: skip
        for trainer.iteration in range(iterations):
            losses = trainer.step()
            done = trainer.iteration + 1
            if trainer.iteration % LOGGED_EVERY == 0 or done % JUDGED_EVERY == 0:
                values = {name.replace("bbox_regression", "box"): loss.detach().item() for name, loss in losses.items()}
                records.append({"iteration": done, **{f"{name} loss": round(v, 5) for name, v in values.items()}})
            if done % JUDGED_EVERY == 0:
                records[-1]["AP"] = round(trainer.evaluate_average(), 4)
                with trainer.averaged() as average:
                    scores = mean_scores(average.eval(), val_data)
                    average.train()
                records[-1] |= {name: round(score, 5) for name, score in scores.items()}
    return {"AP": records[-1].get("AP"), "records": records}


def run(progress: bool, iterations: int = ITERATIONS, train_images: int = TRAIN) -> dict:
    """All sabotages under both optimizers; a few minutes on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        make_town(Path(folder) / "town", train=train_images, val=VAL, config=TOWN, seed=SEED, progress=progress)
        train_data = open_split(Path(folder) / "town", "train")
        val_data = open_split(Path(folder) / "town", "val", label_map=train_data.label_map)
        cases = [{"sabotage": s, "optimizer": o} for o in OPTIMIZERS for s in SABOTAGES]
        rows = sweep(
            "retinanet_sabotage",
            cases,
            lambda sabotage, optimizer: train(sabotage, optimizer, train_data, val_data, iterations),
            progress=progress,
        )
    settings = {
        "town": TOWN.to_dict(), "train": train_images, "val": VAL, "iterations": iterations, "seed": SEED,
        "batch_size": Recipe(iterations=1).batch_size, "optimizers": OPTIMIZERS,
    }  # fmt: skip
    return {"settings": settings, "rows": rows}
