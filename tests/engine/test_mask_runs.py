"""Masks all the way: from a COCO folder through training to AP, overlay and JSON."""

import json
import sys

import pytest
import torch
from PIL import Image

from course_lib import cli
from course_lib.datasets.coco import open_split
from course_lib.engine import checkpoint, train
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.model_files import load_model
from course_lib.engine.predict import predict_files
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import train_run
from course_lib.engine.train import read_log
from course_lib.ops.masks import decode_rles
from tests.detectors.models import SMALL_MASK_RCNN
from tests.engine.tiny_coco import write_tiny_coco

STEPS = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("masks") / "data", masks=True)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Long enough to find the squares and bars that it was shown."""
    out = tmp_path_factory.mktemp("runs") / "masks"
    recipe = Recipe(iterations=STEPS, batch_size=4, augmentation="flip", learning_rate=4e-3)
    train_run(SMALL_MASK_RCNN, recipe, train_data=open_split(data, "train"), val_data=None, out=out, progress=False)
    return out


def test_the_loss_is_logged_and_falls(run):
    losses = [record["mask"] for record in read_log(run / checkpoint.LOG)]
    assert losses[-1] < losses[0] < 0.69  # which is log 2, the loss of an undecided cell
    assert losses[-1] < 0.3


def test_mask_ap(run, data):
    model, label_map, _ = load_model(run)
    dataset = open_split(data, "train", label_map=label_map)
    results, outputs, _ = detect_dataset(model, dataset)
    assert all("segmentation" in result for result in results)
    assert all(set(output) == {"boxes", "labels", "scores"} for output in outputs)  # masks would fill the memory
    summary = evaluate_results(dataset.coco, results, iou_type="segm").summary
    assert summary["AP50"] > 0.5


def test_overlay_and_json(run, data, tmp_path):
    model, label_map, _ = load_model(run)
    path = data / "images" / "train_1.png"
    (found,) = predict_files(model, label_map, [path], tmp_path / "out", score=0.3, progress=False)
    assert len(found.detections) >= 2
    masks = decode_rles([d["segmentation"] for d in found.detections], (64, 64))
    for mask, detection in zip(masks, found.detections):
        x1, y1, x2, y2 = detection["box"]
        assert 0.5 < mask.sum() / ((x2 - x1) * (y2 - y1)) < 1.5  # here the shapes are their boxes
    assert json.loads(found.overlay.with_suffix(".json").read_text())["detections"] == found.detections
    (plain,) = predict_files(model, label_map, [path], tmp_path / "none", score=1.0, progress=False)
    assert plain.detections == []
    with Image.open(found.overlay) as overlay, Image.open(plain.overlay) as picture:
        size = [s // 64 for s in overlay.size]
        x, y = [round(float(v.float().mean()) * s) for v, s in zip(masks[0].nonzero(as_tuple=True)[::-1], size)]
        assert overlay.getpixel((x, y)) != picture.getpixel((x, y))  # the mask is laid over the picture


def test_from_the_command_line(run, data, monkeypatch, capsys):
    found = {}
    for iou in ("segm", "bbox"):
        arguments = ["evaluate", str(run), "--data", str(data), "--split", "train", "--iou", iou, "--json"]
        monkeypatch.setattr(sys, "argv", ["course", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        found[iou] = json.loads(capsys.readouterr().out)["summary"]["AP"]
    assert 0.2 < found["segm"] != found["bbox"]


def test_objects_without_masks_are_named(tmp_path):
    boxes_only = open_split(write_tiny_coco(tmp_path / "data"), "train")
    with pytest.raises(ValueError, match=r"annotation 1 \(image 100\): has no segmentation"):
        train_run(
            SMALL_MASK_RCNN,
            Recipe(iterations=1),
            train_data=boxes_only,
            val_data=None,
            out=tmp_path / "run",
            progress=False,
        )


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_run_that_was_cut_off_ends_in_the_same_bits(data, tmp_path, monkeypatch):
    """What it draws, anchors and proposals, depends on the step alone."""
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    step = train.Trainer.step

    def start(out, **options):
        recipe = Recipe(iterations=6, batch_size=2, augmentation="flip")
        return train_run(
            SMALL_MASK_RCNN,
            recipe,
            train_data=open_split(data, "train"),
            val_data=None,
            out=tmp_path / out,
            progress=False,
            **options,
        )

    def until_the_third(trainer):
        if trainer.iteration == 3:
            raise Killed
        return step(trainer)

    whole = start("whole")
    monkeypatch.setattr(train.Trainer, "step", until_the_third)
    with pytest.raises(Killed):
        start("cut")
    monkeypatch.setattr(train.Trainer, "step", step)
    again = start("cut", resume=True)
    assert whole.iteration == again.iteration == 6
    assert all(torch.equal(value, again.average[name]) for name, value in whole.average.items())
