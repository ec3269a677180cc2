import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from course_lib.nn.mask_head import MaskHead
from course_lib.ops.masks import mask_loss


@pytest.mark.parametrize("norm", [None, "batch"])
def test_as_torchvision(norm):
    torch.manual_seed(0)
    head = MaskHead(6, num_classes=5, channels=8, depth=3, norm=norm).eval()
    body = MaskRCNNHeads(6, [8] * 3, 1, norm_layer=norm and torch.nn.BatchNorm2d).eval()
    last = MaskRCNNPredictor(8, 8, 5)
    for conv, block in zip(head.convs, body):
        conv.load_state_dict(block[0].state_dict())
    head.upsample.load_state_dict(last.conv5_mask.state_dict())
    head.predictor.load_state_dict(last.mask_fcn_logits.state_dict())
    x = torch.randn(4, 6, 7, 7)
    found = head(x)
    assert found.shape == (4, 5, 14, 14)
    torch.testing.assert_close(found, last(body(x)))


def test_nothing_to_do():
    head = MaskHead(6, num_classes=5, channels=8, depth=1)
    logits = head(torch.zeros(0, 6, 14, 14))
    assert logits.shape == (0, 5, 28, 28)
    loss = mask_loss(logits, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 28, 28))
    assert loss.item() == 0
    loss.backward()  # an image without objects is ordinary


def test_every_cell_starts_undecided():
    torch.manual_seed(0)
    logits = MaskHead(64, num_classes=3, channels=64)(torch.randn(2, 64, 14, 14))
    assert (logits.sigmoid() - 0.5).abs().max() < 0.05


def test_depth_zero():
    assert MaskHead(6, num_classes=2, channels=8, depth=0)(torch.zeros(1, 6, 4, 4)).shape == (1, 2, 8, 8)
