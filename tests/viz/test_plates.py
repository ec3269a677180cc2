import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.viz.plates import place_plates


def place(boxes, size=(20, 10), canvas=(200, 100)):
    return place_plates(np.array(boxes, float), np.array([size] * len(boxes)), canvas).tolist()


def test_a_lone_plate_sits_above_its_box():
    assert place([(50, 40, 90, 70)]) == [[50, 30, 70, 40]]


def test_at_the_top_it_moves_below():
    assert place([(50, 0, 90, 30)]) == [[50, 30, 70, 40]]  # hiding none of the box is better than a part


def test_at_the_right_it_is_moved_in():
    assert place([(190, 40, 199, 70)]) == [[180, 30, 200, 40]]


def test_plates_of_equal_boxes_do_not_cover_each_other():
    plates = np.array(place([(50, 40, 90, 70)] * 6))
    for i, a in enumerate(plates):
        for b in plates[:i]:
            assert (np.minimum(a[2:], b[2:]) <= np.maximum(a[:2], b[:2])).any()


def test_a_small_neighbour_is_not_hidden():
    (x1, y1, x2, y2), _ = place([(50, 40, 90, 70), (52, 31, 60, 39)])
    assert x1 >= 60 or y1 >= 39 or x2 <= 52 or y2 <= 31


def test_no_text_is_no_plate():
    plates = place_plates(np.array([(50, 40, 90, 70)] * 2, float), np.array([(0, 0), (20, 10)]), (200, 100))
    assert plates[1].tolist() == [50, 30, 70, 40]


corner = st.integers(-20, 120)
boxes = st.lists(st.tuples(corner, corner, corner, corner), max_size=12)


@given(boxes, st.integers(1, 64), st.integers(1, 48))
@settings(max_examples=60, deadline=None)
def test_plates_stay_in_the_picture(boxes, width, height):
    boxes = np.sort(np.array(boxes, float).reshape(-1, 2, 2), axis=1).reshape(-1, 4).clip(0, 64)
    plates = place_plates(boxes, np.tile((width, height), (len(boxes), 1)), (64, 48))
    assert plates.shape == (len(boxes), 4)
    assert (plates[:, :2] >= 0).all()
    assert (plates[:, 2:] <= (64, 48)).all()
    assert (plates[:, 2:] - plates[:, :2] == (width, height)).all()
