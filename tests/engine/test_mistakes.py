import pytest
import torch

from course_lib.engine.mistakes import SURE, draw_mistake, worst_mistakes
from course_lib.engine.show import contact_sheet


def plain(target):
    keep = ~target["iscrowd"]
    return target["boxes"].as_subclass(torch.Tensor)[keep], target["labels"][keep]


@pytest.fixture
def perfect(val_data):
    """What a faultless detector says of the four validation images: three with a square and a bar, one empty."""
    outputs = []
    for i in range(len(val_data)):
        boxes, labels = plain(val_data[i][1])
        outputs.append({"boxes": boxes.clone(), "labels": labels.clone(), "scores": torch.full((len(boxes),), 0.9)})
    return outputs


def invented(output, score):
    for key, value in (("boxes", [[1.0, 1, 5, 5]]), ("labels", [0]), ("scores", [score])):
        output[key] = torch.cat((output[key], torch.tensor(value)))


def test_no_mistakes(val_data, perfect):
    assert worst_mistakes(val_data, perfect, count=9) == []


def test_each_kind(val_data, perfect):
    perfect[0]["labels"][0] = 1  # the square of image 0 taken for a bar
    invented(perfect[3], 0.8)
    for key in perfect[2]:
        perfect[2][key] = perfect[2][key][:0]  # nothing found
    found = {m.kind: m for m in worst_mistakes(val_data, perfect, count=9)}
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


def test_unsure_detections_are_not_said(val_data, perfect):
    invented(perfect[3], SURE - 0.01)
    assert worst_mistakes(val_data, perfect, count=9) == []
    perfect[3]["scores"][-1] = SURE
    assert [m.kind for m in worst_mistakes(val_data, perfect, count=9)] == ["invented"]


def test_the_gravest_come_first_a_third_of_each_kind_and_one_an_image(val_data, perfect):
    for output, score in zip(perfect, (0.5, 0.95, 0.7, 0.6)):
        invented(output, score)
        invented(output, score - 0.1)
    found = worst_mistakes(val_data, perfect, count=6)
    assert [(m.kind, m.index) for m in found] == [("invented", 1), ("invented", 2)]
    perfect[1]["boxes"][:2] += 40  # image 1 now also misses its objects, but is shown already
    found = worst_mistakes(val_data, perfect, count=6)
    assert len({m.index for m in found}) == len(found)


def test_drawing(val_data, perfect):
    picture = draw_mistake(val_data, perfect, 0, scale=3)
    assert picture.width >= 3 * 64
    assert picture.height >= 3 * 64


def test_contact_sheet(val_data):
    four = contact_sheet(val_data, 0, 9, columns=2)
    one = contact_sheet(val_data, 3, 9, columns=2)
    assert four.width > 1.8 * one.width
    assert four.height > 1.8 * one.height
    with pytest.raises(ValueError, match="--first 4: the data set has 4 images"):
        contact_sheet(val_data, 4, 1)
