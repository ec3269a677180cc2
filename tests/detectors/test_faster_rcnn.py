"""The second stage: what it learns from, its losses, and from scored proposals to detections."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from course_lib.detectors.faster_rcnn import BoxDetectSpec, BoxHead, BoxSpec, Samples, draw_samples, to_output
from course_lib.detectors.faster_rcnn import select_detections as select
from course_lib.detectors.presets.faster_rcnn import BoxHeadSpec
from course_lib.nn.preprocess import RESIZES, InputSpec
from course_lib.nn.roi import PoolSpec, RoIPool
from course_lib.ops.coder import encode
from course_lib.ops.matching import BACKGROUND
from tests.detectors.models import EMPTY, SMALL_FASTER_RCNN, target
from tests.nn.randomise import random_images


def small(num_classes=3, *, seed=0, **changes):
    torch.manual_seed(seed)
    return replace(SMALL_FASTER_RCNN, **changes).build(num_classes)


ONE = target([[8, 8, 40, 48]], [1])
PICTURE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
NAMES = {"rpn_objectness", "rpn_bbox_regression", "classification", "bbox_regression"}

# ---- samples ----------------------------------------------------------------------------------------------------


def sample(proposals, boxes, labels, *, seed=0, **spec):
    return draw_samples(
        torch.tensor(proposals, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels).long(),
        BoxSpec(**spec),
        torch.Generator().manual_seed(seed),
    )


def test_samples_by_hand():
    found = sample(
        [[0, 0, 10, 6], [0, 0, 10, 4], [20, 20, 30, 28], [60, 60, 70, 70]],  # IoU 0.6, 0.4, 0.8, none
        [[0, 0, 10, 10], [20, 20, 30, 30]],
        [7, 5],
        samples=6,
        positive_fraction=1.0,
    )
    drawn = {tuple(b): (x, o) for b, x, o in zip(found.boxes.tolist(), found.labels.tolist(), found.objects.tolist())}
    assert drawn == {
        (0, 0, 10, 6): (7, 0),
        (0, 0, 10, 10): (7, 0),  # the objects' own boxes are candidates
        (20, 20, 30, 28): (5, 1),
        (20, 20, 30, 30): (5, 1),
        (0, 0, 10, 4): (BACKGROUND, BACKGROUND),
        (60, 60, 70, 70): (BACKGROUND, BACKGROUND),
    }
    assert (found.labels[:4] >= 0).all()  # positives first


def test_the_sample_is_balanced():
    proposals = [[0, 0, 10, 10]] * 20 + [[50, 50, 60, 60]] * 50
    found = sample(proposals, [[0, 0, 10, 10]], [2], samples=16, positive_fraction=0.25)
    assert (found.labels == 2).sum() == 4
    assert (found.labels == BACKGROUND).sum() == 12
    assert sample(proposals, [[0, 0, 10, 10]], [2], samples=16, seed=0).boxes.shape == (16, 4)


def test_chance_is_the_generators():
    proposals = torch.rand(50, 4).cumsum(1).tolist()
    one, same, other = (sample(proposals, [], [], samples=9, seed=s).boxes for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("proposals, count", [([[0, 0, 5, 5]], 1), ([], 0)])
def test_samples_without_objects(proposals, count):
    found = sample(proposals, [], [])
    assert found.boxes.shape == (count, 4)
    assert found.labels.tolist() == found.objects.tolist() == [BACKGROUND] * count


# ---- losses -----------------------------------------------------------------------------------------------------


def losses_of(logits, deltas, samples, boxes, **spec):
    model = small(2, boxes=BoxSpec(**spec))
    found = model.box_losses(torch.tensor(logits).reshape(-1, 3), deltas, samples, boxes)
    return found["classification"].item(), found["bbox_regression"].item()


def test_losses_by_hand():
    box, other = torch.tensor([0.0, 0, 10, 10]), torch.tensor([0.0, 0, 10, 11])
    samples = [Samples(torch.stack((box, box)), torch.tensor([1, BACKGROUND]), torch.tensor([0, BACKGROUND]))]
    deltas = torch.zeros(2, 2, 4)
    deltas[:, 0] = 99.0  # of the other class: does not count, and background has no box
    classification, regression = losses_of([[0.0, 1.0, 0.0], [0.0, 0.0, 3.0]], deltas, samples, [other[None]])
    first = math.log(2 + math.e) - 1
    second = math.log(2 + math.exp(3)) - 3
    assert classification == pytest.approx((first + second) / 2)
    wanted = encode(other, box, (10, 10, 5, 5)).abs().sum().item()
    assert wanted == pytest.approx(10 * 0.05 + 5 * math.log(1.1), rel=1e-5)
    assert regression == pytest.approx(wanted / 2, rel=1e-5)
    doubled = losses_of([[0.0, 1.0, 0.0], [0.0, 0.0, 3.0]], deltas, samples, [other[None]], box_weight=2.0)
    assert doubled[1] == pytest.approx(wanted, rel=1e-5)


def test_without_any_sample():
    nothing = Samples(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert losses_of([], torch.zeros(0, 2, 4), [nothing], [torch.zeros(0, 4)]) == (0, 0)


def test_training_step():
    model = small().train()
    losses = model([PICTURE, PICTURE], [ONE, EMPTY])
    assert set(losses) == NAMES
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.rpn.head.objectness.weight.grad.abs().sum() > 0
    of_classes = model.box_head.box_predictor.weight.grad.unflatten(0, (3, 4)).abs().sum((1, 2))
    assert (of_classes > 0).tolist() == [False, True, False]


def test_images_without_objects_are_ordinary():
    losses = small().train()([PICTURE, PICTURE], [EMPTY, EMPTY])
    assert losses["bbox_regression"].item() == losses["rpn_bbox_regression"].item() == 0
    assert losses["classification"].item() > 0
    sum(losses.values()).backward()


def test_everything_in_one_place():
    twenty = target([[8, 8, 40, 48]] * 20, list(range(3)) * 6 + [0, 1])
    losses = small().train()([PICTURE], [twenty])
    assert all(torch.isfinite(x) for x in losses.values())


def test_a_step_is_repeated_by_its_generator():
    model = small().train()
    again = copy.deepcopy(model)
    many = target([[4.0 * i, 4 * i, 4 * i + 20, 4 * i + 20] for i in range(10)], [0] * 10)
    found = [[x.item() for x in m([PICTURE, PICTURE], [many, ONE]).values()] for m in (model, again)]
    assert found[0] == found[1]
    model.generator.manual_seed(5)
    assert [x.item() for x in model([PICTURE, PICTURE], [many, ONE]).values()] != found[0]


def test_targets_are_checked():
    with pytest.raises(ValueError, match="training needs one target per image: 1 images, targets None"):
        small().train()([PICTURE])
    with pytest.raises(ValueError, match=r"image 0: labels \[3\], expected 0 … 2"):
        small().train()([PICTURE], [target([[1, 1, 5, 5]], [3])])


def test_as_many_levels_of_anchors_as_of_the_pyramid():
    anchors = replace(SMALL_FASTER_RCNN.anchors, sizes=((8.0,), (16.0,)), strides=(8, 16))
    with pytest.raises(ValueError, match="2 levels of anchors for a pyramid of 3 levels"):
        small(anchors=anchors)


# ---- detections -------------------------------------------------------------------------------------------------


def detect(scores, proposals, *, deltas=None, size=(20, 20), **spec):
    """Detections for probabilities (R, K + 1) and, but for the deltas, the proposals as boxes."""
    logits, proposals = torch.tensor(scores).clamp(min=1e-9).log(), torch.tensor(proposals, dtype=torch.float32)
    deltas = torch.zeros(len(proposals), logits.shape[1] - 1, 4) if deltas is None else deltas
    return select(logits, deltas, proposals, size, (10, 10, 5, 5), BoxDetectSpec(**spec))


A, B = [2.0, 2, 12, 12], [0.0, 0, 20, 10]


def test_a_proposal_may_be_of_several_classes():
    found = detect([[0.3, 0.6, 0.1], [0.02, 0.03, 0.95]], [A, B])
    assert found["labels"].tolist() == [1, 0]
    assert found["scores"].tolist() == pytest.approx([0.6, 0.3])
    assert found["boxes"].tolist() == [A, A]


def test_each_class_has_its_own_box():
    deltas = torch.zeros(1, 2, 4)
    deltas[0, 1] = torch.tensor([1.0, 0, 5 * math.log(2), 0])  # by a tenth to the right, and twice as wide
    found = detect([[0.4, 0.5, 0.1]], [A], deltas=deltas)
    assert found["boxes"].tolist() == [pytest.approx([0, 2, 18, 12]), A]  # the centre at 8, cut at the border


def test_nms_is_by_class():
    found = detect([[0.6, 0.3, 0.1], [0.7, 0.01, 0.29]], [A, A])
    assert found["labels"].tolist() == [0, 1]
    assert found["scores"].tolist() == pytest.approx([0.7, 0.3])
    assert len(detect([[0.6, 0.0, 0.4], [0.7, 0.0, 0.3]], [A, B], nms=0.01)["boxes"]) == 1


def test_limits():
    proposals = [[2.0 * i, 0, 2 * i + 1, 1] for i in range(9)]
    scores = [[0.1 * i, 1 - 0.1 * i] for i in range(9)]
    assert detect(scores, proposals, detections=3)["boxes"][:, 0].tolist() == [16, 14, 12]
    assert len(detect(scores, proposals, score=0.55, size=(20, 40))["boxes"]) == 3


def test_small_boxes_are_dropped_before_nms_where_asked():
    outside = [-30.0, 0, -10, 20]
    assert detect([[0.9, 0.1]], [outside], min_size=1e-2)["boxes"].shape == (0, 4)
    assert detect([[0.9, 0.1]], [outside])["boxes"].tolist() == [[0, 0, 0, 20]]


def test_empty_boxes_do_not_leave_the_model():
    found = {"boxes": torch.tensor([[0.0, 0, 0, 20], A]), "labels": torch.tensor([0, 1]), "scores": torch.ones(2)}
    out = to_output(found, (20, 20), (40, 60))
    assert out["boxes"].tolist() == [[6, 4, 36, 24]]
    assert out["labels"].tolist() == [1]


def test_nothing_found():
    found = detect([[0.01, 0.99]], [A])
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
    model = small(detect=BoxDetectSpec(score=0.9)).eval()
    with torch.no_grad():
        assert [len(x["boxes"]) for x in model([PICTURE, PICTURE])] == [0, 0]


def test_no_proposals():
    model = small().eval()
    with torch.no_grad():
        features = model.fpn(model.backbone(PICTURE[None]))
        (found,) = model.detect(features, [torch.zeros(0, 4)], [(64, 64)])
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}


@pytest.mark.parametrize("resize", RESIZES)
def test_detections_lie_in_the_image_that_was_given(resize):
    model = small(input=InputSpec(resize=resize, size=(64, 96))).eval()
    sizes = [(40, 70), (90, 33), (1, 1)]
    with torch.no_grad():
        found = model(random_images(*sizes))
    for output, (height, width) in zip(found, sizes, strict=True):
        boxes, scores = output["boxes"], output["scores"]
        assert 0 < len(boxes) <= 100
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert set(output["labels"].tolist()) <= {0, 1, 2}


def test_output_sizes_and_a_batch_as_its_images_one_by_one():
    model = small().eval()
    images = random_images((64, 64), (64, 64), seed=4)
    with torch.no_grad():
        together, alone, tensor = model(images), [model([x])[0] for x in images], model(torch.stack(images))
        doubled = model(images, output_sizes=[(128, 192)] * 2)
    for a, b, c, d in zip(together, alone, tensor, doubled):
        for key in a:
            torch.testing.assert_close(a[key], b[key])
            torch.testing.assert_close(a[key], c[key])
        torch.testing.assert_close(d["boxes"], a["boxes"] * torch.tensor([3.0, 2, 3, 2]))


# ---- the box head -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", [BoxHeadSpec(), BoxHeadSpec(convs=4, norm="batch", widths=(1024,)), BoxHeadSpec(convs=1)]
)
def test_layers_of_the_box_head(spec):
    pool = RoIPool(PoolSpec(), (8, 16))
    head = BoxHead(4, num_classes=5, pool=pool, convs=spec.convs, norm=spec.norm, widths=spec.widths)
    logits, deltas = head([torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)], [torch.tensor([[0.0, 0, 30, 20], A])])
    assert logits.shape == (2, 6)
    assert deltas.shape == (2, 5, 4)
    assert len(head.convs) == spec.convs
    assert [fc.out_features for fc in head.fcs] == list(spec.widths)
    assert head.fcs[0].in_features == 4 * 49
    assert all((conv[0].bias is None) == (spec.norm is not None) for conv in head.convs)
    assert all(p.abs().sum() == 0 for n, p in head.named_parameters() if n.endswith("bias") and "convs" not in n)


def test_regions_are_cut_from_the_backbones_levels_alone():
    """The pooled level of large anchors gives proposals but no regions."""
    torch.manual_seed(0)
    anchors = replace(SMALL_FASTER_RCNN.anchors, sizes=((8.0,), (16.0,), (32.0,), (64.0,)), strides=(8, 16, 32, 64))
    model = small(fpn_extra="p6_pool", anchors=anchors).eval()
    assert model.fpn.num_levels == 4
    assert model.box_head.pool.strides == (8, 16, 32)
    with torch.no_grad():
        assert len(model([torch.rand(3, 128, 128)])[0]["boxes"]) > 0
