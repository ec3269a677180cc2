"""A comparison from end to end in miniature, cut off here and there."""

import csv
import io
import json
import signal
from dataclasses import replace

import pytest
import torch

from course_lib.engine import train
from course_lib.engine.checkpoint import LAST, WEIGHTS, load_tensors
from course_lib.engine.compare import memory, run
from course_lib.engine.compare.result import COLUMNS, disturbances, figure_of, spreads
from course_lib.engine.compare.run import JUDGED, make_plan, run_comparison
from course_lib.engine.compare.verdict import QUANTITIES
from tests.engine.test_report import assert_self_contained


class Killed(BaseException):
    """Stands for a power cut: nothing may catch it."""


@pytest.fixture
def plan(data):
    return make_plan(models=("retinanet", "ssd"), seeds=(0, 1), minutes=None, iterations=3, data=data, threads=2)


@pytest.fixture
def compare(tmp_path, plan, monkeypatch):
    """A function that compares in silence; the memory is not measured, which takes a process."""
    monkeypatch.setattr(run, "peak_of_run", lambda *_, **__: {"inference": 1.5, "training": None})
    monkeypatch.setattr(run, "TIMED", 1)
    threads = torch.get_num_threads()
    yield lambda out="out", **changes: run_comparison(tmp_path / out, replace(plan, **changes), progress=False)
    torch.set_num_threads(threads)


def timeless(judged: dict) -> dict:
    """What two runs of the same seed share: all but the times."""
    curve = [{**point, "minutes": None} for point in judged["curve"]]
    return {k: v for k, v in judged.items() if k not in ("minutes", "images_per_second")} | {"curve": curve}


@pytest.mark.slow
def test_from_data_to_report(compare, tmp_path, plan):
    result = compare()
    out = tmp_path / "out"
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(result))
    assert [(r["model"], r["seed"]) for r in result["runs"]] == [
        ("retinanet", 0),
        ("ssd", 0),
        ("retinanet", 1),
        ("ssd", 1),
    ]
    for found in result["runs"]:
        assert found["iterations"] == 3
        assert found["gflops"] > 0
        assert found["latency"]["median"] > 0
        assert "detections" not in found
    assert result["models"]["ssd"]["memory"] == {"inference": 1.5, "training": None}
    assert result["settings"]["data"] == "data"
    assert str(tmp_path) not in json.dumps(result)  # no path of this machine
    assert set(result["verdicts"]) == {"caution", "accuracy", "speed", "both", "where"}
    assert len(result["verdicts"]["accuracy"]) == 1

    html = (out / "report.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    for text in ("RetinaNet, SSD: the same task, the same time", *result["verdicts"]["accuracy"], "3 steps"):
        assert text in html

    rows = list(csv.DictReader(io.StringIO((out / "report.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["model"], row["seed"]) for row in rows] == [(r["model"], str(r["seed"])) for r in result["runs"]]
    assert float(rows[1]["latency_median_ms"]) == pytest.approx(result["runs"][1]["latency"]["median"], abs=1e-5)
    assert rows[0]["memory_training_mb"] == ""
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_the_same_call_again_measures_nothing_twice(compare, tmp_path, monkeypatch):
    first = compare()
    for name in ("train_run", "judge_run", "peak_of_run", "latencies"):
        monkeypatch.setattr(run, name, None)
    assert compare() == first


@pytest.mark.slow
def test_more_models_and_seeds_are_added(compare, tmp_path, monkeypatch):
    compare(models=("ssd",), seeds=(0,))
    before = (tmp_path / "out" / "runs" / "ssd_seed0" / WEIGHTS).read_bytes()
    result = compare()
    assert len(result["runs"]) == 4
    assert (tmp_path / "out" / "runs" / "ssd_seed0" / WEIGHTS).read_bytes() == before


@pytest.mark.slow
def test_other_settings_are_refused(compare, tmp_path):
    compare(models=("ssd",), seeds=(0,))
    with pytest.raises(ValueError, match="holds a comparison with iterations = 3, not 4"):
        compare(models=("ssd",), seeds=(0,), iterations=4)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["train", "judge_run", "peak_of_run", "latencies", "render_comparison"])
def test_a_comparison_that_is_cut_off_ends_as_one_that_is_not(compare, tmp_path, monkeypatch, place):
    whole = compare("whole")
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    calls = []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == (5 if place == "train" else 1):  # in the second step of the second model
            raise Killed
        return original(*arguments, **options)

    holder, name = (train.Trainer, "step") if place == "train" else (run, place)
    original = getattr(holder, name)
    monkeypatch.setattr(holder, name, killed)
    with pytest.raises(Killed):
        compare("cut")
    assert not (tmp_path / "cut" / "report.html").exists()
    monkeypatch.setattr(holder, name, original)
    again = compare("cut")
    for job in ("retinanet_seed0", "ssd_seed1"):
        a, b = (load_tensors(tmp_path / out / "runs" / job / LAST)[0] for out in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a)
        a, b = (json.loads((tmp_path / out / "runs" / job / JUDGED).read_text()) for out in ("whole", "cut"))
        assert timeless(a) == timeless(b)
    assert [r["summary"] for r in again["runs"]] == [r["summary"] for r in whole["runs"]]


@pytest.mark.slow
def test_ctrl_c_in_a_training_saves_it(compare, tmp_path, monkeypatch):
    step = train.Trainer.step

    def interrupted(trainer):
        if trainer.iteration == 1:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    monkeypatch.setattr(train.Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare()
    assert load_tensors(tmp_path / "out" / "runs" / "retinanet_seed0" / LAST)[1]["iteration"] == 2
    monkeypatch.setattr(train.Trainer, "step", step)
    assert len(compare()["runs"]) == 4


@pytest.mark.slow
def test_one_bar_over_everything(compare, tmp_path, plan, capsys, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    run_comparison(tmp_path / "out", plan, progress=True)
    shown = capsys.readouterr()
    for text in ("training RetinaNet, seed 0", "judging SSD, seed 1", "memory of SSD", "timing all", "done: 100%"):
        assert text in shown.err
    assert "loss=" in shown.err
    assert " left" in shown.err
    assert "SSD, seed 0: AP 0." in shown.out + shown.err
    assert shown.err.count("100%|") <= 4  # no other bar


@pytest.mark.slow
def test_a_town_is_made_where_no_data_is_given(compare, tmp_path):
    plan = make_plan(models=("yolo",), seeds=(0,), minutes=None, iterations=1, threads=2)
    result = run_comparison(tmp_path / "town", plan, images=16, progress=False)
    assert (result["settings"]["train"], result["settings"]["val"], result["settings"]["data"]) == (16, 2, "Town")
    assert (tmp_path / "town" / "town" / "dataset.json").exists()


def test_a_busy_machine_is_told():
    result = {
        "settings": {"minutes": 3.0},
        "models": {"ssd": {"title": "SSD"}, "yolo": {"title": "YOLO"}},
        "runs": [{"model": m, "iterations": n} for m, n in (("ssd", 100), ("yolo", 90), ("ssd", 70), ("yolo", 100))],
    }
    (said,) = disturbances(result)
    assert "not equally quiet" in said
    assert "by seed: SSD 70 to 100." in said
    assert disturbances({**result, "runs": result["runs"][:2]}) == []
    assert disturbances({**result, "settings": {"minutes": None}}) == []


@pytest.mark.slow
def test_every_quantity_can_be_read(compare):
    result = compare()
    for quantity in QUANTITIES:
        for spread in spreads(result, quantity).values():
            assert len(spread.values) == 2
    assert spreads(result, "AP_large") == {}  # no object is so large
    assert figure_of(result["runs"][0], "latency") == result["runs"][0]["latency"]["median"]
    with pytest.raises(ValueError, match="unknown quantity 'ap': expected one of AP, AP50"):
        spreads(result, "ap")


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(trained, data):
    found = memory.peak_of_run(trained, data, batch=2, threads=2)
    assert set(found) == {"inference", "training"}
    assert all(value is None or 0 <= value < 1000 for value in found.values())


@pytest.mark.slow
def test_a_process_that_fails_says_why(tmp_path, data):
    with pytest.raises(RuntimeError, match=r"(?s)measuring the memory of .*there is no such file"):
        memory.peak_of_run(tmp_path / "none", data, batch=2, threads=2)


def test_the_process_prints_what_it_measured(trained, data, monkeypatch, capsys):
    monkeypatch.setattr(memory, "measure", lambda run, data, batch: {"inference": batch, "training": None})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    memory.main([str(trained), str(data), "--batch=2", "--threads=1"])
    assert json.loads(capsys.readouterr().out) == {"inference": 2, "training": None}


def test_memory_grows_with_training(trained, data, monkeypatch):
    peaks = iter([100, 120, 150])
    monkeypatch.setattr(memory, "peak_memory", lambda: next(peaks))
    monkeypatch.setattr(memory, "forget_peak_memory", lambda: None)
    assert memory.measure(trained, data, 2) == {"inference": 20, "training": 50}
    monkeypatch.setattr(memory, "peak_memory", lambda: None)
    assert memory.measure(trained, data, 2) == {"inference": None, "training": None}
