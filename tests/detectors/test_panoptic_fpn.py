"""What Panoptic FPN adds to Mask R-CNN; both kinds of panoptic detectors, where they are alike."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.detectors.panoptic_fpn import to_batch, to_size
from course_lib.detectors.presets import get_preset, mask_rcnn
from course_lib.nn.preprocess import Batch
from course_lib.ops.masks import paste_masks
from course_lib.panoptic.fusion import fuse
from tests.detectors.panoptic_models import EMPTY, ONE, PICTURE, SMALL_FPN, SMALL_UPSNET, scene, small, told

FUSING = small(SMALL_FPN)
BOTH = pytest.mark.parametrize("preset", [SMALL_FPN, SMALL_UPSNET], ids=["panoptic_fpn", "upsnet"])
MASK_RCNN_LOSSES = {"rpn_objectness", "rpn_bbox_regression", "classification", "bbox_regression", "mask"}


def test_losses_and_their_gradient():
    model = small(SMALL_FPN).train()
    losses = model([PICTURE, PICTURE], [ONE, EMPTY])
    assert set(losses) == MASK_RCNN_LOSSES | {"semantic"}
    assert losses["semantic"].item() == pytest.approx(0.5 * 1.386, abs=0.1)  # undecided between four: log 4
    losses["semantic"].backward()
    assert all(p.grad.abs().sum() > 0 for p in (model.semantic_head.predictor.weight, model.backbone.conv1.weight))
    assert model.mask_head.predictor.weight.grad is None


def test_weights_of_the_losses():
    losses = [
        small(SMALL_FPN, panoptic_loss=replace(SMALL_FPN.panoptic_loss, instances=i, semantic=s)).train()(
            [PICTURE], [ONE]
        )
        for i, s in ((1.0, 0.5), (3.0, 1.0))
    ]
    for name in MASK_RCNN_LOSSES:
        assert losses[1][name].item() == pytest.approx(3 * losses[0][name].item(), rel=1e-5)
    assert losses[1]["semantic"].item() == pytest.approx(2 * losses[0]["semantic"].item(), rel=1e-5)


@BOTH
def test_targets_that_are_wrong(preset):
    model = small(preset).train()
    with pytest.raises(ValueError, match="image 0: the target has no semantic map"):
        model([PICTURE], [{k: v for k, v in ONE.items() if k != "semantic"}])
    with pytest.raises(ValueError, match=r"image 1: semantic map \(64, 60\), expected \(H, W\) = \(64, 64\)"):
        model([PICTURE] * 2, [ONE, ONE | {"semantic": ONE["semantic"][:, :60]}])
    for value in (4, -1):
        with pytest.raises(
            ValueError, match=f"image 0: semantic map holds {value}, expected 0 .a thing., 1 … 3, or 255"
        ):
            model([PICTURE], [ONE | {"semantic": ONE["semantic"].where(ONE["semantic"] != 2, value)}])
    with pytest.raises(ValueError, match="image 0: the target has no masks"):
        model([PICTURE], [{k: v for k, v in ONE.items() if k != "masks"}])


@BOTH
def test_nothing_to_learn_of_stuff(preset):
    model = small(preset).train()
    losses = model([PICTURE], [EMPTY | {"semantic": torch.full((64, 64), 255)}])
    assert losses["semantic"].item() == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@BOTH
def test_images_of_several_sizes(preset):
    """Resized and padded maps: what lies in the padding is not learnt."""
    model = small(preset, input=replace(preset.input, resize="fit", size=(64, 64))).train()
    losses = model([PICTURE, PICTURE[:, :40, :50]], [ONE, scene([[8, 8, 40, 30]], [2], (40, 50))])
    assert all(torch.isfinite(x) for x in losses.values())


def test_labels_come_into_the_batch_under_their_pixels():
    batch = Batch(torch.zeros(2, 3, 4, 6), [(2, 3), (4, 6)], [(4, 6), (4, 6)])
    maps = [torch.arange(24).reshape(4, 6), torch.arange(24).reshape(4, 6)]
    found = to_batch(maps, batch, 99)
    assert found[0].tolist() == [[7, 9, 11, 99, 99, 99], [19, 21, 23, 99, 99, 99], [99] * 6, [99] * 6]
    assert torch.equal(found[1], maps[1])


def test_logits_lose_the_padding_before_they_are_resized():
    logits = torch.tensor([[[1.0, 1, 9], [1, 1, 9]]])
    assert to_size(logits, (2, 3), (2, 2), (4, 4)).tolist() == [[[1.0] * 4] * 4]


@BOTH
@torch.no_grad()
def test_outputs(preset):
    model = small(preset).eval()
    found = model([PICTURE, PICTURE[:, :40]], output_sizes=[(64, 64), (80, 100)])
    for image, size in zip(found, [(64, 64), (80, 100)]):
        assert {"boxes", "labels", "scores", "masks", "semantic", "panoptic", "segments"} <= set(image)
        assert image["masks"].shape[1:] == image["semantic"].shape == image["panoptic"].shape == size
        assert image["semantic"].dtype == torch.int64
        assert image["semantic"].max() <= 3
        assert image["panoptic"].dtype == torch.int32
        for segment in image["segments"]:
            assert segment["area"] == (image["panoptic"] == segment["id"]).sum() > 0
        ids = {s["id"] for s in image["segments"]}
        assert set(image["panoptic"].unique().tolist()) <= ids | {0}


@torch.no_grad()
def test_fused_by_the_rule():
    """Three detections, of which the first covers most of the third; the semantic head says stuff 2 everywhere."""
    model = told(small(SMALL_FPN))
    model.semantic_head.predictor.bias.copy_(torch.tensor([0.0, 0, 99, 0]))
    (found,) = model([PICTURE])
    assert (found["semantic"] == 2).all()
    assert [(s["label"], s["isthing"]) for s in found["segments"]] == [(1, True), (0, True), (2, True), (2, False)]
    assert [s.get("instance") for s in found["segments"]] == [0, 1, 2, None]
    first, second = found["masks"][0], found["masks"][1]
    assert torch.equal(found["panoptic"] == 1, first)
    assert torch.equal(found["panoptic"] == 2, second & ~first)
    assert (found["panoptic"] > 0).all()


@BOTH
@torch.no_grad()
def test_nothing_detected_leaves_stuff(preset):
    model = told(small(preset), torch.zeros(0, 4), (), ())
    (found,) = model([PICTURE])
    assert found["masks"].shape == (0, 64, 64)
    assert not any(s["isthing"] for s in found["segments"])


@BOTH
@torch.no_grad()
def test_one_pixel(preset):
    (found,) = small(preset).eval()([torch.rand(3, 1, 1)])
    assert found["panoptic"].shape == found["semantic"].shape == (1, 1)


@BOTH
def test_a_copy_draws_and_answers_the_same(preset):
    model = small(preset).train()
    other = copy.deepcopy(model)
    for each in (model, other):
        each.generator.manual_seed(3)
    a, b = (each([PICTURE], [ONE]) for each in (model, other))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("family", ["panoptic_fpn", "upsnet"])
def test_tiny_is_tiny(family):
    torch.manual_seed(0)
    model = get_preset("tiny", family).build(8).eval()
    plain = mask_rcnn.TINY.build(8)
    added = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    assert 0 < added == sum(p.numel() for p in model.semantic_head.parameters()) < 350_000
    with torch.no_grad():
        (found,) = model([torch.rand(3, 50, 80)])
    assert found["panoptic"].shape == (50, 80)


@pytest.mark.slow
@BOTH
def test_learns_one_picture(preset):
    """Two stuffs and a thing: after 60 steps the map is right in nearly every pixel."""
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    image[0, 32:] += 0.6
    image[1, 8:48, 8:40] += 0.8
    model = small(preset).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = sum(model([image] * 2, [ONE] * 2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = model.eval()([image])
    truth = ONE["semantic"]
    assert ((found["semantic"] == truth) | (truth == 255)).float().mean() > 0.93
    things = [s for s in found["segments"] if s["isthing"]]
    assert [s["label"] for s in things] == [1]
    mask = found["panoptic"] == things[0]["id"]
    assert (mask & ONE["masks"][0]).sum() / (mask | ONE["masks"][0]).sum() > 0.75
    assert sorted(s["label"] for s in found["segments"] if not s["isthing"]) == [1, 2]


@given(st.integers(0, 2**31), st.sampled_from(["grid", "integer"]))
def test_a_pasted_mask_is_no_more_than_a_pixel_out_of_its_box(seed, sampling):
    """The rule looks no further; so it says the same without the boxes."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(6, 2, generator=generator) * 40 - 5
    boxes = torch.cat((corner, corner + 0.3 + torch.rand(6, 2, generator=generator) * 30), 1)
    masks = paste_masks(torch.rand(6, 14, 14, generator=generator), boxes, (40, 48), sampling=sampling)
    found = {"boxes": boxes, "masks": masks, "scores": torch.rand(6, generator=generator), "labels": torch.arange(6)}
    semantic = torch.randint(0, 4, (40, 48), generator=generator)
    plain = fuse(masks, found["scores"], found["labels"], semantic, spec=FUSING.fusion)
    canvas = FUSING.fuse_by_rule(found, semantic)
    assert torch.equal(canvas.panoptic, plain.panoptic)
    assert canvas.segments == plain.segments
