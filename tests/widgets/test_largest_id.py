"""The largest id as it is followed, held against a look at all pixels."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels

from napari_unet.widgets import _largest_id as module
from napari_unet.widgets._largest_id import largest_id

SHAPES = ((8, 9), (3, 6, 7), (2, 3, 5, 6))


class _Counted(np.ndarray):
    """An array that counts the pixels that were looked at."""

    n_px = 0

    def max(self, *args, **kwargs):
        _Counted.n_px += self.size
        return np.asarray(self).max(*args, **kwargs)


def _do(  # noqa: C901 - a list of actions
    labels: Labels, viewer: ViewerModel, action: str, i: int, rng
) -> None:
    corner = tuple(int(rng.integers(n)) for n in labels.data.shape)
    match action:
        case "paint":
            labels.paint(corner, i)
        case "erase":
            labels.paint(corner, 0)
        case "fill":
            labels.fill(corner, i)
        case "write":
            some = rng.choice(labels.data.size, 5, replace=False)
            pixels = np.unravel_index(some, labels.data.shape)
            labels.data_setitem(pixels, rng.integers(0, i + 1, size=5))
        case "undo":
            labels.undo()
        case "redo":
            labels.redo()
        case "other slice":
            viewer.dims.set_current_step(0, corner[0])
        case "script":
            labels.data[corner] = i
            labels.refresh()
        case "other array":
            labels.data = rng.integers(0, i, labels.data.shape, np.int32)


ACTIONS = (
    "paint", "erase", "fill", "write", "undo", "redo", "other slice", "script",
    "other array",
)  # fmt: skip


@given(
    shape=st.sampled_from(SHAPES),
    actions=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(1, 30), st.booleans()),
        max_size=12,
    ),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_it_is_never_less_than_what_is_painted(shape, actions, seed) -> None:
    viewer, rng = ViewerModel(), np.random.default_rng(seed)
    labels = viewer.add_labels(np.zeros(shape, np.int32))
    for action, i, is_asked in actions:
        _do(labels, viewer, action, i, rng)
        if is_asked:
            assert largest_id(labels) == labels.data.max()
    assert largest_id(labels) == labels.data.max()


def test_a_new_cell_costs_no_look_at_all_pixels(viewer) -> None:
    data = np.zeros((5, 20, 20), np.int32).view(_Counted)
    labels = viewer.add_labels(data)
    labels.brush_size = 3
    _Counted.n_px = 0
    assert largest_id(labels) == 0
    assert _Counted.n_px == data.size
    _Counted.n_px = 0
    for i in range(1, 6):
        labels.paint((i - 1, 4 * i - 2, 4 * i - 2), i)
        assert largest_id(labels) == i
        viewer.dims.set_current_step(0, i % 5)
    assert _Counted.n_px == 0
    labels.undo()
    assert largest_id(labels) == 4


def test_a_napari_that_writes_other_undo_steps_is_looked_at_wholly(
    viewer, monkeypatch
) -> None:
    def fail(_):
        raise ValueError

    labels = viewer.add_labels(np.zeros((2, 8, 8), np.int32))
    assert largest_id(labels) == 0
    monkeypatch.setattr(module, "_read", fail)
    labels.paint((1, 4, 4), 7)
    assert largest_id(labels) == 7


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_goes_although_it_was_followed(shape) -> None:
    n_before = len(module._followed)
    labels = Labels(np.zeros(shape, np.int32))
    largest_id(labels)
    del labels
    gc.collect()
    assert len(module._followed) <= n_before
