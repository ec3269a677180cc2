"""COCO's classes, as the two peers count them. Their names travel with torchvision."""

from collections.abc import Sequence

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from course_lib.datasets.label_map import LabelMap


def coco_labels() -> LabelMap:
    """COCO's 80 classes, 0 … 79, with the category ids 1 … 90 that they have in its files: Detectron2's labels."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    ids = [i for i, name in enumerate(names) if name not in ("__background__", "N/A")]
    return LabelMap(tuple(names[i] for i in ids), tuple(ids))


def torchvision_labels(categories: Sequence[str], num_classes: int) -> LabelMap:
    """The labels of a torchvision detector of COCO, whose outputs stand for category ids, gaps included.

    Args:
        categories: the names in the metadata of its weights, background first.
        num_classes: ours: as many where background is one of the outputs (RetinaNet), one less where it is left out.

    Raises:
        ValueError: if there are neither as many nor one more names than classes.
    """
    first = len(categories) - num_classes
    if first not in (0, 1):
        raise ValueError(f"{len(categories)} names for {num_classes} classes")
    return LabelMap(tuple(categories[first:]), tuple(range(first, len(categories))))
