"""Coverage: numbers by hand, equal to what training matches, and a remedy that helps for each kind of miss."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.anchor_pyramid import AnchorSpec, pyramid_anchors
from course_lib.detectors.targets import MatchSpec, assign
from course_lib.engine import coverage as module
from course_lib.engine.coverage import REMEDIES, coverage, reachable_from
from course_lib.nn.preprocess import InputSpec
from course_lib.ops.anchors import cell_anchors, grid_anchors
from course_lib.ops.boxes import box_iou, xywh_to_xyxy, xyxy_to_cxcywh
from course_lib.ops.matching import match

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "bird"}]
SQUARES = AnchorSpec(sizes=((8.0,),), ratios=(1.0,), strides=(8,))
PLAIN = InputSpec(divisor=8)


@pytest.fixture
def dataset(tmp_path):
    """A function that makes a data set of images (height, width, objects); an object is (category, xywh, crowd)."""

    def make(*images) -> CocoDetection:
        records, annotations = [], []
        for n, (height, width, objects) in enumerate(images):
            (tmp_path / f"{n}.png").touch()  # never opened
            records.append({"id": 100 + n, "file_name": f"{n}.png", "height": height, "width": width})
            for category, box, crowd in objects:
                fields = {"category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": crowd}
                annotations.append({"id": len(annotations) + 1, "image_id": 100 + n, **fields})
        data = {"images": records, "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / "instances.json").write_text(json.dumps(data))
        return CocoDetection(tmp_path, tmp_path / "instances.json")

    return make


def scattered(count: int, seed: int, size: int = 96) -> list[tuple]:
    """Objects of whole pixels, some of them on one another."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(4, 40, (count, 2))
    corners = rng.integers(0, size - 40, (count, 2))
    return [(int(rng.choice([3, 7])), (*c, *s), 0) for c, s in zip(corners.tolist(), sides.tolist())]


def test_by_hand(dataset):
    # The first object is an anchor, that at (8, 8). The second lies in the middle of four: 4 · 4 px of 2 · 64 − 16.
    objects = [(3, (4, 4, 8, 8), 0), (7, (0, 0, 9, 9), 1), (7, (0, 0, 8, 8), 0)]
    found = coverage(dataset((32, 32, objects)), SQUARES, PLAIN, MatchSpec())
    assert found.best == pytest.approx([1, 16 / 112])
    assert found.reached.tolist() == [True, False]
    # Four anchors are the second object's best. One of them overlaps the first object more, and learns that one.
    assert found.positives.tolist() == [1, 3]
    assert (found.image_ids.tolist(), found.annotation_ids.tolist(), found.labels.tolist()) == (
        [100] * 2,
        [1, 3],
        [0, 1],
    )
    assert (found.images, found.crowds) == (1, 1)
    alone = coverage(dataset((32, 32, objects)), SQUARES, PLAIN, MatchSpec(low_quality=False))
    assert alone.positives.tolist() == [1, 0]
    assert alone.total().unlearnt == 1


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("chunk", [1, 3000, 2**21])  # IoUs at a time: one object, a few, all
def test_equal_to_what_training_matches(dataset, monkeypatch, low_quality, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    spec = AnchorSpec(sizes=((6.0, 11.0), (20.0, 30.0)), ratios=(0.5, 1.0, 2.0), strides=(4, 8))
    matching = MatchSpec(low=0.3, high=0.4, low_quality=low_quality)
    images = [scattered(12, 0), [], scattered(1, 1), scattered(7, 2)]
    data = dataset(*((96, 96, objects) for objects in images))
    found = coverage(data, spec, InputSpec(divisor=16), matching)
    anchors = torch.cat(pyramid_anchors(spec, (96, 96), [(24, 24), (12, 12)]))
    best, positives = [], []
    for boxes in map(torch.from_numpy, data.all_boxes()):
        iou = box_iou(boxes, anchors)
        matched = match(iou, low=0.3, high=0.4, low_quality=low_quality)
        best += iou.amax(1).tolist() if len(boxes) else []
        positives += torch.bincount(matched[matched >= 0], minlength=len(boxes)).tolist()
    assert found.best.tolist() == best
    assert found.positives.tolist() == positives
    numbered = [torch.arange(len(b)) for b in data.all_boxes()]
    labels, _ = assign(anchors, [torch.from_numpy(b) for b in data.all_boxes()], numbered, matching)
    assert (labels >= 0).sum() == found.positives.sum()


def test_objects_are_measured_in_the_networks_pixels(dataset):
    # 200 × 100 into 64 × 64: a factor of 0.32, then padded to 64 × 32. The other image is enlarged by 2.
    data = dataset((100, 200, [(3, (50, 25, 100, 50), 0)]), (32, 32, [(3, (4, 8, 16, 4), 0)]))
    found = coverage(data, SQUARES, InputSpec(resize="fit", size=(64, 64), divisor=16), MatchSpec())
    assert found.boxes == pytest.approx(np.array([[16, 8, 48, 24], [8, 16, 40, 24]]))
    assert found.inputs.tolist() == [[32, 64], [64, 64]]
    assert found.sizes == pytest.approx([512**0.5, 16])
    assert found.ratios == pytest.approx([0.5, 0.25])
    half = coverage(
        data.shrunk(100), SQUARES, InputSpec(divisor=1), MatchSpec()
    )  # shrunk on loading, not by the network
    assert half.boxes[0] == pytest.approx([25, 12.5, 75, 37.5])


def test_images_of_several_sizes_keep_their_order(dataset):
    objects = [(3, (4, 4, 8, 8), 0), (7, (10, 3, 5, 9), 0)]
    sizes = [(40, 64), (32, 32), (40, 64), (56, 24)]
    together = coverage(dataset(*((*size, objects) for size in sizes)), SQUARES, PLAIN, MatchSpec())
    for n, size in enumerate(sizes):
        alone = coverage(dataset((*size, objects)), SQUARES, PLAIN, MatchSpec())
        rows = together.image_ids == 100 + n
        for name in ("best", "positives", "labels", "boxes", "inputs"):
            assert (getattr(together, name)[rows] == getattr(alone, name)).all()


def test_groups(dataset):
    objects = [(3, (4, 4, 8, 8), 0), (7, (16, 16, 7, 7), 0), (3, (0, 0, 30, 30), 0), (3, (2, 2, 20, 5), 0)]
    found = coverage(dataset((32, 32, objects)), SQUARES, PLAIN, MatchSpec())
    groups = {kind: [(g.name, g.objects) for g in found.by(kind)] for kind in ("size", "ratio", "class")}
    assert groups["size"] == [("under 8 px", 1), ("8 to 16 px", 2), ("16 to 32 px", 1)]
    assert groups["ratio"] == [("under 0.33", 1), ("0.67 to 1.50", 3)]
    assert groups["class"] == [("car", 3), ("bird", 1)]
    cars = found.by("class")[0]
    assert cars.reached == pytest.approx(found.reached[found.labels == 0].mean())
    assert cars.best == pytest.approx(np.median(found.best[found.labels == 0]))
    with pytest.raises(ValueError, match="found 'colour', expected 'size', 'ratio' or 'class'"):
        found.by("colour")


@pytest.mark.parametrize("images", [[], [(32, 32, [])], [(32, 32, [(3, (0, 0, 9, 9), 1)])]])
def test_no_objects(dataset, images):
    found = coverage(dataset(*images), SQUARES, PLAIN, MatchSpec())
    assert len(found.best) == len(found.misses()) == 0
    assert found.by("size") == found.by("class") == []
    assert f"0 in {len(images)} images" in found.report()
    assert "no objects: nothing to reach" in found.report()


# Two levels: size 16 every 4 px, size 64 every 32 px. A box for each kind of miss, and what mends it.
TWO = AnchorSpec(sizes=((16.0,), (64.0,)), ratios=(1.0,), strides=(4, 32))
MISSES = {
    "stride": ((80, 80, 64, 64), replace(TWO, strides=(4, 16)), "anchor size 64 on a stride finer than 32 px"),
    "size": (
        (113, 113, 30, 30),
        replace(TWO, sizes=((16.0, 30.0), (64.0, 64.0))),
        "one more anchor size, near 30.0 px",
    ),
    "ratio": ((112, 124, 32, 8), replace(TWO, ratios=(1.0, 0.25)), "an anchor ratio near 0.25"),
    "shape": (
        (88, 118, 80, 20),
        replace(TWO, sizes=((16.0, 40.0), (64.0, 64.0)), ratios=(1.0, 0.25)),
        "one more anchor size, near 40.0 px, and a ratio near 0.25",
    ),
    "grid": (
        (8, 8, 4, 4),
        AnchorSpec(sizes=((4.0,), (64.0,)), ratios=(1.0,), strides=(1, 32)),
        "a stride finer than 4 px, or an input 2.7 times as large",
    ),
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_each_miss_has_its_remedy_and_the_remedy_helps(dataset, remedy):
    box, mended, words = MISSES[remedy]
    data = dataset((256, 256, [(7, box, 0), (3, (8, 8, 16, 16), 0)]))
    found = coverage(data, TWO, PLAIN, MatchSpec())
    assert found.misses().tolist() == [0]
    assert found.remedies(found.misses()) == [remedy]
    assert found.advice(0) == words
    report = found.report()
    assert f"1  {REMEDIES[remedy]} (sizes {found.sizes[0]:.0f} px" in report
    width, height = box[2:]
    named = f"image 100, annotation 1: bird {width:.1f} × {height:.1f} px, best IoU {found.best[0]:.2f}, positives "
    assert named in report
    assert report.endswith(words)
    assert coverage(data, mended, PLAIN, MatchSpec()).reached[0]


def test_smaller_and_larger_are_told_apart(dataset):
    objects = [(3, (4, 4, 8, 8), 0), (7, (0, 0, 120, 120), 0)]
    spec = AnchorSpec(sizes=((20.0,),), ratios=(1.0,), strides=(4,))
    found = coverage(dataset((256, 256, objects)), spec, PLAIN, MatchSpec())
    assert [found.advice(row) for row in (0, 1)] == [
        "a smaller anchor size, near 8.0 px",
        "a larger anchor size, near 120.0 px",
    ]


def test_the_report_names_as_many_objects_as_asked_for(dataset):
    data = dataset((96, 96, [(3, (1 + 9 * k, 2, 4, 4), 0) for k in range(8)]))
    found = coverage(data, replace(SQUARES, sizes=((60.0,),)), PLAIN, MatchSpec())
    assert found.report(worst=3).count("annotation") == 3
    assert "annotation" not in found.report(worst=0)
    assert str(found).count("annotation") == 8
    assert "low-quality matches on" in str(found)
    reached = coverage(data, replace(SQUARES, sizes=((4.0,),), strides=(1,)), PLAIN, MatchSpec())
    assert "every object has an anchor that reaches it" in str(reached)


@given(st.floats(2, 300), st.floats(0.1, 10), st.floats(0.2, 0.9), st.sampled_from([1, 4, 8, 32]))
def test_a_box_is_reached_from_there_on(width, ratio, high, stride):
    sides = np.array([width, width * ratio])
    w, h = sides * reachable_from(sides, high, stride)
    box = torch.tensor([[stride / 2 - w / 2, stride / 2 - h / 2, stride / 2 + w / 2, stride / 2 + h / 2]])
    anchor = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2]])
    assert box_iou(box.double(), anchor.double()).item() == pytest.approx(high)


def test_a_square_needs_2_7_strides():
    assert reachable_from(np.array([10.0, 10.0]), 0.5, 10) == pytest.approx(2.72, abs=0.01)
    assert reachable_from(np.array([10.0, 10.0]), 1.0, 10) == float("inf")


@given(st.tuples(*[st.integers(0, 60)] * 2), st.tuples(*[st.integers(1, 70)] * 2), st.sampled_from([4, 8, 16]))
def test_the_nearest_grid_point_is_the_best_one(corner, sides, stride):
    box = xywh_to_xyxy(torch.tensor([[*corner, *sides]], dtype=torch.float64))
    cell = cell_anchors([5, 12, 40], [0.3, 1.0, 2.0]).double()
    everywhere = grid_anchors(cell, (-(-64 // stride),) * 2, (stride, stride))
    inputs = torch.tensor([[64, 64]])
    parts = tuple(v[:, None] for v in xyxy_to_cxcywh(box).unbind(1))
    found = module._placed_iou(parts, tuple(xyxy_to_cxcywh(cell)[:, 2:].unbind(1)), stride, inputs)
    torch.testing.assert_close(found.amax(), box_iou(box, everywhere).amax())


def test_errors_say_what_is_wrong_with_the_anchors(dataset):
    data = dataset((32, 32, [(3, (4, 4, 8, 8), 0)]))
    with pytest.raises(ValueError, match="found 1 levels of sizes and 2 strides"):
        coverage(data, replace(SQUARES, strides=(8, 16)), PLAIN, MatchSpec())
    with pytest.raises(ValueError, match=r"ratios \(\), expected some of each"):
        coverage(data, replace(SQUARES, ratios=()), PLAIN, MatchSpec())
    with pytest.raises(ValueError, match="expected some of each"):
        coverage(data, AnchorSpec(sizes=((),), strides=(8,)), PLAIN, MatchSpec())
