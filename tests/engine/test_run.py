"""The run folder: what it says of itself, and when it is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import open_split
from course_lib.detectors.presets import retinanet as presets
from course_lib.detectors.retinanet import RetinaNet
from course_lib.engine import run
from course_lib.engine.checkpoint import CONFIG, LAST, LOG, WEIGHTS, load_tensors
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import has_fast_bf16, pick_device, pick_precision, train_run
from tests.detectors.models import SMALL
from tests.engine.tiny_coco import write_tiny_coco

RECIPE = Recipe(iterations=2, batch_size=2)


@pytest.fixture
def start(tmp_path, train_data, val_data):
    """A function that trains for two iterations into tmp_path/run."""

    def start(out="run", preset=SMALL, train=train_data, **options):
        recipe = replace(RECIPE, **{k: options.pop(k) for k in list(options) if hasattr(RECIPE, k)})
        return train_run(
            preset, recipe, train_data=train, val_data=val_data, out=tmp_path / out, progress=False, **options
        )

    return start


def test_a_run_describes_itself(start, tmp_path, train_data):
    trainer = start()
    out = tmp_path / "run"
    assert {p.name for p in out.iterdir()} == {CONFIG, LOG, LAST, WEIGHTS}
    config = json.loads((out / CONFIG).read_text())
    _, header = load_tensors(out / WEIGHTS)
    assert {k: header[k] for k in config} == config
    assert config["label_map"] == {"names": ["square", "bar"], "category_ids": [4, 9]}
    assert config["recipe"]["iterations"] == 2
    assert config["recipe"]["augmentation"] in ("flip", "strong")
    assert config["data"]["annotations"] == str(train_data.annotations)
    assert header["iterations"] == trainer.iteration == 2


def test_two_runs_of_one_seed_and_one_of_another(start, tmp_path):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(2)
        start(out, seed=seed)
    a, b, c = (load_tensors(tmp_path / out / WEIGHTS)[0] for out in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["backbone.conv1.weight"], c["backbone.conv1.weight"])


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(start, tmp_path):
    start()
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match="run already holds a run: add --resume to go on with it, or choose another"):
        start()
    assert {p: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_resuming_a_finished_run_changes_nothing(start, tmp_path):
    start()
    before = load_tensors(tmp_path / "run" / WEIGHTS)[0]
    assert start(resume=True).iteration == 2
    after = load_tensors(tmp_path / "run" / WEIGHTS)[0]
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_resuming_what_never_began_begins(start, tmp_path):
    assert start(resume=True).iteration == 2
    assert (tmp_path / "run" / WEIGHTS).exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": 5}, "was started with recipe seed = 0, not 5: resume with the same settings, or choose another"),
        ({"iterations": 3}, "was started with recipe iterations = 2, not 3"),
        ({"learning_rate": 1.0}, r"was started with recipe learning_rate = [\d.]+, not 1.0"),
        ({"preset": replace(SMALL, channels=24)}, "was started with preset channels = 16, not 24"),
    ],
)
def test_resuming_with_other_settings_is_refused(start, tmp_path, options, message):
    start()
    before = (tmp_path / "run" / LAST).read_bytes()
    with pytest.raises(ValueError, match=message):
        start(resume=True, **options)
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_resuming_with_other_classes_is_refused(start, tmp_path, data):
    start()
    other = write_tiny_coco(tmp_path / "other")
    file = other / "annotations" / "instances_train.json"
    file.write_text(file.read_text().replace('"bar"', '"rod"'))
    with pytest.raises(ValueError, match=r"was started with label_map names = \['square', 'bar'\], not"):
        start(train=open_split(other, "train"), resume=True)


def test_resuming_in_another_programs_folder_is_refused(start, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG).write_text('{"port": 8080}')
    with pytest.raises(ValueError, match=r"config\.json is not this course's: it has no recipe"):
        start(resume=True)


def test_an_interrupted_start_leaves_a_config_that_can_be_resumed(start, tmp_path, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Trainer, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        start()
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "run").iterdir()] == [CONFIG]
    assert start(resume=True).iteration == 2


def test_a_file_where_the_folder_should_be(start, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OSError, match=r"cannot make the run folder .*run"):
        start()
    assert (tmp_path / "run").read_text() == "a file"


def test_a_folder_that_cannot_be_written(start, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(OSError, match=r"cannot write .*config\.json: .*Permission denied"):
        start()
    assert list((tmp_path / "run").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=r"cannot make the run folder .*other: .*Permission denied"):
        start("other")
    assert not (tmp_path / "other").exists()


def test_nothing_to_learn(start, tmp_path):
    empty = write_tiny_coco(tmp_path / "empty", train=1, val=1)
    file = empty / "annotations" / "instances_train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(ValueError, match=r"instances_train\.json: 1 images and no object; there is nothing to learn"):
        start(train=open_split(empty, "train"))
    assert not (tmp_path / "run").exists()


class LearnsMasks(RetinaNet):
    """A detector that says it learns masks, and fails without them."""

    uses_masks = True

    def forward(self, images, targets=None, output_sizes=None):
        assert targets is None or all(t["masks"].shape[1:] == images.shape[2:] for t in targets)
        return super().forward(images, targets, output_sizes)


def test_a_detector_that_learns_masks_gets_them(start, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "RetinaNet", LearnsMasks)
    data = write_tiny_coco(tmp_path / "data", masks=True)
    assert start(train=open_split(data, "train")).iteration == 2
    with pytest.raises(ValueError, match=r"instances_train\.json: annotation 1 .*has no segmentation, but masks were"):
        start("other")
    assert not (tmp_path / "other").exists()


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match=r"device 'tpu' is not available here; there is .*cpu"):
        pick_device("tpu")


def test_the_best_device_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    with pytest.raises(ValueError, match="device 'cuda' is not available here; there is mps, cpu"):
        pick_device("cuda")


def test_precision(monkeypatch):
    assert pick_precision("fp32") == "fp32"
    assert pick_precision("bf16") == "bf16"
    for fast, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(run, "has_fast_bf16", lambda fast=fast: fast)
        assert pick_precision("auto") == wanted
    with pytest.raises(ValueError, match="unknown precision 'fp8': expected auto, fp32 or bf16"):
        pick_precision("fp8")


@pytest.mark.parametrize("capability, wanted", [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_bf16_by_processor(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    assert has_fast_bf16() is wanted


def test_bf16_by_graphics_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert has_fast_bf16() is True
