import pytest
import torch

from course_lib.lessons.peers import detectron2_fusion, panopticapi_quality
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


@pytest.mark.parametrize(
    ("read", "file"),
    [(detectron2_fusion, r"detectron2_fusion\.npz"), (panopticapi_quality, r"panopticapi_quality\.json")],
)
def test_it_says_where_it_looked(read, file, tmp_path):
    with pytest.raises(FileNotFoundError, match=file):
        read(tmp_path)
