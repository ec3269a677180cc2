"""R-CNN and Fast R-CNN on a Faster R-CNN's parts: where they must agree, they do."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from course_lib.detectors.fast_rcnn import detect_fast_rcnn, detect_rcnn
from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.detectors.presets import get_preset
from course_lib.nn.preprocess import InputSpec, rescale_boxes

SIDE = 112


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    torch.manual_seed(0)
    tiny = get_preset("tiny", family="faster_rcnn")
    detect = replace(tiny.detect, score=0.0)
    found = replace(tiny, detect=detect, input=InputSpec(resize="fit", size=(SIDE, SIDE), divisor=16)).build(3)
    torch.nn.init.normal_(found.box_head.box_predictor.weight, std=0.05)  # boxes that move
    torch.nn.init.normal_(found.box_head.class_predictor.weight, std=0.2)  # scores that differ
    return found.eval()


def same(found: list[dict], right: list[dict]) -> bool:
    return all(torch.allclose(a[key], b[key], atol=1e-3) for a, b in zip(found, right) for key in right[0])


# ---- Fast R-CNN ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_on_the_rpns_proposals_it_is_faster_rcnn(model: FasterRCNN) -> None:
    images = [torch.rand(3, SIDE, SIDE), torch.rand(3, 2 * SIDE, SIDE)]  # the second is made half as large
    batch = model.preprocess(images)
    proposals = model.propose(model.fpn(model.backbone(batch.images)), batch)
    given = [rescale_boxes(p, *sizes) for p, *sizes in zip(proposals, batch.sizes, batch.original_sizes)]
    assert same(detect_fast_rcnn(model, images, given), model(images))


@torch.no_grad()
@pytest.mark.parametrize("detect", [detect_fast_rcnn, partial(detect_rcnn, side=SIDE)])
def test_an_image_without_proposals_has_no_detections(model: FasterRCNN, detect) -> None:
    some = torch.tensor([[5.0, 5, 60, 60]])
    empty, found = detect(model, [torch.rand(3, 64, 64), torch.rand(3, 64, 64)], [some[:0], some])
    assert empty["boxes"].shape == (0, 4)
    assert len(found["boxes"]) == 3  # a class each


# ---- R-CNN --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_proposal_of_the_whole_image_is_seen_by_both_alike(model: FasterRCNN) -> None:
    images, whole = [torch.rand(3, SIDE, SIDE)], [torch.tensor([[0.0, 0, SIDE, SIDE]])]
    found = detect_rcnn(model, images, whole, side=SIDE)
    assert len(found[0]["boxes"]) == 3
    assert same(found, detect_fast_rcnn(model, images, whole))


@torch.no_grad()
def test_each_proposal_is_a_pass_of_its_own(model: FasterRCNN) -> None:
    images, boxes = [torch.rand(3, SIDE, SIDE)] * 2, torch.rand(2, 7, 2) * 50
    proposals = list(torch.cat((boxes, boxes + 40), 2))
    seen: list[Tensor] = []
    hook = model.backbone.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    found = detect_rcnn(model, images, proposals, side=32, crops_at_once=5)
    assert [tuple(x.shape) for x in seen] == [(5, 3, 32, 32), (2, 3, 32, 32)] * 2
    seen.clear()
    detect_fast_rcnn(model, images, proposals)
    hook.remove()
    assert [tuple(x.shape) for x in seen] == [(2, 3, SIDE, SIDE)]
    assert same(detect_rcnn(model, images, proposals, side=32), found)


# ---- training -----------------------------------------------------------------------------------------------------


def test_the_second_stage_learns_from_any_proposals(model: FasterRCNN) -> None:
    maps = [torch.rand(1, 64, SIDE // s, SIDE // s, requires_grad=True) for s in (4, 8, 16, 32)]
    boxes, labels = [torch.tensor([[10.0, 10, 50, 60]])], [torch.tensor([2])]
    near, far = torch.tensor([[12.0, 10, 50, 60]]), torch.tensor([[70.0, 70, 90, 90]])
    losses, samples = model.learn_proposals(maps, [torch.cat((far, near))], boxes, labels)
    assert sorted(samples[0].labels.tolist()) == [-1, 2, 2]  # far, near and the object itself
    assert set(losses) == {"classification", "bbox_regression"}
    sum(losses.values()).backward()
    assert maps[0].grad.abs().sum() > 0  # Fast R-CNN trains the backbone too
    model.zero_grad()
    nothing, samples = model.learn_proposals(maps, [torch.zeros(0, 4)], [torch.zeros(0, 4)], [labels[0][:0]])
    assert samples[0].labels.shape == (0,)
    assert sum(nothing.values()) == 0
