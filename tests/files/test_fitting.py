"""Annotations take the shape of their image, if only axes of length 1 differ."""

from __future__ import annotations

import numpy as np

from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.files.fitting import fit_to_shape
from napari_unet.imaging.arrays import Annotation

_SQUARE = [(1, 1), (1, 8), (9, 8), (9, 1)]


def test_one_slice_of_a_stack_fits_its_image_and_back() -> None:
    labels = np.zeros((1, 30, 40), np.int32)
    labels[0, 3, 3] = 1
    regions = [Region((0,), _SQUARE)]
    stored = StoredAnnotation(
        Annotation(labels, known=known_pixels(labels, regions)),
        regions,
        "unknown",
        axes="ZYX",
        pixel_size_um=(2.0, 0.5, 0.25),
    )
    fit = fit_to_shape(stored, (30, 40))
    np.testing.assert_array_equal(fit.annotation.labels, labels[0])
    expected = known_pixels(labels[0], [((), _SQUARE)]) | (labels[0] > 0)
    np.testing.assert_array_equal(fit.annotation.is_known, expected)
    assert [region.plane for region in fit.regions] == [()]
    assert (fit.axes, fit.pixel_size_um) == ("YX", (0.5, 0.25))
    back = fit_to_shape(fit, (1, 1, 30, 40), "TZYX")
    assert [region.plane for region in back.regions] == [(0, 0)]
    assert fit_to_shape(stored, (40, 30)) is stored
