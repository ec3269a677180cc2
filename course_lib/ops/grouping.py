"""Proposals without a network: small regions of one colour, grouped until the whole image is one region.

Uijlings, van de Sande, Gevers, Smeulders: Selective Search for Object Recognition, 2013. The small regions are those of
Felzenszwalb and Huttenlocher: Efficient Graph-Based Image Segmentation, 2004. Everything here is numpy, for one image.
"""

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8  # a channel (Uijlings et al., Sec. 3.2)


@dataclass(frozen=True, kw_only=True)
class GroupingSpec:
    """How an image is cut and grouped. Each scale with each choice of cues is a strategy; their boxes are united.

    Attributes:
        scales: k of the first cut; a region of n pixels may differ inside by k / n more than it does, so a larger k
            makes larger regions. In grey levels, 0 … 255.
        min_size: pixels; smaller regions of the first cut are joined to a neighbour.
        cues: of the similarity, a choice of "colour", "texture", "size" and "fill" for each strategy.
        min_side: pixels; boxes with a shorter side are left out.
    """

    scales: tuple[float, ...] = (30.0, 100.0)
    min_size: int = 8
    cues: tuple[tuple[str, ...], ...] = (("colour", "texture", "size", "fill"), ("texture", "size", "fill"))
    min_side: int = 3


def selective_search(image: np.ndarray, spec: GroupingSpec | None = None) -> np.ndarray:
    """Boxes of all regions that come up while an image is grouped.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: how; None for the defaults.

    Returns:
        (N, 4) float32 xyxy in pixels, no box twice. Those of the last merges, the largest regions, come first, all
        strategies in turn; the paper mixes this order at random.

    Raises:
        ValueError: for an image of another shape or type.
    """
    spec = spec or GroupingSpec()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: found {image.dtype} {image.shape}, expected uint8 (H, W, 3) with H, W ≥ 1")
    found, ranks = [], []
    for scale in spec.scales:
        labels = segment(image, scale, spec.min_size)
        for cues in spec.cues:
            boxes = group(image, labels, cues)[::-1]
            found.append(boxes)
            ranks.append(np.arange(len(boxes)))
    boxes = np.concatenate(found)[np.argsort(np.concatenate(ranks), kind="stable")]
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= spec.min_side).all(1)]
    first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return boxes[first].astype(np.float32)


def segment(image: np.ndarray, scale: float, min_size: int) -> np.ndarray:
    """Small regions: (H, W, 3) to labels (H, W), 0 … R − 1.

    Neighbouring pixels are joined in the order of their difference, unless it is larger than what either region has
    inside by more than `scale` over its pixels (Felzenszwalb and Huttenlocher, Sec. 3). Regions under `min_size` pixels
    are then joined to the neighbour that differs least.
    """
    height, width = image.shape[:2]
    smooth = _smooth(image.astype(np.float32))
    pixel = np.arange(height * width).reshape(height, width)
    first = np.concatenate((pixel[:, :-1].ravel(), pixel[:-1].ravel()))
    second = np.concatenate((pixel[:, 1:].ravel(), pixel[1:].ravel()))
    colours = smooth.reshape(-1, 3)
    weights = np.sqrt(((colours[first] - colours[second]) ** 2).sum(1))
    order = np.argsort(weights, kind="stable")
    edges = list(zip(first[order].tolist(), second[order].tolist(), weights[order].tolist()))
    parent, size, limit = list(range(height * width)), [1] * (height * width), [scale] * (height * width)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    left = []  # the edges that joined nothing
    for edge in edges:
        a, b = root(edge[0]), root(edge[1])
        if a == b:
            continue
        if edge[2] > limit[a] or edge[2] > limit[b]:
            left.append(edge)
            continue
        a, b = (a, b) if size[a] >= size[b] else (b, a)
        parent[b] = a
        size[a] += size[b]
        limit[a] = edge[2] + scale / size[a]
    for i, j, _ in left:
        a, b = root(i), root(j)
        if a != b and min(size[a], size[b]) < min_size:
            parent[b] = a
            size[a] += size[b]
    roots = np.array([root(i) for i in range(height * width)])
    return np.unique(roots, return_inverse=True)[1].reshape(height, width)


def group(image: np.ndarray, labels: np.ndarray, cues: tuple[str, ...]) -> np.ndarray:
    """Join the two most similar neighbours, again and again, until one region is left.

    Args:
        image: (H, W, 3).
        labels: (H, W), the regions to begin with, 0 … R − 1, connected.
        cues: what the similarity adds up, of "colour", "texture", "size", "fill" (Uijlings et al., Eqs. 2 to 6).

    Returns:
        boxes (2R − 1, 4) int64: of the R regions, then of the R − 1 merged ones in the order of their merging.

    Raises:
        ValueError: for an unknown cue.
    """
    if unknown := set(cues) - {"colour", "texture", "size", "fill"}:
        raise ValueError(f"unknown cues {sorted(unknown)}: expected some of colour, texture, size, fill")
    count, area = int(labels.max()) + 1, labels.size
    regions = 2 * count - 1
    sizes = np.zeros(regions)
    sizes[:count] = np.bincount(labels.ravel(), minlength=count)
    boxes = np.zeros((regions, 4), np.int64)
    boxes[:count] = _boxes(labels, count)
    histograms = _histograms(image, labels, count, cues)  # (R, F)
    histograms = np.concatenate((histograms, np.zeros((count - 1, histograms.shape[1]), np.float32)))
    neighbours = _neighbours(labels, count)

    def similarity(i: int, others: list[int]) -> np.ndarray:
        both = sizes[i] + sizes[others]
        total = np.minimum(histograms[i], histograms[others]).sum(1)
        if "size" in cues:
            total = total + 1 - both / area
        if "fill" in cues:
            low = np.minimum(boxes[i, :2], boxes[others, :2])
            high = np.maximum(boxes[i, 2:], boxes[others, 2:])
            total = total + 1 - ((high - low).prod(1) - both) / area
        return total

    heap = []
    for i in range(count):
        others = [j for j in neighbours[i] if j > i]
        heap += [(-s, i, j) for s, j in zip(similarity(i, others).tolist(), others)] if others else []
    heapify(heap)
    for new in range(count, regions):
        _, i, j = heappop(heap)
        while neighbours[i] is None or neighbours[j] is None:  # one of them was merged since
            _, i, j = heappop(heap)
        sizes[new] = sizes[i] + sizes[j]
        boxes[new, :2] = np.minimum(boxes[i, :2], boxes[j, :2])
        boxes[new, 2:] = np.maximum(boxes[i, 2:], boxes[j, 2:])
        histograms[new] = (sizes[i] * histograms[i] + sizes[j] * histograms[j]) / sizes[new]
        around = (neighbours[i] | neighbours[j]) - {i, j}
        neighbours[i] = neighbours[j] = None
        for k in around:
            neighbours[k] -= {i, j}
            neighbours[k].add(new)
        neighbours.append(around)
        others = sorted(around)
        for s, k in zip(similarity(new, others).tolist(), others) if others else ():
            heappush(heap, (-s, k, new))
    return boxes


def _smooth(image: np.ndarray) -> np.ndarray:
    """A Gaussian blur of 0.8 pixels over (H, W, 3)."""
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.8**2)).astype(np.float32)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(3, 3) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(t * padded.take(range(k, k + image.shape[axis]), axis) for k, t in enumerate(taps))
    return image


def _boxes(labels: np.ndarray, count: int) -> np.ndarray:
    """The box of each region: (R, 4)."""
    rows, columns = (x.ravel() for x in np.indices(labels.shape))
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = max(labels.shape), 0
    for at, low, high in ((columns, 0, 2), (rows, 1, 3)):
        np.minimum.at(boxes[:, low], labels.ravel(), at)
        np.maximum.at(boxes[:, high], labels.ravel(), at + 1)
    return boxes


def _histograms(image: np.ndarray, labels: np.ndarray, count: int, cues: tuple[str, ...]) -> np.ndarray:
    """What the regions look like: (R, F) float32; each cue's part of a row adds up to 1.

    Colour: 25 bins a channel. Texture: the derivative in 8 directions, 10 bins each, a channel.
    """
    values = []  # (H, W, channels) in 0 … 1, and the bins
    if "colour" in cues:
        values.append((image / 256, COLOUR_BINS))
    if "texture" in cues:
        padded = np.pad(image.astype(np.float32), [(1, 1), (1, 1), (0, 0)], mode="edge")
        down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
        right = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
        angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
        slopes = [np.cos(a) * right + np.sin(a) * down for a in angles]
        values.append((np.concatenate(slopes, 2).clip(0, 127.5) / 128, TEXTURE_BINS))
    tables = [np.zeros((count, 0), np.float32)]
    for value, bins in values:
        channels = value.shape[2]
        cells = (labels[..., None] * channels + np.arange(channels)) * bins + (value * bins).astype(np.int64)
        table = np.bincount(cells.ravel(), minlength=count * channels * bins).reshape(count, -1).astype(np.float32)
        tables.append(table / table.sum(1, keepdims=True))
    return np.concatenate(tables, 1)


def _neighbours(labels: np.ndarray, count: int) -> list[set[int] | None]:
    """For each region those that touch it."""
    pairs = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    codes = np.unique(np.concatenate([(a * count + b)[a != b] for a, b in pairs]))
    found = [set() for _ in range(count)]
    for a, b in zip((codes // count).tolist(), (codes % count).tolist()):
        found[a].add(b)
        found[b].add(a)
    return found
