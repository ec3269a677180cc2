"""Panoptic maps in colour, truth beside prediction, and where they differ."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from course_lib.panoptic.quality import match_segments
from course_lib.viz.palette import INK, INVENTED, MISSED, PALETTE, PAPER, WRONG, class_color, contrast_color
from course_lib.viz.picture import Picture, enlarge, load_font, text_size, to_numpy, to_picture
from course_lib.viz.sheet import side_by_side

OPACITY = 0.6  # of a segment's colour
MUTED = 0.45  # how far stuff's colours go towards grey: things stand out
SHADES = (0.0, 0.4, -0.35, 0.65, -0.55, 0.2, -0.15)  # of things of one class in turn: towards white, towards black
PADDING = 3  # px between a name and the sides of its plate
ROOM = 96  # px, the longer side of the masks in which the widest place is looked for

RIGHT, WRONG_CLASS, MISSED_PIXEL, INVENTED_PIXEL, NOT_JUDGED = range(5)
MISTAKES = {
    "wrong class": (WRONG_CLASS, WRONG),
    "missed": (MISSED_PIXEL, MISSED),
    "invented": (INVENTED_PIXEL, INVENTED),
}


def segment_colors(segments: Sequence[Mapping]) -> list[str]:
    """A colour "#RRGGBB" for each segment, given its `isthing` and `label`.

    Stuff has its class's, the same in every picture; things of a class have shades of theirs, in the order of the list.
    """
    seen: Counter = Counter()
    colors = []
    for segment in segments:
        label = segment["label"]
        if segment["isthing"]:
            shade = SHADES[seen[label] % len(SHADES)]
            colors.append(_mix(class_color(label), PAPER if shade > 0 else "#000000", abs(shade)))
            seen[label] += 1
        else:  # from the palette's other end, so that few classes share no colour with things
            colors.append(_mix(PALETTE[-label % len(PALETTE)], "#888888", MUTED))
    return colors


def draw_panoptic(
    image: Picture,
    ids,
    segments: Sequence[Mapping],
    *,
    names: Sequence[str],
    stuff: Sequence[str],
    scale: int | str = "auto",
) -> Image.Image:
    """Paint a panoptic map over a picture: colours, outlines, names; void is dark.

    image, scale: as of `draw_boxes`. ids: (H, W), 0 is void. segments: dicts with `id`, `isthing` and `label`, of
    things an index into `names`, of stuff one into `stuff` counted from 1; perhaps `score`, which is written too.
    Returns the enlarged RGB picture. Raises ValueError if the map is not of the image's size.
    """
    picture, place, factor = _places(image, ids, segments, scale)
    colors = segment_colors(segments)
    table = np.array([ImageColor.getrgb(c) for c in ("#000000", *colors)], dtype=np.float32)
    pixels = np.asarray(picture, dtype=np.float32)
    blended = (1 - OPACITY) * pixels + OPACITY * table[place]
    blended[_edges(place)] = ImageColor.getrgb(INK)
    painted = Image.fromarray(np.rint(blended).astype(np.uint8))
    texts = [f"{(names[s['label']] if s['isthing'] else stuff[s['label'] - 1])} {_score(s)}".strip() for s in segments]
    _write_names(painted, place, texts, colors, factor)
    return painted


def panoptic_errors(truth_ids, truth: Sequence[Mapping], found_ids, found: Sequence[Mapping]) -> np.ndarray:
    """What became of each pixel: (H, W) uint8, `RIGHT` … `NOT_JUDGED`.

    A pixel is right where its two segments match (`match_segments`), and not judged where the truth is void or a crowd.
    Else its class is wrong, or the class is right and it was not matched: its true segment was missed, or that has a
    match already and the prediction is one too many. Void in the prediction is missed.

    truth_ids, found_ids: (H, W). truth, found: dicts with `id`, `isthing`, `label`, of the truth also `area` and
    perhaps `iscrowd`. Raises ValueError as `match_segments` does.
    """
    truth_ids, found_ids = to_numpy(truth_ids), to_numpy(found_ids)
    truth, found = _as_categories(truth), _as_categories(found)
    matching = match_segments(truth_ids, truth, found_ids, found)
    verdict = np.zeros((1 + len(truth), 1 + len(found)), dtype=np.uint8)
    kinds = [s["category_id"] for s in truth], [s["category_id"] for s in found]
    missed = np.isin([s["id"] for s in truth], matching.missed)
    same = np.equal.outer(*(np.array(k, dtype=int) for k in kinds))
    verdict[1:, 1:] = np.where(same, np.where(missed[:, None], MISSED_PIXEL, INVENTED_PIXEL), WRONG_CLASS)
    verdict[1:, 0] = MISSED_PIXEL
    at = {s["id"]: i for i, s in enumerate(truth, 1)}, {s["id"]: i for i, s in enumerate(found, 1)}
    for true_id, found_id, _ in matching.matched:
        verdict[at[0][true_id], at[1][found_id]] = RIGHT
    verdict[[0, *(i for i, s in enumerate(truth, 1) if s.get("iscrowd", 0))]] = NOT_JUDGED
    return verdict[_place(truth_ids, truth), _place(found_ids, found)]


def draw_errors(image: Picture, errors: np.ndarray, *, scale: int | str = "auto") -> Image.Image:
    """Paint what `panoptic_errors` gave over a grey copy of the picture, with the shares of the judged pixels below.

    Right pixels stay grey, what is not judged is dark. image, scale: as of `draw_boxes`. Returns an RGB picture.
    """
    picture, factor = enlarge(to_picture(image), scale)
    whole = errors.repeat(factor, 0).repeat(factor, 1)
    pixels = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    pixels[whole == NOT_JUDGED] *= 0.25
    for code, color in MISTAKES.values():
        chosen = whole == code
        pixels[chosen] = 0.25 * pixels[chosen] + 0.75 * np.array(ImageColor.getrgb(color), dtype=np.float32)
    judged = max(int((errors != NOT_JUDGED).sum()), 1)
    shares = {name: f"{name} {100 * (errors == code).sum() / judged:.1f} %" for name, (code, _) in MISTAKES.items()}
    return _with_legend(Image.fromarray(np.rint(pixels).astype(np.uint8)), shares)


def draw_panoptic_comparison(
    image: Picture,
    truth_ids,
    truth: Sequence[Mapping],
    found_ids,
    found: Sequence[Mapping],
    *,
    names: Sequence[str],
    stuff: Sequence[str],
    scale: int | str = "auto",
    columns: int | None = None,
) -> Image.Image:
    """Picture, truth, prediction and errors side by side, or in rows of `columns`.

    The other arguments are as of `draw_panoptic` and `panoptic_errors`.
    """
    labels = {"names": names, "stuff": stuff, "scale": scale}
    pictures = [
        enlarge(to_picture(image), scale)[0],
        draw_panoptic(image, truth_ids, truth, **labels),
        draw_panoptic(image, found_ids, found, **labels),
        draw_errors(image, panoptic_errors(truth_ids, truth, found_ids, found), scale=scale),
    ]
    return side_by_side(pictures, ["picture", "truth", "prediction", "errors"], columns=columns)


def _mix(color: str, other: str, share: float) -> str:
    a, b = (np.array(ImageColor.getrgb(c)) for c in (color, other))
    return "#{:02X}{:02X}{:02X}".format(*np.rint((1 - share) * a + share * b).astype(int))


def _score(segment: Mapping) -> str:
    return f"{segment['score']:.2f}" if "score" in segment else ""


def _as_categories(segments: Sequence[Mapping]) -> list[dict]:
    """Things and stuff in one numbering, as `match_segments` wants them."""
    return [{**s, "category_id": 2 * s["label"] + bool(s["isthing"])} for s in segments]


def _place(ids: np.ndarray, segments: Sequence[Mapping]) -> np.ndarray:
    """Each pixel's place in the list, from 1; 0 for void: (H, W)."""
    place = np.zeros(ids.shape, dtype=np.intp)
    for number, segment in enumerate(segments, start=1):
        place[ids == segment["id"]] = number
    return place


def _places(image: Picture, ids, segments: Sequence[Mapping], scale: int | str) -> tuple[Image.Image, np.ndarray, int]:
    """The enlarged picture, each of its pixels' place in the list of segments, and the factor."""
    picture, ids = to_picture(image), to_numpy(ids)
    if ids.shape != picture.size[::-1]:
        raise ValueError(f"panoptic map: found shape {ids.shape}, expected the image's {picture.size[::-1]}")
    picture, factor = enlarge(picture, scale)
    return picture, _place(ids, segments).repeat(factor, 0).repeat(factor, 1), factor


def _edges(place: np.ndarray) -> np.ndarray:
    """Pixels whose upper or left neighbour belongs to another segment: (H, W) bool."""
    edges = np.zeros(place.shape, dtype=bool)
    down, right = place[1:] != place[:-1], place[:, 1:] != place[:, :-1]
    edges[1:] |= down
    edges[:, 1:] |= right
    return edges


def _write_names(
    picture: Image.Image, place: np.ndarray, texts: Sequence[str], colors: Sequence[str], factor: int
) -> None:
    """Each segment's name where it is widest, the large ones first; one that would cover another's name is left out."""
    pen, font = ImageDraw.Draw(picture), load_font(text_size(picture))
    height = sum(font.getmetrics())
    areas = np.bincount(place.ravel(), minlength=len(texts) + 1)[1:]
    step = max(factor, -(-max(place.shape) // ROOM))
    coarse = place[step // 2 :: step, step // 2 :: step]
    taken: list[tuple[int, int, int, int]] = []
    for i in np.argsort(-areas, kind="stable").tolist():
        mask = coarse == i + 1
        width = round(font.getlength(texts[i])) + 2 * PADDING
        if not mask.any() or width > picture.width or height > picture.height:
            continue
        row, column = (step * v + step // 2 for v in _widest_place(mask))
        x = min(max(column - width // 2, 0), picture.width - width)
        y = min(max(row - height // 2, 0), picture.height - height)
        if any(x < x2 and x1 < x + width and y < y2 and y1 < y + height for x1, y1, x2, y2 in taken):
            continue
        taken.append((x, y, x + width, y + height))
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colors[i])
        pen.text((x + PADDING, y), texts[i], fill=contrast_color(colors[i]), font=font)


def _widest_place(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of a pixel that is furthest from the mask's edge: what is left when it is peeled."""
    inner = np.pad(mask, 1)
    while inner.any():
        last = inner
        inner = last.copy()
        inner[1:-1, 1:-1] &= last[:-2, 1:-1] & last[2:, 1:-1] & last[1:-1, :-2] & last[1:-1, 2:]
    left = np.argwhere(last) - 1  # (n, 2), the padding taken off
    return tuple(left[((left - left.mean(0)) ** 2).sum(1).argmin()].tolist())


def _with_legend(picture: Image.Image, texts: Mapping[str, str]) -> Image.Image:
    font = load_font(text_size(picture))
    row, side = round(1.6 * font.size), font.size
    sheet = Image.new("RGB", (picture.width, picture.height + row * len(texts)), PAPER)
    sheet.paste(picture)
    pen = ImageDraw.Draw(sheet)
    for number, (name, text) in enumerate(texts.items()):
        middle = picture.height + row * number + row // 2
        pen.rectangle((2, middle - side // 2, 2 + 2 * side, middle + side // 2), fill=MISTAKES[name][1], outline=INK)
        pen.text((6 + 2 * side, middle), text, fill=INK, font=font, anchor="lm")
    return sheet
