import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align, roi_pool

from course_lib.nn.roi import PoolSpec, RoIPool, assign_levels


def square(side):
    return [10.0, 20.0, 10.0 + side, 20.0 + side]


@pytest.mark.parametrize("epsilon", ["inside", "outside"])
def test_levels_by_hand(epsilon):
    # 224 px belongs to the level of stride 16; each halving is one level finer, and there the levels end.
    sides = [1, 55, 57, 111, 113, 223, 225, 447, 449, 2000]
    found = assign_levels(torch.tensor([square(s) for s in sides]), (4, 8, 16, 32), PoolSpec(epsilon=epsilon))
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    wide = torch.tensor([[0.0, 0, 448, 112], [0, 0, 0, 0]])  # √(448 · 112) = 224; an empty box is the finest level's
    assert assign_levels(wide, (4, 8, 16, 32), PoolSpec(epsilon=epsilon)).tolist() == [2, 0]


def test_canonical_size_and_fewer_levels():
    boxes = torch.tensor([square(s) for s in (27, 29, 55, 57, 500)])
    assert assign_levels(boxes, (4, 8), PoolSpec(canonical_size=112)).tolist() == [0, 0, 0, 1, 1]
    assert assign_levels(boxes, (8, 16), PoolSpec(canonical_size=56)).tolist() == [0, 0, 0, 1, 1]
    assert assign_levels(boxes[:0], (8, 16), PoolSpec()).shape == (0,)


def test_epsilons_differ_below_the_border():
    """A side a few 10⁻⁷ short of 224: torchvision's epsilon lifts it to the next level, Detectron2's does not."""
    boxes = torch.tensor([[0.0, 0, 223.9999, 223.9999]])
    levels = {e: assign_levels(boxes, (4, 8, 16), PoolSpec(epsilon=e)).item() for e in ("inside", "outside")}
    assert levels == {"inside": 1, "outside": 2}


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown epsilon 'none': expected inside or outside"):
        assign_levels(torch.zeros(1, 4), (4,), PoolSpec(epsilon="none"))
    with pytest.raises(ValueError, match="unknown kind of pooling 'warp': expected align or pool"):
        RoIPool(PoolSpec(kind="warp"), (4,))


def test_align_by_hand():
    # f(y, x) = 4 y + x, read linearly: a bin holds the value at its centre. Box 0 … 4 in two bins: centres 1 and 3,
    # where a cell's centre is at half a cell: positions 0.5 and 2.5.
    ramp = torch.arange(16.0).reshape(1, 1, 4, 4)
    box = [torch.tensor([[0.0, 0, 4, 4]])]
    aligned = RoIPool(PoolSpec(size=2, sampling_ratio=1), (1,))([ramp], box)
    assert aligned[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    # half a cell further on: positions 1 and 3
    shifted = RoIPool(PoolSpec(size=2, sampling_ratio=1, aligned=False), (1,))([ramp], box)
    assert shifted[0, 0].tolist() == [[5, 7], [13, 15]]


def maps(channels=6, batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, 64 // s, 96 // s, generator=generator) for s in (4, 8, 16, 32)]


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) ** 3 * 900 + 1), 1)


BOXES = [random_boxes(40, 1), random_boxes(25, 2)]
STRIDES = (4, 8, 16, 32)


def test_is_torchvisions():
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    wanted = theirs({str(i): x for i, x in enumerate(maps())}, BOXES, [(64, 96)] * 2)
    found = RoIPool(PoolSpec(aligned=False, epsilon="outside"), STRIDES)(maps(), BOXES)
    assert assign_levels(torch.cat(BOXES), STRIDES, PoolSpec()).unique().tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind, operator", [("align", roi_align), ("pool", roi_pool)])
def test_one_level(kind, operator):
    spec = PoolSpec(kind=kind, size=3, sampling_ratio=-1, aligned=False)
    found = RoIPool(spec, (8,))(maps()[1:2], BOXES)
    assert torch.equal(found, operator(maps()[1], BOXES, 3, 1 / 8))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_gradient_on_any_number_of_threads(threads):
    """The same values and gradients, to the last bit, as torchvision's operator on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, theirs = (maps()[0].requires_grad_() for _ in range(2))
        weight = torch.randn(65, 6, 7, 7, generator=torch.Generator().manual_seed(3))
        found, wanted = RoIPool(PoolSpec(), (4,))([ours], BOXES), roi_align(theirs, BOXES, 7, 0.25, 2, True)
        assert torch.equal(found, wanted)
        for x in (found, wanted):
            (x * weight).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_every_level_gets_its_gradient():
    features = [x.requires_grad_() for x in maps()]
    RoIPool(PoolSpec(), STRIDES)(features, BOXES).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in features)


@pytest.mark.parametrize("boxes", [[torch.zeros(0, 4)] * 2, [torch.zeros(0, 4), BOXES[1]]], ids=["none", "one image"])
def test_images_without_boxes(boxes):
    features = [x.requires_grad_() for x in maps()]
    found = RoIPool(PoolSpec(), STRIDES)(features, boxes)
    assert found.shape == (sum(map(len, boxes)), 6, 7, 7)
    found.sum().backward()
    assert features[0].grad is not None


def test_half_precision_in_and_out():
    half = [x.bfloat16() for x in maps()]
    found = RoIPool(PoolSpec(), STRIDES)(half, BOXES)
    assert found.dtype == torch.bfloat16
    wanted = RoIPool(PoolSpec(), STRIDES)([x.float() for x in half], BOXES)
    assert torch.equal(found, wanted.bfloat16())
