"""Panoptic detectors from data to figures and files, by the `course` command where there is a verb."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from course_lib import cli
from course_lib.datasets.coco import open_split
from course_lib.datasets.town import CATEGORIES, TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import get_preset
from course_lib.engine.checkpoint import CONFIG, LOG
from course_lib.engine.panoptic import PanopticMetrics, evaluate_panoptic, found_by_area, fusion_quality
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.pq import open_panoptic, pq_files
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import read_log
from course_lib.panoptic.format import read_ids
from course_lib.panoptic.fusion import Canvas, FusionSpec, place_instances
from tests.engine.outputs import Oracle

FAMILIES = ("panoptic_fpn", "upsnet")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    out = tmp_path_factory.mktemp("panoptic") / "town"
    make_town(out, train=8, val=5, config=TownConfig(size=64), seed=0, progress=False)
    return out


@pytest.fixture(scope="module")
def val_data(town):
    return open_split(town, "val").with_panoptic()


@pytest.fixture
def course(monkeypatch, capsys):
    def course(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return course


@pytest.fixture(scope="module", params=FAMILIES)
def run(request, town, tmp_path_factory):
    """A run of three iterations."""
    out = tmp_path_factory.mktemp("runs") / request.param
    monkeypatch = pytest.MonkeyPatch()
    arguments = ("train", request.param, "--data", town, "--out", out, "--iterations", 3, "--batch-size", 2)
    monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    monkeypatch.undo()
    assert not exit.value.code
    return out


def test_the_truth_is_perfect(val_data):
    metrics, results, seconds = evaluate_panoptic(Oracle(val_data), val_data, batch_size=2)
    values = metrics.to_dict()
    assert values["summary"]["AP"] == pytest.approx(1)
    assert values["masks"]["summary"]["AP"] == pytest.approx(1)
    assert values["miou"] == 1
    assert values["pq"]["all"]["pq"] == values["pq"]["things"]["pq"] == values["pq"]["stuff"]["pq"] == 1
    assert set(values["ious"]) <= {"things", *(c["name"] for c in CATEGORIES if not c["isthing"])}
    assert len(results) == sum(len(x) for x in val_data.all_labels())
    assert seconds > 0
    json.dumps(values)
    text = str(metrics)
    assert text.startswith("box AP 1.000  mask AP 1.000  mIoU 1.000\n\n")
    assert [line.split()[1:4] for line in text.split("\n")[3:6]] == [["100.0"] * 3] * 3  # all, things, stuff


def test_another_way_to_fuse_the_same_answers(val_data):
    """As they are, and without what is no thing."""
    answers = list(enumerate(Oracle(val_data)([None] * len(val_data))))
    as_it_is = fusion_quality(val_data, answers, lambda a: Canvas(a["panoptic"], a["segments"]))
    assert as_it_is.summary()["all"].pq == 1

    def things_alone(answer):
        canvas = Canvas.empty(*answer["panoptic"].shape)
        place_instances(canvas, answer["masks"], answer["scores"], answer["labels"], spec=FusionSpec())
        return canvas

    summary = fusion_quality(val_data, answers, things_alone).summary()
    assert summary["things"].pq == pytest.approx(1)
    assert summary["stuff"].pq == 0


def test_how_many_things_of_each_size_are_found(val_data):
    """All but the smallest of each image; crowds do not count, and an edge belongs to what is above it."""
    truth = val_data.panoptic
    things = {c["id"] for c in truth.categories if c["isthing"]}
    areas, smallest = [], []
    for image_id in val_data.image_ids:
        real = [s for s in truth.segments(image_id) if s["category_id"] in things and not s.get("iscrowd")]
        areas += [s["area"] for s in real]
        smallest += sorted(s["area"] for s in real)[:1]
    middle = sorted(areas)[len(areas) // 2]
    answers = list(enumerate(Oracle(val_data)([None] * len(val_data))))

    def without_the_smallest(answer):
        things = [s for s in answer["segments"] if s["isthing"]]
        lost = min(things, key=lambda s: s["area"])["id"] if things else -1
        panoptic = answer["panoptic"].clone()
        panoptic[panoptic == lost] = 0
        return Canvas(panoptic, [s for s in answer["segments"] if s["id"] != lost])

    total, found = found_by_area(val_data, answers, without_the_smallest, (middle,))
    below = sum(area < middle for area in areas)
    assert total.tolist() == [below, len(areas) - below]
    lost = sum(area < middle for area in smallest)
    assert (total - found).tolist() == [lost, len(smallest) - lost]
    assert [len(counts) for counts in found_by_area(val_data, [], without_the_smallest, (1, 2, 3))] == [4, 4]


def test_half_of_the_sky_called_road(val_data):
    names = val_data.panoptic.stuff_map.names
    sky = 1 + names.index("sky")

    def change(answer):
        semantic = answer["semantic"].clone()
        semantic[semantic == sky] = 1 + names.index("road")
        answer["semantic"] = semantic

    metrics, _, _ = evaluate_panoptic(Oracle(val_data, change), val_data)
    assert metrics.ious["sky"] == 0
    assert 0 < metrics.ious["road"] < 1
    assert metrics.ious["things"] == 1
    assert metrics.miou < 1


def test_nothing_to_judge(val_data):
    nothing = PanopticMetrics(None, None, {}, None, [])
    assert nothing.miou is None


def test_training_keeps_what_prediction_needs(run):
    config = json.loads((run / CONFIG).read_text())
    stuff = [c for c in CATEGORIES if not c["isthing"]]
    assert config["stuff_map"] == {"names": [c["name"] for c in stuff], "category_ids": [c["id"] for c in stuff]}
    assert config["preset"]["num_stuff"] == len(stuff)
    assert config["preset"]["fusion"]["stuff_area"] == round(4096 / (480 * 640) * 64 * 64)
    last = read_log(run / LOG)[-1]
    assert {"semantic", "mask", "rpn_objectness"} <= set(last)


def test_evaluate_and_its_maps(run, town, course, tmp_path):
    saved = tmp_path / "maps" / "panoptic_val.json"
    code, out, _ = course("evaluate", run, "--data", town, "--json", "--save", saved)
    values = json.loads(out)
    assert code == 0
    assert {"summary", "masks", "miou", "ious", "pq", "seconds", "images_per_second"} <= set(values)
    assert values["images"] == 5
    truth = open_panoptic(town / "annotations" / "panoptic_val.json")
    assert pq_files(truth, open_panoptic(saved)).to_dict() == values["pq"]
    code, out, _ = course("evaluate", run, "--data", town)
    assert code == 0
    assert out.startswith("box AP 0.")
    assert "5 images" in out


def test_predict(run, town, course, tmp_path):
    """The maps that it writes are COCO's: ids in PNG and JSON agree, and `course pq` reads them."""
    pictures = sorted((town / "images").glob("val_*.png"))
    code, _, _ = course("predict", run, *pictures, "--out", tmp_path / "out")
    assert code == 0
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"{p.stem}{s}" for p in pictures for s in (".png", ".json")} | {"panoptic.json", "panoptic"}
    data = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [a["image_id"] for a in data["annotations"]] == [1, 2, 3, 4, 5]
    assert {c["id"]: c["isthing"] for c in data["categories"]} == {c["id"]: c["isthing"] for c in CATEGORIES}
    for annotation in data["annotations"]:
        ids = read_ids(tmp_path / "out" / "panoptic" / annotation["file_name"])
        assert set(np.unique(ids).tolist()) - {0} == {s["id"] for s in annotation["segments_info"]}
        assert all((ids == s["id"]).sum() == s["area"] for s in annotation["segments_info"])
    code, _, _ = course("pq", town / "annotations" / "panoptic_val.json", tmp_path / "out" / "panoptic.json")
    assert code == 0
    with Image.open(tmp_path / "out" / f"{pictures[0].stem}.png") as overlay:
        assert overlay.size == (512, 512)


def test_what_the_command_refuses(town, course, tmp_path, run):
    copy = tmp_path / "data"
    (copy / "annotations").mkdir(parents=True)
    (copy / "images").symlink_to(town / "images")
    for split in ("train", "val"):
        name = f"instances_{split}.json"
        (copy / "annotations" / name).symlink_to(town / "annotations" / name)
    code, _, err = course("train", "panoptic_fpn", "--data", copy, "--out", tmp_path / "run", "--iterations", 1)
    assert code != 0
    assert "panoptic_train.json: no such panoptic annotation file" in err
    assert not (tmp_path / "run").exists()
    code, _, err = course("evaluate", run, "--data", copy)
    assert code != 0
    assert "panoptic_val.json: no such panoptic annotation file" in err


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_knows_how_much_stuff_is_enough(town, family):
    stats = box_statistics(open_split(town, "train"))
    fitted, _ = fit(get_preset("tiny", family), Recipe(minutes=1), stats)
    assert fitted.fusion.stuff_area == 55  # 1⅓ % of 64 × 64
    assert len(fitted.anchors.sizes) == 2  # for small things; of the backbone all levels stay
    assert fitted.backbone.levels == ("c2", "c3", "c4", "c5")
    model = fitted.build(8)
    assert model.fpn.num_levels == 4
    assert model.box_head.pool.strides == (4, 8)
    full = get_preset("r50_detectron2" if family == "panoptic_fpn" else "r50", family)
    assert fit(full, Recipe(minutes=1), stats)[0].fusion.stuff_area == 4096
