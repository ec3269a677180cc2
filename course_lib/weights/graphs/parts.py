"""What of a detector becomes a graph: everything that has weights.

A dense detector is one graph, from images to what its heads say. A two-stage detector is cut where the number of boxes
is decided: "dense", from images to the pyramid's maps and the proposals' scores; then, from regions that are cut out
of these maps, "box_head" and "mask_head". What lies between and after, top-k, NMS and RoIAlign, has no weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.detectors.mask_rcnn import MaskRCNN
from course_lib.detectors.panoptic_fpn import PanopticFPN
from course_lib.detectors.retinanet import RetinaNet
from course_lib.detectors.ssd import SSD
from course_lib.detectors.upsnet import UPSNet
from course_lib.detectors.yolo import YOLO

Shape = tuple[int, ...]

DELTAS = "dx, dy in units of the anchor's sides, dw, dh logarithms of ratios of sides"
ANCHORS = "(A, 4): x1, y1, x2, y2 in pixels of the input; row by row of the map, a cell's anchors together"
BACKGROUND_LAST = "softmax gives the probabilities, the last is background"
RETINANET = {
    "class_logits": "(B, A, K): sigmoid gives each class's probability",
    "deltas": f"(B, A, 4): {DELTAS}",
    "anchors": ANCHORS,
}
SSD_OUTPUTS = {
    "class_logits": f"(B, A, K + 1): {BACKGROUND_LAST}",
    "deltas": f"(B, A, 4): divided by preset.loss.delta_weights they are {DELTAS}",
    "anchors": ANCHORS,
}
YOLO_OUTPUTS = {
    "outputs": "(B, A, 5 + K): tx, ty, tw, th, then the logits of the objectness and of each class",
    "slots": "(A, 5): left, top and side of the cell, width and height of the prior, in pixels of the input",
}
PROPOSALS = {
    "features": "(B, C, H, W): the pyramid's map, from which RoIAlign cuts regions as preset.pool says",
    "objectness": "(B, A, 1): sigmoid gives the probability of an object",
    "deltas": f"(B, A, 4): {DELTAS}",
    "anchors": ANCHORS,
}
SEMANTIC = {"semantic_logits": "(B, S + 1, H, W), of the finest map's size: argmax is 0 for a thing, else the stuff"}
UPSNET_SEMANTIC = {"semantic_logits": "(B, S + K, H, W), of the finest map's size: the stuff, then the things"}
BOX_HEAD = {
    "regions": "(R, C, S, S): of the maps `features`, by RoIAlign as preset.pool says",
    "class_logits": f"(R, K + 1): {BACKGROUND_LAST}",
    "deltas": f"(R, K, 4), for each class: divided by preset.boxes.weights they are {DELTAS}",
}
MASK_HEAD = {
    "regions": "(R, C, S, S): of the maps `features`, by RoIAlign as preset.mask_pool says",
    "mask_logits": "(R, K, 2S, 2S), for each class: sigmoid gives each cell's probability",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a detector that makes named tensors of one tensor.

    Attributes:
        name: "dense", "box_head" or "mask_head".
        module: the piece, in evaluation mode; it gives a dict.
        input: the tensor's name.
        shapes: of tensors that it takes; it is traced with the first and tried on the others.
        one_cell: shapes of which the coarsest map is a single cell; ONNX takes them, a program of torch does not.
        free: the axes of the input that may have any size: the number that divides it, and the least multiple of it
            that a program of torch takes.
        draw: makes an input of such a shape, with numbers as they occur.
        about: what the input and the outputs are, by name without the level.
    """

    name: str
    module: nn.Module
    input: str
    shapes: tuple[Shape, ...]
    one_cell: tuple[Shape, ...] = ()
    free: dict[int, tuple[int, int]]
    draw: Callable[[Shape], Tensor]
    about: dict[str, str]


class Named(nn.Module):
    """A method of a module, with names for what it returns.

    Args:
        module: whose weights are used.
        method: from a tensor to tensors, or to lists of one tensor a level.
        names: of what it returns; the rest is left out.
        strides: of the levels; they become part of the names.
    """

    def __init__(self, module: nn.Module, method: str, names: Sequence[str], strides: Sequence[int] = ()):
        super().__init__()
        self.module, self.method = module, method
        self.names, self.strides = tuple(names), tuple(strides)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The tensors by name: `deltas`, or `deltas_stride8`, `deltas_stride16` …."""
        values = getattr(self.module, self.method)(x)
        values = (values,) if isinstance(values, Tensor) else values
        return by_level(dict(zip(self.names, values)), self.strides)


class Proposing(nn.Module):
    """All of a two-stage detector that looks at the whole image: backbone, pyramid, RPN, and a semantic head."""

    def __init__(self, detector: FasterRCNN):
        super().__init__()
        self.backbone, self.fpn, self.rpn = detector.backbone, detector.fpn, detector.rpn
        self.semantic_head = getattr(detector, "semantic_head", None)
        self.strides = detector.rpn.anchors.spec.strides
        self.levels = len(detector.box_head.pool.strides)  # that regions are cut from

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`PROPOSALS`, and the semantic logits where there is such a head."""
        features = self.fpn(self.backbone(images))
        found = dict(zip(("objectness", "deltas", "anchors"), self.rpn.dense(features, tuple(images.shape[-2:]))))
        found = by_level({"features": features[: self.levels]} | found, self.strides)
        return found if self.semantic_head is None else found | {"semantic_logits": self.semantic_head(features)}


def by_level(values: dict[str, Tensor | list[Tensor]], strides: Sequence[int]) -> dict[str, Tensor]:
    """The same tensors, those of a list under names with their levels' strides."""
    found = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            found[name] = value
        else:
            found |= {f"{name}_stride{stride}": level for stride, level in zip(strides, value)}
    return found


def parts_of(model: nn.Module) -> list[Part]:
    """The graphs that a detector becomes, "dense" first.

    Raises:
        ValueError: for a detector of another family.
    """
    match model:
        case RetinaNet():
            strides, about = model.anchors.spec.strides, RETINANET
        case SSD():
            strides, about = model.anchors.spec.strides, SSD_OUTPUTS
        case YOLO():
            strides, about = model.prior_spec.strides, YOLO_OUTPUTS
        case FasterRCNN():
            strides, about = model.rpn.anchors.spec.strides, PROPOSALS | _semantic(model)
        case _:
            raise ValueError(f"a {type(model).__name__} has no graph: expected a detector of `course train`")
    parts = [_dense(model, strides, about)]
    if isinstance(model, FasterRCNN):
        parts.append(_head("box_head", model.box_head, model.fpn, BOX_HEAD))
    if isinstance(model, MaskRCNN):
        parts.append(_head("mask_head", model.mask_head, model.fpn, MASK_HEAD))
    return parts


def _semantic(model: FasterRCNN) -> dict[str, str]:
    if isinstance(model, UPSNet):
        return UPSNET_SEMANTIC
    return SEMANTIC if isinstance(model, PanopticFPN) else {}


def _dense(model: nn.Module, strides: Sequence[int], about: dict[str, str]) -> Part:
    spec = model.preprocess.spec
    images = (
        f"(B, 3, H, W): {'BGR' if spec.bgr else 'RGB'} from 0 to {spec.scale:g}, less {list(spec.mean)}, divided by "
        f"{list(spec.std)}; zeros beyond the picture; "
    )
    if spec.resize == "stretch_float":  # every picture gets this size, for which the default boxes are meant
        shapes, one_cell, free = tuple((batch, 3, *spec.size) for batch in (2, 1, 3)), (), {0: (1, 1)}
        images += f"H, W = {spec.size[0]}, {spec.size[1]}"
    else:
        step = spec.divisor
        least = strides[-1] // step + 1
        side = least * step  # from here on every map has two cells a side
        shapes = (2, 3, 2 * side, 3 * side), (1, 3, side, side), (3, 3, 3 * side, 2 * side)
        one_cell, free = ((1, 3, step, step),), {0: (1, 1), 2: (step, least), 3: (step, least)}
        images += f"H and W are multiples of {step}, in a .pt2 from {side} on"
    outputs = Proposing(model) if isinstance(model, FasterRCNN) else Named(model, "dense", about, strides)
    return Part(
        name="dense",
        module=outputs.eval(),
        input="images",
        shapes=shapes,
        one_cell=one_cell,
        free=free,
        draw=lambda shape: model.preprocess(_random(shape)).images,
        about={"images": images} | about,
    )


def _head(name: str, head: nn.Module, fpn: nn.Module, about: dict[str, str]) -> Part:
    region = fpn.channels, head.pool.spec.size, head.pool.spec.size
    return Part(
        name=name,
        module=Named(head, "predict", [key for key in about if key != "regions"]).eval(),
        input="regions",
        shapes=tuple((count, *region) for count in (2, 1, 3)),
        free={0: (1, 1)},
        draw=_random,
        about=about,
    )


def _random(shape: Shape) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))
