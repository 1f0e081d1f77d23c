"""Cells of large images are measured whole, as in an image that is in memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.batch import large_measuring
from napari_unet.batch.large_measuring import Votes, measure_stored
from napari_unet.files.ome_zarr import LabelStore
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.measure import classes_of, measure


def _stored(path, labels, axes, *, chunk_px=32):
    store = LabelStore(path, labels.shape, axes, chunk_px=chunk_px)
    store.write((slice(None),) * labels.ndim, labels)
    return store


def _same(found, expected):
    assert list(found) == list(expected)
    for name, column in expected.items():
        if column.dtype == object:
            assert found[name].tolist() == column.tolist()
        else:
            np.testing.assert_allclose(found[name], column, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [None, (2.0, 0.5, 0.25)])
def test_planes_are_measured_as_in_memory(tmp_path, size):
    image, labels = zip(
        *(draw_cells((90, 110), n_cells=25, rng=np.random.default_rng(i))
          for i in range(2)),
        strict=True,
    )  # fmt: skip
    stack = np.stack(labels)
    stack[1][stack[1] > 0] += stack[0].max()
    pixels = np.stack([np.stack(image), 1 - np.stack(image)])
    whole = Image(pixels, "CZYX", size, ("DAPI", "GFP"))
    classes = np.array(["", *(f"kind {i % 3}" for i in range(stack.max()))], object)
    store = _stored(tmp_path / "a.zarr", stack, "ZYX")
    found, n_left_out = measure_stored(store, whole, 2, classes)
    _same(found.columns, measure(stack, whole, classes=classes).columns)
    assert n_left_out == 0


def test_volumes_are_measured_as_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((2, 24, 40, 44), np.int32)
    for i in range(1, 25):
        t, z, y, x = (int(rng.integers(n - 7)) for n in (9, 24, 40, 44))
        labels[t % 2, z : z + 7, y : y + 5, x : x + 6] = i
    whole = Image(rng.random((1, *labels.shape)), "CTZYX", (2.0, 0.5, 0.5))
    store = _stored(tmp_path / "a.zarr", labels, "TZYX", chunk_px=16)
    found, _ = measure_stored(store, whole, 3)
    expected = measure(labels, whole, n_dims=3).columns
    order = np.argsort(expected["label"], kind="stable")
    _same(found.columns, {name: column[order] for name, column in expected.items()})


def test_what_is_finer_than_the_image_is_measured_on_its_own_grid(tmp_path):
    image, labels = draw_cells((90, 90), n_cells=15, rng=np.random.default_rng(1))
    coarse = image[::3, ::3]
    store = _stored(tmp_path / "a.zarr", labels, "YX")
    found, _ = measure_stored(store, Image(coarse[None], "CYX", (3.0, 3.0)), 2)
    finer = coarse.repeat(3, 0).repeat(3, 1)
    expected = measure(labels, Image(finer[None], "CYX", (1.0, 1.0)))
    _same(found.columns, expected.columns)


def test_no_cells_make_a_table_of_no_rows(tmp_path):
    labels = np.zeros((2, 40, 40), np.int32)
    whole = Image(np.ones((1, 2, 40, 40)), "CTYX")
    store = _stored(tmp_path / "a.zarr", labels, "TYX")
    found, _ = measure_stored(store, whole, 2, np.array([""], object))
    classes = np.array([""], object)
    assert list(found.columns) == list(measure(labels, whole, classes=classes).columns)
    assert len(found) == 0


def test_what_is_too_wide_for_memory_is_counted_and_left_out(tmp_path, monkeypatch):
    labels = np.zeros((80, 80), np.int32)
    labels[2:6, 2:70], labels[20:30, 20:30] = 1, 2
    store = _stored(tmp_path / "a.zarr", labels, "YX")
    monkeypatch.setitem(large_measuring.WIDEST_PX, 2, 60)
    found, n_left_out = measure_stored(store, Image(np.ones((1, 80, 80))), 2)
    assert (found.columns["label"].tolist(), n_left_out) == ([2], 1)


def test_votes_of_blocks_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    roles = ["softmax:background", "softmax:round", "softmax:long"]
    outputs = rng.random((3, 20, 30), np.float32)
    labels = rng.integers(0, 6, (20, 30))
    # Each half has numbers of its own, as blocks have.
    numbers = np.array([0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    votes = Votes(roles)
    for half, first in ((slice(0, 15), 0), (slice(15, 30), 5)):
        own = labels[:, half]
        found = np.where(own > 0, own + first, 0)
        votes.add(found, votes.likeliest(outputs[..., half]))
    votes.settle(numbers)
    expected = classes_of(labels, outputs, roles)[1:]
    assert votes.names()[1:].tolist() == expected.tolist()
