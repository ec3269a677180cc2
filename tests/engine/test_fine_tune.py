"""Training that starts from weights: what stays, what starts afresh, what does not move, how fast the rest does."""

import json
from dataclasses import replace

import pytest
import torch
import torchvision

from course_lib.datasets.coco import open_split
from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import SSD300_TORCHVISION, TINY, get_preset, panoptic_fpn, preset_to_dict
from course_lib.engine import train
from course_lib.engine.checkpoint import CONFIG, LAST, WEIGHTS, load_tensors
from course_lib.engine.fine_tune import Start, in_words, start_from, with_frozen
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import train_run
from course_lib.engine.train import make_optimizer
from course_lib.nn.preprocess import InputSpec
from course_lib.weights.imported import Imported, generic_labels
from course_lib.weights.keys import LoadReport
from tests.detectors.models import SMALL, small
from tests.engine.tiny_coco import write_tiny_coco


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """The tiny data, with another name for one of its two classes."""
    folder = write_tiny_coco(tmp_path_factory.mktemp("other") / "data")
    for file in (folder / "annotations").iterdir():
        file.write_text(file.read_text().replace('"bar"', '"rod"'))
    return open_split(folder, "train")


@pytest.fixture
def tune(tmp_path, other_data):
    """A function that trains a few steps from a start into tmp_path/OUT."""

    def tune(start, out="run", *, freeze=None, data=other_data, resume=False, progress=False, **recipe):
        preset = start.preset if freeze is None else with_frozen(start.preset, freeze)
        recipe = Recipe(**{"iterations": 3, "batch_size": 2} | recipe)
        options = {"train_data": data, "val_data": None, "start": start, "resume": resume, "progress": progress}
        return train_run(preset, recipe, out=tmp_path / out, **options)

    return tune


@pytest.fixture
def start(trained):
    """The weights of a run, anew for each training."""
    return lambda: start_from(str(trained), "retinanet")


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp("imagenet") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def as_json(preset):
    return json.loads(json.dumps(preset_to_dict(preset)))


def fresh(preset, classes=2, seed=0):
    torch.manual_seed(seed)
    return preset.build(classes)


# What stays


def test_of_the_same_classes_everything_stays(start, trained, train_data):
    model = fresh(SMALL, seed=1)
    report = start().load(model, train_data.label_map)
    weights = load_tensors(trained / WEIGHTS)[0]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert report.fresh == ()
    assert set(report.used) == set(weights)


def test_for_other_classes_the_predictor_starts_afresh(start, trained, other_data):
    model = fresh(SMALL, seed=1)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    report = start().load(model, other_data.label_map)
    weights = load_tensors(trained / WEIGHTS)[0]
    assert report.fresh == ("class_head.predictor.weight", "class_head.predictor.bias")
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name] if name in report.fresh else weights[name]), name
    torch.testing.assert_close(model.class_head.predictor.bias.sigmoid(), torch.full((12,), 0.01))


def test_other_stuff():
    preset = panoptic_fpn.TINY
    stuff = LabelMap(tuple("abcdefg"), tuple(range(11, 18)))
    found = Imported(fresh(preset), preset, generic_labels(2), LoadReport(), "test", stuff_map=stuff)
    start = Start("test", preset, found)
    assert start.load(fresh(preset, seed=1), generic_labels(2), stuff).fresh == ()
    report = start.load(fresh(replace(preset, num_stuff=2), seed=1), generic_labels(2), generic_labels(2))
    assert report.fresh == ("semantic_head.predictor.weight", "semantic_head.predictor.bias")


def test_a_detector_keeps_its_anchors_and_input(tune, train_data):
    """A preset that is otherwise fitted to the data."""
    preset = get_preset("tiny")
    found = Imported(fresh(preset), preset, generic_labels(2), LoadReport(), "test")
    trainer = tune(Start("test", preset, found), iterations=1, data=train_data)
    assert trainer.header["preset"] == as_json(preset)


def test_a_backbone_alone(tune, resnet18):
    start = start_from(str(resnet18), "faster_rcnn")
    assert not start.whole
    assert start.preset.backbone.levels == get_preset("tiny", "faster_rcnn").backbone.levels
    assert start.preset.channels == 64  # all else is the preset's …
    trainer = tune(start, iterations=1, batch_size=1)
    assert trainer.header["preset"]["anchors"] != as_json(start.preset)["anchors"]  # … and fitted to the data
    weights = torch.load(resnet18, weights_only=True)
    backbone = trainer.model.backbone
    assert torch.equal(backbone.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])  # frozen
    assert torch.equal(backbone.layer2[0].bn1.running_var, weights["layer2.0.bn1.running_var"])
    assert not torch.equal(backbone.layer2[0].conv1.weight, weights["layer2.0.conv1.weight"])


def test_a_backbone_brings_its_normalisation(resnet18):
    pixels = InputSpec()
    preset = start_from(str(resnet18), "retinanet", "r50_detectron2").preset
    assert (preset.input.bgr, preset.input.scale, preset.input.mean) == (False, 1.0, pixels.mean)
    assert preset.input.resize == "shortest_uint8"
    assert preset.backbone.blocks == (2, 2, 2, 2)


# What does not move


def test_frozen_stages_do_not_move_nor_do_their_statistics(tune, start, tmp_path):
    before = {name: value.clone() for name, value in start().weights.model.state_dict().items()}
    trainer = tune(start(), freeze=2)
    saved = load_tensors(tmp_path / "run" / WEIGHTS)[0]  # the moving average
    for state in (trainer.model.state_dict(), saved):
        for name, value in state.items():
            still = name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))
            if still:
                assert torch.equal(value, before[name]), name
            elif name.startswith("backbone."):
                assert not torch.equal(value, before[name]), name
    assert not trainer.model.backbone.bn1.training
    assert not trainer.model.backbone.layer1[0].bn1.training
    assert trainer.model.backbone.layer2[0].bn1.training


def test_all_of_the_backbone_can_be_frozen(tune, start):
    before = {name: value.clone() for name, value in start().weights.model.backbone.state_dict().items()}
    trainer = tune(start(), freeze=5)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.backbone.state_dict().items())


# How fast the rest moves


def test_groups_and_their_rates():
    model = small()
    for rate, groups in ((1.0, 2), (0.1, 4)):
        optimizer = make_optimizer(model, Recipe(iterations=1, backbone_rate=rate, weight_decay=0.3))
        assert len(optimizer.param_groups) == groups
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(parameters) == len({id(p) for p in parameters}) == len(list(model.parameters()))
    backbone = {id(p) for p in model.backbone.parameters()}
    for group in optimizer.param_groups:
        assert {id(p) in backbone for p in group["params"]} == {group["lr_scale"] == 0.1}
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}


def test_the_schedule_keeps_the_ratio(trainer):
    t = trainer(backbone_rate=0.25, learning_rate=0.04, warmup=0.5, iterations=4)
    rates = []
    for t.iteration in range(4):
        t.step()
        rates.append([group["lr"] for group in t.optimizer.param_groups])
    heads, backbone = zip(*[(r[0], r[2]) for r in rates])
    assert len(set(heads)) == 4
    assert [b / h for b, h in zip(backbone, heads)] == pytest.approx([0.25] * 4)
    assert all(r[0] == r[1] and r[2] == r[3] for r in rates)


def test_a_step_of_the_backbone_is_as_much_smaller(trainer):
    moved = []
    for rate in (1.0, 0.5):
        t = trainer(f"rate-{rate}", backbone_rate=rate, optimizer="sgd", learning_rate=1.0, warmup=0.0)
        before = {name: p.detach().clone() for name, p in t.model.named_parameters()}
        t.step()
        moved.append({name: p.detach() - before[name] for name, p in t.model.named_parameters()})
    for name, whole in moved[0].items():
        share = 0.5 if name.startswith("backbone.") else 1.0
        torch.testing.assert_close(moved[1][name], share * whole, rtol=1e-4, atol=1e-6)
        assert whole.abs().max() > 0, name


# Resuming


class Killed(BaseException):
    """Stands for a power cut."""


def test_a_run_that_was_cut_off_ends_in_the_same_bits(tune, start, tmp_path, monkeypatch):
    options = {"freeze": 2, "backbone_rate": 0.1, "iterations": 4}
    tune(start(), "whole", **options)
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    step = train.Trainer.step

    def until(trainer):
        if trainer.iteration == 2:
            raise Killed
        return step(trainer)

    monkeypatch.setattr(train.Trainer, "step", until)
    with pytest.raises(Killed):
        tune(start(), "cut", **options)
    monkeypatch.setattr(train.Trainer, "step", step)
    tune(start(), "cut", resume=True, **options)
    whole, cut = (load_tensors(tmp_path / out / LAST)[0] for out in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_resuming_with_another_start_is_refused(tune, start, tmp_path, other_data):
    tune(start(), freeze=2, backbone_rate=0.1)
    with pytest.raises(ValueError, match=r"was started with recipe backbone_rate = 0\.1, not 1\.0"):
        tune(start(), freeze=2, resume=True)
    with pytest.raises(ValueError, match="was started with preset backbone = "):
        tune(start(), backbone_rate=0.1, resume=True)
    with pytest.raises(ValueError, match=r"was started with weights source = .*trained, not x"):
        tune(replace(start(), source="x"), freeze=2, backbone_rate=0.1, resume=True)


def test_a_run_older_than_these_settings_goes_on(tune, start, tmp_path, other_data):
    recipe = Recipe(iterations=2, batch_size=2)
    options = {"train_data": other_data, "val_data": None, "out": tmp_path / "run", "progress": False}
    train_run(SMALL, recipe, **options)
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert config["recipe"].pop("backbone_rate") == 1
    assert config.pop("weights") == {"source": None}
    (tmp_path / "run" / CONFIG).write_text(json.dumps(config))
    assert train_run(SMALL, recipe, resume=True, **options).iteration == 2
    with pytest.raises(ValueError, match="was started with weights source = None, not "):
        tune(start(), iterations=2, resume=True)


# In words


def test_it_says_what_it_does(tune, start, capsys):
    tune(start(), freeze=1, iterations=1, progress=True)
    said = capsys.readouterr().out
    assert "the detector starts from course file weights.safetensors" in said
    assert "2 tensors start afresh, for other classes: class_head.predictor.weight, class_head.predictor.bias" in said
    assert "frozen: the stem of the backbone, 464 of " in said  # 3·3·3·16 and a norm's 2·16
    tune(start(), freeze=1, iterations=1, progress=True, resume=True)
    assert "starts from" not in capsys.readouterr().out


def test_random_weights_that_are_frozen():
    assert in_words(None, None, small()) == []
    (line,) = in_words(None, None, small(backbone=replace(SMALL.backbone, frozen_stages=2)))
    assert line.startswith("frozen: the stem, stage 1 of the backbone, ")
    assert line.endswith("at the random values that they start with: give --weights")


# What is refused


def test_what_does_not_go_together(trained, resnet18):
    with pytest.raises(ValueError, match="trained is a retinanet, and a ssd cannot start from it; train a retinanet"):
        start_from(str(trained), "ssd")
    with pytest.raises(ValueError, match="trained has its own preset, small, and not tiny: leave the preset out"):
        start_from(str(trained), "retinanet", "tiny")
    with pytest.raises(ValueError, match="is a ResNet, and the ssd ssd300_torchvision has another backbone"):
        start_from(str(resnet18), "ssd", "ssd300_torchvision")
    with pytest.raises(ValueError, match="unknown model 'retina-net'"):
        start_from("nothing", "retina-net")
    with pytest.raises(FileNotFoundError, match="nothing: no such file, and no model of that name"):
        start_from("nothing", "retinanet")


@pytest.mark.parametrize("stages", [-1, 6])
def test_stages_that_there_are_not(stages):
    with pytest.raises(ValueError, match=f"a stem and four stages: freeze 0 to 5 of them, not {stages}"):
        with_frozen(TINY, stages)
    with pytest.raises(ValueError, match="the ssd ssd300_torchvision has no ResNet"):
        with_frozen(SSD300_TORCHVISION, 2)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(ValueError, match="backbone_rate is a share of the learning rate, above 0 and at most 1, not "):
        Recipe(iterations=1, backbone_rate=rate)


def test_a_rate_for_nothing():
    model = small(backbone=replace(SMALL.backbone, frozen_stages=5))
    with pytest.raises(ValueError, match=r"backbone_rate is 0\.1, but all of the backbone is frozen"):
        make_optimizer(model, Recipe(iterations=1, backbone_rate=0.1))


def test_a_rate_for_nothing_leaves_no_run_behind(tune, start, tmp_path):
    with pytest.raises(ValueError, match="all of the backbone is frozen"):
        tune(start(), freeze=5, backbone_rate=0.1)
    assert not (tmp_path / "run").exists()
