"""Our SSD with torchvision's weights against torchvision's own, on random weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16

from course_lib.detectors import ssd
from course_lib.weights.torchvision import ssd_from_torchvision
from tests.detectors.models import EMPTY, target
from tests.nn.randomise import random_images

CLASSES = 20
SIZES = [(97, 131), (333, 500), (1, 1), (401, 77)]


@torch.no_grad()
def build(background: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """torchvision's model and ours with its weights; `background` is added to the logit of background.

    The heads are random, so that boxes see many classes with many scores: untrained ones say the same everywhere.
    """
    torch.manual_seed(0)
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    generator = torch.Generator().manual_seed(2)
    scales = (0.012, 0.006, 0.01, 0.03, 0.08, 0.2)  # by level: the untrained maps fade on the way down
    for head in (theirs.head.classification_head, theirs.head.regression_head):
        for conv, scale in zip(head.module_list, scales, strict=True):
            conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) * scale)
            conv.bias.copy_(torch.randn(conv.bias.shape, generator=generator) * 0.1)
    for conv in theirs.head.classification_head.module_list:
        conv.bias[:: CLASSES + 1] += background  # the first of each box's
    return theirs, ssd_from_torchvision(theirs.state_dict())


@pytest.fixture(scope="module")
def maps() -> list[Tensor]:
    """The backbone's maps for four images: it takes nearly all of the time and is the same in every test."""
    theirs, ours = build()
    images = random_images(*SIZES, seed=5)
    with torch.no_grad():
        batch, _ = theirs.eval().transform([image.clone() for image in images])
        wanted, found = theirs.backbone(batch.tensors), ours.backbone(ours.preprocess(images).images)
    for a, b in zip(found.values(), wanted.values(), strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()
    return list(found.values())


class Given(nn.Module):
    """A backbone that gives these maps for whatever image."""

    def __init__(self, maps: list[Tensor]):
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return dict(enumerate(self.maps))


def test_default_boxes(maps):
    theirs, ours = build()
    batch, _ = theirs.transform(random_images(*SIZES))
    wanted = theirs.anchor_generator(batch, maps)[0]
    found = torch.cat(ours.anchors((300, 300), [tuple(x.shape[-2:]) for x in maps], torch.device("cpu")))
    assert found.shape == (8732, 4)  # the paper's number
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "background, as_planned",
    [
        (0.0, lambda count: count > 1000),  # boxes before NMS: torchvision goes class by class
        (11.5, lambda count: 50 < count <= 1000),  # … or through all at once, shifted apart
        (40.0, lambda count: count == 0),
    ],
    ids=["many", "few", "nothing found"],
)
@torch.no_grad()
def test_detections(maps, background, as_planned: Callable[[int], bool], monkeypatch):
    theirs, ours = (model.eval() for model in build(background))
    theirs.backbone = ours.backbone = Given(maps)
    counts, nms = [], ssd.batched_nms
    monkeypatch.setattr(ssd, "batched_nms", lambda boxes, *rest: counts.append(len(boxes)) or nms(boxes, *rest))
    images = random_images(*SIZES, seed=5)
    wanted, found = theirs([image.clone() for image in images]), ours(images)
    assert all(map(as_planned, counts)), counts
    for a, b, count in zip(found, wanted, counts, strict=True):
        assert len(b["boxes"]) == min(count, 200) or 20 < len(b["boxes"]) < 200
        assert torch.equal(a["labels"] + 1, b["labels"])  # theirs: 0 is background
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(a["scores"], b["scores"], rtol=0, atol=1e-5)


def test_losses_and_gradients():
    """One image without objects, two objects that want one box, and one that no box overlaps at 0.5.

    None has several equal bests, like a pixel that lies in many boxes: there torchvision's rounding of its boxes
    decides.
    """
    theirs, ours = build()
    images = random_images((150, 200), (221, 133), seed=6)
    boxes = [[10, 20, 90, 100], [5, 5, 60, 40], [5, 5, 62, 44], [5, 5, 62, 44], [100, 89.5, 128, 93.5]]
    labels = [3, 19, 0, 7, 11]
    their_targets = [target(boxes, [label + 1 for label in labels]), EMPTY]
    wanted = theirs.train()([image.clone() for image in images], their_targets)
    found = ours.train()(images, [target(boxes, labels), EMPTY])
    assert set(found) == set(wanted) == {"classification", "bbox_regression"}
    for name in wanted:
        assert wanted[name].item() > 0
        assert found[name].item() == pytest.approx(wanted[name].item(), rel=1e-5)
    sum(wanted.values()).backward()
    sum(found.values()).backward()
    pairs = [
        (theirs.head.regression_head.module_list[2].weight, ours.box_head.predictors[2].weight),
        (theirs.backbone.scale_weight, ours.backbone.norm.weight),
        (theirs.backbone.extra[0][7][1].weight, ours.backbone.fc6.weight),
        (theirs.backbone.features[0].weight, ours.backbone.vgg.features[0].weight),
    ]
    for their_part, our_part in pairs:
        a, b = our_part.grad, their_part.grad
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
    a, b = ours.class_head.predictors[0].bias.grad, theirs.head.classification_head.module_list[0].bias.grad
    a, b = a.reshape(4, -1), b.reshape(4, -1).roll(-1, 1)  # background first, and last
    assert (a - b).abs().max() <= 1e-4 * b.abs().max()


@torch.no_grad()
def test_end_to_end():
    theirs, ours = (model.eval() for model in build(11.5))
    (image,) = random_images((240, 180), seed=7)
    (wanted,), (found,) = theirs([image.clone()]), ours([image])
    assert len(wanted["boxes"]) > 20
    assert torch.equal(found["labels"] + 1, wanted["labels"])
    torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=0, atol=1e-5)
