"""YOLOv3: which slot answers for what, what it costs, and what is detected."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.detectors.presets import get_preset
from course_lib.detectors.yolo import (
    PriorSpec,
    YOLODetectSpec,
    YOLOLossSpec,
    YOLOMatchSpec,
    responsible_slots,
)
from course_lib.nn.preprocess import InputSpec
from course_lib.ops.boxes import box_iou
from course_lib.ops.cells import decode_cells, grid_cells
from course_lib.ops.kmeans import shape_iou
from tests.detectors.models import EMPTY, SMALL, target

# Two levels of two priors each; for an input of 32×32 their grids are 4×4 and 2×2.
PRIORS = PriorSpec(shapes=(((4.0, 4.0), (4.0, 8.0)), ((16.0, 16.0), (24.0, 8.0))), strides=(8, 16))
GRIDS = ((4, 4), (2, 2))
CELLS = torch.cat([grid_cells(torch.tensor(s), g, k) for s, g, k in zip(PRIORS.shapes, GRIDS, PRIORS.strides)])
LN2 = math.log(2)


def objects(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def small(num_classes=3, *, seed=0, **changes):
    """A YOLO so small that every test may build its own, with weights from that seed."""
    torch.manual_seed(seed)
    preset = replace(
        get_preset("tiny", "yolo"),
        backbone=replace(SMALL.backbone, levels=("c3", "c4")),
        widths=(16, 16),
        priors=PRIORS,
        input=InputSpec(resize="none"),
    )
    return replace(preset, **changes).build(num_classes)


# Priors and slots


def test_priors_from_shapes():
    spec = PriorSpec.from_shapes(torch.tensor([[4.04, 4.0], [4, 8], [16, 16], [24, 8]]), (8, 16))
    assert spec == PRIORS
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"found {count} shapes, expected a multiple of the 2 levels"):
            PriorSpec.from_shapes(torch.ones(count, 2), (8, 16))


def slots(*boxes, extra=None):
    """(image, slot, object) of each match for one list of objects an image."""
    found = responsible_slots([objects(*b) for b in boxes], GRIDS, PRIORS, extra)
    return sorted(zip(*(x.tolist() for x in found)))


def test_slots_by_hand():
    # 4×4 with its centre in cell (row 1, column 2) of the fine level: slot (1 · 4 + 2) · 2.
    assert slots([[18, 8, 22, 12]]) == [(0, 12, 0)]
    # 24×8 in cell (row 1, column 0) of the coarse level, after the 32 slots of the fine one: 32 + (1 · 2) · 2 + 1.
    assert slots([[0, 18, 24, 26]]) == [(0, 37, 0)]
    # Two images, the second without objects, and a third.
    assert slots([[18, 8, 22, 12]], [], [[0, 18, 24, 26], [18, 8, 22, 12]]) == [(0, 12, 0), (2, 12, 2), (2, 37, 1)]


def test_a_centre_on_the_border():
    # On a line between cells it is in the one to the right and below; on the image's edge in the last one.
    assert slots([[6, 6, 10, 10]]) == [(0, 10, 0)]  # centre (8, 8): (1 · 4 + 1) · 2
    assert slots([[30, 30, 34, 34]]) == [(0, 30, 0)]  # centre (32, 32): (3 · 4 + 3) · 2
    assert slots([[-2, -2, 2, 2]]) == [(0, 0, 0)]


def test_extra_slots():
    # 4×6 fits 4×4 and 4×8 at 2/3 and 3/4; 16×16 and 24×8 at 24/256 and 24/192.
    box = [18, 7, 22, 13]
    assert slots([box]) == [(0, 13, 0)]
    assert slots([box], extra=0.6) == [(0, 12, 0), (0, 13, 0)]
    assert slots([box], extra=0.0) == [(0, 12, 0), (0, 13, 0), (0, 34, 0), (0, 35, 0)]
    # The best is taken also where it does not reach the threshold.
    assert slots([box], extra=0.8) == [(0, 13, 0)]


def test_two_objects_for_one_slot():
    exact, poor = [18, 8, 22, 12], [17.5, 8, 22.5, 12]
    assert slots([exact, poor]) == slots([exact, exact]) == [(0, 12, 0)]
    assert slots([poor, exact]) == [(0, 12, 1)]  # the shape that fits better
    # For 4×6 slot 12 is an extra of IoU 2/3; for 2×3 it is the best, though only of IoU 3/8.
    assert slots([[18, 7, 22, 13], [19, 8.5, 21, 11.5]], extra=0.6) == [(0, 12, 1), (0, 13, 0)]


def test_no_objects():
    found = responsible_slots([objects(), objects()], GRIDS, PRIORS)
    assert [x.shape for x in found] == [(0,)] * 3


def by_loops(boxes, extra):
    """The same rules, object by object, in Python's floats."""
    owners = {}
    shapes = torch.tensor(PRIORS.shapes, dtype=torch.float64).reshape(-1, 2)
    n = 0
    for image, rows in enumerate(boxes):
        for x1, y1, x2, y2 in rows.double().tolist():
            iou = shape_iou(torch.tensor([[x2 - x1, y2 - y1]], dtype=torch.float64), shapes)[0].tolist()
            for p, fit in enumerate(iou):
                best = iou.index(max(iou)) == p
                if best or (extra is not None and fit >= extra):
                    level, a = divmod(p, 2)
                    (h, w), stride = GRIDS[level], PRIORS.strides[level]
                    column = min(max(int((x1 + x2) / 2 / stride), 0), w - 1)
                    row = min(max(int((y1 + y2) / 2 / stride), 0), h - 1)
                    key = image, (0, 32)[level] + (row * w + column) * 2 + a
                    rank = best, fit
                    if key not in owners or rank > owners[key][0]:
                        owners[key] = rank, n
            n += 1
    return sorted((image, slot, n) for (image, slot), (_, n) in owners.items())


@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(0, 1000), st.sampled_from([None, 0.3, 0.6]))
def test_slots_as_by_loops(counts, seed, extra):
    generator = torch.Generator().manual_seed(seed)
    boxes = []
    for n in counts:
        corner = torch.rand(n, 2, generator=generator) * 28
        boxes.append(torch.cat((corner, corner + 1 + torch.rand(n, 2, generator=generator) * 24), 1))
    found = responsible_slots(boxes, GRIDS, PRIORS, extra)
    assert sorted(zip(*(x.tolist() for x in found))) == by_loops(boxes, extra)


# Losses


def losses(outputs, boxes, labels, *, num_classes=3, matching=None, **loss):
    model = small(num_classes, loss=YOLOLossSpec(**loss), matching=matching or YOLOMatchSpec())
    return model.losses(outputs, CELLS, GRIDS, boxes, [torch.tensor(x, dtype=torch.int64) for x in labels])


def test_losses_by_hand():
    """All numbers 0: every box is its prior in the middle of its cell, every probability ½."""
    box = objects([16, 6, 24, 14])  # 8×8 with its centre (20, 10): half and a quarter of the way through its cell
    found = losses(torch.zeros(1, 40, 8), [box], [[1]])
    assert found["classification"].item() == pytest.approx(3 * LN2)
    # Best prior 4×8, IoU ½: slot 13. Over IoU ½ with it is no box. The 39 others learn that nothing is there.
    assert found["objectness"].item() == pytest.approx(40 * LN2)
    quarter = LN2 + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)  # cross entropy at ½ less that of a perfect σ(ty)
    assert found["bbox_regression"].item() == pytest.approx((2 - 64 / 1024) * (quarter + 0.5 * LN2**2), rel=1e-5)


def test_normalizer_and_weights():
    boxes = [objects([16, 6, 24, 14], [0, 18, 24, 26]), objects()]
    a = losses(torch.zeros(2, 40, 8), boxes, [[1, 0], []], normalizer="images")
    b = losses(torch.zeros(2, 40, 8), boxes[:1] * 2, [[1, 0]] * 2, normalizer="positives", box_weight=3, class_weight=5)
    assert a["classification"].item() == pytest.approx(2 * 3 * LN2 / 2)
    assert b["classification"].item() == pytest.approx(5 * 3 * LN2)
    assert b["bbox_regression"].item() == pytest.approx(3 * a["bbox_regression"].item())


def test_ignored_slots_by_hand():
    box = objects([0, 16, 16, 32])  # exactly the prior 16×16 of the coarse cell (1, 0), slot 36
    outputs = torch.zeros(1, 40, 8)
    background = lambda **spec: losses(outputs, [box], [[1]], matching=YOLOMatchSpec(**spec))["objectness"].item() / LN2  # noqa: E731
    assert background() == pytest.approx(40)
    # 24×8 in the same cell covers [−4, 20] × [20, 28]: 128 of 256 + 192 − 128 is 0.4. Fine cells: 32 of 256 at most.
    assert background(ignore=0.39) == pytest.approx(39)
    assert background(ignore=0.1) == pytest.approx(40 - 1 - 4)  # and four 4×8 that lie within
    # Another prediction there is no longer ignored, if it is the prediction that counts.
    outputs[0, 37, 2:4] = -3
    assert background(ignore=0.39) == pytest.approx(40)
    assert background(ignore=0.39, ignore_by="prior") == pytest.approx(39)


def test_a_slot_with_an_object_is_never_ignored():
    box = objects([0, 16, 16, 32])
    found = losses(torch.zeros(1, 40, 8), [box], [[1]], matching=YOLOMatchSpec(ignore=0.0))
    touching = (box_iou(box, decode_cells(torch.zeros(40, 4), CELLS))[0] > 0).sum().item()
    assert found["objectness"].item() == pytest.approx((40 - touching + 1) * LN2, rel=1e-5)


@pytest.mark.parametrize("normalizer", ["images", "positives"])
def test_images_without_objects_teach_background(normalizer):
    found = losses(torch.zeros(2, 40, 8), [objects(), objects()], [[], []], normalizer=normalizer)
    divisor = 2 if normalizer == "images" else 1
    assert found["objectness"].item() == pytest.approx(80 * LN2 / divisor, rel=1e-5)
    assert found["classification"] == 0 and found["bbox_regression"] == 0


def reference(outputs, boxes, labels, spec, matching):
    """The three sums in float64, slot by slot, from the paper's formulas."""
    total = {"objectness": 0.0, "classification": 0.0, "bbox_regression": 0.0}
    owner = {(i, s): n for i, s, n in by_loops(boxes, matching.extra)}
    everything, classes = torch.cat(boxes).double(), torch.cat(labels)
    cells = CELLS.double()
    log = lambda p: p.clamp(min=1e-300).log()  # noqa: E731
    for i in range(len(boxes)):
        for s in range(len(cells)):
            row = outputs[i, s]
            p = row.sigmoid()
            left, top, stride, pw, ph = cells[s]
            cx, cy = left + stride * p[0], top + stride * p[1]
            w, h = pw * row[2].exp(), ph * row[3].exp()
            box = torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
            if (i, s) not in owner:
                overlaps = box_iou(boxes[i].double(), box[None])
                if len(overlaps) == 0 or overlaps.max() <= matching.ignore:
                    total["objectness"] -= log(1 - p[4])
                continue
            total["objectness"] -= log(p[4])
            truth = everything[owner[i, s]]
            for k in range(3):
                total["classification"] -= log(p[5 + k] if k == classes[owner[i, s]] else 1 - p[5 + k])
            if spec.box == "giou":
                inter = (torch.minimum(box[2:], truth[2:]) - torch.maximum(box[:2], truth[:2])).clamp(min=0).prod()
                hull = (torch.maximum(box[2:], truth[2:]) - torch.minimum(box[:2], truth[:2])).prod()
                union = w * h + (truth[2:] - truth[:2]).prod() - inter
                total["bbox_regression"] += 1 - (inter / union - (hull - union) / hull)
                continue
            place = ((truth[:2] + truth[2:]) / 2 - cells[s, :2]) / stride
            size = (truth[2:] - truth[:2]) / cells[s, 3:]
            cross = -(place * log(p[:2]) + (1 - place) * log(1 - p[:2]))
            entropy = -(place * log(place) + (1 - place) * log(1 - place))
            weight = 2 - (truth[2:] - truth[:2]).prod() / 1024
            total["bbox_regression"] += weight * (cross - entropy + (row[2:4] - size.log()) ** 2 / 2).sum()
    return total


@pytest.mark.parametrize("box", ["squared", "giou"])
@pytest.mark.parametrize("extra", [None, 0.4])
def test_losses_and_gradients_are_the_reference(box, extra):
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(2, 40, 8, generator=generator, dtype=torch.float64)
    boxes = [objects([1, 2, 20, 11], [18, 8, 22, 12], [3, 3, 30, 29]), objects([5, 17, 9, 26])]
    labels = [torch.tensor([0, 2, 1]), torch.tensor([2])]
    spec, matching = YOLOLossSpec(box=box), YOLOMatchSpec(extra=extra, ignore=0.3)
    ours = outputs.float().requires_grad_()
    found = losses(ours, boxes, [x.tolist() for x in labels], matching=matching, box=box)
    exact = outputs.clone().requires_grad_()
    wanted = reference(exact, boxes, labels, spec, matching)
    for name, value in found.items():
        assert value.item() == pytest.approx(wanted[name].item() / 2, rel=1e-5)
    sum(found.values()).backward()
    (sum(wanted.values()) / 2).backward()
    torch.testing.assert_close(ours.grad, exact.grad.float(), rtol=1e-4, atol=1e-5)


def test_squared_loss_has_the_gradient_of_the_paper():
    """Prediction less truth at the head's output (Sec. 2.1), times 2 − the object's share of the image."""
    outputs = torch.zeros(1, 40, 8, requires_grad=True)
    losses(outputs, [objects([16, 6, 24, 14])], [[1]])["bbox_regression"].backward()
    weight = 2 - 64 / 1024
    assert outputs.grad[0, 13, :4].tolist() == pytest.approx([0, 0.25 * weight, -LN2 * weight, 0], abs=1e-6)
    assert outputs.grad[0].abs().sum(1).nonzero().flatten().tolist() == [13]


def test_losses_stay_finite_at_wild_outputs():
    outputs = torch.full((1, 40, 8), 300.0, requires_grad=True)
    for box in ("squared", "giou"):
        total = sum(losses(outputs, [objects([16, 6, 24, 14])], [[1]], box=box).values())
        (grad,) = torch.autograd.grad(total, outputs)
        assert torch.isfinite(total) and torch.isfinite(grad).all()


def test_objects_on_the_border_of_a_cell_cost_nothing_infinite():
    outputs = torch.zeros(1, 40, 8, requires_grad=True)
    total = sum(losses(outputs, [objects([6, 6, 10, 10], [30, 30, 34, 34])], [[0, 0]]).values())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(
    "spec, message",
    [
        (lambda: YOLOLossSpec(box="l1"), "box must be 'squared' or 'giou', not 'l1'"),
        (lambda: YOLOLossSpec(normalizer="ema"), "normalizer must be 'images' or 'positives', not 'ema'"),
        (lambda: YOLOMatchSpec(ignore_by="luck"), "ignore_by must be 'prior' or 'prediction', not 'luck'"),
    ],
)
def test_specs_that_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        spec()


def test_levels_that_do_not_belong_together():
    with pytest.raises(ValueError, match="2 levels of priors, 3 strides, 2 of the neck"):
        small(priors=replace(PRIORS, strides=(8, 16, 32)))
    with pytest.raises(ValueError, match="3 levels of priors"):
        small(priors=get_preset("tiny", "yolo").priors)


def test_training_resizes_the_boxes_with_the_image():
    image = torch.rand(3, 20, 30)
    twice = torch.nn.functional.interpolate(image[None], (40, 60), mode="bilinear", antialias=True)[0]
    resizing = small(input=InputSpec(resize="fit", size=(40, 60), divisor=16)).train()
    plain = small(input=InputSpec(resize="none", divisor=16)).train()
    a = resizing([image], [target([[3, 4, 14, 16]], [1])])
    b = plain([twice], [target([[6, 8, 28, 32]], [1])])
    assert set(a) == {"objectness", "classification", "bbox_regression"}
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def test_targets_are_checked():
    with pytest.raises(ValueError, match="training needs one target per image: 1 images, targets None"):
        small().train()([torch.rand(3, 32, 32)])
    with pytest.raises(ValueError, match=r"labels \[3\], expected 0 … 2"):
        small().train()([torch.rand(3, 32, 32)], [target([[0, 0, 5, 5]], [3])])


# Detections


def outputs_of(rows):
    """Outputs (40, 7) for two classes, all silent but the given slots: {slot: (objectness, class 0, class 1)}."""
    outputs = torch.zeros(40, 7)
    outputs[:, 4] = -20
    for slot, values in rows.items():
        outputs[slot, 4:] = torch.tensor(values)
    return outputs


def detect(rows, *, size=(32, 32), output=None, **spec):
    return small(2, detect=YOLODetectSpec(**spec)).detect(outputs_of(rows), CELLS, size, output or size)


def test_a_score_is_objectness_times_class():
    found = detect({12: (math.log(3), math.log(4), -math.log(4))})
    assert found["scores"].tolist() == pytest.approx([0.75 * 0.8, 0.75 * 0.2])
    assert found["labels"].tolist() == [0, 1]  # the classes are independent: one slot may give several
    assert found["boxes"].tolist() == [[18, 10, 22, 14]] * 2  # prior 4×4 in the middle of cell (1, 2)


def test_nms_within_a_class_and_limits():
    # Both priors of the fine cell (1, 2): 4×4 lies in 4×8, IoU ½.
    rows = {12: (3.0, 3.0, -9.0), 13: (2.0, 3.0, 1.0)}
    assert detect(rows, nms=0.4)["labels"].tolist() == [0, 1]
    assert detect(rows, nms=0.6)["labels"].tolist() == [0, 0, 1]
    assert detect(rows, nms=0.6, detections=2)["labels"].tolist() == [0, 0]
    assert detect(rows, nms=0.6, topk=1)["labels"].tolist() == [0]
    assert detect(rows, nms=0.6, score=0.89)["labels"].tolist() == [0]


def test_boxes_are_clipped_and_rescaled():
    found = detect({38: (5.0, 5.0, -9.0), 33: (4.0, 5.0, -9.0)}, size=(32, 30), output=(64, 90))
    # 16×16 around (24, 24) and 24×8 around (8, 8); then twice as high and three times as wide.
    assert found["boxes"].tolist() == [[48, 32, 90, 64], [0, 8, 60, 24]]


def test_nothing_found_and_no_threshold():
    found = detect({})
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
    assert len(detect({}, score=0.0, nms=1.0)["boxes"]) == 80


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.05, 0.5]))
def test_detections_are_the_naive_ones(seed, score):
    outputs = torch.randn(40, 7, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    found = small(2, detect=YOLODetectSpec(score=score, nms=1.0)).detect(outputs, CELLS, (32, 32), (32, 32))
    scores = (outputs[:, 4:5].sigmoid() * outputs[:, 5:].sigmoid()).flatten()
    torch.testing.assert_close(found["scores"], scores[scores > score].sort(descending=True).values)


def eager(**changes):
    """A small model that claims to see something everywhere."""
    model = small(**changes).eval()
    with torch.no_grad():
        for predictor in model.head.predictors:
            predictor.bias.fill_(0.5)
            predictor.weight.normal_(std=0.5)
    return model


@pytest.mark.parametrize("resize", ["none", "fit"])
def test_detections_lie_in_the_image_that_was_given(resize):
    model = eager(input=InputSpec(resize=resize, size=(64, 96)))
    sizes = [(40, 70), (90, 33), (1, 1)]
    with torch.no_grad():
        found = model([torch.rand(3, *size) for size in sizes])
    for output, (height, width) in zip(found, sizes, strict=True):
        boxes, scores = output["boxes"], output["scores"]
        assert 0 < len(boxes) <= 100
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width * (1 + 1e-6) and boxes[:, 3].max() <= height * (1 + 1e-6)
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert output["labels"].dtype == torch.int64 and set(output["labels"].tolist()) <= {0, 1, 2}


def test_a_batch_is_its_images_one_by_one_and_output_sizes():
    model = eager()
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    with torch.no_grad():
        together, alone, tensor = model(images), [model([x])[0] for x in images], model(torch.stack(images))
        doubled = model(images, output_sizes=[(128, 192)] * 2)
    for a, b, c, d in zip(together, alone, tensor, doubled):
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(a[key], c[key], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(d["boxes"], a["boxes"] * torch.tensor([3.0, 2, 3, 2]))


def test_slots_are_made_once_and_training_works_after_inference_mode():
    model = small()
    with torch.inference_mode():
        model.eval()([torch.rand(3, 64, 64)])
    cells = model.cells([(8, 8), (4, 4)], torch.device("cpu"))
    assert [tuple(x.shape) for x in cells] == [(128, 5), (32, 5)]
    assert model.cells([(8, 8), (4, 4)], torch.device("cpu")) is cells
    model.prior_spec = replace(PRIORS, shapes=PRIORS.shapes[::-1])
    assert torch.equal(model.cells([(8, 8), (4, 4)], torch.device("cpu"))[0][0], torch.tensor([0.0, 0, 8, 16, 16]))
    sum(model.train()([torch.rand(3, 64, 64)], [target([[2, 2, 20, 20]], [1])]).values()).backward()
    assert model.head.predictors[1].weight.grad.abs().sum() > 0


# Presets


def test_darknet53_has_the_parameters_of_the_authors_weights():
    """Their file for COCO holds 62,001,757 numbers, running statistics included, after a header of five."""
    with torch.device("meta"):
        model = get_preset("darknet53", "yolo").build(80)
    assert sum(v.numel() for v in model.state_dict().values() if v.is_floating_point()) == 62_001_757


def test_tiny_is_tiny_and_takes_any_image():
    torch.manual_seed(0)
    model = copy.deepcopy(get_preset("tiny", "yolo").build(8)).eval()
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    with torch.no_grad():
        found = model([torch.rand(3, 1, 1), torch.rand(3, 50, 200)])
    assert all(set(x) == {"boxes", "labels", "scores"} for x in found)
    loss = model.train()([torch.rand(3, 64, 64)] * 2, [EMPTY, target([[2, 2, 20, 20]], [1])])
    assert torch.isfinite(sum(loss.values()))
