"""torchvision's detection weights in our models: where each of its names lives here."""

from course_lib.weights.torchvision.faster_rcnn import faster_rcnn_from_torchvision, faster_rcnn_preset
from course_lib.weights.torchvision.mask_rcnn import mask_rcnn_from_torchvision, mask_rcnn_preset
from course_lib.weights.torchvision.retinanet import retinanet_from_torchvision, retinanet_preset
from course_lib.weights.torchvision.ssd import ssd_from_torchvision

__all__ = [
    "faster_rcnn_from_torchvision",
    "faster_rcnn_preset",
    "mask_rcnn_from_torchvision",
    "mask_rcnn_preset",
    "retinanet_from_torchvision",
    "retinanet_preset",
    "ssd_from_torchvision",
]
