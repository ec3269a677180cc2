import numpy as np
import pytest
import torch
from PIL import ImageColor

from course_lib.viz.palette import INVENTED, MISSED, WRONG, class_color
from course_lib.viz.panoptic import (
    INVENTED_PIXEL,
    MISSED_PIXEL,
    NOT_JUDGED,
    RIGHT,
    WRONG_CLASS,
    _widest_place,
    draw_errors,
    draw_panoptic,
    draw_panoptic_comparison,
    panoptic_errors,
    segment_colors,
)

NAMES, STUFF = ("car", "dog"), ("sky", "road")
GREY = torch.full((3, 40, 60), 0.5)


def thing(number, label, **more):
    return {"id": number, "isthing": True, "label": label} | more


def stuff(number, label, **more):
    return {"id": number, "isthing": False, "label": label} | more


def row(*ids):
    return np.array([ids])


def test_colours_are_stable_for_stuff_and_varied_for_things():
    colors = segment_colors([thing(1, 0), stuff(2, 1), thing(3, 0), thing(4, 1), stuff(5, 2)])
    assert colors[0] == class_color(0)
    assert len(set(colors)) == 5
    assert segment_colors([stuff(9, 1)]) == [colors[1]]
    assert segment_colors([thing(7, 1), thing(8, 0)]) == [colors[3], colors[0]]
    many = segment_colors([thing(i, 0) for i in range(8)])
    assert len(set(many)) == 7
    assert all(len(ImageColor.getrgb(c)) == 3 for c in many)


def test_a_map_over_a_picture():
    ids = np.zeros((40, 60), dtype=np.int32)
    ids[:20], ids[10:30, 10:50] = 4, 7
    picture = draw_panoptic(GREY, ids, [stuff(4, 1), thing(7, 0, score=0.91)], names=NAMES, stuff=STUFF, scale=10)
    assert picture.size == (600, 400)
    pixels = np.asarray(picture).astype(int)
    blend = lambda color: np.rint(0.4 * 128 + 0.6 * np.array(ImageColor.getrgb(color)))  # noqa: E731
    sky, car = segment_colors([stuff(4, 1), thing(7, 0)])
    assert abs(pixels[5, 5] - blend(sky)).max() <= 1
    assert abs(pixels[295, 105] - blend(car)).max() <= 1
    assert abs(pixels[395, 595] - 51).max() <= 1  # void is dark
    plate = (pixels[185:215, 270:330] == ImageColor.getrgb(car)).all(-1)
    assert plate.mean() > 0.3  # its name's
    assert (pixels[100, 200] == 0x22).all()  # an outline
    assert (pixels[99, 200] == pixels[5, 5]).all()


def test_maps_of_void_and_without_names_to_write():
    void = draw_panoptic(GREY, np.zeros((40, 60), int), [], names=NAMES, stuff=STUFF)
    assert np.unique(np.asarray(void)).tolist() == [51]
    tiny = draw_panoptic(torch.zeros(3, 1, 1), np.ones((1, 1), int), [stuff(1, 1)], names=NAMES, stuff=STUFF, scale=1)
    assert tiny.size == (1, 1)
    with pytest.raises(ValueError, match=r"panoptic map: found shape \(40, 61\), expected the image's \(40, 60\)"):
        draw_panoptic(GREY, np.zeros((40, 61), int), [], names=NAMES, stuff=STUFF)


def test_no_name_covers_another():
    ids = np.arange(1, 41)[:, None].repeat(60, 1)
    segments = [thing(i, 0) for i in range(1, 41)]
    picture = np.asarray(draw_panoptic(GREY, ids, segments, names=("a",), stuff=STUFF, scale=2))
    assert picture.shape == (80, 120, 3)


def test_the_widest_place():
    mask = np.zeros((9, 20), dtype=bool)
    mask[4, :12], mask[1:8, 12:19] = True, True
    assert _widest_place(mask) in [(4, 14), (4, 15)]  # the middle of the block
    assert _widest_place(np.ones((1, 1), dtype=bool)) == (0, 0)


def test_every_kind_of_error():
    truth_ids = row(0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6)
    truth = [thing(1, 0, area=4), stuff(2, 1, area=2), thing(3, 0, area=2), thing(4, 1, area=2)]
    truth += [thing(5, 1, area=1, iscrowd=1), stuff(6, 2, area=1)]
    found_ids = row(1, 1, 1, 1, 2, 3, 4, 0, 0, 5, 6, 5, 6)
    found = [thing(1, 0), thing(2, 0), stuff(3, 1), thing(4, 1), thing(5, 1), stuff(6, 2)]
    wanted = row(
        NOT_JUDGED,  # void
        *[RIGHT] * 3,  # three of four: a match
        INVENTED_PIXEL,  # a second car on the same car
        MISSED_PIXEL,  # of the sky one of two pixels: no match at ½
        WRONG_CLASS,  # a dog in the sky
        *[MISSED_PIXEL] * 2,  # void for a car
        MISSED_PIXEL,  # the dog: one of two pixels and a pixel of a crowd
        WRONG_CLASS,  # road on a dog
        NOT_JUDGED,  # a crowd
        MISSED_PIXEL,  # the road matches one of two
    )
    assert panoptic_errors(truth_ids, truth, found_ids, found).tolist() == wanted.tolist()


def test_a_prediction_that_is_the_truth_has_no_error():
    ids = row(1, 1, 2, 2)
    segments = [thing(1, 0, area=2), stuff(2, 1, area=2)]
    assert (panoptic_errors(torch.from_numpy(ids), segments, ids, segments) == RIGHT).all()
    assert (panoptic_errors(ids, segments, row(0, 0, 0, 0), []) == MISSED_PIXEL).all()
    assert (panoptic_errors(row(0, 0, 0, 0), [], ids, segments) == NOT_JUDGED).all()


def test_errors_in_colour():
    errors = np.zeros((40, 60), dtype=np.uint8)
    for code in (RIGHT, WRONG_CLASS, MISSED_PIXEL, INVENTED_PIXEL, NOT_JUDGED):
        errors[8 * code : 8 * code + 8] = code
    pixels = np.asarray(draw_errors(GREY, errors, scale=10)).astype(int)
    assert (pixels[5, 300] == 128).all()
    for code, color in ((WRONG_CLASS, WRONG), (MISSED_PIXEL, MISSED), (INVENTED_PIXEL, INVENTED)):
        wanted = 0.25 * 128 + 0.75 * np.array(ImageColor.getrgb(color))
        assert abs(pixels[80 * code + 40, 300] - wanted).max() <= 1
    assert (pixels[360, 300] == 32).all()
    legend = pixels[400:]
    assert all((legend == ImageColor.getrgb(c)).all(-1).any() for c in (WRONG, MISSED, INVENTED))
    assert (legend[:, -2:] == 255).all()
    nothing = draw_errors(GREY, np.full((40, 60), NOT_JUDGED, dtype=np.uint8))
    assert nothing.width == 540


def test_side_by_side():
    ids = np.ones((40, 60), dtype=np.int32)
    maps = GREY, ids, [stuff(1, 1, area=2400)], ids, [stuff(1, 2, area=2400)]
    sheet = draw_panoptic_comparison(*maps, names=NAMES, stuff=STUFF, scale=5)
    assert sheet.width == 4 * 300 + 3 * 8
    assert (np.asarray(sheet)[sheet.height // 2, 150] == 128).all()  # the picture comes first, as it is
    two_rows = draw_panoptic_comparison(*maps, names=NAMES, stuff=STUFF, scale=5, columns=2)
    assert two_rows.size == (2 * 300 + 8, 2 * sheet.height + 8)
