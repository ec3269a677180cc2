import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from course_lib.nn.mask_head import MaskHead
from course_lib.nn.roi import PoolSpec, RoIPool
from course_lib.ops.masks import mask_loss

POOL = RoIPool(PoolSpec(size=7), (4, 8))
MAPS = [torch.randn(2, 6, 16, 20, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
BOXES = [torch.tensor([[3.0, 5, 33, 45], [0, 0, 9, 8]]), torch.tensor([[20.0, 8, 80, 64]])]
NONE = [torch.zeros(0, 4)] * 2


@pytest.mark.parametrize("norm", [None, "batch"])
def test_as_torchvision(norm):
    torch.manual_seed(0)
    head = MaskHead(6, num_classes=5, pool=POOL, channels=8, depth=3, norm=norm).eval()
    body = MaskRCNNHeads(6, [8] * 3, 1, norm_layer=norm and torch.nn.BatchNorm2d).eval()
    last = MaskRCNNPredictor(8, 8, 5)
    for conv, block in zip(head.convs, body):
        conv.load_state_dict(block[0].state_dict())
    head.upsample.load_state_dict(last.conv5_mask.state_dict())
    head.predictor.load_state_dict(last.mask_fcn_logits.state_dict())
    found = head(MAPS, BOXES)
    assert found.shape == (3, 5, 14, 14)
    torch.testing.assert_close(found, last(body(POOL(MAPS, BOXES))))


def test_nothing_to_do():
    head = MaskHead(6, num_classes=5, pool=POOL, channels=8, depth=1)
    logits = head(MAPS, NONE)
    assert logits.shape == (0, 5, 14, 14)
    loss = mask_loss(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 14, 14))
    assert loss.item() == 0
    loss.backward()  # an image without objects is ordinary


def test_every_cell_starts_undecided():
    torch.manual_seed(0)
    logits = MaskHead(6, num_classes=3, pool=POOL, channels=64)(MAPS, BOXES)
    assert (logits.sigmoid() - 0.5).abs().max() < 0.05


def test_depth_zero():
    assert MaskHead(6, num_classes=2, pool=POOL, channels=8, depth=0)(MAPS, BOXES).shape == (3, 2, 14, 14)
