"""The model of Detectron2's that stands beside one of ours: as near to it as its configs can say."""

from dataclasses import replace
from typing import Any

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.presets import Preset, get_preset
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.nn.backbones import BLOCKS

BACKBONE = ResNetSpec(  # the smallest that its configs know; from scratch, so that nothing is frozen
    blocks=BLOCKS[18], bottleneck=False, norm="batch", frozen_stages=0, levels=("c2", "c3", "c4", "c5")
)
LEVELS = {"retinanet": 6, "faster_rcnn": 5, "mask_rcnn": 5}  # of its pyramids from stride 4 on, whatever the data
LEARNING_RATE = 1e-3  # peak for AdamW; without norms in its heads, this RetinaNet learns nothing at our 6e-3


def detectron2_preset(fitted: Preset) -> Preset:
    """A preset in Detectron2's conventions that `write_config` can describe, from ours after `engine.plan.fit`.

    It has our input size, channels, heads, anchors, matching and numbers of proposals. It has Detectron2's ResNet-18,
    whole pyramid, losses (GIoU where ours has it), and input in BGR. A level that ours does not have gets anchors
    twice as large as those of the level before it.
    """
    base = get_preset("r50_detectron2", fitted.family)
    sizes = list(fitted.anchors.sizes)
    while len(sizes) < LEVELS[fitted.family]:
        sizes.append(tuple(2 * size for size in sizes[-1]))
    strides = tuple(4 * 2**i for i in range(len(sizes)))
    more: dict[str, Any] = {}
    if fitted.family == "retinanet":
        more |= {"head_depth": fitted.head_depth, "loss": replace(base.loss, box=fitted.loss.box)}
    else:
        ours = fitted.proposals
        more |= {
            "proposals": replace(base.proposals, before_nms=ours.before_nms, after_nms=ours.after_nms),
            "pool": replace(base.pool, sampling_ratio=fitted.pool.sampling_ratio),
            "box_head": replace(base.box_head, widths=fitted.box_head.widths),
            "boxes": replace(base.boxes, samples=fitted.boxes.samples),
        }
    if fitted.family == "mask_rcnn":
        pool = fitted.mask_pool
        more |= {
            "mask_pool": replace(base.mask_pool, size=pool.size, sampling_ratio=pool.sampling_ratio),
            "mask_head": fitted.mask_head,
        }
    return replace(
        base,
        name=f"detectron2_{fitted.name}",
        backbone=BACKBONE,
        channels=fitted.channels,
        anchors=AnchorSpec(sizes=tuple(sizes), ratios=fitted.anchors.ratios, strides=strides),
        matching=fitted.matching,
        input=replace(base.input, size=(min(fitted.input.size), max(fitted.input.size))),
        learning_rate=LEARNING_RATE,
        **more,
    )
