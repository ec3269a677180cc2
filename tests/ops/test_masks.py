import json

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from course_lib.ops.masks import decode_rles, encode_masks, masks_to_boxes


def random_masks(n, height, width, seed=0, share=0.3):
    return torch.rand(n, height, width, generator=torch.Generator().manual_seed(seed)) < share


def test_rle_by_hand():
    mask = torch.tensor([[[0, 1], [0, 1], [1, 1]]], dtype=torch.bool)  # read down the columns: 0 0 1 1 1 1
    (rle,) = encode_masks(mask)
    assert rle["size"] == [3, 2]
    uncompressed = {"size": [3, 2], "counts": [2, 4]}
    assert rle["counts"] == coco_mask.frPyObjects(uncompressed, 3, 2)["counts"].decode()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16), st.floats(0, 1))
def test_there_and_back(n, height, width, seed, share):
    masks = random_masks(n, height, width, seed, share)
    rles = json.loads(json.dumps(encode_masks(masks)))  # they survive a JSON file
    back = decode_rles(rles, (height, width))
    assert back.dtype == torch.bool and torch.equal(back, masks)
    assert [int(area) for area in masks.sum((1, 2))] == [int(coco_mask.area(rle)) for rle in rles]


def test_no_masks():
    assert encode_masks(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert decode_rles([], (4, 5)).shape == (0, 4, 5)
    assert decode_rles([]).shape == (0, 0, 0)
    assert masks_to_boxes(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4)
    assert masks_to_boxes(decode_rles([])).shape == (0, 4)


def test_wrong_size_is_named():
    rles = encode_masks(random_masks(1, 4, 5)) + encode_masks(random_masks(1, 5, 4))
    with pytest.raises(ValueError, match=r"RLE 1: found size \(5, 4\), expected \(4, 5\)"):
        decode_rles(rles)
    with pytest.raises(ValueError, match=r"RLE 0: found size \(4, 5\), expected \(8, 8\)"):
        decode_rles(rles, (8, 8))


def test_masks_in_any_memory_layout():
    masks = random_masks(6, 8, 7)[::2].mT
    assert torch.equal(decode_rles(encode_masks(masks)), masks)


def test_boxes_by_hand():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2, 3] = True  # one pixel: a box of 1×1
    masks[1, 1:4, 2:7] = True
    assert masks_to_boxes(masks).tolist() == [[3, 2, 4, 3], [2, 1, 7, 4], [0, 0, 0, 0]]
    assert masks_to_boxes(torch.ones(1, 6, 8, dtype=torch.bool)).tolist() == [[0, 0, 8, 6]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.01, 0.5))
def test_boxes_as_torchvision_and_pycocotools(seed, share):
    masks = random_masks(5, 12, 9, seed, share)
    masks = masks[masks.any(2).any(1)]
    boxes = masks_to_boxes(masks)
    assert boxes.dtype == torch.float32
    last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(boxes - last_pixel, torchvision.ops.masks_to_boxes(masks).float())
    for box, rle in zip(boxes, encode_masks(masks)):
        x, y, w, h = coco_mask.toBbox(rle)
        np.testing.assert_array_equal(box.numpy(), [x, y, x + w, y + h])
