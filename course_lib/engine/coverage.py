"""Coverage: which objects of a data set have an anchor that fits, and what to change for those that have none.

An object that no anchor overlaps well is hardly learnt or not at all, and nothing says so: the loss falls, and AP of
its kind stays near 0. Boxes and sizes in the annotations are enough to know it before the training; no image is opened.

    found = coverage(train_data, preset.anchors, preset.input, preset.matching)
    print(found)            # the report, with the worst objects by name
    found.reached           # (N,) bool, one for each object

Objects are measured as they are annotated, in the network's pixels. Augmentation moves them about from there.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.images import scaled_size
from course_lib.detectors.anchor_pyramid import AnchorSpec, pyramid_anchors
from course_lib.detectors.targets import MatchSpec
from course_lib.nn.preprocess import InputSpec, Size, network_size, rescale_boxes
from course_lib.ops.anchors import cell_anchors
from course_lib.ops.boxes import box_iou, xyxy_to_cxcywh
from course_lib.ops.matching import best_below, judge

CHUNK = 2**21  # IoUs worked on at a time: with their temporaries some 30 MB
SIZES = (8, 16, 32, 64, 128, 256, 512)  # px, edges of the groups by size
RATIOS = (1 / 3, 2 / 3, 3 / 2, 3)  # edges of the groups by height / width

# What would help an object that no anchor reaches, the cheapest first; `Coverage.advice` says it of one object.
REMEDIES = {
    "stride": "an anchor of such a shape is there, but its level's stride is too coarse",
    "size": "another anchor size",
    "ratio": "another anchor ratio",
    "shape": "another anchor size and ratio",
    "grid": "a finer stride or a larger input: so small an object lies between the grid points",
}


@dataclass(frozen=True)
class Group:
    """Objects of one kind.

    Attributes:
        name: "8 to 16 px", "person".
        objects: how many there are.
        reached: share of them with an anchor at IoU ≥ the matching's `high`, 0 … 1.
        best: median of their best IoU.
        positives: median number of anchors that learn one of them.
        unlearnt: how many are learnt by no anchor at all.
    """

    name: str
    objects: int
    reached: float
    best: float
    positives: float
    unlearnt: int


@dataclass(frozen=True, eq=False)
class Coverage:
    """What `coverage` found: one row for each of N objects, image after image, without crowds.

    Attributes:
        anchors, matching: what was asked about.
        names: of the classes, by label.
        images, crowds: how many images, and how many crowd regions, which are left out as in training.
        image_ids, annotation_ids, labels: (N,) int64.
        boxes: (N, 4) xyxy in the network's pixels.
        inputs: (N, 2) height and width of the object's padded image, in the network's pixels.
        best: (N,) largest IoU with any anchor.
        positives: (N,) number of anchors that learn the object, after thresholds, competition with its neighbours and,
            where the matching has them, low-quality matches.
    """

    anchors: AnchorSpec
    matching: MatchSpec
    names: tuple[str, ...]
    images: int
    crowds: int
    image_ids: np.ndarray
    annotation_ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    inputs: np.ndarray
    best: np.ndarray
    positives: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """(N,) bool: has an anchor at IoU ≥ `matching.high`."""
        return self.best >= self.matching.high

    @property
    def sizes(self) -> np.ndarray:
        """(N,) square root of the area, network pixels."""
        return np.sqrt((self.boxes[:, 2:] - self.boxes[:, :2]).prod(1))

    @property
    def ratios(self) -> np.ndarray:
        """(N,) height / width."""
        width, height = (self.boxes[:, 2:] - self.boxes[:, :2]).T
        return height / width

    def by(self, kind: str) -> list[Group]:
        """The objects in groups, those without objects left out.

        kind: "size" (square root of the area, network pixels), "ratio" (height / width) or "class".
        Raises ValueError for another.
        """
        match kind:
            case "size":
                places, names = np.searchsorted(SIZES, self.sizes, side="right"), _between(SIZES, "{:g}", " px")
            case "ratio":
                places, names = np.searchsorted(RATIOS, self.ratios, side="right"), _between(RATIOS, "{:.2f}", "")
            case "class":
                places, names = self.labels, list(self.names)
            case _:
                raise ValueError(f"by: found {kind!r}, expected 'size', 'ratio' or 'class'")
        return [self._group(name, places == k) for k, name in enumerate(names) if (places == k).any()]

    def total(self) -> Group:
        """All objects as one group."""
        return self._group("all", np.ones(len(self.best), dtype=bool))

    def misses(self) -> np.ndarray:
        """Rows of the objects that no anchor reaches, the worst first."""
        rows = np.flatnonzero(~self.reached)
        return rows[np.argsort(self.best[rows], kind="stable")]

    def remedies(self, rows: np.ndarray) -> list[str]:
        """For each of these rows the key of REMEDIES that would bring its best IoU to `matching.high`.

        The change that costs least is named: shapes before grids. Each is tried on the object at its own place.
        """
        boxes, inputs = torch.from_numpy(self.boxes[rows]), torch.from_numpy(self.inputs[rows])
        cx, cy, width, height = (v[:, None] for v in xyxy_to_cxcywh(boxes).unbind(1))  # (M, 1) each
        size, ratio = (width * height).sqrt(), height / width
        have, root = _Cells.of(self.anchors), torch.tensor(self.anchors.ratios).sqrt()
        fine = min(self.anchors.strides)

        def reaches(w: Tensor, h: Tensor, stride: Tensor | float) -> Tensor:
            return _placed_iou((cx, cy, width, height), (w, h), stride, inputs) >= self.matching.high  # (M, A)

        helps = {
            "stride": reaches(have.width, have.height, fine) & (have.stride > fine),
            "size": reaches(size / root, size * root, fine),
            "ratio": reaches(have.size / ratio.sqrt(), have.size * ratio.sqrt(), have.stride),
            "shape": reaches(width, height, fine),
        }
        helps = {remedy: each.any(1).tolist() for remedy, each in helps.items()}
        return [next((r for r, help in helps.items() if help[k]), "grid") for k in range(len(rows))]

    def advice(self, row: int) -> str:
        """What would help the object of this row, with its numbers."""
        size, ratio = float(self.sizes[row]), float(self.ratios[row])
        have = sorted(s for level in self.anchors.sizes for s in level)
        kind = "a smaller" if size < have[0] else "a larger" if size > have[-1] else "one more"
        match self.remedies(np.array([row]))[0]:
            case "stride":
                cells = _Cells.of(self.anchors)
                near = int((cells.size.log() - np.log(size)).abs().argmin())
                return f"anchor size {cells.size[near]:.0f} on a stride finer than {cells.stride[near]:g} px"
            case "size":
                return f"{kind} anchor size, near {size:.1f} px"
            case "ratio":
                return f"an anchor ratio near {ratio:.2f}"
            case "shape":
                return f"{kind} anchor size, near {size:.1f} px, and a ratio near {ratio:.2f}"
        sides, stride = self.boxes[row, 2:] - self.boxes[row, :2], min(self.anchors.strides)
        factor = reachable_from(sides, self.matching.high, stride)
        return f"a stride finer than {stride} px, or an input {factor:.1f} times as large"

    def report(self, worst: int = 10) -> str:
        """The report; `worst`: how many of the objects that no anchor reaches it names."""
        high, total = self.matching.high, self.total()
        levels = " | ".join(
            f"stride {stride}: {', '.join(f'{s:.4g}' for s in level)}"
            for stride, level in zip(self.anchors.strides, self.anchors.sizes)
        )
        left_out = f"; {self.crowds} crowd regions left out" if self.crowds else ""
        lines = [
            f"anchors    sizes in px at {levels}",
            f"           ratios {', '.join(f'{r:g}' for r in self.anchors.ratios)}",
            f"matching   positive from IoU {high:g}, background under {self.matching.low:g}, "
            f"low-quality matches {'on' if self.matching.low_quality else 'off'}",
            f"objects    {total.objects} in {self.images} images{left_out}",
        ]
        if not total.objects:
            return "\n".join([*lines, "no objects: nothing to reach"])
        width = max(len(name) for name in (*self.names, "32 to 64 px"))
        lines += ["", f"{'':{width}}  objects  reached  best IoU  positives  never learnt", _row(total, width)]
        for kind in ("size", "ratio", "class"):
            lines += [f"by {kind}", *(_row(group, width) for group in self.by(kind))]
        lines += ["(best IoU and positives are medians; sizes in network px, ratio = height / width)", ""]
        return "\n".join(lines + self._missed(worst))

    __str__ = report

    def _missed(self, worst: int) -> list[str]:
        """The part of the report on the objects that no anchor reaches."""
        rows = self.misses()
        if not len(rows):
            return ["every object has an anchor that reaches it"]
        remedies = self.remedies(rows)
        lines = [f"{len(rows)} objects reached by no anchor; what would help"]
        for remedy, text in REMEDIES.items():
            mine = rows[[r == remedy for r in remedies]]
            if len(mine):
                sizes, ratios = _span(self.sizes[mine], ".0f"), _span(self.ratios[mine], ".2f")
                lines.append(f"  {len(mine):6d}  {text} (sizes {sizes} px, ratios {ratios})")
        if worst > 0:
            lines += ["", f"the worst {min(worst, len(rows))}"]
        for row in rows[:worst].tolist():
            width, height = self.boxes[row, 2:] - self.boxes[row, :2]
            lines.append(
                f"  image {self.image_ids[row]}, annotation {self.annotation_ids[row]}: "
                f"{self.names[self.labels[row]]} {width:.1f} × {height:.1f} px, best IoU {self.best[row]:.2f}, "
                f"positives {self.positives[row]}; {self.advice(row)}"
            )
        return lines

    def _group(self, name: str, rows: np.ndarray) -> Group:
        if not rows.any():
            return Group(name, 0, 1.0, 0.0, 0.0, 0)
        best, positives = np.median(self.best[rows]), np.median(self.positives[rows])
        unlearnt = int((self.positives[rows] == 0).sum())
        return Group(name, int(rows.sum()), float(self.reached[rows].mean()), float(best), float(positives), unlearnt)


def coverage(
    dataset: CocoDetection,
    anchors: AnchorSpec,
    input: InputSpec,
    matching: MatchSpec,
    *,
    progress: bool = False,
) -> Coverage:
    """Measure how well anchors cover the objects of a data set.

    Args:
        dataset: its annotations are read, no image is opened; crowds are left out.
        anchors: sizes, ratios and strides, as in a preset.
        input: how the network resizes and pads an image. Each image is padded for itself alone.
        matching: thresholds, and whether there are low-quality matches.
        progress: show a bar.

    Raises:
        ValueError: if the anchors have no size or no ratio, or not as many strides as levels of sizes.
    """
    _check(anchors)
    ids = [a["id"] for i in dataset.image_ids for a in dataset.coco.imgToAnns[i] if not a["iscrowd"]]
    boxes, labels = dataset.all_boxes(), dataset.all_labels()
    counts = np.array([len(b) for b in boxes], dtype=np.int64)
    starts = np.concatenate(([0], counts.cumsum()))
    found = Coverage(
        anchors,
        matching,
        tuple(dataset.label_map.names),
        images=len(dataset),
        crowds=len(dataset.coco.dataset["annotations"]) - len(ids),
        image_ids=np.repeat(np.array(dataset.image_ids, dtype=np.int64), counts),
        annotation_ids=np.array(ids, dtype=np.int64),
        labels=np.concatenate([np.zeros(0, dtype=np.int64), *labels]),
        boxes=np.zeros((starts[-1], 4), dtype=np.float32),
        inputs=np.zeros((starts[-1], 2), dtype=np.int64),
        best=np.zeros(starts[-1], dtype=np.float32),
        positives=np.zeros(starts[-1], dtype=np.int64),
    )
    by_input: dict[Size, list] = {}  # images of one size share their anchors
    for i, original in enumerate(dataset.sizes().tolist()):
        if counts[i]:
            size = network_size(scaled_size(*original, dataset.max_size), input)
            padded = tuple(-(-side // input.divisor) * input.divisor for side in size)
            by_input.setdefault(padded, []).append((i, tuple(original), size))
    with tqdm(total=int((counts > 0).sum()), desc="coverage", disable=not progress, leave=False) as bar:
        for padded, images in by_input.items():
            grids = [tuple(-(-side // stride) for side in padded) for stride in anchors.strides]
            everywhere = torch.cat(pyramid_anchors(anchors, padded, grids)).mT.contiguous().mT  # as `box_iou` likes it
            for i, original, size in images:
                rows = slice(starts[i], starts[i + 1])
                mine = rescale_boxes(torch.from_numpy(boxes[i]), original, size)
                found.boxes[rows], found.inputs[rows] = mine.numpy(), padded
                found.best[rows], found.positives[rows] = _match_image(mine, everywhere, matching)
                bar.update()
    return found


def reachable_from(sides: np.ndarray, high: float, stride: float) -> float:
    """How many times larger a box must be to be reached wherever it lies on a grid, by an anchor of its own shape.

    The worst place is the middle of four grid points: the anchor is off by half a stride to the side and down. With
    w and h times f, its IoU is (f·w − s/2)(f·h − s/2) over 2·f²·w·h less that; we want it to be `high`.

    sides: (w, h) in pixels. stride: s. A square box needs f·w = 2.7 s for IoU 0.5.
    """
    width, height = (float(side) for side in sides)
    share = 2 * high / (1 + high)  # of the box that the anchor must cover
    a, b, c = (1 - share) * width * height, (width + height) * stride / 2, stride**2 / 4
    return (b + (b * b - 4 * a * c) ** 0.5) / (2 * a) if share < 1 else float("inf")


def _match_image(boxes: Tensor, anchors: Tensor, matching: MatchSpec) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU of each of an image's boxes (G, 4), and the number of anchors (A, 4) that learn it: as `match` does."""
    best, top = [], torch.full((len(anchors),), -1.0)  # of each object with any anchor, and the other way round
    low_quality = torch.zeros(len(anchors), dtype=torch.bool)
    for group in boxes.split(max(1, CHUNK // len(anchors))):
        iou = box_iou(group, anchors)  # (objects, A)
        best.append(iou.amax(1))
        top = torch.maximum(top, iou.amax(0))
        if matching.low_quality:
            low_quality[best_below(iou, matching.high)[-1]] = True
    positive = judge(top, low=matching.low, high=matching.high)[1] | low_quality
    owner = box_iou(boxes, anchors[positive]).argmax(0)  # for these few once more
    return torch.cat(best).numpy(), torch.bincount(owner, minlength=len(boxes)).numpy()


@dataclass(frozen=True)
class _Cells:
    """The anchors of one place of every level, (A,) each."""

    width: Tensor
    height: Tensor
    size: Tensor
    stride: Tensor

    @classmethod
    def of(cls, spec: AnchorSpec) -> "_Cells":
        levels = [cell_anchors(s, spec.ratios, order=spec.order, rounding=spec.rounding) for s in spec.sizes]
        width, height = xyxy_to_cxcywh(torch.cat(levels))[:, 2:].unbind(1)
        strides = [torch.full((len(level),), float(s)) for level, s in zip(levels, spec.strides)]
        return cls(width, height, (width * height).sqrt(), torch.cat(strides))


def _placed_iou(boxes: tuple[Tensor, ...], anchors: tuple[Tensor, Tensor], stride, inputs: Tensor) -> Tensor:
    """IoU of boxes (cx, cy, w, h), (M, 1) each, with anchors (w, h) at the grid point that is nearest: (M, A).

    The overlap of two boxes of given sides only depends on how far apart their centres lie, in x and in y. So the
    nearest point of a grid is the best one, and no other needs to be looked at.
    """
    covered = 1.0
    for centre, side, anchor, length in zip(boxes[:2], boxes[2:], anchors, inputs.T.flip(0)):
        last = ((length[:, None] + stride - 1) // stride - 1) * stride
        off = (centre - (centre / stride).round() * stride).abs()
        off = torch.maximum(off, centre - last)  # beyond the last point
        covered = covered * torch.minimum(torch.minimum(side, anchor), (side + anchor) / 2 - off).clamp(min=0)
    return covered / (boxes[2] * boxes[3] + anchors[0] * anchors[1] - covered)


def _check(anchors: AnchorSpec) -> None:
    if len(anchors.sizes) != len(anchors.strides):
        raise ValueError(
            f"anchors: found {len(anchors.sizes)} levels of sizes and {len(anchors.strides)} strides, "
            "expected a stride for each level"
        )
    if not anchors.ratios or not all(anchors.sizes) or not anchors.sizes:
        raise ValueError(f"anchors: found sizes {anchors.sizes} and ratios {anchors.ratios}, expected some of each")


def _between(edges: tuple, number: str, unit: str) -> list[str]:
    """Names of the groups that edges make: "under 8 px", "8 to 16 px", …, "from 512 px"."""
    texts = [number.format(edge) for edge in edges]
    inner = [f"{low} to {high}{unit}" for low, high in pairwise(texts)]
    return [f"under {texts[0]}{unit}", *inner, f"from {texts[-1]}{unit}"]


def _span(values: np.ndarray, form: str) -> str:
    """The least and the greatest of the values as text."""
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"


def _row(group: Group, width: int) -> str:
    return (
        f"{group.name:{width}}  {group.objects:7d}  {group.reached:7.1%}  {group.best:8.2f}  {group.positives:9.1f}"
        f"  {group.unlearnt:12d}"
    )
