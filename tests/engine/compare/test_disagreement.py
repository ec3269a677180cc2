from course_lib.engine.compare.disagreement import disagreements, draw_disagreement, to_prediction
from course_lib.engine.compare.judge import best_detections
from tests.engine.compare.test_judge import results_of
from tests.engine.outputs import invent, perfect


def said_by(dataset, *, lose=(), inventions=()):
    """Perfect detections but for some images, by image id as text."""
    outputs = perfect(dataset)
    for index in lose:
        outputs[index] = {key: value[:0] for key, value in outputs[index].items()}
    for index in inventions:
        invent(outputs[index], 0.9)
    return best_detections(results_of(dataset, outputs), 99)


def test_models_that_agree_disagree_nowhere(val_data):
    assert disagreements(val_data, {"a": said_by(val_data), "b": said_by(val_data)}, count=9) == []


def test_what_counts_as_disagreement(val_data):
    said = {"a": said_by(val_data, lose=[1]), "b": said_by(val_data, inventions=[2]), "c": said_by(val_data)}
    found = disagreements(val_data, said, count=9)
    assert [(d.index, d.score) for d in found] == [(1, 4), (2, 1)]  # two objects × two of three; one invention
    assert found[0].text == "of 2 objects: a 0 and 0 invented, b 2 and 0 invented, c 2 and 0 invented"
    assert found[1].text.endswith("b 2 and 1 invented, c 2 and 0 invented")
    assert disagreements(val_data, said, count=1) == found[:1]


def test_an_invention_of_all_is_none(val_data):
    said = {name: said_by(val_data, inventions=[3]) for name in "ab"}
    assert disagreements(val_data, said, count=9) == []


def test_predictions_of_an_image_without_any(val_data):
    empty = to_prediction([], val_data)
    assert {key: value.shape for key, value in empty.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}


def test_the_picture_shows_every_model(val_data):
    said = {"a": said_by(val_data, lose=[1]), "b": said_by(val_data)}
    picture = draw_disagreement(val_data, said, 1)
    assert picture.width > 2 * 64
    assert picture.height > 64
