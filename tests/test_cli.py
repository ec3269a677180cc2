"""The `course` command as a user meets it: what it prints, where, and its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from course_lib import cli
from course_lib.engine import train
from course_lib.engine.checkpoint import LAST, LOG, WEIGHTS, load_tensors
from tests.engine.tiny_coco import write_tiny_coco

VERBS = (
    ["doctor"],
    ["data"],
    ["data", "make"],
    ["data", "show"],
    ["data", "check"],
    ["data", "export"],
    ["train"],
    ["evaluate"],
    ["pq"],
    ["predict"],
    ["weights"],
    ["weights", "list"],
    ["weights", "import"],
    ["weights", "convert"],
    ["weights", "export"],
    ["tour"],
    ["compare"],
    ["start"],
    ["progress"],
    ["release"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_coco(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture
def course(monkeypatch, capsys):
    """A function that runs `course ARGUMENTS` in this process and returns (exit code, stdout, stderr)."""

    def course(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return course


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A run of two iterations."""
    out = tmp_path_factory.mktemp("cli-runs") / "run"
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(sys, "argv", ["course", *training(data, out, iterations=2)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    monkeypatch.undo()
    assert not exit.value.code
    return out


def training(data, out, *, iterations, seed=0) -> list[str]:
    budget = f"--iterations {iterations} --seed {seed} --batch-size 2 --precision fp32 --device cpu"
    return ["train", "retinanet", "--data", str(data), "--out", str(out), *budget.split()]


def refused(result, *texts) -> str:
    """Check that the command ended with one line of error, exit code 2 and nothing else; return the line."""
    code, out, err = result
    assert code == 2, result
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for text in texts:
        assert str(text) in lines[0]
    return lines[0]


# Help


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(course, verb):
    code, out, err = course(*verb, "--help")
    assert (code, err) == (0, "")
    assert "Usage" in out
    assert "course " + " ".join(verb) in out


def test_no_arguments_list_the_verbs(course):
    _, out, err = course()
    for verb in ("doctor", "data", "train", "evaluate", "predict", "tour", "compare", "start", "progress", "release"):
        assert verb in out + err


def test_an_unknown_verb(course):
    code, _, err = course("tarin")
    assert code == 2
    assert "tarin" in err


def test_help_is_quick_since_nothing_heavy_is_imported():
    code = (
        "import sys; from course_lib import cli; sys.argv = ['course', 'train', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'matplotlib', 'pycocotools'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# Doctor and data


def test_doctor(course):
    code, out, _ = course("doctor", "--json")
    assert code in (0, 1)
    assert json.loads(out)


def test_make_show_and_check(course, tmp_path):
    town = tmp_path / "town"
    code, out, _ = course("data", "make", town, "--images", 3, "--size", "64x96", "--objects", 2, "--workers", 1)
    assert code == 0
    assert "3 training and 1 validation images" in out
    with Image.open(next((town / "images").rglob("*.png"))) as image:
        assert image.size == (96, 64)
    code, out, _ = course("data", "check", town)
    assert code == 0, out
    code, out, _ = course("data", "show", town, "--out", tmp_path / "sheet.png", "--count", 2)
    assert code == 0
    assert str(tmp_path / "sheet.png") in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 96


@pytest.mark.parametrize("size", ["big", "1x2x3", "64x", ""])
def test_a_size_that_is_none(course, tmp_path, size):
    refused(course("data", "make", tmp_path / "t", "--size", size), "--size", "HEIGHTxWIDTH")
    assert not (tmp_path / "t").exists()


def test_show_past_the_end(course, data, tmp_path):
    refused(course("data", "show", data, "--first", 50, "--out", tmp_path / "x.png"), "the data set has 8 images")


def test_check_lists_what_is_wrong(course, tmp_path):
    bad = write_tiny_coco(tmp_path / "bad")
    file = bad / "annotations" / "instances_train.json"
    records = json.loads(file.read_text())
    records["annotations"][0]["bbox"] = [0, 0, 0, 5]
    records["annotations"][2]["category_id"] = 77
    (bad / "images" / "train_3.png").write_bytes(b"\x89PNG truncated")
    file.write_text(json.dumps(records))
    code, out, _ = course("data", "check", bad)
    assert code == 1
    for text in ("annotation 1", "annotation 3", "train_3.png"):
        assert text in out
    code, out, _ = course("data", "check", "--images", bad / "images", "--annotations", file, "--json")
    assert code == 1
    assert json.loads(out)


def test_check_what(course, data):
    refused(course("data", "check"), "give a data folder, or both --images and --annotations")
    refused(course("data", "check", data, "--images", data, "--annotations", data), "give a data folder, or both")


# Train


def test_train(trained, data):
    assert (trained / WEIGHTS).exists()
    config = json.loads((trained / "config.json").read_text())
    assert config["recipe"]["iterations"] == 2
    assert config["recipe"]["batch_size"] == 2
    assert config["preset"]["name"] == "tiny"


def test_train_says_what_comes_next(course, data, tmp_path):
    code, out, _ = course(*training(data, tmp_path / "run", iterations=1), "--learning-rate", 0.001, "--threads", 1)
    assert code == 0
    assert "1 iterations in 0.0 minutes" in out
    assert f"course evaluate {tmp_path / 'run'} --data {data}" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["learning_rate"] == 0.001


def test_train_on_a_plain_folder(course, data, tmp_path):
    plain = ["--images", data / "images", "--annotations", data / "annotations" / "instances_train.json"]
    val = ["--val-images", data / "images", "--val-annotations", data / "annotations" / "instances_val.json"]
    budget = ["--iterations", 5, "--batch-size", 2, "--precision", "fp32"]
    code, out, _ = course("train", "retinanet", *plain, *val, *budget, "--out", tmp_path / "run")
    assert code == 0
    assert "AP " in out
    records = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert any("AP" in record for record in records)
    code, out, _ = course("train", "retinanet", *plain, *budget, "--out", tmp_path / "blind")
    assert code == 0
    assert "AP " not in out
    half = course("train", "retinanet", *plain, *val[:2], *budget, "--out", tmp_path / "half")
    refused(half, "--val-images and --val-annotations belong together")


def test_train_from_weights(course, data, trained, tmp_path):
    fine = ["--weights", trained, "--freeze", 2, "--backbone-rate", 0.5]
    code, out, _ = course(*training(data, tmp_path / "run", iterations=1), *fine)
    assert code == 0
    assert "the detector starts from course file weights.safetensors" in out
    assert "frozen: the stem, stage 1 of the backbone, " in out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["weights"] == {"source": str(trained)}
    assert config["recipe"]["backbone_rate"] == 0.5
    assert config["preset"]["backbone"]["frozen_stages"] == 2
    before, after = (load_tensors(run / WEIGHTS)[0] for run in (trained, tmp_path / "run"))
    still = {name for name in after if torch.equal(after[name], before[name])}
    frozen = {n for n in after if n.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))}
    assert {n for n in still if n.startswith("backbone.")} == frozen
    assert course(*training(data, tmp_path / "run", iterations=1), *fine, "--resume")[0] == 0
    refused(course(*training(data, tmp_path / "run", iterations=1), "--resume"), "was started with ")


@pytest.mark.parametrize(
    "arguments, texts",
    [
        (["train", "retina-net"], ["unknown model 'retina-net': did you mean 'retinanet'?"]),
        (["train", "retinanet"], ["give the budget as minutes or as iterations, one of the two"]),
        (["train", "retinanet", "--minutes", "1", "--iterations", "5"], ["minutes or as iterations"]),
        (["train", "retinanet", "--iterations", "1", "--preset", "tinny"], ["unknown preset 'tinny'", "'tiny'"]),
        (["train", "retinanet", "--iterations", "1", "--precision", "fp8"], ["unknown precision 'fp8'"]),
        (["train", "retinanet", "--iterations", "1"], ["which data? Give --data DIR, or both --images"]),
        (["train", "retinanet", "--iterations", "1", "--images", "x"], ["which data?"]),
        (["train", "retinanet", "--iterations", "1", "--data", "none"], ["none", "no such file"]),
        (["train", "retinanet", "--iterations", "1", "--data", "x", "--images", "y"], ["not both"]),
        (["train", "retinanet", "--iterations", "1", "--freeze", "2"], ["random ones know nothing: add --weights"]),
        (["train", "retinanet", "--iterations", "1", "--backbone-rate", "0.1"], ["know nothing: add --weights"]),
        (["train", "ssd", "--iterations", "1", "--weights", "town_retinanet"], ["town_retinanet is a retinanet"]),
        (["train", "retinanet", "--iterations", "1", "--weights", "none"], ["no such file, and no model of that name"]),
    ],
)
def test_train_refuses(course, tmp_path, monkeypatch, arguments, texts):
    monkeypatch.chdir(tmp_path)
    refused(course(*arguments, "--out", "run"), *texts)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_device_that_is_not_there(course, data, tmp_path):
    result = course("train", "retinanet", "--data", data, "--iterations", 1, "--out", tmp_path / "r", "--device", "tpu")
    refused(result, "device 'tpu' is not available here")


def test_train_into_a_run_that_exists(course, data, trained):
    before = {p: p.read_bytes() for p in trained.iterdir()}
    refused(course(*training(data, trained, iterations=2)), trained, "already holds a run", "--resume")
    refused(course(*training(data, trained, iterations=9), "--resume"), "recipe iterations = 2, not 9")
    assert {p: p.read_bytes() for p in trained.iterdir()} == before
    code, _, _ = course(*training(data, trained, iterations=2), "--resume")
    assert code == 0


def test_data_with_a_fault(course, tmp_path):
    bad = write_tiny_coco(tmp_path / "bad")
    (bad / "images" / "train_2.png").unlink()
    code, out, err = course(*training(bad, tmp_path / "run", iterations=1))
    assert code == 2
    assert err.startswith("error: ")
    assert "train_2.png" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "run").exists()


def test_a_debugging_switch_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("COURSE_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["course", "train", "retina-net", "--out", "x"])
    with pytest.raises(ValueError, match="unknown model"):
        cli.main()


def test_ctrl_c_in_training(course, data, tmp_path, monkeypatch):
    step = train.Trainer.step

    def interrupted(self):
        if self.iteration == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(train.Trainer, "step", interrupted)
    code, _, err = course(*training(data, tmp_path / "run", iterations=500))
    assert code == 130
    assert "Stopped; the state is saved. Go on with the same command and --resume" in err
    assert load_tensors(tmp_path / "run" / LAST)[1]["iteration"] == 2


def test_ctrl_c_in_the_tour(course, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("course_lib.engine.tour.run_tour", stop)
    code, _, err = course("tour", "--out", tmp_path / "tour")
    assert code == 130
    assert "Stopped; nothing is lost. The same command goes on." in err


def test_the_tour_reports_its_result(course, tmp_path, monkeypatch):
    asked = {}

    def run_tour(out, **options):
        asked.update(options, out=out)
        detectors = {"retinanet": {"summary": {"AP": 0.51234}}, "faster_rcnn": {"summary": {"AP": 0.4}}}
        return detectors | {"panoptic_fpn": {"summary": {"AP": 0.2}, "pq": {"all": {"pq": 0.3}}}}

    monkeypatch.setattr("course_lib.engine.tour.run_tour", run_tour)
    code, out, _ = course("tour", "--out", tmp_path / "tour", "--minutes", 2, "--images", 32, "--seed", 3)
    assert code == 0
    found = "RetinaNet AP 0.512, Faster R-CNN AP 0.400, Panoptic FPN PQ 0.300"
    assert f"{found} on Town val. Open {tmp_path / 'tour' / 'report.html'}" in out
    assert (asked["minutes"], asked["images"], asked["seed"], asked["out"]) == (2.0, 32, 3, tmp_path / "tour")
    assert asked["precision"] in ("fp32", "bf16")


def test_a_comparison_says_what_may_be_said(course, tmp_path, data, monkeypatch):
    asked = {}

    def run_comparison(out, plan, **options):
        asked.update(options, out=out, plan=plan)
        return {"verdicts": {"caution": ["Careful."], "accuracy": ["A beats B."], "speed": ["-"], "both": ["Both."]}}

    monkeypatch.setattr("course_lib.engine.compare.run.run_comparison", run_comparison)
    code, out, _ = course("compare", "--out", tmp_path / "c", "--models", "ssd, yolo", "--seeds", 2, "--threads", 1)
    assert code == 0
    assert out.splitlines() == ["Careful.", "A beats B.", "Both.", f"Open {tmp_path / 'c' / 'report.html'}"]
    plan = asked["plan"]
    assert (plan.models, plan.seeds, plan.minutes, plan.threads) == (("ssd", "yolo"), (0, 1), 3.0, 1)
    assert (plan.data, asked["images"], asked["out"]) == ("", 4000, tmp_path / "c")
    assert asked["command"].startswith("course compare --out")
    course("compare", "--iterations", 5, "--data", data, "--input-size", "96")
    plan = asked["plan"]
    assert (plan.minutes, plan.iterations, plan.input_size, plan.data) == (None, 5, (96, 96), str(data.resolve()))
    course("compare", "--input-size", "96x160")
    assert asked["plan"].input_size == (96, 160)
    course("compare", "--models", "ssd,faster_rcnn", "--with", "detectron2")
    assert asked["plan"].models == ("ssd", "faster_rcnn", "detectron2_faster_rcnn")


def test_a_comparison_of_what_is_not_there(course, tmp_path):
    refused(course("compare", "--models", "retinanet,sdd"), "unknown model 'sdd': did you mean 'ssd'?")
    refused(course("compare", "--models", ","), "found 0 models and 3 seeds")
    refused(course("compare", "--models", "upsnet"), "upsnet: a comparison judges boxes and masks, not panoptic maps")
    refused(course("compare", "--models", "ssd", "--with", "detectron2"), "Detectron2 has none of ssd: compare it with")
    refused(course("compare", "--input-size", "big"), "--input-size big: expected a number of pixels")
    refused(course("compare", "--data", tmp_path / "none", "--out", tmp_path / "c"), tmp_path / "none")
    assert not (tmp_path / "c").exists()


def test_ctrl_c_in_a_comparison(course, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("course_lib.engine.compare.run.run_comparison", stop)
    code, _, err = course("compare", "--out", tmp_path / "c")
    assert code == 130
    assert "Stopped; nothing is lost. The same command goes on." in err


# Evaluate


def test_evaluate(course, trained, data):
    code, out, err = course("evaluate", trained, "--data", data, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert {"summary", "per_class", "curves", "images", "seconds", "images_per_second"} == set(values)
    assert values["images"] == 4
    assert set(values["per_class"]) == {"square", "bar"}
    code, out, _ = course("evaluate", trained / WEIGHTS, "--data", data, "--split", "train")
    assert code == 0
    assert out.splitlines()[0].startswith("AP ")
    assert "8 images" in out.splitlines()[-1]


def test_masks_of_a_detector_that_finds_none(course, trained, data):
    refused(course("evaluate", trained, "--data", data, "--iou", "segm"), "finds boxes and no masks: leave out --iou")


def test_evaluate_results_of_another_program(course, data, tmp_path):
    file = data / "annotations" / "instances_val.json"
    records = json.loads(file.read_text())
    results = [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for a in records["annotations"]
        if not a["iscrowd"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    code, out, _ = course("evaluate", "--detections", tmp_path / "results.json", "--annotations", file, "--json")
    assert code == 0
    assert json.loads(out)["summary"]["AP"] == pytest.approx(1)
    code, out, _ = course("evaluate", "--detections", tmp_path / "results.json", "--annotations", file)
    assert out.startswith("AP 1.000")
    masks = course("evaluate", "--detections", tmp_path / "results.json", "--annotations", file, "--iou", "segm")
    refused(masks, "results.json", "annotation 1 has no segmentation")
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 1}]))
    broken = course("evaluate", "--detections", tmp_path / "results.json", "--annotations", file)
    refused(broken, "results.json", "result 0", "has no category_id, score, bbox")


def test_evaluate_says_what_each_kind_of_error_costs(course, trained, data, tmp_path):
    file = data / "annotations" / "instances_val.json"
    objects = [a for a in json.loads(file.read_text())["annotations"] if not a["iscrowd"]]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in objects]
    (tmp_path / "results.json").write_text(json.dumps(found[1:]))
    files = ("--detections", tmp_path / "results.json", "--annotations", file)
    code, out, _ = course("evaluate", *files, "--errors")
    assert code == 0
    assert "AP75" in out
    (row,) = (line for line in out.splitlines() if line.startswith("missed"))
    assert row.split()[1] == "1"
    assert float(row.split()[2]) > 0
    code, out, _ = course("evaluate", *files, "--errors", "--json")
    assert json.loads(out)["errors"]["missed"]["count"] == 1
    code, out, err = course("evaluate", trained, "--data", data, "--errors")
    assert "AP50 gained" in out, err
    assert "a second" in out
    refused(course("evaluate", *files, "--errors", "--iou", "segm"), "--errors looks at boxes")


def test_pq(course, tmp_path):
    assert course("data", "make", tmp_path / "town", "--images", 1, "--val", 3)[0] == 0
    truth = tmp_path / "town" / "annotations" / "panoptic_val.json"
    code, out, _ = course("pq", truth, truth, "--json")
    assert code == 0
    assert json.loads(out)["all"]["pq"] == 1
    code, out, err = course("pq", truth, truth, "--crowds", "last", "--workers", 1)
    assert code == 0
    assert out.splitlines()[1].split()[:4] == ["all", "100.0", "100.0", "100.0"]
    code, _, err = course("pq", truth, tmp_path / "none.json")
    assert code == 2
    assert "none.json: no such annotation file" in err


def test_evaluate_refuses(course, data, trained, tmp_path):
    refused(course("evaluate", "--data", data), "give a run to evaluate, or --detections")
    refused(course("evaluate", trained, "--detections", "x.json"), "give a run to evaluate, or --detections")
    refused(course("evaluate", "--detections", "x.json"), "--detections needs --annotations")
    refused(course("evaluate", trained), "which data?")
    refused(course("evaluate", tmp_path / "none", "--data", data), "none: there is no such file")
    refused(course("evaluate", trained / LAST, "--data", data), LAST, "no label_map")
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    refused(
        course("evaluate", tmp_path / "model.pt", "--data", data), "model.pt", "a pickle or PyTorch archive, refused"
    )


def test_other_classes_than_the_models(course, trained, tmp_path):
    other = write_tiny_coco(tmp_path / "other")
    file = other / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"id": 9', '"id": 10').replace('"category_id": 9', '"category_id": 10'))
    code, _, err = course("evaluate", trained, "--data", other)
    assert code == 2
    assert err.startswith("error: ")
    assert "10" in err


# Predict


def test_predict(course, trained, data, tmp_path):
    pictures = [data / "images" / "val_0.png", data / "images" / "val_1.png"]
    code, out, err = course("predict", trained, *pictures, "--out", tmp_path / "out", "--score", 0.0)
    assert code == 0, err
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(tmp_path / "out" / p.name) for p in pictures]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"val_0.png", "val_0.json", "val_1.png", "val_1.json"}
    code, out, _ = course("predict", trained, pictures[0], "--out", tmp_path / "sure", "--score", 1)
    assert out.strip() == f"{tmp_path / 'sure' / 'val_0.png'}: nothing found"


def test_predict_goes_on_after_a_bad_picture(course, trained, data, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    (tmp_path / "in" / "b.png").write_bytes((data / "images" / "val_0.png").read_bytes())
    code, out, err = course("predict", trained, tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert "b.png: " in out
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "a.png: not a readable image" in errors[0]


def test_predict_refuses(course, trained, data, tmp_path):
    refused(course("predict", trained, tmp_path, "--out", tmp_path / "out"), "no picture in this folder")
    refused(course("predict", trained, "gone.png", "--out", tmp_path / "out"), "gone.png: no such file or folder")
    picture = data / "images" / "val_0.png"
    refused(course("predict", trained, picture, "--out", picture.parent), "choose another --out")
    refused(course("predict", tmp_path / "none", picture), "none: there is no such file")
    assert not (tmp_path / "out").exists()


# Learn and teach


def test_a_workspace_is_started_and_its_progress_told(course, tmp_path):
    mine = tmp_path / "mine"
    code, out, err = course("start", mine)
    assert (code, err) == (0, "")
    assert out.startswith(f"{mine}: ")
    assert (mine / "00_tour.ipynb").is_file()
    code, out, err = course("progress", mine, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["passed"] == 0 < told["exercises"]
    assert {o["status"] for lesson in told["lessons"] for o in lesson["outcomes"]} == {"open"}
    _, out, _ = course("progress", mine)
    assert out.endswith(f"0 of {told['exercises']} exercises pass\n")


def test_progress_where_nothing_was_started(course, tmp_path):
    refused(course("progress", tmp_path), f"course start {tmp_path}")


def test_release_into_a_folder_of_other_things(course, tmp_path):
    (tmp_path / "thesis.txt").touch()
    refused(course("release", tmp_path), tmp_path, "no classroom pack")


# As its own process: what only the operating system can do to a run


def start(arguments: list[str], *, save_every: float) -> subprocess.Popen:
    """`course ARGUMENTS` as a process of its own that saves every so many seconds."""
    code = (
        f"import sys; from course_lib.engine import train; train.SAVE_EVERY = {save_every}\n"
        f"from course_lib import cli; sys.argv = ['course', *{arguments!r}]; cli.main()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_checkpoint(process: subprocess.Popen, run: Path, iteration: int) -> None:
    for _ in range(3000):
        if process.poll() is not None:
            pytest.fail(f"training ended too soon: {process.stderr.read().decode()}")
        if (run / LAST).exists() and load_tensors(run / LAST)[1]["iteration"] >= iteration:
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail("no checkpoint within a minute")


@pytest.mark.slow
def test_kill_9_and_resume_give_the_same_bits(data, tmp_path):
    whole, cut = (training(data, tmp_path / out, iterations=60, seed=1) for out in ("whole", "cut"))
    process = start(cut, save_every=0.0)
    wait_for_checkpoint(process, tmp_path / "cut", 5)
    process.kill()
    process.communicate()
    if sys.platform != "win32":
        assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    done = load_tensors(tmp_path / "cut" / LAST)[1]["iteration"]
    assert 5 <= done < 60
    for arguments in ([*cut, "--resume"], whole):
        process = start(arguments, save_every=20)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
    for name in (WEIGHTS, LAST):
        a, b = (load_tensors(tmp_path / out / name)[0] for out in ("whole", "cut"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_from_the_terminal(data, tmp_path):
    arguments = training(data, tmp_path / "run", iterations=5000)
    process = start(arguments, save_every=0.0)
    wait_for_checkpoint(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGINT)
    out, err = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 130
    assert "Stopped; the state is saved." in err
    assert "Traceback" not in out + err
    assert load_tensors(tmp_path / "run" / LAST)[1]["iteration"] >= 3
    assert not list((tmp_path / "run").glob(".*.tmp"))
