"""Properties of the plan: its numbers are tuned by measurement and free to change."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.datasets.coco import open_split
from course_lib.detectors.presets import FAMILIES, R50_DETECTRON2, TINY, get_preset, preset_from_dict, preset_to_dict
from course_lib.engine.plan import BoxStatistics, box_statistics, fit
from course_lib.engine.recipe import Recipe
from tests.engine.tiny_coco import write_tiny_coco

RIVALS = [family for family in FAMILIES if family != "retinanet"]


def statistics(sizes, *, ratios=(1.0,), height=480, width=640, images=100):
    sizes = np.asarray(sizes, dtype=float)
    ratios = np.resize(np.asarray(ratios, dtype=float), len(sizes))
    return BoxStatistics(height, width, sizes, ratios, np.full(len(sizes), 1 / len(sizes)), images)


@st.composite
def any_statistics(draw):
    height, width = draw(st.integers(16, 3000)), draw(st.integers(16, 3000))
    largest = min(height, width)
    sizes = draw(st.lists(st.floats(1, largest), min_size=1, max_size=30))
    ratios = draw(st.lists(st.floats(0.05, 20), min_size=1, max_size=30))
    return statistics(sizes, ratios=ratios, height=height, width=width, images=draw(st.integers(1, 100_000)))


budgets = st.one_of(
    st.floats(0.05, 600).map(lambda m: Recipe(minutes=m)), st.integers(1, 100_000).map(lambda n: Recipe(iterations=n))
)


@given(any_statistics(), budgets)
def test_any_data_and_budget_get_a_sound_plan(stats, recipe):
    preset, planned = fit(TINY, recipe, stats)
    height, width = preset.input.size
    assert height % preset.input.divisor == width % preset.input.divisor == 0
    assert min(height, width) >= 2 * preset.input.divisor  # batch norm needs more than one pixel on the top level
    anchors = preset.anchors
    assert 2 <= len(anchors.sizes) == len(anchors.strides) == len(preset.backbone.levels) <= len(TINY.anchors.strides)
    assert anchors.strides == TINY.anchors.strides[: len(anchors.strides)]
    flat = [size for level in anchors.sizes for size in level]
    assert flat == sorted(flat)
    assert flat[0] > 0
    assert len(set(flat)) == len(flat)
    assert len({len(level) for level in anchors.sizes}) == 1
    assert list(anchors.ratios) == sorted(anchors.ratios)
    assert 0.1 < anchors.ratios[0] < anchors.ratios[-1] < 10 or len(set(anchors.ratios)) < 3
    assert planned.augmentation in ("flip", "strong")
    assert planned.learning_rate == TINY.learning_rate
    assert replace(planned, augmentation=recipe.augmentation, learning_rate=None) == recipe
    assert json.loads(json.dumps(preset.anchors.sizes)) == [list(level) for level in anchors.sizes]  # plain numbers
    assert fit(TINY, recipe, stats) == (preset, planned)  # nothing random


@given(any_statistics(), budgets)
@pytest.mark.parametrize("family", RIVALS)
def test_the_rivals_get_sound_plans_for_the_same_input(family, stats, recipe):
    tiny = get_preset("tiny", family)
    preset, planned = fit(tiny, recipe, stats)
    assert preset.input.size == fit(TINY, recipe, stats)[0].input.size
    assert planned.learning_rate == tiny.learning_rate
    assert preset_from_dict(json.loads(json.dumps(preset_to_dict(preset)))) == preset
    if family == "yolo":
        flat = [shape for level in preset.priors.shapes for shape in level]
        assert preset.priors.strides == tiny.priors.strides
        assert [len(level) for level in preset.priors.shapes] == [len(level) for level in tiny.priors.shapes]
        assert all(side >= 1 for shape in flat for side in shape)
    else:
        assert 2 <= len(preset.anchors.sizes) == len(preset.anchors.strides)
        surroundings = family in ("panoptic_fpn", "upsnet")  # stuff is told by them: all levels stay
        levels = tiny.backbone.levels if surroundings else tiny.backbone.levels[: len(preset.anchors.sizes)]
        assert preset.backbone.levels == levels
        flat = [size for level in preset.anchors.sizes for size in level]
        assert flat == sorted(set(flat))


@pytest.mark.parametrize("sizes", [(12.0, 30.0), (10.0, 300.0)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fitted_detector_fits_together(family, sizes):
    preset, _ = fit(get_preset("tiny", family), Recipe(minutes=1), statistics(sizes))
    torch.manual_seed(0)
    found = preset.build(3).eval()([torch.rand(3, 48, 64)])
    assert found[0]["boxes"].shape == (len(found[0]["scores"]), 4)


def test_ssd_gets_coarser_levels_sooner_and_no_second_square():
    stats = statistics(np.geomspace(10, 40, 50), height=128, width=128)
    levels = {
        f: len(fit(get_preset("tiny", f), Recipe(minutes=4), stats)[0].anchors.sizes) for f in ("retinanet", "ssd")
    }
    assert levels["ssd"] > levels["retinanet"]
    preset, _ = fit(get_preset("tiny", "ssd"), Recipe(minutes=4), stats)
    assert 1.0 not in preset.anchors.ratios[0]
    assert len(preset.anchors.ratios[0]) == 2


def test_yolos_priors_are_those_of_the_data():
    stats = statistics([20.0] * 50 + [40.0] * 50, ratios=[4.0] * 50 + [0.25] * 50, height=128, width=128)
    preset, _ = fit(get_preset("tiny", "yolo"), Recipe(minutes=4), stats)
    shapes = {shape for level in preset.priors.shapes for shape in level}
    assert shapes == {(10.0, 40.0), (80.0, 20.0)}


@given(st.floats(4, 200), st.floats(1.2, 8), st.sampled_from([1, 4, 60]))
def test_anchors_span_the_objects(smallest, spread, minutes):
    stats = statistics(np.geomspace(smallest, smallest * spread, 50), height=1000, width=1000)
    preset, _ = fit(TINY, Recipe(minutes=minutes), stats)
    factor = preset.input.size[0] / 1000
    flat = [size for level in preset.anchors.sizes for size in level]
    middle = smallest * spread**0.5 * factor
    assert flat[0] / 2 < max(middle, preset.anchors.strides[0])
    assert flat[-1] * 2 > middle


def test_more_time_buys_larger_inputs():
    stats = statistics(np.geomspace(10, 300, 50), height=1500, width=2000)
    areas = [np.prod(fit(TINY, Recipe(minutes=m), stats)[0].input.size) for m in (0.5, 4, 60)]
    assert areas[0] < areas[1] < areas[2]


def test_the_shape_of_the_input_is_that_of_the_images():
    height, width = fit(TINY, Recipe(minutes=10), statistics([60.0], height=300, width=900))[0].input.size
    assert 2.5 < width / height < 3.5


def test_smaller_objects_get_larger_inputs():
    areas = [
        np.prod(fit(TINY, Recipe(minutes=4), statistics([size], height=320, width=320))[0].input.size)
        for size in (6.0, 80.0)
    ]
    assert areas[0] > areas[1]


def test_tall_objects_get_tall_anchors():
    tall = fit(TINY, Recipe(minutes=4), statistics([40.0] * 9, ratios=[3.0]))[0].anchors.ratios
    wide = fit(TINY, Recipe(minutes=4), statistics([40.0] * 9, ratios=[1 / 3]))[0].anchors.ratios
    assert tall[1] == pytest.approx(3, abs=0.01)
    assert wide[1] == pytest.approx(1 / 3, abs=0.01)
    assert tall[0] < 3 < tall[2]


def test_a_preset_that_belongs_to_weights_keeps_its_input_and_anchors():
    preset, recipe = fit(R50_DETECTRON2, Recipe(minutes=4), statistics([40.0]))
    assert preset is R50_DETECTRON2
    assert recipe.augmentation in ("flip", "strong")


def test_augmentation_follows_the_number_of_passes_and_can_be_set():
    few, many = statistics([40.0], images=10), statistics([40.0], images=100_000)
    assert fit(TINY, Recipe(minutes=4), few)[1].augmentation == "strong"
    assert fit(TINY, Recipe(minutes=4), many)[1].augmentation == "flip"
    assert fit(TINY, Recipe(iterations=10_000), few)[1].augmentation == "strong"
    assert fit(TINY, Recipe(iterations=1), many)[1].augmentation == "flip"
    assert fit(TINY, Recipe(minutes=4, augmentation="flip"), few)[1].augmentation == "flip"


def test_the_learning_rate_is_the_presets_unless_it_is_set():
    gentle = replace(TINY, learning_rate=1e-4)
    assert fit(gentle, Recipe(minutes=4), statistics([40.0]))[1].learning_rate == 1e-4
    assert fit(gentle, Recipe(minutes=4, learning_rate=0.5), statistics([40.0]))[1].learning_rate == 0.5


def test_an_input_size_that_is_set_is_rounded_up():
    for size, wanted in (((100, 160), (112, 160)), ((8, 8), (32, 32))):
        preset, recipe = fit(TINY, Recipe(minutes=4, input_size=size), statistics([40.0]))
        assert preset.input.size == wanted
        assert recipe.input_size == size


def test_quantiles_by_hand():
    stats = BoxStatistics(1, 1, np.array([30.0, 10, 20]), np.array([1.0, 3, 2]), np.array([0.5, 0.25, 0.25]), 1)
    assert [stats.size_quantile(q) for q in (0.0, 0.25, 0.5, 0.51, 1.0)] == [10, 10, 20, 30, 30]
    assert [stats.ratio_quantile(q) for q in (0.4, 0.6, 0.9)] == [1, 2, 3]


def test_statistics_of_a_data_set(tmp_path):
    folder = write_tiny_coco(tmp_path / "data")
    file = folder / "annotations" / "instances_train.json"
    data = json.loads(file.read_text())
    boxes = [(4, [0, 0, 10, 40]), (4, [0, 0, 20, 20]), (9, [5, 5, 36, 9]), (4, [0, 0, 64, 64])]
    data["annotations"] = [
        {"id": i, "image_id": 100, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": int(i == 4)}
        for i, (c, b) in enumerate(boxes, start=1)
    ]
    file.write_text(json.dumps(data))
    stats = box_statistics(open_split(folder, "train"))
    assert (stats.height, stats.width, stats.images) == (64, 64, 8)
    assert stats.sizes.tolist() == [20, 20, 18]  # the crowd does not count
    assert stats.ratios.tolist() == [4, 1, 0.25]
    assert stats.weights.tolist() == [0.25, 0.25, 0.5]  # each class half


def test_no_object():
    class Nothing:
        annotations = "file.json"
        coco = type("", (), {"dataset": {"annotations": [{"iscrowd": 1}]}})

        def __len__(self):
            return 3

    with pytest.raises(ValueError, match=r"file\.json: 3 images and no object; there is nothing to learn"):
        box_statistics(Nothing())
