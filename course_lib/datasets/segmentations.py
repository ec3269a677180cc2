"""COCO's three kinds of mask: polygons, run lengths as a list, run lengths as a string. Checked, and made one.

A run-length encoding (RLE) goes down the columns and says how many pixels are 0, then 1, then 0 again. As a string
each length is a difference to the one two before, five bits a character; see `maskApi.c` in pycocotools.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_utils

Size = tuple[int, int]
CHUNK = 2000  # encoded strings checked at once: bounds the memory, and numpy is busy enough


def has_mask(segmentation: Any) -> bool:
    """False for the ways to say "boxes only": missing, None, empty, or a list of empty polygons."""
    return any(segmentation) if isinstance(segmentation, list) else bool(segmentation)


def to_rle(segmentation: list | dict, size: tuple[int, int], wanted: tuple[int, int]) -> dict:
    """Compressed RLE of a COCO segmentation (polygons, or RLE of either kind), resized to `wanted`.

    size, wanted: (height, width) of the annotated and of the loaded image.
    """
    height, width = wanted
    if isinstance(segmentation, list):
        scale = np.array([width / size[1], height / size[0]])
        polygons = [(np.reshape(p, (-1, 2)) * scale).ravel().tolist() for p in segmentation]
        return mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    if isinstance(segmentation["counts"], list):
        segmentation = mask_utils.frPyObjects(segmentation, *size)
    if size == wanted:
        return segmentation
    mask = torch.from_numpy(mask_utils.decode(segmentation))[None, None].float()
    share = torch.nn.functional.interpolate(mask, size=wanted, mode="bilinear", antialias=True)[0, 0]
    return mask_utils.encode(np.asfortranarray((share >= 0.5).numpy().astype(np.uint8)))


def segmentation_faults(annotations: Sequence[dict], sizes: Sequence[Size | None]) -> Iterator[tuple[dict, str, str]]:
    """Find what is wrong with the masks of annotations; those without a mask are passed over.

    sizes: (height, width) of each annotation's image, None where that is unknown (nothing is then compared).
    Yields (annotation, kind, message).
    """
    strings = []
    for a, size in zip(annotations, sizes):
        segmentation = a.get("segmentation")
        if not has_mask(segmentation):
            continue
        if isinstance(segmentation, list):
            fault = _polygon_fault(segmentation, size)
        elif isinstance(segmentation, dict):
            fault = _rle_fault(segmentation, size)
            if fault is None and isinstance(segmentation["counts"], str):
                strings.append(a)
        else:
            fault = "malformed mask", f"segmentation is {segmentation!r}, expected polygons or an RLE"
        if fault is not None:
            yield a, *fault
    for start in range(0, len(strings), CHUNK):
        part = strings[start : start + CHUNK]
        for a, total in zip(part, rle_totals([a["segmentation"]["counts"] for a in part])):
            fault = _total_fault(int(total), a["segmentation"]["size"])
            if fault is not None:
                yield a, *fault


def rle_totals(counts: Sequence[str]) -> np.ndarray:
    """Number of pixels that each encoded string covers, (N,) int64; -1 where it is no valid encoding.

    Decodes all strings at once: pycocotools decodes one at a time and trusts what it reads.
    """
    if not counts:
        return np.zeros(0, dtype=np.int64)
    encoded = [c.encode("utf-8", "surrogatepass") or b"\0" for c in counts]  # \0 is no digit
    lengths = np.array([len(e) for e in encoded])
    digits = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(len(encoded)), lengths)  # string of each digit
    bad = np.bincount(owner[(digits < 0) | (digits > 63)], minlength=len(encoded)) > 0

    last = digits & 32 == 0  # bit 5 says that the number goes on
    bad |= ~last[lengths.cumsum() - 1]
    last[lengths.cumsum() - 1] = True
    stop = np.flatnonzero(last)
    start = np.concatenate([[0], stop[:-1] + 1])
    owner = owner[stop]  # from here on: string of each number
    bad[owner[stop - start > 6]] = True  # more than 32 bits
    place = np.minimum(np.arange(len(digits)) - np.repeat(start, stop - start + 1), 7)
    values = np.add.reduceat((digits & 31) << 5 * place, start)
    values -= np.where(digits[stop] & 16, 1 << 5 * (place[stop] + 1), 0)  # bit 4 of the last digit is the sign

    # From the fourth on, a number is a difference to the one two before: two interleaved sums in each string.
    index = np.arange(len(values)) - np.searchsorted(owner, np.arange(len(encoded)))[owner]
    series = owner * 3 + np.where(index == 0, 0, 1 + index % 2)
    order = np.argsort(series, kind="stable")
    sums, owner = values[order].cumsum(), owner[order]
    begin = np.flatnonzero(np.diff(series[order], prepend=-1))  # where each series begins
    runs = sums - np.repeat(sums[begin] - values[order][begin], np.diff(begin, append=len(sums)))
    bad[owner[runs < 0]] = True
    total = np.bincount(owner, weights=runs, minlength=len(encoded)).astype(np.int64)
    return np.where(bad, -1, total)


def _polygon_fault(polygons: list, size: Size | None) -> tuple[str, str] | None:
    reach = max(size) if size else np.inf
    for polygon in polygons:
        if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
            return "malformed polygon", "expected a list of polygons, each a list of numbers [x1, y1, x2, y2, ...]"
        if len(polygon) < 6 or len(polygon) % 2:
            return "malformed polygon", f"a polygon has {len(polygon)} numbers, expected three or more pairs (x, y)"
        if not (-reach <= min(polygon) and max(polygon) <= 2 * reach and abs(sum(polygon)) < np.inf):
            return "malformed polygon", f"coordinates are not finite or far outside the image: {_short(polygon)}"
    return None


def _rle_fault(rle: dict, size: Size | None) -> tuple[str, str] | None:
    found, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(found, list) and len(found) == 2 and all(type(v) is int and v > 0 for v in found)):
        return "malformed RLE", f"'size' is {found!r}, expected [height, width]"
    if size is not None and tuple(found) != size:
        return "RLE of wrong size", f"RLE is {found} (height, width), its image is {list(size)}; encode it anew"
    if isinstance(counts, str):
        return None
    if not isinstance(counts, list) or not all(type(v) is int and v >= 0 for v in counts):
        return "malformed RLE", f"'counts' is {_short(counts)}, expected a string or a list of integers >= 0"
    return _total_fault(sum(counts), found)


def _total_fault(total: int, size: list[int]) -> tuple[str, str] | None:
    if total < 0:
        return "malformed RLE", "'counts' is no valid run-length string; encode the mask anew"
    if total != size[0] * size[1]:
        return "RLE of wrong size", f"RLE covers {total} pixels, {size[0]}x{size[1]} has {size[0] * size[1]}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
