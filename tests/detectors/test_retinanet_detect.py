"""From dense outputs to a short list of detections."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.detectors.retinanet import DetectSpec, LossSpec, select_candidates
from course_lib.nn.preprocess import RESIZES, InputSpec
from course_lib.ops.anchors import cell_anchors, grid_anchors
from course_lib.ops.coder import decode
from tests.detectors.models import SMALL, small, target


def logit(p):
    return math.log(p / (1 - p))


def naive(logits, deltas, anchors, score, topk):
    """Every sigmoid, every box, then the threshold: what the fast way must give."""
    scores = logits.sigmoid()
    boxes = decode(deltas, anchors)
    anchor, label = (scores > score).nonzero(as_tuple=True)
    order = scores[anchor, label].argsort(descending=True, stable=True)[:topk]
    return boxes[anchor[order]], scores[anchor, label][order], label[order]


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.3, 0.9]), st.sampled_from([1, 7, 1000]))
def test_candidates_are_the_naive_ones(seed, score, topk):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(12, 3, generator=generator) * 3 - 1
    deltas = torch.randn(12, 4, generator=generator)
    corner = torch.rand(12, 2, generator=generator) * 20
    anchors = torch.cat((corner, corner + 5), 1)
    found = select_candidates(logits, deltas, anchors, score=score, topk=topk)
    for a, b in zip(found, naive(logits, deltas, anchors, score, topk)):
        torch.testing.assert_close(a, b)


def test_the_threshold_is_exact_in_floats():
    """Scores one step of float32 around it: strictly above counts, as sigmoid says."""
    middle = torch.tensor(logit(0.05))
    logits = torch.stack([middle + i * 2e-7 for i in range(-20, 21)])[:, None]
    anchors = torch.tensor([[0.0, 0, 1, 1]]).expand(len(logits), 4)
    boxes, scores, labels = select_candidates(logits, torch.zeros(len(logits), 4), anchors, score=0.05, topk=100)
    assert len(boxes) == len(scores) == len(labels) == int((logits.sigmoid() > 0.05).sum())
    assert 0 < len(scores) < 41
    assert (scores > 0.05).all()


def test_no_candidate():
    found = select_candidates(torch.full((5, 2), -9.0), torch.zeros(5, 4), torch.ones(5, 4), score=0.05, topk=10)
    assert [tuple(x.shape) for x in found] == [(0, 4), (0,), (0,)]


def detect(logits, boxes, *, size=(20, 20), output=None, **spec):
    """Detections of one level whose anchors are `boxes`, with deltas 0; logits (A, K)."""
    model = small(2, detect=DetectSpec(**spec))
    boxes = torch.tensor(boxes, dtype=torch.float32)
    return model.detect([torch.tensor(logits)], [torch.zeros(len(boxes), 4)], [boxes], size, output or size)


def test_nms_is_by_class():
    box = [2.0, 2, 12, 12]
    found = detect([[1.0, 3.0], [2.0, -9.0], [-9.0, -9.0]], [box, box, box])
    assert found["labels"].tolist() == [1, 0]
    assert found["scores"].tolist() == pytest.approx([torch.tensor(v).sigmoid().item() for v in (3.0, 2.0)])
    assert found["boxes"].tolist() == [box, box]


def test_limits():
    boxes = [[2.0 * i, 0, 2 * i + 1, 1] for i in range(9)]
    logits = [[i / 2, -9.0] for i in range(9)]
    found = detect(logits, boxes, detections=3)
    assert found["boxes"][:, 0].tolist() == [16, 14, 12]
    assert len(detect(logits, boxes, topk=5)["boxes"]) == 5
    assert len(detect(logits, boxes, score=0.9)["boxes"]) == 4  # sigmoid(2.5) = 0.924 and above


def test_clipping_before_or_after_nms():
    # Cut at the border the two are the same box; uncut their IoU is 400 / 2400.
    boxes, logits = [[-100.0, 0, 20, 20], [0, 0, 20, 20]], [[2.0, -9.0], [1.0, -9.0]]
    assert detect(logits, boxes, clip="before_nms")["boxes"].tolist() == [[0, 0, 20, 20]]
    after = detect(logits, boxes, clip="after_nms", size=(20, 20), output=(10, 40))
    assert after["boxes"].tolist() == [[0, 0, 40, 10]] * 2


def test_boxes_wholly_outside():
    boxes, logits = [[-30.0, 0, -10, 20], [0, 0, 20, 20]], [[2.0, -9.0], [1.0, -9.0]]
    # As in Detectron2, dropped; as in torchvision, left as an empty box on the border.
    assert detect(logits, boxes, clip="after_nms")["boxes"].tolist() == [[0, 0, 20, 20]]
    assert detect(logits, boxes, clip="before_nms")["boxes"].tolist() == [[0, 0, 0, 20], [0, 0, 20, 20]]


def test_nothing_found():
    found = detect([[-9.0, -9.0]], [[0.0, 0, 5, 5]])
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}


def eager(**changes):
    """A small model that claims to see something everywhere."""
    model = small(**changes).eval()
    with torch.no_grad():
        model.class_head.predictor.bias.fill_(1.0)
        model.class_head.predictor.weight.normal_(std=0.5)
    return model


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("clip", ["before_nms", "after_nms"])
def test_detections_lie_in_the_image_that_was_given(resize, clip):
    model = eager(input=InputSpec(resize=resize, size=(64, 96)), detect=DetectSpec(clip=clip))
    generator = torch.Generator().manual_seed(0)
    sizes = [(40, 70), (90, 33), (1, 1)]
    with torch.no_grad():
        found = model([torch.rand(3, *size, generator=generator) for size in sizes])
    assert len(found) == 3
    for output, (height, width) in zip(found, sizes):
        boxes, scores = output["boxes"], output["scores"]
        assert 0 < len(boxes) <= 100
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width * (1 + 1e-6)
        assert boxes[:, 3].max() <= height * (1 + 1e-6)
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert output["labels"].dtype == torch.int64
        assert set(output["labels"].tolist()) <= {0, 1, 2}


def test_output_sizes():
    model = eager()
    image = torch.rand(3, 40, 60)
    with torch.no_grad():
        plain, doubled = model([image])[0], model([image], output_sizes=[(80, 180)])[0]
    torch.testing.assert_close(doubled["boxes"], plain["boxes"] * torch.tensor([3.0, 2, 3, 2]))
    assert torch.equal(doubled["labels"], plain["labels"])


@pytest.mark.parametrize("clip", ["before_nms", "after_nms"])
def test_a_batch_is_its_images_one_by_one(clip):
    model = eager(detect=DetectSpec(clip=clip))
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    with torch.no_grad():
        together, alone, tensor = model(images), [model([x])[0] for x in images], model(torch.stack(images))
    for a, b, c in zip(together, alone, tensor):
        for key in a:
            torch.testing.assert_close(a[key], b[key])
            torch.testing.assert_close(a[key], c[key])


def test_no_class_answers_at_the_start():
    """The prior: an untrained network finds nothing."""
    with torch.no_grad():
        assert len(small().eval()([torch.rand(3, 64, 64)])[0]["boxes"]) == 0


def test_anchors_are_those_of_the_grids_and_made_once():
    model = small()
    _, _, anchors = model.dense(torch.rand(1, 3, 64, 96))
    spec = SMALL.anchors
    for level, (stride, sizes) in enumerate(zip(spec.strides, spec.sizes)):
        cell = cell_anchors(sizes, spec.ratios)
        wanted = grid_anchors(cell, (64 // stride, 96 // stride), (stride, stride))
        assert torch.equal(anchors[level], wanted)
    assert model.dense(torch.rand(2, 3, 64, 96))[2] is anchors
    assert model.dense(torch.rand(2, 3, 32, 96))[2] is not anchors


def test_training_after_inference_mode():
    """Anchors made in inference mode are not inference tensors, which no later training step could use."""
    model = small(loss=LossSpec(box="giou", normalizer="batch"))
    images = [torch.rand(3, 64, 64)]
    with torch.inference_mode():
        model.eval()(images)
    sum(model.train()(images, [target([[2, 2, 20, 20]], [1])]).values()).backward()
    assert model.box_head.predictor.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("bad", [torch.rand(1, 8, 8), torch.rand(8, 8), torch.rand(3, 0, 8)])
def test_what_is_no_image(bad):
    with pytest.raises(ValueError, match="image 0 has shape"):
        small().eval()([bad])
