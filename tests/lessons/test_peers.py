import pytest
import torch

from course_lib.lessons.peers import detectron2_fusion
from course_lib.panoptic.fusion import fuse


def test_our_fusion_is_detectron2s():
    """Its own masks, scores and semantic map: the same map, the same segments."""
    record = detectron2_fusion()
    assert record.masks.shape == (100, 320, 406)
    canvas = fuse(record.masks, record.scores, record.labels, record.semantic, spec=record.spec)
    assert torch.equal(canvas.panoptic, record.panoptic)
    found = [[s["id"], s["isthing"], s["label"], s.get("instance", -1)] for s in canvas.segments]
    assert found == record.segments.tolist()
    assert len(found) == 35


def test_it_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"detectron2_fusion\.npz"):
        detectron2_fusion(tmp_path)
