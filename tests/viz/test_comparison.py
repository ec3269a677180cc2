import numpy as np
import pytest
import torch
from PIL import ImageColor

from course_lib.viz.comparison import OUTCOMES, draw_comparison, judge
from course_lib.viz.palette import CORRECT, INVENTED, MISSED, WRONG

NAMES = ("car", "van")
LEFT, MIDDLE, RIGHT, BELOW = (10, 10, 30, 30), (40, 10, 60, 30), (70, 10, 90, 30), (10, 50, 30, 70)


def targets(*objects, crowd=None):
    boxes, labels = zip(*objects) if objects else ((), ())
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4).float(), "labels": torch.tensor(labels, dtype=torch.int64)}
    return target if crowd is None else {**target, "iscrowd": torch.tensor(crowd)}


def found(*objects):
    return {**targets(*(o[:2] for o in objects)), "scores": torch.tensor([o[2] for o in objects])}


def test_the_four_outcomes():
    truth = targets((LEFT, 0), (MIDDLE, 1), (RIGHT, 0))
    judgement = judge(truth, found((LEFT, 0, 0.9), (MIDDLE, 0, 0.8), (BELOW, 1, 0.7)))
    assert judgement.outcomes == ("correct", "wrong class", "invented")
    assert judgement.matched.tolist() == [0, 1, -1]
    assert judgement.missed.tolist() == [2]
    assert judgement.counts() == {"correct": 1, "wrong class": 1, "missed": 1, "invented": 1}


def test_a_second_box_on_an_object_is_invented():
    judgement = judge(targets((LEFT, 0)), found((LEFT, 0, 0.5), (LEFT, 0, 0.9)))
    assert judgement.outcomes == ("invented", "correct")  # the best score chooses first


def test_the_right_class_goes_before_a_better_score():
    judgement = judge(targets((LEFT, 0)), found((LEFT, 1, 0.9), (LEFT, 0, 0.2)))
    assert judgement.outcomes == ("invented", "correct")


def test_overlap_decides():
    half = (10, 10, 30, 20)  # IoU 0.5 with LEFT
    assert judge(targets((LEFT, 0)), found((half, 0, 0.9)), iou=0.5).outcomes == ("correct",)
    assert judge(targets((LEFT, 0)), found((half, 0, 0.9)), iou=0.51).outcomes == ("invented",)


def test_each_takes_the_object_it_overlaps_most():
    near = (12, 10, 32, 30)
    judgement = judge(targets((LEFT, 0), (near, 0)), found((near, 0, 0.9), (LEFT, 0, 0.8)))
    assert judgement.matched.tolist() == [1, 0]


def test_a_crowd_is_neither_missed_nor_a_mistake():
    truth = targets(((0, 0, 100, 40), 0), (BELOW, 0), crowd=[1, 0])
    judgement = judge(truth, found((LEFT, 0, 0.9), (RIGHT, 1, 0.8)))
    assert judgement.outcomes == ("ignored", "invented")  # a van in a crowd of cars is a mistake
    assert judgement.missed.tolist() == [1]


EMPTY = [((), (), ()), ((), ((LEFT, 0, 0.9),), ("invented",)), (((LEFT, 0),), (), ())]


@pytest.mark.parametrize(("objects", "boxes", "outcomes"), EMPTY)
def test_empty_sides(objects, boxes, outcomes):
    judgement = judge(targets(*objects), found(*boxes))
    assert judgement.outcomes == outcomes
    assert len(judgement.missed) == len(objects)


def has(picture, color):
    return bool((np.asarray(picture) == ImageColor.getrgb(color)).all(-1).any())


def test_each_outcome_has_its_colour_and_its_line():
    colors, dashes = zip(*OUTCOMES.values())
    assert len(set(colors)) == len(set(dashes)) == 4
    image = torch.full((3, 96, 96), 0.4)
    cases = {
        CORRECT: (targets((LEFT, 0)), found((LEFT, 0, 0.9))),
        WRONG: (targets((LEFT, 0)), found((LEFT, 1, 0.9))),
        MISSED: (targets((LEFT, 0)), found()),
        INVENTED: (targets(), found((LEFT, 0, 0.9))),
    }
    for color, (truth, prediction) in cases.items():
        picture = draw_comparison(image, truth, prediction, NAMES, legend=False)
        assert [has(picture, c) for c in cases] == [c == color for c in cases]


def test_low_scores_are_left_out_and_the_legend_counts():
    image = torch.full((3, 96, 96), 0.4)
    truth, prediction = targets((LEFT, 0)), found((LEFT, 0, 0.9), (BELOW, 0, 0.1))
    bare = draw_comparison(image, truth, prediction, NAMES, min_score=0.5, legend=False)
    assert not has(bare, INVENTED)
    whole = draw_comparison(image, truth, prediction, NAMES, min_score=0.5)
    assert whole.width == bare.width == 480
    assert whole.height > bare.height
    assert (np.asarray(whole)[: bare.height] == np.asarray(bare)).all()
    legend = np.asarray(whole)[bare.height :]
    assert all((legend == ImageColor.getrgb(color)).all(-1).any() for color, _ in OUTCOMES.values())
    assert (legend[:, -2:] == 255).all()  # no text runs out of the picture
    assert (legend[-2:] == 255).all()


@pytest.mark.parametrize("width", [40, 150])
def test_the_legend_breaks_into_rows_under_a_narrow_picture(width):
    sheet = np.asarray(draw_comparison(torch.full((3, 200, width), 0.4), targets(), found(), NAMES, scale=1))
    assert (sheet[:200, :width] == 102).all()
    legend = sheet[200:]
    assert len(legend) >= 4 * 15
    assert (legend[:, -1] == 255).all()  # the sheet is wide enough for the longest entry


def test_names_must_fit():
    with pytest.raises(ValueError, match="label 2: found 2 names"):
        draw_comparison(torch.zeros(3, 96, 96), targets((LEFT, 2)), found(), NAMES)
