"""Masks in COCO's three encodings: conversion, and the check of encoded strings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as mask_utils

from course_lib.datasets.segmentations import CHUNK, has_mask, rle_totals, segmentation_faults, to_rle

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=st.integers(0, 1))


def encode(mask: np.ndarray) -> str:
    return mask_utils.encode(np.asfortranarray(mask))["counts"].decode()


@given(st.lists(MASKS, max_size=6))
def test_totals_of_sound_strings(masks):
    assert rle_totals([encode(m) for m in masks]).tolist() == [m.size for m in masks]


def test_a_total_by_hand():
    # counts 3, 2, 1: small numbers are one character each, code 48 + value
    assert rle_totals(["321"]).tolist() == [6]
    # counts 1, 2, 3, 4: the fourth is stored as 4 - 2, with nothing to carry
    assert rle_totals(["1232"]).tolist() == [10]
    # 40 = 8 + 1 * 32: low five bits first, 32 says that more follows: chr(48 + 32 + 8), chr(48 + 1)
    assert rle_totals(["X1"]).tolist() == [40]


@pytest.mark.parametrize("damaged", ["", "X", "é", " ", "321 ", "PPPPPPPPP1", "O", "1O", "x"])
def test_strings_that_are_no_run_lengths(damaged):
    # O is the digit 31 = -1: no length is negative; X and PP.. go on without an end
    assert rle_totals(["321", damaged, "X1"]).tolist() == [6, -1, 40]


@given(st.lists(st.text(st.characters(min_codepoint=40, max_codepoint=120)), max_size=5))
def test_any_string_gets_an_answer_of_its_own(strings):
    together = rle_totals(strings)
    assert together.tolist() == [int(rle_totals([s])[0]) for s in strings]
    assert (together >= -1).all()


@given(MASKS)
def test_the_kinds_agree(mask):
    flat = mask.T.ravel()  # down the columns
    edges = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff([0, *edges, flat.size]).tolist()
    compressed = {"size": list(mask.shape), "counts": encode(mask)}
    for rle in (compressed, {"size": list(mask.shape), "counts": counts}):
        np.testing.assert_array_equal(mask_utils.decode(to_rle(rle, mask.shape, mask.shape)), mask)


def test_polygons_and_run_lengths_scale_alike():
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[8:24, 12:36] = 1
    polygon = [[12, 8, 36, 8, 36, 24, 12, 24]]
    rle = {"size": [40, 60], "counts": encode(mask)}
    small = np.zeros((20, 15), dtype=np.uint8)  # half the height, a quarter of the width
    small[4:12, 3:9] = 1
    for segmentation in (polygon, rle):
        np.testing.assert_array_equal(mask_utils.decode(to_rle(segmentation, (40, 60), (20, 15))), small)


def test_several_polygons_are_one_mask():
    rle = to_rle([[0, 0, 2, 0, 2, 2, 0, 2], [6, 0, 8, 0, 8, 2, 6, 2]], (4, 10), (4, 10))
    assert mask_utils.decode(rle)[0].tolist() == [1, 1, 0, 0, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("nothing", [None, [], [[]], [[], []], {}, ""])
def test_boxes_only_is_no_fault(nothing):
    assert not has_mask(nothing)
    assert list(segmentation_faults([{"segmentation": nothing}, {}], [(4, 4)] * 2)) == []


@pytest.mark.parametrize(
    ("segmentation", "kind", "says"),
    [
        ([[1, 1, 5, 1]], "malformed polygon", "4 numbers, expected three or more pairs"),
        ([[1, 1, 5, 1, 5, 5, 2]], "malformed polygon", "7 numbers"),
        ([1, 1, 5, 1, 5, 5], "malformed polygon", "list of polygons"),
        ([[1, 1, 5, "1", 5, 5]], "malformed polygon", "list of numbers"),
        ([[1, 1, 5, True, 5, 5]], "malformed polygon", "list of numbers"),
        ([[1, 1, 5, float("nan"), 5, 5]], "malformed polygon", "not finite"),
        ([[1, 1, 5, float("inf"), 5, 5]], "malformed polygon", "not finite"),
        ([[1, 1, 10**400, 1, 5, 5]], "malformed polygon", "far outside"),
        ([[1, 1, 99, 1, 5, 5]], "malformed polygon", "far outside"),
        ([[1, 1, 5, 1, 5, 5], []], "malformed polygon", "0 numbers"),
        (7, "malformed mask", "expected polygons or an RLE"),
        ({"counts": [20]}, "malformed RLE", "'size' is None"),
        ({"size": [4], "counts": [20]}, "malformed RLE", "'size' is [4]"),
        ({"size": [4, 5], "counts": None}, "malformed RLE", "'counts' is None"),
        ({"size": [4, 5], "counts": [-1, 21]}, "malformed RLE", "integers >= 0"),
        ({"size": [4, 5], "counts": [4.0, 16]}, "malformed RLE", "integers >= 0"),
        ({"size": [4, 5], "counts": "O"}, "malformed RLE", "no valid run-length string"),
        ({"size": [5, 4], "counts": [20]}, "RLE of wrong size", "RLE is [5, 4] (height, width), its image is [4, 5]"),
        ({"size": [4, 5], "counts": [20, 1]}, "RLE of wrong size", "covers 21 pixels, 4x5 has 20"),
        ({"size": [4, 5], "counts": "321"}, "RLE of wrong size", "covers 6 pixels, 4x5 has 20"),
    ],
)
def test_faults(segmentation, kind, says):
    sound = {"segmentation": [[0, 0, 5, 0, 5, 4]]}
    annotation = {"segmentation": segmentation}
    ((found, found_kind, message),) = segmentation_faults([sound, annotation, sound], [(4, 5)] * 3)
    assert found is annotation
    assert found_kind == kind
    assert says in message


def test_an_unknown_image_size_still_checks_the_rest():
    annotation = {"segmentation": {"size": [3, 3], "counts": [8]}}
    ((_, kind, _),) = segmentation_faults([annotation, {"segmentation": [[0, 0, 9, 0, 9, 9]]}], [None, None])
    assert kind == "RLE of wrong size"


def test_faults_beyond_the_first_chunk_are_found():
    sound = {"segmentation": {"size": [2, 3], "counts": "321"}}
    annotations = [sound] * (CHUNK + 5) + [{"segmentation": {"size": [2, 3], "counts": "32"}}]
    ((found, _, _),) = segmentation_faults(annotations, [(2, 3)] * len(annotations))
    assert found is annotations[-1]
