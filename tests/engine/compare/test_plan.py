import json
from dataclasses import replace

import pytest

from course_lib.engine.compare.plan import RIVALS, SETTINGS, Job, Plan, claim, run_folder

PLAN = Plan(models=("retinanet", "ssd"), seeds=(0, 1), threads=2, data="", train=8, val=4)


def test_the_defaults_are_those_of_the_course():
    plan = Plan(threads=2, data="", train=8, val=4)
    assert plan.models == RIVALS == ("retinanet", "ssd", "yolo", "faster_rcnn")
    assert (plan.minutes, plan.seeds) == (3.0, (0, 1, 2))
    assert plan.expected_seconds() == 180


def test_jobs_go_seed_by_seed(tmp_path):
    assert [job.name for job in PLAN.jobs()] == ["retinanet_seed0", "ssd_seed0", "retinanet_seed1", "ssd_seed1"]
    assert Job("faster_rcnn", 2).title == "Faster R-CNN, seed 2"
    assert run_folder(tmp_path, Job("ssd", 1)) == tmp_path / "runs" / "ssd_seed1"


def test_every_model_has_the_same_recipe():
    recipe = replace(PLAN, minutes=None, iterations=7, input_size=(64, 96), precision="bf16").recipe(5)
    assert (recipe.minutes, recipe.iterations, recipe.seed) == (None, 7, 5)
    assert (recipe.input_size, recipe.precision, recipe.learning_rate) == ((64, 96), "bf16", None)
    assert PLAN.preset("ssd").family == "ssd"
    assert PLAN.preset("ssd").backbone == PLAN.preset("retinanet").backbone


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"models": ("retinanet", "yola")}, "unknown model 'yola': did you mean 'yolo'"),
        ({"models": ()}, "found 0 models and 2 seeds, expected at least one of each"),
        ({"seeds": ()}, "found 2 models and 0 seeds"),
        ({"models": ("ssd", "yolo", "ssd")}, "'ssd' is named twice: each model and each seed is trained once"),
        ({"seeds": (1, 1)}, "1 is named twice"),
        ({"iterations": 5}, "give the budget as minutes or as iterations, one of the two"),
    ],
)
def test_plans_that_are_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **wrong)


def test_a_comparison_may_grow_but_not_change(tmp_path):
    claim(tmp_path / "out", PLAN)
    claim(tmp_path / "out", replace(PLAN, models=("retinanet", "ssd", "yolo"), seeds=(0,)))
    found = json.loads((tmp_path / "out" / SETTINGS).read_text())
    assert found["models"] == ["retinanet", "ssd", "yolo"]
    with pytest.raises(ValueError, match=r"out holds a comparison with minutes = 3\.0, not 1\.0: go on with the same"):
        claim(tmp_path / "out", replace(PLAN, minutes=1.0))
    with pytest.raises(ValueError, match="with train = 8, not 9"):
        claim(tmp_path / "out", replace(PLAN, train=9))
    assert json.loads((tmp_path / "out" / SETTINGS).read_text()) == found
