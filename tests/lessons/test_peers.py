import pytest
import torch

from course_lib.lessons.peers import (
    RecordedDetector,
    detectron2_detector,
    detectron2_fusion,
    panopticapi_quality,
)
from course_lib.panoptic.fusion import fuse
from course_lib.panoptic.quality import PanopticQuality


def test_our_fusion_is_detectron2s():
    """Its own masks, scores and semantic map: the same map, the same segments."""
    record = detectron2_fusion()
    assert record.masks.shape == (100, 320, 406)
    canvas = fuse(record.masks, record.scores, record.labels, record.semantic, spec=record.spec)
    assert torch.equal(canvas.panoptic, record.panoptic)
    found = [[s["id"], s["isthing"], s["label"], s.get("instance", -1)] for s in canvas.segments]
    assert found == record.segments.tolist()
    assert len(found) == 35


def test_our_quality_is_panopticapis():
    records = panopticapi_quality()
    assert list(records) == ["by hand", "rectangles", "crowded"]
    for record in records.values():
        quality = PanopticQuality(record.categories)
        quality.add(record.truth_ids, record.truth, record.found_ids, record.found)
        found = {name: [q.pq, q.sq, q.rq] for name, q in quality.summary().items()}
        assert found == {name: pytest.approx(values, abs=1e-12) for name, values in record.expected.items()}
    hand = records["by hand"].expected
    assert (hand["things"], hand["stuff"]) == (pytest.approx([5 / 9, 5 / 6, 2 / 3]), pytest.approx([4 / 5, 4 / 5, 1]))
    assert records["rectangles"].expected["all"][0] == pytest.approx(0.6786874803219071, abs=1e-12)  # as published


def test_the_crowded_image_has_all_that_is_forgiven():
    record = panopticapi_quality()["crowded"]
    quality = PanopticQuality(record.categories)
    matching = quality.add(record.truth_ids, record.truth, record.found_ids, record.found)
    assert min(map(len, (matching.matched, matching.missed, matching.invented, matching.forgiven))) > 1
    assert any(s["iscrowd"] for s in record.truth)
    assert (record.truth_ids == 0).any()


@pytest.mark.parametrize("name, tensors, count", [("retinanet", 301, 99), ("faster_rcnn", 295, 100)])
def test_a_recorded_detector_has_weights_a_picture_and_answers(name, tensors, count):
    """That ours gives the same answers is tested in tests/detectors/test_*_golden.py."""
    record = detectron2_detector(name)
    assert len(record.weights) == tensors
    assert (record.image.shape, record.image.dtype) == ((3, 160, 203), torch.uint8)
    assert record.output_size == (320, 406)
    assert record.boxes.shape == (count, 4)
    assert record.scores.shape == record.labels.shape == (count,)
    assert (record.scores.diff() <= 0).all()


def test_how_far_apart_is_by_hand():
    """The nearest of its class: the edge that moved most, and the score; without one, infinitely far."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 40, 10], [0, 0, 5, 5]])
    weights, image = {}, torch.zeros(3, 8, 8)
    record = RecordedDetector(weights, image, (8, 8), boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2]))
    found = {
        "boxes": torch.tensor([[1.0, 0, 13, 10], [0, 0, 10, 10], [20, 0.5, 40, 10]]),
        "scores": torch.tensor([0.6, 0.5, 0.85]),
        "labels": torch.tensor([0, 1, 1]),
    }
    far, change = record.apart(found)
    assert far.tolist() == [3, 0.5, torch.inf]
    torch.testing.assert_close(change[:2], torch.tensor([0.3, 0.05]))
    none = {key: value[:0] for key, value in found.items()}
    assert record.apart(none)[0].tolist() == [torch.inf] * 3


@pytest.mark.parametrize(
    ("read", "file"),
    [
        (detectron2_fusion, r"detectron2_fusion\.npz"),
        (panopticapi_quality, r"panopticapi_quality\.json"),
        (lambda folder: detectron2_detector("retinanet", folder), r"retinanet\.npz"),
    ],
)
def test_it_says_where_it_looked(read, file, tmp_path):
    with pytest.raises(FileNotFoundError, match=file):
        read(tmp_path)
