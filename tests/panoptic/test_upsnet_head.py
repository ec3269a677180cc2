import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.ops.masks import masks_to_boxes, paste_masks
from course_lib.ops.semantic import IGNORE
from course_lib.panoptic.upsnet_head import (
    NOTHING,
    PruneSpec,
    decide,
    draw_known,
    panoptic_logits,
    panoptic_loss,
    panoptic_targets,
    prune,
    things_apart,
    to_canvas,
)

NO_BOXES, NO_LABELS = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
NO_MASKS = torch.zeros(0, 2, 2)


def test_the_logits_by_hand():
    """One stuff and two things on four pixels; two instances of the second thing, one box on the left, one on all."""
    semantic = torch.tensor([[[1.0, 1, 1, 1]], [[0, 0, 3, 0]], [[2, 2, 2, 2]]])
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 4, 1]])
    masks = torch.tensor([[[5.0, -5], [5, -5]], [[-1, 1], [-1, 1]]])
    found = panoptic_logits(semantic, boxes, torch.tensor([1, 1]), masks, 1)
    assert found.tolist() == [
        [[1, 1, 1, 1]],  # stuff as it is
        [[7, -3, 0, 0]],  # 2 + 5, 2 − 5, and nothing outside the box
        [[1, 1.5, 2.5, 3]],  # 2 + the mask between its cells, whose centres are at 1 and 3: −1, −½, ½, 1
        [[0, 0, 1, 0]],  # max(things) − max(what the instances took over): 2 − 2, 2 − 2, 3 − 2, 2 − 2
    ]


def test_a_thing_without_an_instance_is_unknown():
    semantic = torch.tensor([[[0.0, 4]], [[6, 6]]])
    found = panoptic_logits(semantic, torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]), torch.zeros(1, 1, 1), 1)
    assert found.tolist() == [[[0, 4]], [[6, 0]], [[0, 6]]]
    assert found.argmax(0).tolist() == [[1, 2]]


def test_without_instances_stuff_decides():
    semantic = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    found = panoptic_logits(semantic, NO_BOXES, NO_LABELS, NO_MASKS, 3)
    assert found.shape == (4, 6, 7)
    assert torch.equal(found.argmax(0), semantic[:3].argmax(0))
    assert torch.equal(decide(semantic, NO_BOXES, NO_LABELS, NO_MASKS, 3), semantic[:3].argmax(0))


def test_boxes_that_stick_out_or_hold_no_centre():
    semantic = torch.ones(2, 4, 4)
    boxes = torch.tensor([[-4.0, -4, 4, 4], [1.6, 1.6, 2.4, 2.4], [9, 9, 12, 12], [2, 2, 2, 2]])
    found = panoptic_logits(semantic, boxes, torch.zeros(4).long(), torch.full((4, 2, 2), 2.0), 1)
    assert (found[1] == 3).all()
    assert (found[2:5] == 0).all()


@given(st.integers(0, 2**31))
def test_inside_a_box_the_mask_is_as_detectron2_pastes_it(seed):
    """But for the outermost half cell, where Detectron2 falls to 0 and this stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn(2, 7, 7, generator=generator, dtype=torch.float64)
    corner = torch.rand(2, 2, generator=generator, dtype=torch.float64) * 10
    boxes = torch.cat((corner, corner + 8 + torch.rand(2, 2, generator=generator) * 12), 1)
    semantic = torch.zeros(2, 30, 30, dtype=torch.float64)
    found = panoptic_logits(semantic, boxes, torch.zeros(2).long(), masks, 1)[1:3]
    wanted = paste_masks(masks, boxes, (30, 30), threshold=None)
    for ours, theirs, (x1, y1, x2, y2) in zip(found, wanted, boxes.tolist()):
        centre = torch.arange(30) + 0.5
        half = (x2 - x1) / 14, (y2 - y1) / 14
        inner = ((centre > y1 + half[1]) & (centre < y2 - half[1]))[:, None] & (
            (centre > x1 + half[0]) & (centre < x2 - half[0])
        )
        torch.testing.assert_close(ours[inner], theirs[inner])
        outside = ((centre < y1) | (centre > y2))[:, None] | (centre < x1) | (centre > x2)
        assert (ours[outside] == 0).all()


def random_scene(seed, *, size=(150, 20), count=5, dtype=torch.float32):
    """Semantic logits of two stuffs and three things, boxes, labels, mask logits."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * torch.tensor([size[1] - 4, size[0] - 4])
    boxes = torch.cat((corner, corner + 2 + torch.rand(count, 2, generator=generator, dtype=dtype) * 40), 1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    masks = torch.randn(count, 4, 4, generator=generator, dtype=dtype) * 3
    return torch.randn(5, *size, generator=generator, dtype=dtype), boxes, labels, masks


@given(st.integers(0, 2**31), st.integers(0, 8), st.booleans())
def test_the_decision_is_the_argmax(seed, count, whole):
    """Also where values are equal, zeros above all; `whole` numbers are often equal."""
    semantic, boxes, labels, masks = random_scene(seed, size=(14, 20), count=count, dtype=torch.float64)
    if whole:
        semantic, boxes, masks = semantic.round(), boxes.round(), masks.round()[:, :1, :1].expand(-1, 4, 4)
    wanted = panoptic_logits(semantic, boxes, labels, masks, 2).argmax(0)
    assert torch.equal(decide(semantic, boxes, labels, masks, 2), wanted)


def test_all_say_less_than_nothing():
    """Where stuff is negative, an instance wins outside its box, by the 0 that it says there: the first who does."""
    semantic = torch.full((2, 1, 4), -5.0)
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1]])
    masks = torch.full((2, 1, 1), -1.0)
    assert panoptic_logits(semantic, boxes, torch.zeros(2).long(), masks, 1)[1:3].tolist() == [
        [[-6, -6, 0, 0]],
        [[0, -6, -6, 0]],
    ]
    assert decide(semantic, boxes, torch.zeros(2).long(), masks, 1).tolist() == [[2, 3, 1, 1]]


def test_the_gradient():
    semantic, boxes, labels, masks = random_scene(1, size=(5, 6), count=2, dtype=torch.float64)
    semantic.requires_grad_()
    masks.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, m: panoptic_logits(s, boxes, labels, m, 2), (semantic, masks))


def test_every_instance_on_the_same_place():
    """Of equal boxes the mask decides."""
    semantic = torch.zeros(2, 3, 3)
    boxes = torch.tensor([[0.0, 0, 3, 3]] * 3)
    masks = torch.tensor([1.0, 3, 2]).reshape(3, 1, 1)
    assert (decide(semantic, boxes, torch.zeros(3).long(), masks, 1) == 2).all()


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "known"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 7)])
def test_how_many_are_known(count, known):
    drawn = draw_known(count, 0.3, torch.Generator().manual_seed(0))
    assert len(drawn) == known
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert drawn.dtype == torch.int64


def test_every_instance_is_dropped_as_often():
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(10)
    for _ in range(1000):
        counts[draw_known(10, 0.3, generator)] += 1
    assert (counts / 1000 - 0.7).abs().max() < 0.06


SEMANTIC = torch.tensor([[0, 0, 0, 1, 2, IGNORE]])
MASKS = torch.tensor([[[1, 0, 0, 0, 0, 1]], [[1, 1, 0, 1, 0, 0]]], dtype=torch.bool)


def test_targets_by_hand():
    """Two stuffs; the masks overlap at the first pixel, the third is a crowd's; masks count at things alone."""
    labels = torch.tensor([4, 2])
    assert things_apart(SEMANTIC, MASKS, labels, 2).tolist() == [[6, 4, IGNORE, 0, 1, IGNORE]]
    both = panoptic_targets(SEMANTIC, MASKS, torch.tensor([0, 1]), 2)
    assert both.tolist() == [[2, 3, NOTHING, 0, 1, NOTHING]]
    second = panoptic_targets(SEMANTIC, MASKS, torch.tensor([1]), 2)
    assert second.tolist() == [[3, 2, NOTHING, 0, 1, NOTHING]]  # the first is unknown: channel 2 + 1


def test_targets_without_instances():
    none = MASKS[:0]
    assert things_apart(SEMANTIC, none, NO_LABELS, 2).tolist() == [[IGNORE] * 3 + [0, 1, IGNORE]]
    assert panoptic_targets(SEMANTIC, none, NO_LABELS, 2).tolist() == [[NOTHING] * 3 + [0, 1, NOTHING]]


def test_the_loss_counts_pixels_of_all_images():
    logits = [torch.zeros(2, 1, 3), torch.zeros(4, 1, 2)]
    targets = [torch.tensor([[0, 1, NOTHING]]), torch.tensor([[3, NOTHING]])]
    wanted = (2 * torch.tensor(2.0).log() + torch.tensor(4.0).log()) / 3
    assert panoptic_loss(logits, targets).item() == pytest.approx(wanted.item())


def test_the_loss_of_nothing_and_without_instances():
    semantic = torch.zeros(3, 1, 2, requires_grad=True)
    logits = panoptic_logits(semantic, NO_BOXES, NO_LABELS, NO_MASKS, 2)
    nothing = panoptic_loss([logits], [torch.full((1, 2), NOTHING)])
    assert nothing.item() == 0
    loss = panoptic_loss([logits], [torch.tensor([[0, NOTHING]])])
    assert loss.item() == pytest.approx(torch.tensor(2.0).log().item())
    (nothing + loss).backward()
    assert semantic.grad.tolist() == [[[-0.5, 0]], [[0.5, 0]], [[0, 0]]]


# ---- inference -------------------------------------------------------------------------------------------------------


def squares(*places, size=(10, 40)):
    """Masks of 8×8 pixels from these columns on."""
    masks = torch.zeros(len(places), *size, dtype=torch.bool)
    for mask, x in zip(masks, places):
        mask[1:9, x : x + 8] = True
    return masks


def pruned(places, scores, labels, **spec):
    masks = squares(*places)
    spec = PruneSpec(**{"nms": 1.0} | spec)
    return prune(masks_to_boxes(masks), torch.tensor(scores), torch.tensor(labels), masks, spec).tolist()


def test_pruning_by_score_and_number():
    assert pruned([0, 10, 20, 30], [0.7, 0.6, 0.9, 0.8], [0, 0, 0, 0]) == [2, 3, 0]  # 0.6 is not above 0.6
    assert pruned([0, 10, 20, 30], [0.7, 0.6, 0.9, 0.8], [0, 0, 0, 0], instances=2) == [2, 3]
    assert pruned([0], [0.5], [0]) == []


def test_pruning_by_boxes_of_any_class():
    assert pruned([0, 1], [0.7, 0.9], [0, 1], nms=0.5) == [1]


def test_pruning_by_what_is_taken_within_the_class():
    """Three of eight columns are taken, ⅜; two are ¼. Of another class nothing counts."""
    assert pruned([0, 5], [0.7, 0.9], [0, 0]) == [1]
    assert pruned([0, 6], [0.7, 0.9], [0, 0]) == [1, 0]
    assert pruned([0, 5], [0.7, 0.9], [0, 1]) == [1, 0]
    assert pruned([0, 5, 5], [0.9, 0.8, 0.7], [0, 0, 1]) == [0, 2]


def canvas(winners, classes, labels=(), **changes):
    """Two stuffs; labels of the instances, whose scores fall from 0.9 and whose rows count from 10."""
    n = len(labels)
    settings = {"num_stuff": 2, "stuff_share": 0.5, "stuff_area": 2} | changes
    scores = 0.9 - 0.1 * torch.arange(n)
    found = to_canvas(
        torch.tensor([winners]),
        torch.tensor([classes]),
        torch.tensor(labels).long(),
        scores,
        torch.arange(10, 10 + n),
        **settings,
    )
    assert found.panoptic.dtype == torch.int32
    return found


def test_segments_of_the_winners():
    """Stuff 0 twice, stuff 1 once (too small), instance 1 twice, unknown once; instance 0 has no pixel."""
    found = canvas([0, 0, 1, 3, 3, 4], [0, 0, 1, 5, 5, 5], labels=(3, 2))
    assert found.panoptic.tolist() == [[2, 2, 0, 1, 1, 0]]
    assert found.segments == [
        {"id": 1, "isthing": True, "label": 2, "area": 2, "score": pytest.approx(0.8), "instance": 11},
        {"id": 2, "isthing": False, "label": 1, "area": 2},
    ]


def test_a_region_that_is_mostly_stuff_becomes_it():
    found = canvas([1, 2, 2, 2, 2], [1, 1, 1, 5, 4], labels=(0,))
    assert found.panoptic.tolist() == [[1, 1, 1, 1, 1]]  # two of four are stuff 1, the commonest class: half is enough
    assert found.segments == [{"id": 1, "isthing": False, "label": 2, "area": 5}]
    assert canvas([1, 2, 2, 2, 2], [1, 1, 1, 5, 5], labels=(0,), stuff_share=0.6).segments[0]["isthing"]
    assert canvas([2, 2, 2, 2], [1, 1, 4, 4], labels=(0,), stuff_share=0.6).segments[0]["isthing"]
    three = canvas([2, 2, 2, 2], [0, 1, 5, 5], labels=(0,))
    assert three.segments[0]["isthing"]  # two of four are stuff, but of no one class


def test_no_instance_no_segment():
    assert canvas([0, 1], [0, 1]).segments == []
    found = canvas([0, 0], [4, 4], stuff_area=0)
    assert [s["label"] for s in found.segments] == [1]  # and none for the other, which has no pixel


@given(st.integers(0, 2**31), st.integers(0, 6))
def test_every_pixel_has_one_segment_or_none(seed, count):
    semantic, boxes, labels, masks = random_scene(seed, size=(12, 14), count=count)
    winners = decide(semantic, boxes, labels, masks, 2)
    found = to_canvas(
        winners,
        semantic.argmax(0),
        labels,
        torch.rand(count),
        torch.arange(count),
        num_stuff=2,
        stuff_share=0.5,
        stuff_area=20,
    )
    assert sorted(s["id"] for s in found.segments) == list(range(1, len(found.segments) + 1))
    for segment in found.segments:
        assert segment["area"] == (found.panoptic == segment["id"]).sum() > 0
    assert sum(s["area"] for s in found.segments) + (found.panoptic == 0).sum() == 12 * 14
