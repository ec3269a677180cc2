import torch
from torch import nn

from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage


class Toy(nn.Module):
    """Says that everything is in the middle of the picture, of a class and a size that it learns."""

    def __init__(self, cfg):
        super().__init__()
        self.masks = cfg.MODEL.MASK_ON
        section = cfg.MODEL.RETINANET if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else cfg.MODEL.ROI_HEADS
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, section.NUM_CLASSES + 1)  # a score for each class, and the logit of the size

    def forward(self, batched_inputs: list[dict]):
        answers = [self._look(x["image"]) for x in batched_inputs]
        if self.training:
            get_event_storage().put_scalar("num_pos_anchors", 1)  # the real ones need a storage, too
            classes = torch.stack([answer[:-1] for answer in answers])
            truth = torch.zeros_like(classes)
            for i, x in enumerate(batched_inputs):
                truth[i, x["instances"].gt_classes] = 1
            return {
                "loss_cls": nn.functional.binary_cross_entropy_with_logits(classes, truth),
                "loss_box_reg": sum((answer[-1] - 1).square() for answer in answers) / len(answers),
            }
        return [{"instances": self._found(answer, x)} for answer, x in zip(answers, batched_inputs)]

    def _look(self, image):
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
        return self.head(self.backbone(image[None] / 255).mean((0, 2, 3)))

    def _found(self, answer, x: dict) -> Instances:
        size = torch.tensor([x["width"], x["height"]])
        half = size / 2 * answer[-1].sigmoid()
        found = Instances(
            (x["height"], x["width"]),
            pred_boxes=Boxes(torch.cat((size / 2 - half, size / 2 + half))[None]),
            pred_classes=answer[:-1].argmax()[None],
            scores=answer[:-1].max().sigmoid()[None],
        )
        if self.masks:
            found.pred_masks = torch.ones(1, x["height"], x["width"], dtype=torch.bool)
        return found


def build_model(cfg) -> nn.Module:
    return Toy(cfg).to(torch.device(cfg.MODEL.DEVICE))
