"""What a detector is cut into: names, shapes, and that the pieces together say what the detector says."""

import pytest
import torch

from course_lib.detectors.faster_rcnn import select_detections, to_output
from course_lib.detectors.yolo_v1 import V1Spec, YOLOv1
from course_lib.nn.backbones import ResNet
from course_lib.nn.preprocess import InputSpec
from course_lib.ops.masks import paste_masks
from course_lib.weights.graphs.parts import by_level, parts_of
from tests.weights.graphs.detectors import PRESETS, detector

# For a batch of two 64×96 and three classes: 8×12, 4×6 and 2×3 cells (SSD and YOLO also 16×24, YOLO without 2×3).
CELLS = ((8, 96), (16, 24), (32, 6))
RPN = {  # three anchors a cell
    **{f"features_stride{s}": (2, 16, 64 // s, 96 // s) for s, _ in CELLS},
    **{f"objectness_stride{s}": (2, 3 * n, 1) for s, n in CELLS},
    **{f"deltas_stride{s}": (2, 3 * n, 4) for s, n in CELLS},
    **{f"anchors_stride{s}": (3 * n, 4) for s, n in CELLS},
}
DENSE = {
    "retinanet": {  # six anchors a cell
        **{f"class_logits_stride{s}": (2, 6 * n, 3) for s, n in CELLS},
        **{f"deltas_stride{s}": (2, 6 * n, 4) for s, n in CELLS},
        **{f"anchors_stride{s}": (6 * n, 4) for s, n in CELLS},
    },
    "ssd": {"class_logits": (2, 6 * 510, 4), "deltas": (2, 6 * 510, 4), "anchors": (6 * 510, 4)},
    "yolo": {
        **{f"outputs_stride{s}": (2, 3 * n, 8) for s, n in ((4, 384), (8, 96), (16, 24))},
        **{f"slots_stride{s}": (3 * n, 5) for s, n in ((4, 384), (8, 96), (16, 24))},
    },
    "faster_rcnn": RPN,
    "mask_rcnn": RPN,
    "panoptic_fpn": RPN | {"semantic_logits": (2, 4, 8, 12)},
    "upsnet": RPN | {"semantic_logits": (2, 6, 8, 12)},
}


@pytest.fixture(params=PRESETS)
def family(request) -> str:
    return request.param


def named(part) -> set[str]:
    """The names in a part's description, without those of inputs."""
    return set(part.about) - {part.input}


@torch.no_grad()
def test_names_and_shapes(family):
    dense, *heads = parts_of(detector(PRESETS[family]).model)
    outputs = dense.module(torch.rand(2, 3, 64, 96))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == DENSE[family]
    assert {name.partition("_stride")[0] for name in outputs} == named(dense)
    assert dense.input == "images"
    assert [head.name for head in heads] == {"faster_rcnn": ["box_head"]}.get(
        family, ["box_head", "mask_head"] if family in ("mask_rcnn", "panoptic_fpn", "upsnet") else []
    )
    for head in heads:
        size = head.shapes[0][-1]
        found = head.module(torch.rand(5, 16, size, size))
        wanted = {"class_logits": (5, 4), "deltas": (5, 3, 4), "mask_logits": (5, 3, 2 * size, 2 * size)}
        assert {name: tuple(value.shape) for name, value in found.items()} == {n: wanted[n] for n in named(head)}


@torch.no_grad()
def test_a_level_smaller_than_the_kernel(family):
    """At 32×32 the coarsest map is one cell, under 3×3 convolutions."""
    dense = parts_of(detector(PRESETS[family]).model)[0]
    assert dense.one_cell == ((1, 3, 32, 32),)
    for value in dense.module(dense.draw(dense.one_cell[0])).values():
        assert torch.isfinite(value).all()


def test_inputs_as_they_occur():
    found = detector(PRESETS["mask_rcnn"])
    for part in parts_of(found.model):
        for shape in part.shapes:
            assert part.draw(shape).shape == shape
    dense = parts_of(found.model)[0]
    pixels = dense.draw((1, 3, 64, 64))
    assert 0.8 < pixels.std() < 2  # uniform in 0 … 1, divided by about 0.225
    assert dense.free == {0: (1, 1), 2: (32, 2), 3: (32, 2)}  # of 64 the coarsest map, of stride 32, has two cells


@torch.no_grad()
def test_a_dense_detector_s_own_numbers():
    model = detector(PRESETS["retinanet"]).model
    images = torch.rand(2, 3, 64, 64)
    found = list(parts_of(model)[0].module(images).values())
    assert all(torch.equal(a, b) for a, b in zip(found, [x for level in model.dense(images) for x in level]))


@torch.no_grad()
def test_the_pieces_of_a_two_stage_detector_say_what_it_says():
    """What lies between and after them has no weights: proposals, RoIAlign, the choice of boxes, pasting."""
    model = detector(PRESETS["mask_rcnn"]).model
    images = torch.rand(2, 3, 64, 96)
    sizes = [(64, 96)] * 2
    dense, box_head, mask_head = (part.module for part in parts_of(model))
    out = dense(model.preprocess(images).images)
    features, *proposing = (
        [out[f"{name}_stride{stride}"] for stride in (8, 16, 32)]
        for name in ("features", "objectness", "deltas", "anchors")
    )
    proposals = [boxes for boxes, _ in model.rpn.propose(*proposing, sizes)]
    second = box_head(model.box_head.pool(features, proposals))
    logits, deltas = (second[name].split([len(boxes) for boxes in proposals]) for name in ("class_logits", "deltas"))
    for i, wanted in enumerate(model(images)):
        chosen = select_detections(
            logits[i], deltas[i], proposals[i], sizes[i], model.box_spec.weights, model.detect_spec
        )
        maps = [level[i : i + 1] for level in features]
        masks = mask_head(model.mask_head.pool(maps, [chosen["boxes"]]))["mask_logits"]
        chosen["masks"] = masks[range(len(masks)), chosen["labels"]].sigmoid()
        found = to_output(chosen, sizes[i], sizes[i])
        found["masks"] = paste_masks(found["masks"], found["boxes"], sizes[i], sampling=model.mask_spec.sampling)
        assert len(found["boxes"]) > 10
        for name, value in wanted.items():
            assert torch.allclose(found[name].float(), value.float(), atol=1e-5), name


def test_a_graph_holds_its_own_weights_alone():
    """The second stage's layers are most of a Faster R-CNN: they are not written twice."""
    model = detector(PRESETS["mask_rcnn"]).model
    counts = [sum(x.numel() for x in part.module.parameters()) for part in parts_of(model)]
    assert sum(counts) == sum(x.numel() for x in model.parameters())
    assert min(counts) > 0


def test_names_with_levels():
    a, b = torch.zeros(1), torch.ones(1)
    assert by_level({"deltas": [a, b], "semantic": a}, (8, 16, 32)) == {
        "deltas_stride8": a,
        "deltas_stride16": b,
        "semantic": a,
    }


def test_another_detector():
    resnet = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, stem_width=16, widths=(16,) * 4)
    model = YOLOv1(backbone=resnet, channels=16, num_classes=2, spec=V1Spec(), input=InputSpec())
    with pytest.raises(ValueError, match="a YOLOv1 has no graph: expected a detector of `course train`"):
        parts_of(model)
