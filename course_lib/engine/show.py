"""A sheet of pictures from a data set with what is annotated on them."""

from PIL import Image

from course_lib.datasets.coco import CocoDetection
from course_lib.viz.draw import draw_boxes
from course_lib.viz.sheet import side_by_side


def contact_sheet(dataset: CocoDetection, first: int, count: int, *, columns: int = 4) -> Image.Image:
    """`count` images from number `first` on with their boxes, each under its file name.

    Raises:
        ValueError: if the data set has no image of number `first`.
    """
    if first >= len(dataset):
        raise ValueError(f"--first {first}: the data set has {len(dataset)} images")
    indices = range(first, min(first + count, len(dataset)))
    drawn = []
    for i in indices:
        image, target = dataset[i]
        drawn.append(draw_boxes(image, target["boxes"], target["labels"], names=dataset.label_map.names))
    return side_by_side(drawn, [dataset.image_path(i).name for i in indices], columns=columns)
