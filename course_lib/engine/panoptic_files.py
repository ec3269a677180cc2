"""A detector's panoptic maps in COCO's format, as the reference tool reads them: a JSON and a folder of PNGs."""

import json
from pathlib import Path

from course_lib.datasets.coco_panoptic import to_segments_info
from course_lib.datasets.label_map import LabelMap
from course_lib.engine.checkpoint import write_text
from course_lib.panoptic.format import write_ids


class PanopticWriter:
    """Writes `NAME.json` and, beside it, the PNGs in the folder `NAME`.

    Args:
        path: of the JSON; the folder is made if it is not there.
        things, stuff_map: the detector's labels.
    """

    def __init__(self, path: Path, things: LabelMap, stuff_map: LabelMap):
        self.path = Path(path)
        self.folder = self.path.with_suffix("")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.things, self.stuff_map = things, stuff_map
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(self, image_id: int, name: str, answer: dict) -> Path:
        """Write one image's PNG, NAME.png; `answer` has `panoptic` and `segments`. Returns its path."""
        height, width = answer["panoptic"].shape
        png = self.folder / f"{name}.png"
        write_ids(png, answer["panoptic"].cpu().numpy())
        self.images.append({"id": image_id, "file_name": png.name, "height": height, "width": width})
        info = to_segments_info(answer["segments"], self.things, self.stuff_map)
        self.annotations.append({"image_id": image_id, "file_name": png.name, "segments_info": info})
        return png

    def close(self) -> None:
        """Write the JSON."""
        categories = [
            {"id": category, "name": name, "isthing": isthing}
            for labels, isthing in ((self.things, 1), (self.stuff_map, 0))
            for category, name in zip(labels.category_ids, labels.names)
        ]
        data = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_text(self.path, json.dumps(data))
