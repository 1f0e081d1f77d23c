"""The image layer of the weight map."""

from __future__ import annotations

import pytest

from napari_unet.widgets._weight_layer import gamma_for


@pytest.mark.parametrize("highest", [5, 11, 51, 500])
def test_weight_1_is_equally_bright_whatever_the_highest(highest) -> None:
    assert (1 / highest) ** gamma_for(highest) == pytest.approx(0.25)


@pytest.mark.parametrize(("highest", "expected"), [(1, 1), (2, 1), (1e6, 0.2)])
def test_gamma_stays_within_napari_s(highest, expected) -> None:
    assert gamma_for(highest) == expected
