import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.ops import kmeans
from course_lib.ops.boxes import box_iou
from course_lib.ops.kmeans import kmeans_anchors, lloyd, mean_best_iou, shape_iou


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shapes(count, seed=0):
    return torch.rand(count, 2, generator=generator(seed), dtype=torch.float64) * 60 + 3


def test_shape_iou_by_hand():
    # 10×20 and 20×10 share 10×10 of 200 + 200 − 100; 10×10 lies within 10×20.
    found = shape_iou(torch.tensor([[10.0, 20.0]]), torch.tensor([[20.0, 10.0], [10.0, 10.0], [10.0, 20.0]]))
    assert found.tolist() == [[pytest.approx(1 / 3), 0.5, 1.0]]
    assert shape_iou(torch.zeros(0, 2), torch.ones(3, 2)).shape == (0, 3)


def test_shape_iou_is_the_iou_of_boxes_on_one_centre():
    a, b = shapes(7), shapes(5, 1)
    boxes = [torch.cat((-x / 2, x / 2), 1) for x in (a, b)]
    torch.testing.assert_close(shape_iou(a, b), box_iou(*boxes))


def test_mean_best_iou_by_hand():
    data = torch.tensor([[10.0, 10.0], [10.0, 20.0]])
    assert mean_best_iou(data, torch.tensor([[10.0, 10.0]])) == 0.75
    assert mean_best_iou(data, torch.tensor([[10.0, 10.0]]), torch.tensor([3.0, 1.0])) == 0.875
    assert mean_best_iou(data, data) == 1


def test_one_mean_by_hand():
    data = torch.tensor([[10.0, 20.0], [14.0, 24.0], [12.0, 22.0]])
    assert kmeans_anchors(data, 1, generator=generator()).tolist() == [[12, 22]]


def test_clusters_that_are_plain_to_see():
    centres = torch.tensor([[8.0, 8], [10, 40], [40, 10], [50, 60]])
    data = (centres[:, None] + torch.tensor([[-1.0, 0], [1, 0], [0, 1], [0, -1]])).reshape(-1, 2)
    for seed in range(5):
        found = kmeans_anchors(data, 4, generator=generator(seed))
        assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in centres.tolist()}
        assert found[0].tolist() == [8, 8] and found[3].tolist() == [50, 60]  # by rising area


def test_large_shapes_do_not_draw_all_the_centres():
    """Under 1 − IoU small and large count alike; by Euclid's distance 4, 12 and 100 would be one cluster."""
    data = torch.tensor([[4.0, 4], [12, 12], [100, 100], [200, 200]])
    for seed in range(5):
        found = kmeans_anchors(data, 2, generator=generator(seed))
        assert shape_iou(data, found).argmax(1).tolist() == [0, 0, 1, 1]


def test_weights_count_as_copies():
    data, start = torch.tensor([[10.0, 10], [20, 20], [60, 20]]), torch.tensor([[30.0, 30]])
    copied = lloyd(torch.cat((data, data[:1], data[:1])), start, torch.ones(5))
    assert torch.equal(lloyd(data, start, torch.tensor([3.0, 1, 1])), copied)
    assert copied.tolist() == [[22, 14]]  # (3 · 10 + 20 + 60) / 5 and (3 · 10 + 20 + 20) / 5


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 1000))
def test_what_always_holds(k, count, seed):
    data = shapes(count, seed)
    found = kmeans_anchors(data, k, generator=generator(seed))
    assert found.shape == (k, 2) and found.dtype == data.dtype
    area = found.prod(1)
    assert (area[1:] >= area[:-1]).all()
    assert (found >= data.amin(0) - 1e-9).all() and (found <= data.amax(0) + 1e-9).all()
    assert torch.equal(found, kmeans_anchors(data, k, generator=generator(seed)))
    torch.testing.assert_close(found * 7, kmeans_anchors(data * 7, k, generator=generator(seed)))  # no unit matters


def test_more_anchors_and_more_starts_fit_better():
    data = shapes(500)
    fits = [mean_best_iou(data, kmeans_anchors(data, k, generator=generator())) for k in (1, 3, 9)]
    assert fits == sorted(fits)
    assert mean_best_iou(data, kmeans_anchors(data, 9, generator=generator(), starts=1)) <= fits[-1]


def test_lloyd_by_hand():
    # 10×10 keeps itself and 10×12, 40×40 the two large ones; then nothing moves any more.
    data = torch.tensor([[10.0, 10], [10, 12], [40, 40], [50, 40]])
    assert lloyd(data, data[[0, 2]], torch.ones(4)).tolist() == [[10, 11], [45, 40]]


def test_lloyd_stops_after_so_many_rounds(monkeypatch):
    monkeypatch.setattr(kmeans, "ROUNDS", 1)
    data = torch.tensor([[10.0, 10], [20, 20]])
    assert lloyd(data, data[:1], torch.ones(2)).tolist() == [[15, 15]]


def test_a_centre_without_shapes_starts_anew():
    data = torch.tensor([[4.0, 4], [4, 4], [30, 30], [90, 10]])
    # No shape is nearest to 200×200; 90×10 fits its centre 30×30 worst: IoU 300 / 1500.
    found = lloyd(data, torch.tensor([[4.0, 4], [30, 30], [200, 200]]), torch.ones(4))
    assert found.tolist() == [[4, 4], [30, 30], [90, 10]]


def test_fewer_shapes_than_anchors():
    found = kmeans_anchors(torch.tensor([[5.0, 7.0]]), 3, generator=generator())
    assert found.tolist() == [[5, 7]] * 3


@pytest.mark.parametrize(
    "data, k, message",
    [
        (torch.zeros(0, 2), 3, r"found shapes \(0, 2\) and k 3"),
        (torch.ones(4, 4), 3, r"found shapes \(4, 4\)"),
        (torch.ones(4), 3, r"found shapes \(4,\)"),
        (torch.ones(4, 2), 0, "k 0, expected"),
        (torch.tensor([[1.0, 0.0]]), 1, "not positive and finite"),
        (torch.tensor([[1.0, torch.inf]]), 1, "not positive and finite"),
    ],
)
def test_what_is_refused(data, k, message):
    with pytest.raises(ValueError, match=message):
        kmeans_anchors(data, k, generator=generator())
