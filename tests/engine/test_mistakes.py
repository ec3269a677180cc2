import pytest

from course_lib.engine.mistakes import SURE, draw_mistake, worst_mistakes
from course_lib.engine.show import contact_sheet
from tests.engine.outputs import invent, perfect, plain


@pytest.fixture
def outputs(val_data):
    """What a faultless detector says of the four validation images: three with a square and a bar, one empty."""
    return perfect(val_data)


def test_no_mistakes(val_data, outputs):
    assert worst_mistakes(val_data, outputs, count=9) == []


def test_each_kind(val_data, outputs):
    outputs[0]["labels"][0] = 1  # the square of image 0 taken for a bar
    invent(outputs[3], 0.8)
    for key in outputs[2]:
        outputs[2][key] = outputs[2][key][:0]  # nothing found
    found = {m.kind: m for m in worst_mistakes(val_data, outputs, count=9)}
    assert set(found) == {"wrong class", "invented", "missed"}
    assert (found["wrong class"].index, found["wrong class"].text) == (0, "square taken for bar 0.90")
    assert found["wrong class"].weight == pytest.approx(0.9)
    assert (found["invented"].index, found["invented"].text) == (3, "invented square 0.80")
    missed = found["missed"]
    boxes, labels = plain(val_data[2][1])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    largest = int(areas.argmax())
    assert missed.index == 2
    assert missed.text == f"missed {('square', 'bar')[labels[largest]]}"
    assert missed.weight == pytest.approx(areas[largest].item() ** 0.5 / 64)


def test_unsure_detections_are_not_said(val_data, outputs):
    invent(outputs[3], SURE - 0.01)
    assert worst_mistakes(val_data, outputs, count=9) == []
    outputs[3]["scores"][-1] = SURE
    assert [m.kind for m in worst_mistakes(val_data, outputs, count=9)] == ["invented"]


def test_the_gravest_come_first_a_third_of_each_kind_and_one_an_image(val_data, outputs):
    for output, score in zip(outputs, (0.5, 0.95, 0.7, 0.6)):
        invent(output, score)
        invent(output, score - 0.1)
    found = worst_mistakes(val_data, outputs, count=6)
    assert [(m.kind, m.index) for m in found] == [("invented", 1), ("invented", 2)]
    outputs[1]["boxes"][:2] += 40  # image 1 now also misses its objects, but is shown already
    found = worst_mistakes(val_data, outputs, count=6)
    assert len({m.index for m in found}) == len(found)


def test_drawing(val_data, outputs):
    picture = draw_mistake(val_data, outputs, 0, scale=3)
    assert picture.width >= 3 * 64
    assert picture.height >= 3 * 64


def test_contact_sheet(val_data):
    four = contact_sheet(val_data, 0, 9, columns=2)
    one = contact_sheet(val_data, 3, 9, columns=2)
    assert four.width > 1.8 * one.width
    assert four.height > 1.8 * one.height
    with pytest.raises(ValueError, match="--first 4: the data set has 4 images"):
        contact_sheet(val_data, 4, 1)
