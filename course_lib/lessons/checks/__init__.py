"""Checks of the exercises: `checks.iou(iou)` prints "ok 00-1: 7 checks" or fails with the likely mistake.

One or two modules a lesson; every check is re-exported here under the name of the function that it checks.
"""

from course_lib.lessons.checks.anchors import decode_deltas, match_anchors, shape_anchors, tile_anchors
from course_lib.lessons.checks.backbones import receptive_field, residual_block
from course_lib.lessons.checks.base import CheckFailed, Exercise
from course_lib.lessons.checks.boxes import from_yolo, giou, iou_matrix, nms
from course_lib.lessons.checks.comparing import claims, frontier, latency, luck
from course_lib.lessons.checks.configs import merge, our_name
from course_lib.lessons.checks.conventions import cell_anchors, to_rgb
from course_lib.lessons.checks.focal import class_loss, focal_gradient, focal_loss, prior_bias
from course_lib.lessons.checks.fusion import fill_stuff, place_things
from course_lib.lessons.checks.masks import mask_loss, paste_mask
from course_lib.lessons.checks.measuring import average_recall, error_type, interpolated_precision, match_detections
from course_lib.lessons.checks.panoptic_quality import match_segments, panoptic_quality
from course_lib.lessons.checks.pyramid import fpn_forward, top_down
from course_lib.lessons.checks.regions import align_regions, bilinear_sample, pool_regions, warp_regions
from course_lib.lessons.checks.retinanet_inference import best_candidates, final_detections
from course_lib.lessons.checks.retinanet_losses import anchor_rows, batch_losses
from course_lib.lessons.checks.semantic import semantic_loss, semantic_map
from course_lib.lessons.checks.ssd import match_default_boxes, mine_negatives
from course_lib.lessons.checks.tour import focal_terms, iou, precision_recall
from course_lib.lessons.checks.two_stage import balanced_sample, second_look
from course_lib.lessons.checks.upsnet import instance_logits, panoptic_logits
from course_lib.lessons.checks.yolo import cell_boxes, objectness_targets

__all__ = [
    "CheckFailed",
    "Exercise",
    "align_regions",
    "anchor_rows",
    "average_recall",
    "balanced_sample",
    "batch_losses",
    "best_candidates",
    "bilinear_sample",
    "cell_anchors",
    "cell_boxes",
    "claims",
    "class_loss",
    "decode_deltas",
    "error_type",
    "fill_stuff",
    "final_detections",
    "focal_gradient",
    "focal_loss",
    "focal_terms",
    "fpn_forward",
    "from_yolo",
    "frontier",
    "giou",
    "instance_logits",
    "interpolated_precision",
    "iou",
    "iou_matrix",
    "latency",
    "luck",
    "mask_loss",
    "match_anchors",
    "match_default_boxes",
    "match_detections",
    "match_segments",
    "merge",
    "mine_negatives",
    "nms",
    "objectness_targets",
    "our_name",
    "panoptic_logits",
    "panoptic_quality",
    "paste_mask",
    "place_things",
    "pool_regions",
    "precision_recall",
    "prior_bias",
    "receptive_field",
    "residual_block",
    "second_look",
    "semantic_loss",
    "semantic_map",
    "shape_anchors",
    "tile_anchors",
    "to_rgb",
    "top_down",
    "warp_regions",
]
