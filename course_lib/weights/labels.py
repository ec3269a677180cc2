"""COCO's classes, as the two peers count them. Their names travel with torchvision."""

from collections.abc import Sequence

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from course_lib.datasets.label_map import LabelMap

COCO_STUFF = (  # name:category id
    "banner:92 blanket:93 bridge:95 cardboard:100 counter:107 curtain:109 door-stuff:112 floor-wood:118 "
    "flower:119 fruit:122 gravel:125 house:128 light:130 mirror-stuff:133 net:138 pillow:141 platform:144 "
    "playingfield:145 railroad:147 river:148 road:149 roof:151 sand:154 sea:155 shelf:156 snow:159 stairs:161 "
    "tent:166 towel:168 wall-brick:171 wall-stone:175 wall-tile:176 wall-wood:177 water-other:178 "
    "window-blind:180 window-other:181 tree-merged:184 fence-merged:185 ceiling-merged:186 "
    "sky-other-merged:187 cabinet-merged:188 table-merged:189 floor-other-merged:190 pavement-merged:191 "
    "mountain-merged:192 grass-merged:193 dirt-merged:194 paper-merged:195 food-other-merged:196 "
    "building-other-merged:197 rock-merged:198 wall-other-merged:199 rug-merged:200"
)


def coco_stuff() -> LabelMap:
    """The 53 classes of stuff in COCO's panoptic files, in the order of Detectron2's labels 1 … 53."""
    pairs = [entry.split(":") for entry in COCO_STUFF.split()]
    return LabelMap(tuple(name for name, _ in pairs), tuple(int(number) for _, number in pairs))


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
