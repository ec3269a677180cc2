"""The first YOLO: cells, Eq. 3, detections."""

import pytest
import torch

from course_lib.detectors.yolo_v1 import V1Spec, YOLOv1, cell_targets, v1_boxes, v1_losses
from course_lib.nn.backbones import ResNet
from course_lib.nn.preprocess import InputSpec
from course_lib.ops.boxes import box_iou
from tests.detectors.models import EMPTY, SMALL, target

SIZE = (40, 80)  # a grid of 4: cells of 20×10


def objects(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def labels(*values):
    return torch.tensor(values, dtype=torch.int64)


def test_targets_by_hand():
    # Centre (45, 12): column 2, a quarter of the way; row 1, a fifth. Sides 20 of 80 and 10 of 40.
    found = cell_targets([objects([35, 7, 55, 17])], [labels(3)], SIZE, 4)
    assert [x.tolist() for x in found.index] == [[0], [1], [2]]
    assert found.place.tolist() == [pytest.approx([0.25, 0.2])]
    assert found.root.tolist() == [[0.5, 0.5]]
    assert found.labels.tolist() == [3] and found.lost == 0


def test_a_cell_has_room_for_one_object():
    boxes = [objects([35, 7, 55, 17], [42, 10, 50, 16], [0, 0, 20, 10]), objects(), objects([42, 10, 50, 16])]
    found = cell_targets(boxes, [labels(3, 4, 5), labels(), labels(6)], SIZE, 4)
    assert [x.tolist() for x in found.index] == [[0, 0, 2], [0, 1, 1], [0, 2, 2]]
    assert found.labels.tolist() == [5, 3, 6]
    assert found.lost == 1


def test_a_centre_on_the_edge_and_no_objects():
    found = cell_targets([objects([70, 30, 90, 50])], [labels(0)], SIZE, 4)
    assert [x.tolist() for x in found.index] == [[0], [3], [3]]
    assert found.place.tolist() == [[1, 1]]
    found = cell_targets([objects(), objects()], [labels(), labels()], SIZE, 4)
    assert found.boxes.shape == (0, 4) and found.lost == 0


def test_boxes_are_the_inverse_of_the_targets():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 2, generator=generator) * torch.tensor([30.0, 15])
    boxes = torch.cat((corner, corner + 5 + torch.rand(3, 2, generator=generator) * 20), 1)
    for box in boxes:
        cells = cell_targets([box[None]], [labels(0)], SIZE, 4)
        numbers = torch.zeros(1, 4, 4, 1, 4)
        numbers[(*cells.index, 0)] = torch.cat((cells.place, cells.root), 1)
        torch.testing.assert_close(v1_boxes(numbers, SIZE)[(*cells.index, 0)], box[None])


def test_losses_by_hand():
    """One object; of the cell's two boxes the second is it exactly, and is responsible."""
    cells = cell_targets([objects([40, 10, 60, 20])], [labels(1)], SIZE, 4)  # cell (1, 2), centre in its middle
    numbers = torch.zeros(1, 4, 4, 2, 4)
    numbers[0, 1, 2, 1] = torch.tensor([0.5, 0.5, 0.5, 0.5])
    confidence, classes = torch.full((1, 4, 4, 2), 0.2), torch.zeros(1, 4, 4, 3)
    classes[0, 1, 2] = torch.tensor([0.5, 0.5, 0])
    found = v1_losses(numbers, confidence, classes, cells, SIZE, V1Spec(grid=4))
    assert found["objectness"].item() == pytest.approx(0.8**2 + 0.5 * 31 * 0.2**2)  # IoU 1 is wanted of the one
    assert found["classification"].item() == 0.5
    assert found["bbox_regression"].item() == 0
    numbers[0, 1, 2, 1] = torch.tensor([0.4, 0.5, 0.5, 0.8])  # 20×25.6 now
    found = v1_losses(numbers, confidence, classes, cells, SIZE, V1Spec(grid=4))
    assert found["bbox_regression"].item() == pytest.approx(5 * (0.1**2 + 0.3**2))
    iou = 18 * 10 / (20 * 25.6 + 200 - 180)  # 2 px to the left, and taller on both sides
    assert found["objectness"].item() == pytest.approx((0.2 - iou) ** 2 + 0.5 * 31 * 0.2**2)


def reference(numbers, confidence, classes, boxes, image_labels, spec):
    """Eq. 3 in float64, cell by cell, with the IoU as a constant."""
    height, width = SIZE
    total = numbers.new_zeros(())
    for i, (rows, kinds) in enumerate(zip(boxes, image_labels)):
        taken = {}
        for (x1, y1, x2, y2), kind in zip(rows.double().tolist(), kinds.tolist()):
            column, row = int((x1 + x2) / 2 / width * spec.grid), int((y1 + y2) / 2 / height * spec.grid)
            taken.setdefault((row, column), ((x1, y1, x2, y2), kind))
        for row in range(spec.grid):
            for column in range(spec.grid):
                if (row, column) not in taken:
                    total = total + spec.no_object * (confidence[i, row, column] ** 2).sum()
                    continue
                box, kind = taken[row, column]
                guesses = []
                for x, y, rw, rh in numbers[i, row, column].tolist():
                    cx, cy = (column + x) / spec.grid * width, (row + y) / spec.grid * height
                    guesses.append([cx - rw**2 * width / 2, cy - rh**2 * height / 2])
                    guesses[-1] += [cx + rw**2 * width / 2, cy + rh**2 * height / 2]
                truth = torch.tensor([box], dtype=torch.float64)
                ious = box_iou(torch.tensor(guesses, dtype=torch.float64), truth)[:, 0]
                best = int(ious.argmax())
                for b in range(spec.boxes):
                    wanted, weight = (ious[b], 1) if b == best else (0, spec.no_object)
                    total = total + weight * (confidence[i, row, column, b] - wanted) ** 2
                x, y, rw, rh = numbers[i, row, column, best]
                x1, y1, x2, y2 = box
                total = total + spec.coord * (
                    (x - ((x1 + x2) / 2 / width * spec.grid - column)) ** 2
                    + (y - ((y1 + y2) / 2 / height * spec.grid - row)) ** 2
                    + (rw - ((x2 - x1) / width) ** 0.5) ** 2
                    + (rh - ((y2 - y1) / height) ** 0.5) ** 2
                )
                for k in range(classes.shape[-1]):
                    total = total + (classes[i, row, column, k] - float(k == kind)) ** 2
    return total / len(boxes)


def test_losses_and_gradients_are_the_reference():
    generator = torch.Generator().manual_seed(0)
    exact = [torch.rand(2, 4, 4, *x, generator=generator, dtype=torch.float64) for x in ((2, 4), (2,), (3,))]
    boxes = [objects([35, 7, 55, 17], [42, 10, 50, 16], [0, 0, 30, 35]), objects([10, 20, 70, 39])]
    kinds, spec = [labels(2, 0, 1), labels(1)], V1Spec(grid=4)
    ours = [x.float().requires_grad_() for x in exact]
    exact = [x.requires_grad_() for x in exact]
    found = sum(v1_losses(*ours, cell_targets(boxes, kinds, SIZE, 4), SIZE, spec).values())
    wanted = reference(*exact, boxes, kinds, spec)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    found.backward()
    wanted.backward()
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a.grad, b.grad.float(), rtol=1e-4, atol=1e-5)


def test_images_without_objects_teach_confidence_alone():
    cells = cell_targets([objects()] * 2, [labels()] * 2, SIZE, 4)
    shapes = ((2, 4, 4, 2, 4), (2, 4, 4, 2), (2, 4, 4, 3))
    found = v1_losses(*(torch.ones(s) for s in shapes), cells, SIZE, V1Spec(grid=4))
    assert {k: v.item() for k, v in found.items()} == {
        "objectness": 0.5 * 32,
        "classification": 0,
        "bbox_regression": 0,
    }


def small(**changes):
    torch.manual_seed(0)
    backbone = ResNet(**{**vars(SMALL.backbone), "levels": ("c4",)})
    arguments = {"channels": 16, "num_classes": 3, "spec": V1Spec(grid=4), "input": InputSpec(resize="none")}
    return YOLOv1(backbone=backbone, **{**arguments, **changes})


def test_training_and_detections_in_the_api_of_the_others():
    model = small().train()
    found = model([torch.rand(3, 40, 60), torch.rand(3, 64, 64)], [EMPTY, target([[2, 2, 30, 20]], [1])])
    assert set(found) == {"objectness", "classification", "bbox_regression"}
    sum(found.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    with pytest.raises(ValueError, match="training needs one target per image"):
        model([torch.rand(3, 40, 60)])
    with torch.no_grad():
        model.head[-1].bias.fill_(0.7)
        found = model.eval()([torch.rand(3, 40, 60), torch.rand(3, 1, 1)], output_sizes=[(80, 120), (1, 1)])
    assert len(found[0]["boxes"]) > 0
    for output, (height, width) in zip(found, [(80, 120), (1, 1)]):
        assert output["boxes"].min() >= 0
        assert output["boxes"][:, 2].max() <= width + 1e-3 and output["boxes"][:, 3].max() <= height + 1e-3
        assert (output["scores"].diff() <= 0).all()


def test_detect_by_hand():
    boxes = objects([0, 0, 10, 10], [0, 0, 10, 9], [30, 5, 50, 15])
    scores = torch.tensor([[0.5, 0.0], [0.4, 0.3], [0.01, 0.02]])
    found = small(nms=0.5).detect(boxes, scores, (20, 40), (20, 80))
    assert found["labels"].tolist() == [0, 1]
    assert found["boxes"].tolist() == [[0, 0, 20, 10], [0, 0, 20, 9]]
    assert len(small(detections=1).detect(boxes, scores, (20, 40), (20, 40))["boxes"]) == 1


def test_it_learns_one_image():
    torch.manual_seed(0)
    image = torch.rand(3, 64, 64) * 0.3 + 0.3
    image[:, 20:36, 28:44] = torch.tensor([0.9, 0.2, 0.1]).reshape(3, 1, 1)
    model = small().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = sum(model([image] * 2, [target([[28, 20, 44, 36]], [1])] * 2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()([image])[0]
    assert found["labels"][0] == 1
    assert (found["boxes"][0] - torch.tensor([28.0, 20, 44, 36])).abs().max() < 6
