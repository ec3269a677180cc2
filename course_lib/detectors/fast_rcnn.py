"""R-CNN and Fast R-CNN: a Faster R-CNN's second stage on proposals that come from outside.

Girshick, Donahue, Darrell, Malik: Rich Feature Hierarchies (R-CNN), 2014; Girshick: Fast R-CNN, 2015. Both take
a `FasterRCNN` and leave its RPN aside, so all three can be compared on one network. R-CNN runs the backbone on every
proposal, Fast R-CNN once an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from course_lib.detectors.faster_rcnn import FasterRCNN, select_detections, to_output
from course_lib.nn.preprocess import Batch, rescale_boxes
from course_lib.ops.regions import crop_and_warp


def detect_rcnn(
    model: FasterRCNN,
    images: Tensor | list[Tensor],
    proposals: Sequence[Tensor],
    *,
    side: int,
    crops_at_once: int = 32,
) -> list[dict[str, Tensor]]:
    """Detections by R-CNN's way: backbone, pyramid and second stage see each proposal as an image of its own.

    Args:
        model: whose parts are used.
        images: as for `model`.
        proposals: of each image (R_i, 4), in its pixels.
        side: each proposal is warped to a square of so many pixels, a multiple of the coarsest stride.
        crops_at_once: the backbone's batch.

    Returns:
        as `model` gives in evaluation.
    """
    whole = torch.tensor([[0.0, 0.0, side, side]])
    batch = model.preprocess(images)
    found = []
    for image, size, boxes in zip(batch.images, batch.sizes, _in_the_network(proposals, batch)):
        seen = []
        for crops in crop_and_warp(image[:, : size[0], : size[1]], boxes, side).split(crops_at_once):
            features = model.fpn(model.backbone(crops))
            seen.append(model.box_head(features, [whole] * len(crops) or [boxes]))  # no crops: no boxes either
        logits, deltas = (torch.cat(parts) for parts in zip(*seen))
        found.append(select_detections(logits, deltas, boxes, size, model.box_spec.weights, model.detect_spec))
    return _outputs(found, batch)


def detect_fast_rcnn(
    model: FasterRCNN, images: Tensor | list[Tensor], proposals: Sequence[Tensor]
) -> list[dict[str, Tensor]]:
    """Detections by Fast R-CNN's way: one pass of backbone and pyramid, from whose maps all proposals are cut.

    Args:
        model: whose parts are used.
        images: as for `model`.
        proposals: of each image (R_i, 4), in its pixels.

    Returns:
        as `model` gives in evaluation.
    """
    batch = model.preprocess(images)
    features = model.fpn(model.backbone(batch.images))
    return _outputs(model.detect(features, _in_the_network(proposals, batch), batch.sizes), batch)


def _in_the_network(proposals: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """The proposals in the network's pixels."""
    return [rescale_boxes(p, *sizes) for p, *sizes in zip(proposals, batch.original_sizes, batch.sizes)]


def _outputs(found: list[dict[str, Tensor]], batch: Batch) -> list[dict[str, Tensor]]:
    """The detections in the pixels of the given images."""
    return [to_output(image, *sizes) for image, *sizes in zip(found, batch.sizes, batch.original_sizes)]
