"""Truth against prediction: which objects were found, taken for something else, missed or invented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from course_lib.ops.boxes import box_iou
from course_lib.viz.draw import DASH_DOT, DASHED, DOTTED, SOLID, Mark, check_boxes, class_name, draw_frame, draw_marks
from course_lib.viz.palette import CORRECT, INK, INVENTED, MISSED, PAPER, WRONG
from course_lib.viz.picture import Picture, load_font, text_size, to_numpy

OUTCOMES = {
    "correct": (CORRECT, SOLID),
    "wrong class": (WRONG, DASH_DOT),
    "missed": (MISSED, DASHED),
    "invented": (INVENTED, DOTTED),
}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What became of each prediction and of each object.

    outcomes: for each of N predictions "correct", "wrong class", "invented", or "ignored" (on a crowd).
    matched: (N,) int64, the object that a correct or wrong-class prediction found, else −1.
    missed: (M,) int64, the objects that no prediction found; a crowd is never missed.
    """

    outcomes: tuple[str, ...]
    matched: np.ndarray
    missed: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many are "correct", "wrong class", "missed" and "invented", in this order."""
        return {o: len(self.missed) if o == "missed" else self.outcomes.count(o) for o in OUTCOMES}


def judge(truth: Mapping, prediction: Mapping, iou: float = 0.5) -> Judgement:
    """Match predictions to the objects of one image.

    truth: boxes (G, 4) xyxy px, labels (G,), and optionally iscrowd (G,). prediction: boxes (N, 4), labels (N,),
    scores (N,). iou: least overlap that counts, 0…1.

    The best score chooses first, as in COCO's evaluation: each prediction takes the free object of its class
    that it overlaps most. Only then may those left over take a free object of another class. A second box
    on an object already found is invented. A prediction that lies in a crowd of its class, with at least the
    share `iou` of its area, is ignored.
    """
    boxes, objects = check_boxes(prediction["boxes"]), check_boxes(truth["boxes"])
    labels, classes = to_numpy(prediction["labels"]), to_numpy(truth["labels"])
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(objects)).numpy()  # (N, G)
    same = labels[:, None] == classes[None]
    crowd = to_numpy(truth.get("iscrowd", np.zeros(len(objects)))).astype(bool)
    order = np.argsort(-to_numpy(prediction["scores"]), kind="stable")
    outcomes, matched = ["invented"] * len(boxes), np.full(len(boxes), -1)
    free = ~crowd
    for outcome, allowed in (("correct", same), ("wrong class", ~same)):
        for i in order:
            suits = np.where(allowed[i] & free, overlap[i], -1.0)
            if matched[i] < 0 and suits.max(initial=-1) >= iou:
                outcomes[i], matched[i] = outcome, suits.argmax()
                free[matched[i]] = False
    for i in np.flatnonzero((same & crowd & (_share_inside(boxes, objects) >= iou)).any(1) & (matched < 0)):
        outcomes[i] = "ignored"
    return Judgement(tuple(outcomes), matched, np.flatnonzero(free))


def draw_comparison(
    image: Picture,
    truth: Mapping,
    prediction: Mapping,
    names: Sequence[str] | None = None,
    iou: float = 0.5,
    *,
    min_score: float = 0.0,
    scale: int | str = "auto",
    legend: bool = True,
) -> Image.Image:
    """Draw on one image what a detector got right and wrong.

    Correct boxes are green and unbroken; those of a wrong class yellow, dash-dotted, and name the true class after ≠;
    missed objects are red and dashed; invented ones blue and dotted. Predictions on a crowd are not drawn.

    image, names, scale: as in `draw_boxes`. truth, prediction, iou: as in `judge`. min_score: predictions below it do
    not count. legend: put the four outcomes and their counts under the picture.
    Returns an RGB picture. Raises ValueError as `draw_boxes` does.
    """
    kept = to_numpy(prediction["scores"]) >= min_score
    boxes, labels, scores = (to_numpy(prediction[key])[kept] for key in ("boxes", "labels", "scores"))
    judgement = judge(truth, {"boxes": boxes, "labels": labels, "scores": scores}, iou)
    objects, classes = check_boxes(truth["boxes"]), [class_name(int(k), names) for k in to_numpy(truth["labels"])]
    marks = []
    for i in judgement.missed:
        color, dash = OUTCOMES["missed"]
        marks.append(Mark(objects[i], color, classes[i], dash))
    for i in np.argsort(-scores, kind="stable"):
        if judgement.outcomes[i] != "ignored":
            color, dash = OUTCOMES[judgement.outcomes[i]]
            text = f"{class_name(int(labels[i]), names)} {scores[i]:.2f}"
            if judgement.outcomes[i] == "wrong class":
                text += f" ≠ {classes[judgement.matched[i]]}"
            marks.append(Mark(boxes[i], color, text, dash))
    picture = draw_marks(image, marks, scale=scale)
    return _with_legend(picture, judgement.counts()) if legend else picture


def _share_inside(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Share of each box (N, 4) that lies in each object (G, 4): (N, G)."""
    sides = np.minimum(boxes[:, None, 2:], objects[None, :, 2:]) - np.maximum(boxes[:, None, :2], objects[None, :, :2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return sides.clip(min=0).prod(2) / np.maximum(area, 1e-9)[:, None]


def _with_legend(picture: Image.Image, counts: dict[str, int]) -> Image.Image:
    font = load_font(text_size(picture))
    row, gap = round(1.6 * font.size), font.size
    swatch = (3 * font.size, font.size)
    texts = {outcome: f"{outcome} {count}" for outcome, count in counts.items()}
    widths = {outcome: round(gap + swatch[0] + gap / 2 + font.getlength(text)) for outcome, text in texts.items()}
    limit = max(picture.width, *widths.values())
    places, x, y = {}, 0, picture.height
    for outcome, width in widths.items():
        if x + width > limit:
            x, y = 0, y + row
        places[outcome] = (x + gap // 2, y + row // 2)
        x += width
    sheet = Image.new("RGB", (limit, y + row), PAPER)
    sheet.paste(picture)
    pen = ImageDraw.Draw(sheet)
    for outcome, (x, middle) in places.items():
        color, dash = OUTCOMES[outcome]
        top = middle - swatch[1] // 2
        draw_frame(pen, (x, top, x + swatch[0], top + swatch[1]), color, 2, dash)
        pen.text((x + swatch[0] + gap // 2, middle), texts[outcome], fill=INK, font=font, anchor="lm")
    return sheet
