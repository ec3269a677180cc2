"""Detectron2 as a rival, from end to end. Where it is not installed, a thin stand-in takes its place."""

import importlib.util
import itertools
import signal
import sys
from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import open_split
from course_lib.engine import checkpoint, train
from course_lib.engine.compare import detectron2 as module
from course_lib.engine.compare import memory, run
from course_lib.engine.compare.detectron2 import FINAL, YAML, train_detectron2
from course_lib.engine.compare.judge import RESULTS
from course_lib.engine.compare.parts import clocked_parts
from course_lib.engine.compare.plan import Plan, family_of, title, with_peer
from course_lib.engine.compare.run import make_plan, run_comparison
from course_lib.engine.compare.runs import open_run
from course_lib.engine.evaluate import evaluate_files
from course_lib.engine.model_files import load_model
from course_lib.engine.recipe import Recipe
from course_lib.weights.detectron2.models import import_detectron2
from tests.engine.tiny_coco import write_tiny_coco

STAND_IN = Path(__file__).parent / "fake_detectron2"
ABSENT = importlib.util.find_spec("detectron2") is None
RECIPE = Recipe(iterations=3, batch_size=2, seed=1)


@pytest.fixture
def detectron2(monkeypatch):
    """Detectron2, or its stand-in for the length of a test."""
    if not ABSENT:
        yield
        return
    monkeypatch.syspath_prepend(str(STAND_IN))
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "detectron2"]:
        del sys.modules[name]


@pytest.fixture
def learn(detectron2, train_data, val_data, tmp_path):
    """A function that trains a RetinaNet of Detectron2's and returns its run folder."""

    def learn(out: str = "run", recipe: Recipe = RECIPE) -> Path:
        train_detectron2("retinanet", recipe, train_data=train_data, val_data=val_data, out=tmp_path / out)
        return tmp_path / out

    return learn


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / f"{FINAL}.pth", weights_only=True)["model"]


def same(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_says_how_to_get_it(monkeypatch, tmp_path, data):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    plan = make_plan(models=("detectron2_retinanet",), seeds=(0,), threads=1, data=data)
    with pytest.raises(ValueError, match=r"cannot be imported here .* pip install .*facebookresearch/detectron2\.git"):
        run_comparison(tmp_path / "out", plan, progress=False)
    assert not (tmp_path / "out").exists()


def test_models_of_a_comparison():
    assert with_peer(("ssd", "faster_rcnn", "retinanet"), "detectron2") == (
        "ssd",
        "faster_rcnn",
        "retinanet",
        "detectron2_faster_rcnn",
        "detectron2_retinanet",
    )
    assert (title("detectron2_mask_rcnn"), family_of("detectron2_mask_rcnn")) == ("Detectron2 Mask R-CNN", "mask_rcnn")
    with pytest.raises(ValueError, match="Detectron2 has none of ssd, yolo: compare it with at least one of retinanet"):
        with_peer(("ssd", "yolo"), "detectron2")
    assert with_peer(["ssd"], None) == ("ssd",)
    with pytest.raises(ValueError, match=r"unknown platform 'mmdetection': there is detectron2"):
        with_peer(("retinanet",), "mmdetection")
    with pytest.raises(ValueError, match="detectron2_ssd: Detectron2 has no SSD; it has retinanet"):
        Plan(models=("detectron2_ssd",), threads=1, data="", train=1, val=1)


@pytest.mark.slow
def test_from_data_to_report(detectron2, data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "peak_of_run", lambda *_, **__: {"inference": 1.5, "training": None})
    monkeypatch.setattr(run, "TIMED", 1)
    models = with_peer(("retinanet",), "detectron2")
    plan = make_plan(models=models, seeds=(0,), minutes=None, iterations=2, data=data, threads=torch.get_num_threads())
    result = run_comparison(tmp_path, plan, progress=False)
    ours, theirs = result["runs"]
    assert theirs["model"] == "detectron2_retinanet"
    assert theirs["detectron2"]
    assert theirs["iterations"] == 2
    assert theirs["gflops"] > 0
    assert theirs["latency"]["parts"]["backbone"] > 0
    assert theirs["input_size"] == ours["input_size"]
    assert len(theirs["curve"]) >= 2
    assert result["models"]["detectron2_retinanet"]["title"] == "Detectron2 RetinaNet"
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "RetinaNet, Detectron2 RetinaNet: the same task, the same time" in html
    assert "data loader and training step of its own" in html
    assert "detectron2_retinanet,0," in (tmp_path / "report.csv").read_text()
    # one ruler: its results file, judged by hand, has the same AP
    folder = tmp_path / "runs" / "detectron2_retinanet_seed0"
    again = evaluate_files(data / "annotations" / "instances_val.json", folder / RESULTS)
    assert again.summary == theirs["summary"]
    for name in ("train_detectron2", "train_run", "judge_run", "latencies"):
        monkeypatch.setattr(run, name, None)
    assert run_comparison(tmp_path, plan, progress=False) == result


def test_the_same_seed_gives_the_same_weights(learn):
    first = learn("a")
    assert {path.name for path in first.iterdir()} >= {YAML, f"{FINAL}.pth", "log.jsonl", "weights.safetensors"}
    assert same(first, learn("b"))
    assert not same(first, learn("c", Recipe(iterations=3, batch_size=2, seed=2)))


def test_ctrl_c_saves_and_the_same_call_goes_on(learn, tmp_path, monkeypatch):
    step = module.take_step

    def interrupted(trainer, iteration):
        if iteration == 1:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, iteration)

    monkeypatch.setattr(module, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn()
    assert not (tmp_path / "run" / checkpoint.WEIGHTS).exists()
    assert checkpoint.load_tensors(tmp_path / "run" / checkpoint.LAST)[1]["iteration"] == 2
    seen = []
    monkeypatch.setattr(module, "take_step", lambda trainer, t: seen.append(t) or step(trainer, t))
    header = open_run(learn())[1]
    assert seen == [2]
    assert header["iterations"] == 3


def test_the_clock_ends_it(learn, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(train.time, "perf_counter", lambda: 1.0 * next(clock))
    header = open_run(learn(recipe=Recipe(minutes=0.5, batch_size=2)))[1]
    assert header["minutes"] >= 0.5
    assert 1 < header["iterations"] < 60


def test_a_loss_that_is_not_finite(learn, monkeypatch):
    build = module.build_detector

    def broken(*arguments):
        detector = build(*arguments)
        next(p for p in reversed(list(detector.parameters()))).data.fill_(float("nan"))
        return detector

    monkeypatch.setattr(module, "build_detector", broken)
    with pytest.raises(ValueError, match="iteration 0: the loss is not finite"):
        learn()


def test_masks_are_learnt_and_judged(detectron2, tmp_path):
    data = write_tiny_coco(tmp_path / "data", masks=True)
    splits = {"train_data": open_split(data, "train"), "val_data": open_split(data, "val")}
    train_detectron2("mask_rcnn", RECIPE, **splits, out=tmp_path / "run")
    detector, header = open_run(tmp_path / "run")
    assert header["preset"]["family"] == "mask_rcnn"
    assert set(run.judge_run(tmp_path / "run", splits["val_data"])["masks"]) >= {"AP", "AP50", "AP75"}
    with torch.inference_mode():
        (found,) = detector([torch.rand(3, 40, 56)])
    assert found["masks"].shape == (len(found["boxes"]), 40, 56)
    assert found["masks"].dtype == torch.bool


def test_objects_without_masks_are_named(detectron2, train_data, val_data, tmp_path):
    with pytest.raises(ValueError, match="has no segmentation, but masks were asked for"):
        train_detectron2("mask_rcnn", RECIPE, train_data=train_data, val_data=val_data, out=tmp_path / "run")


def test_pictures_of_any_size_and_kind(learn):
    detector, _ = open_run(learn())
    pixels = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8)
    with torch.inference_mode(), clocked_parts(detector) as seconds:
        found = detector([pixels, pixels / 255])
    assert seconds["backbone"] > 0
    assert seconds["head"] > 0
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key])
    assert (found[0]["boxes"] <= torch.tensor([50, 30, 50, 30])).all()


def test_its_memory_is_measured(learn, data, monkeypatch):
    peaks = iter([100, 120, 150])
    monkeypatch.setattr(memory, "peak_memory", lambda: next(peaks))
    monkeypatch.setattr(memory, "forget_peak_memory", lambda: None)
    assert memory.measure(learn(), data, 2) == {"inference": 20, "training": 50}


@pytest.mark.skipif(ABSENT, reason="the stand-in's model is none of ours")
def test_our_own_model_takes_its_weights_on(learn):
    """What Detectron2 trained, through its file into our RetinaNet, finds the same."""
    folder = learn()
    detector, _ = open_run(folder)
    ours = import_detectron2(folder / f"{FINAL}.pth", config=folder / YAML, label_map=None).model
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        (a,), (b,) = detector([image]), ours([image])
    assert torch.equal(a["labels"], b["labels"])
    torch.testing.assert_close(a["boxes"], b["boxes"], atol=1e-3, rtol=1e-4)


def test_our_verbs_say_what_to_do_with_such_a_run(learn):
    with pytest.raises(ValueError, match=r"a run of Detectron2's; `course weights import .*model_final\.pth --config"):
        load_model(learn())
