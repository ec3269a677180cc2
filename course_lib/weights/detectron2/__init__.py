"""Detectron2's weights in our models: where each of its names lives here."""

from course_lib.weights.detectron2.backbone import fpn
from course_lib.weights.detectron2.faster_rcnn import load_faster_rcnn
from course_lib.weights.detectron2.mask_rcnn import load_mask_rcnn
from course_lib.weights.detectron2.panoptic_fpn import load_panoptic_fpn
from course_lib.weights.detectron2.retinanet import load_retinanet

__all__ = ["fpn", "load_faster_rcnn", "load_mask_rcnn", "load_panoptic_fpn", "load_retinanet"]
