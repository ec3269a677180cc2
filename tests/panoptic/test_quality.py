import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.panoptic.quality import PanopticQuality, Quality, intersections, match_segments

CATEGORIES = [{"id": 1, "isthing": 1}, {"id": 2, "isthing": 1}, {"id": 9, "isthing": 0}]


def annotated(rows, categories, crowds=()):
    """A map of ids, and its segments with the category of each id."""
    ids = np.array(rows)
    segments = [
        {"id": i, "category_id": c, "area": int((ids == i).sum()), "iscrowd": int(i in crowds)}
        for i, c in categories.items()
    ]
    return ids, segments


def judged(truth, found, **options) -> PanopticQuality:
    quality = PanopticQuality(CATEGORIES, **options)
    quality.add(*truth, *found)
    return quality


def test_pq_by_hand():
    # Truth: a thing of 4 pixels, stuff of 6. Prediction: the thing has 3 of them and nothing else, IoU 3/4; the stuff
    # has its 6 and the one that the thing lost, IoU 6/7. A second thing that is not there has 2 of the void pixels' 2.
    truth = annotated([[1, 1, 2, 2], [1, 1, 2, 2], [2, 2, 0, 0]], {1: 1, 2: 9})
    found = annotated([[5, 5, 6, 6], [5, 6, 6, 6], [6, 6, 7, 7]], {5: 1, 6: 9, 7: 2})
    quality = judged(truth, found)
    assert quality.summary() == {
        "all": Quality(pytest.approx((3 / 4 + 6 / 7) / 2), pytest.approx((3 / 4 + 6 / 7) / 2), 1.0, 2),
        "things": Quality(0.75, 0.75, 1.0, 1),
        "stuff": Quality(pytest.approx(6 / 7), pytest.approx(6 / 7), 1.0, 1),
    }
    assert match_segments(*truth, *found).forgiven == [7]


def test_sq_times_rq():
    # Class 1: one match of IoU 1, one missed, two invented: SQ 1, RQ 1 / (1 + ½ + 1) = 0.4.
    truth = annotated([[1, 2, 9, 9]], {1: 1, 2: 1, 9: 9})
    found = annotated([[1, 0, 3, 4]], {1: 1, 3: 1, 4: 1})
    assert judged(truth, found).per_class()[1] == Quality(0.4, 1.0, 0.4, 1)


def test_an_iou_of_one_half_is_no_match():
    truth, found = annotated([[1, 1, 9, 9]], {1: 1, 9: 9}), annotated([[1, 3, 3, 3]], {1: 1, 3: 9})
    result = match_segments(*truth, *found)
    assert result.matched == [(9, 3, 2 / 3)]  # the thing: 1 / 2
    assert (result.missed, result.invented) == ([1], [1])


def test_void_leaves_the_union():
    # 2 shared pixels, 2 more on void: IoU 2 / 2.
    assert match_segments(*annotated([[1, 1, 0, 0]], {1: 1}), *annotated([[4, 4, 4, 4]], {4: 1})).matched == [(1, 4, 1)]


@pytest.mark.parametrize(("on_void", "forgiven"), [(2, False), (3, True)])
def test_more_than_half_on_void_is_forgiven(on_void, forgiven):
    truth = annotated([[0] * on_void + [1] * (4 - on_void) + [1] * 6], {1: 1})
    found = annotated([[8] * 4 + [0] * 6], {8: 1})
    result = match_segments(*truth, *found)
    assert (result.forgiven == [8]) == forgiven
    assert (result.invented == [8]) != forgiven
    assert result.missed == [1]


def test_crowds():
    """Two crowds of class 1; a prediction on both, half and half."""
    truth = annotated([[1, 1, 2, 2, 3, 3]], {1: 1, 2: 1, 3: 2}, crowds={1, 2})
    found = annotated([[5, 5, 5, 5, 6, 6]], {5: 1, 6: 2})
    assert match_segments(*truth, *found).forgiven == [5]
    assert match_segments(*truth, *found).missed == []  # a crowd is never missed …
    alone = annotated([[5, 5, 0, 0, 6, 6]], {5: 1, 6: 2})
    assert match_segments(*truth, *alone).matched == [(3, 6, 1.0)]  # … nor matched
    result = match_segments(*truth, *found, crowds="last")
    assert result.invented == [5]  # panopticapi remembers the last region alone, and half is not more than half
    other = annotated([[5, 5, 5, 5, 6, 6]], {5: 2, 6: 2})
    assert match_segments(*truth, *other).invented == [5]  # a crowd of another class excuses nothing


def test_groups_without_a_class():
    quality = judged(annotated([[1, 1]], {1: 1}), annotated([[1, 1]], {1: 1}))
    assert quality.summary()["stuff"].classes == 0
    assert math.isnan(quality.summary()["stuff"].pq)
    assert quality.to_dict()["stuff"] == {"pq": None, "sq": None, "rq": None, "classes": 0}
    assert json.loads(json.dumps(quality.to_dict(), allow_nan=False))["per_class"]["2"]["pq"] is None
    nothing = PanopticQuality(CATEGORIES).summary()
    assert all(math.isnan(q.pq) and q.classes == 0 for q in nothing.values())


def test_all_void():
    empty = np.zeros((3, 4), int), []
    assert judged(empty, empty).summary()["all"].classes == 0
    assert judged(annotated([[1, 1]], {1: 1}), (np.zeros((1, 2), int), [])).per_class()[1] == Quality(0, 0, 0, 1)
    assert match_segments(np.zeros((0, 5), int), [], np.zeros((0, 5), int), []).matched == []


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (annotated([[1, 1, 1]], {1: 1}), "the maps differ in size: 4×1 and 3×1 pixels"),
        (annotated([[1, 1, 1, 8]], {1: 1}), "1 pixels have id 8 or the like, but no such segment is listed"),
        (annotated([[1, 1, 1, 1]], {1: 1, 7: 2}), "segment 7 is listed, but no pixel has this id"),
        (annotated([[1, 1, 1, 1]], {1: 3}), "segment 1 has category_id 3, which is unknown"),
        ((np.ones((1, 4), int), [{"id": 1, "category_id": 1}] * 2), r"ids \[1, 1\]: expected each once"),
        ((np.ones((1, 4), int), [{"id": 0, "category_id": 1}]), "none of them 0, which is void"),
    ],
)
def test_maps_and_lists_that_do_not_belong_together(found, message):
    truth = annotated([[1, 1, 1, 1]], {1: 1})
    with pytest.raises(ValueError, match=message):
        judged(truth, found)


def test_an_unknown_rule_of_crowds():
    with pytest.raises(ValueError, match="crowds: found 'first', expected one of all, last"):
        judged(annotated([[1]], {1: 1}), annotated([[1]], {1: 1}), crowds="first")


ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=40)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_intersections_against_counting(pixels):
    a, b = np.array(pixels).T
    a_ids, b_ids = sorted(set(a.tolist()) - {0}, reverse=True), sorted(set(b.tolist()) - {0})
    shared = intersections(a[None], a_ids, b[None], b_ids)
    wanted = [[int(((a == i) & (b == j)).sum()) for j in (0, *b_ids)] for i in (0, *a_ids)]
    assert shared.tolist() == wanted


@given(ROWS, ROWS, st.randoms())
def test_properties(first, second, random):
    """A map against itself is perfect; nothing exceeds 1; every segment is counted once; ids do not matter."""
    length = min(len(first), len(second))
    kinds = {i: random.choice([1, 2, 9]) for i in range(1, 6)}
    truth, found = (
        annotated([row[:length]], {i: kinds[i] for i in sorted(set(row[:length]) - {0})}) for row in (first, second)
    )
    for q in judged(truth, truth).per_class().values():
        assert q.classes == 0 or (q.pq, q.sq, q.rq) == (1, 1, 1)
    result = match_segments(*truth, *found)
    assert len(result.matched) + len(result.missed) == len(truth[1])
    assert len(result.matched) + len(result.invented) + len(result.forgiven) == len(found[1])
    assert all(0.5 < iou <= 1 for _, _, iou in result.matched)
    renamed = found[0] * 1000, [s | {"id": s["id"] * 1000} for s in found[1]]
    assert judged(truth, renamed).to_dict() == judged(truth, found).to_dict()


def test_merging_is_counting_on():
    one = annotated([[1, 1, 2, 9]], {1: 1, 2: 2, 9: 9}), annotated([[1, 2, 2, 9]], {1: 1, 2: 2, 9: 9})
    two = annotated([[1, 9, 9, 9]], {1: 1, 9: 9}), annotated([[1, 1, 1, 9]], {1: 2, 9: 9})
    together, first, second = (PanopticQuality(CATEGORIES) for _ in range(3))
    for quality, pairs in ((together, (one, two)), (first, (one,)), (second, (two,))):
        for pair in pairs:
            quality.add(*pair[0], *pair[1])
    first.merge(second)
    assert first.to_dict() == together.to_dict()
