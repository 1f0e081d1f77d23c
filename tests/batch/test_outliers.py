from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.batch.outliers import unlike_others

MANY = settings(max_examples=40, deadline=None, derandomize=True)


def test_what_is_far_from_the_others_is_told_in_words():
    counts = [100, 104, 98, 0, 101, 500, 99, 102]
    sizes = [50.0, 51, 52, None, 49, 50, 10, 300]
    assert unlike_others(counts, sizes) == [
        [], [], [], ["no cells found"], [], ["far more cells than the other files"],
        ["cells far smaller than those of the other files"],
        ["cells far larger than those of the other files"],
    ]  # fmt: skip


def test_where_all_are_alike_the_noise_of_counting_is_no_reason():
    counts = [100, 100, 100, 100, 100, 130, 140]
    sizes = [50.0, 50, 50, 50, 50, 55, 62]
    assert [bool(why) for why in unlike_others(counts, sizes)] == [False] * 6 + [True]


def test_of_few_files_none_is_the_odd_one():
    assert unlike_others([10, 10, 10, 5000], [5.0, 5, 5, 900]) == [[]] * 4


def test_where_no_cells_are_counted_nothing_is_told():
    assert unlike_others([None] * 6, [None] * 6) == [[]] * 6
    assert unlike_others([], []) == []


@MANY
@given(st.lists(st.integers(1, 10**5), min_size=5, max_size=30), st.integers(1, 99))
def test_sizes_are_judged_alike_in_any_unit(sizes, factor):
    values = [float(size) for size in sizes]
    found = unlike_others([7] * len(values), values)
    # A power of two changes logarithms by the same, but for rounding.
    scaled = [value * 2.0 ** (factor % 7) for value in values]
    far = np.abs(np.log(values) - np.median(np.log(values)))
    limit = 3.5 * max(1.4826 * np.median(far), 0.05)
    if np.abs(far - limit).min() > 1e-9:
        assert unlike_others([7] * len(values), scaled) == found
        assert [bool(why) for why in found] == (far > limit).tolist()
