"""Run lengths are COCO's: checked against pycocotools in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from napari_unet.errors import LabelError
from napari_unet.files.formats.run_lengths import decode_counts, encode_counts
from napari_unet.imaging.outlines import indices_of

# pycocotools 2.0.11 has an array type of before NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14))


def _mask_of(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape[0] * shape[1], bool)
    mask[indices_of(runs)] = True
    return mask.reshape(shape, order="F")


@given(MASKS.filter(np.any), st.tuples(*4 * [st.integers(0, 3)]))
@settings(max_examples=200)
def test_pycocotools_reads_what_is_encoded(
    mask: np.ndarray, margins: tuple[int, int, int, int]
) -> None:
    above, below, left, right = margins
    image = np.pad(mask, ((above, below), (left, right)))
    counts = encode_counts(mask, (above, left), image.shape)
    rle = coco_mask.frPyObjects({"size": list(image.shape), "counts": counts}, 1, 1)
    np.testing.assert_array_equal(coco_mask.decode(rle).astype(bool), image)
    assert coco_mask.area(rle) == mask.sum()
    np.testing.assert_array_equal(
        _mask_of(decode_counts(counts, image.shape, where="a"), image.shape), image
    )


@given(MASKS)
@settings(max_examples=300)
def test_what_pycocotools_compresses_is_read(mask: np.ndarray) -> None:
    text = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    decoded = _mask_of(decode_counts(text, mask.shape, where="a"), mask.shape)
    np.testing.assert_array_equal(decoded, mask)


def test_large_and_negative_differences_are_read() -> None:
    mask = np.zeros((3000, 2000), np.uint8)
    mask[5, 7] = mask[2990:, 1000] = mask[:, 1500:1600] = mask[7, 1999] = 1
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    decoded = _mask_of(decode_counts(text, mask.shape, where="a"), mask.shape)
    np.testing.assert_array_equal(decoded, mask.astype(bool))


@pytest.mark.parametrize("counts", [[6], [], "", [2, 0, 4]])
def test_nothing_is_on(counts: Any) -> None:
    assert len(decode_counts(counts, (2, 3), where="a")) == 0


def test_what_is_missing_at_the_end_is_off() -> None:
    assert decode_counts([1, 2], (9, 9), where="a").tolist() == [[1, 3]]


@pytest.mark.parametrize(
    "counts",
    [[7], [0, 3, 4], [-1, 3], [8, -2], [2**39] * 3, [0, 2**33, 2**33]],
)
def test_counts_beyond_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(LabelError, match=r"cell 3 .* don't fit its image of 2 x 3"):
        decode_counts(counts, (2, 3), where="cell 3")


@pytest.mark.parametrize(
    "counts", [None, {}, 5, [1.5], [True], ["1"], [None], [10**5000], [[1]]]
)
def test_what_is_no_list_of_whole_numbers_is_refused(counts: Any) -> None:
    with pytest.raises(LabelError, match=r"cell 3 .*no list of whole numbers"):
        decode_counts(counts, (2, 3), where="cell 3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1\n", "damaged"),
        ("1é", "damaged"),
        ("1\ud800", "surrogates"),
        ("1p", "damaged"),  # above the six bits
        ("1P", "damaged"),  # says that more follows
        ("oooooooo0", "too large"),
    ],
)
def test_damaged_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(LabelError, match=why):
        decode_counts(text, (20, 30), where="cell 3")


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        runs = decode_counts(text, (20, 30), where="a")
    except LabelError:
        return
    assert (runs >= 0).all()
    assert (runs <= 600).all()
    assert (np.diff(runs.ravel()) >= 0).all()
