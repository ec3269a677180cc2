import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.ops.masks import decode_rles, masks_to_boxes
from course_lib.panoptic.format import read_ids
from course_lib.panoptic.fusion import FusionSpec, fuse, merge_predictions
from tests.panoptic.shared import PANOPTIC, needs_shared

SPEC = FusionSpec(stuff_area=2)


def row(*pixels) -> torch.Tensor:
    """A mask of one row of eight pixels."""
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[0, list(pixels)] = True
    return mask


def fused(masks, scores, semantic=(0,) * 8, spec=SPEC, **options):
    stacked = torch.stack(masks) if masks else torch.zeros(0, 1, 8, dtype=torch.bool)
    labels = torch.arange(10, 10 + len(masks))
    return fuse(stacked, torch.tensor(scores), labels, torch.tensor([semantic]), spec=spec, **options)


def test_the_surer_instance_takes_the_pixels():
    canvas = fused([row(0, 1, 2, 3), row(2, 3, 4, 5)], [0.6, 0.9])
    assert canvas.panoptic.tolist() == [[2, 2, 1, 1, 1, 1, 0, 0]]
    assert canvas.segments == [
        {"id": 1, "isthing": True, "label": 11, "area": 4, "score": pytest.approx(0.9), "instance": 1},
        {"id": 2, "isthing": True, "label": 10, "area": 2, "score": pytest.approx(0.6), "instance": 0},
    ]


def test_one_that_is_mostly_taken_is_left_out():
    """Three of five pixels taken is more than half; two of four is not (strictly)."""
    assert fused([row(0, 1, 2), row(0, 1, 2, 3, 4)], [0.9, 0.8]).panoptic.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    assert fused([row(0, 1, 2), row(1, 2, 3, 4)], [0.9, 0.8]).panoptic.tolist() == [[1, 1, 1, 2, 2, 0, 0, 0]]


def test_unsure_and_empty_instances():
    canvas = fused([row(0, 1), row(), row(2, 3), row(4)], [0.5, 0.9, 0.49999, 0.7])
    assert canvas.panoptic.tolist() == [[2, 2, 0, 0, 1, 0, 0, 0]]  # 0.5 itself is enough
    assert [s["instance"] for s in canvas.segments] == [3, 0]


def test_stuff_fills_what_is_left():
    canvas = fused([row(0, 1)], [0.9], semantic=(3, 3, 3, 3, 1, 2, 2, 0))
    # Class 1 has one pixel, too few; 0 says "a thing", and none is there: both stay void.
    assert canvas.panoptic.tolist() == [[1, 1, 3, 3, 0, 2, 2, 0]]
    assert canvas.segments[1:] == [
        {"id": 2, "isthing": False, "label": 2, "area": 2},
        {"id": 3, "isthing": False, "label": 3, "area": 2},
    ]


def test_without_instances_without_stuff():
    assert fused([], [], semantic=(5,) * 8).panoptic.tolist() == [[1] * 8]
    canvas = fused([], [])
    assert canvas.panoptic.tolist() == [[0] * 8]
    assert canvas.panoptic.dtype is torch.int32
    assert canvas.segments == []


def test_an_area_limit_of_zero_makes_no_empty_segment():
    spec = FusionSpec(stuff_area=0)
    assert len(fused([], [], semantic=(3,) * 8, spec=spec).segments) == 1
    stuff = torch.stack([row(), row(0)])
    empty = torch.zeros(0, 1, 8, dtype=torch.bool)
    canvas = merge_predictions(empty, torch.zeros(0), torch.zeros(0), stuff, torch.tensor([4, 5]), spec=spec)
    assert [s["label"] for s in canvas.segments] == [5]


def test_merged_stuff_comes_in_its_order():
    stuff = torch.stack([row(2, 3, 4), row(3, 4, 5, 6)])
    things = row(0, 1)[None], torch.tensor([0.9]), torch.tensor([8])
    assert merge_predictions(*things, stuff, torch.tensor([7, 6]), spec=SPEC).panoptic.tolist() == [
        [1, 1, 2, 2, 2, 3, 3, 0]
    ]
    assert merge_predictions(*things, stuff.flip(0), torch.tensor([6, 7]), spec=SPEC).panoptic.tolist() == [
        [1, 1, 0, 2, 2, 2, 2, 0]
    ]


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_against_the_description(seed, count, overlap):
    """Mask by mask over the whole image, as the paper tells it; and the boxes change nothing."""
    generator = torch.Generator().manual_seed(seed)
    centres, radii = torch.rand(count, 2, generator=generator) * 24, torch.rand(count, 1, generator=generator) * 10
    grid = torch.stack(torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij"), -1)
    masks = ((grid[None] - centres[:, None, None]) ** 2).sum(-1) < radii[:, :, None] ** 2
    scores, labels = torch.rand(count, generator=generator), torch.randint(0, 5, (count,), generator=generator)
    semantic = torch.randint(0, 4, (20, 24), generator=generator)
    spec = FusionSpec(overlap=overlap, stuff_area=90)
    wanted, next_id = torch.zeros(20, 24, dtype=torch.int32), 1
    for i in scores.argsort(descending=True):
        area, taken = masks[i].sum(), (masks[i] & (wanted > 0)).sum()
        if scores[i] >= 0.5 and area > taken and taken / area <= overlap:
            wanted[masks[i] & (wanted == 0)] = next_id
            next_id += 1
    for label in (1, 2, 3):
        free = (semantic == label) & (wanted == 0)
        if free.sum() >= 90:
            wanted[free] = next_id
            next_id += 1
    canvas = fuse(masks, scores, labels, semantic, spec=spec)
    assert torch.equal(canvas.panoptic, wanted)
    assert all(s["area"] == (canvas.panoptic == s["id"]).sum() > 0 for s in canvas.segments)
    boxed = fuse(masks, scores, labels, semantic, spec=spec, boxes=masks_to_boxes(masks))
    assert torch.equal(boxed.panoptic, wanted)
    assert boxed.segments == canvas.segments


@needs_shared
def test_the_reference_merge():
    """20 COCO images: the same segments as panopticapi's merge, by category and mask; its ids are random."""
    folder = PANOPTIC / "merge_heuristic"
    read = lambda name: json.loads((folder / name).read_text())  # noqa: E731
    stuff_categories = {c["id"] for c in read("panoptic_categories.json") if not c["isthing"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in read("images.json")["images"]}
    instances, semantic = read("instance_predictions.json"), read("semantic_predictions.json")
    total = 0
    for annotation in read("expected_merged_default.json")["annotations"]:
        image = annotation["image_id"]
        things = [r for r in instances if r["image_id"] == image]
        stuff = [r for r in semantic if r["image_id"] == image and r["category_id"] in stuff_categories]
        masks, stuff_masks = (decode_rles([r["segmentation"] for r in rs], sizes[image]) for rs in (things, stuff))
        labels, stuff_labels = (torch.tensor([r["category_id"] for r in rs]).long() for rs in (things, stuff))
        scores = torch.tensor([r["score"] for r in things], dtype=torch.float64)
        canvas = merge_predictions(masks, scores, labels, stuff_masks, stuff_labels, spec=FusionSpec())
        ids = read_ids(folder / "expected_merged_default" / annotation["file_name"])
        wanted = sorted((s["category_id"], (ids == s["id"]).tobytes()) for s in annotation["segments_info"])
        found = canvas.panoptic.numpy()
        assert sorted((s["label"], (found == s["id"]).tobytes()) for s in canvas.segments) == wanted
        total += len(wanted)
    assert total == 166


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_the_order_of_the_input_does_not_matter(seed, count):
    """Only the scores do, which are all different here; every pixel has one id at most, and areas are counted right."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 8, 9, generator=generator) < 0.4
    scores = torch.randperm(count, generator=generator) / count
    labels = torch.randint(0, 5, (count,), generator=generator)
    semantic = torch.randint(0, 4, (8, 9), generator=generator)
    spec = FusionSpec(score=0.1, stuff_area=3)
    canvas = fuse(masks, scores, labels, semantic, spec=spec)
    shuffled = torch.randperm(count, generator=generator)
    other = fuse(masks[shuffled], scores[shuffled], labels[shuffled], semantic, spec=spec)
    assert torch.equal(canvas.panoptic, other.panoptic)
    for a, b in zip(canvas.segments, other.segments, strict=True):
        instance = {"instance": int(shuffled[b["instance"]])} if b["isthing"] else {}
        assert a == b | instance
    assert sum(s["area"] for s in canvas.segments) + (canvas.panoptic == 0).sum() == 72
