from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label

from napari_unet.imaging.arrays import Image
from napari_unet.imaging.measure import measure
from napari_unet.imaging.measure_parts import measure_in_parts


def _finished(parts):
    events = []
    while True:
        try:
            events.append(next(parts))
        except StopIteration as end:
            return events, end.value.columns


@pytest.mark.parametrize(
    ("shape", "axes", "n_dims", "size"),
    [
        ((60, 70), "CYX", 2, (0.5, 0.25)),
        ((3, 40, 50), "CTYX", 2, None),
        ((2, 3, 20, 25), "CTZYX", 2, (2.0, 0.5, 0.5)),
        ((2, 6, 20, 25), "CTZYX", 3, (2.0, 0.5, 0.5)),
    ],
)
def test_parts_add_up_to_the_whole(shape, axes, n_dims, size):
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.int32)
    for index in np.ndindex(shape[:-n_dims]):
        found = label(rng.random(shape[-n_dims:]) > 0.7, connectivity=1)
        numbers = 1 + rng.permutation(found.max())  # near cells have far numbers
        labels[index] = np.concatenate([[0], numbers])[found]
    labels[(0,) * (len(shape) - n_dims)] = 0 if axes == "CTYX" else 1
    pixels = rng.random((2, *shape), np.float32)
    image = Image(pixels, axes, size, ("DAPI", "actin"))
    classes = np.array([f"class {i % 3}" for i in range(labels.max() + 1)], object)
    whole = measure(labels, image, n_dims=n_dims, classes=classes).columns
    parts = measure_in_parts(
        labels, image, n_dims=n_dims, classes=classes, cells_at_once=7
    )
    events, columns = _finished(parts)
    assert [e.n_done for e in events] == list(range(1, events[-1].n_blocks + 1))
    assert len(events) >= len(whole["label"]) / 7
    assert list(columns) == list(whole)
    for name, expected in whole.items():
        assert columns[name].dtype == expected.dtype, name
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(columns[name], expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(columns[name], expected)


def test_where_there_are_no_cells_there_are_no_rows():
    labels, image = np.zeros((5, 6), np.int32), Image(np.zeros((1, 5, 6)))
    events, columns = _finished(measure_in_parts(labels, image))
    assert (events, len(columns["label"])) == ([], 0)
    assert list(columns) == list(measure(labels, image).columns)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"labels of \(5, 6\) for an image of \(6, 5"):
        next(measure_in_parts(np.zeros((5, 6), int), Image(np.zeros((1, 6, 5)))))
