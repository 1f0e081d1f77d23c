"""Looking through an annotation in the background."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet.files.annotations import Region
from napari_unet.widgets._inspection import Inspector, inspect
from napari_unet.widgets._layers import note_about
from napari_unet.widgets._painted import Painted

SQUARE = [(1.0, 2.0), (1.0, 4.0), (4.0, 4.0), (4.0, 2.0)]


@pytest.fixture
def inspector(qtbot) -> Inspector:
    inspector = Inspector()
    yield inspector
    qtbot.waitUntil(lambda: not inspector.is_running)


def test_cells_regions_and_annotated_slices_are_counted() -> None:
    ids = np.zeros((4, 5, 5), np.int32)
    ids[0, 0, 0] = ids[1, 0, 0] = 2
    ids[1, 1, 1] = 3
    ids[1, 3] = 9
    regions = [Region((3,), SQUARE), Region((1,), SQUARE)]
    painted = Painted(ids, {9: 0}, ("background", "cell"), regions, "unknown", "x")
    found = inspect(painted)
    assert (found.counts.n_cells, found.n_regions) == (2, 2)
    assert (found.counts.n_planes, found.n_planes) == (3, 4)
    assert found.counts.n_touching_pairs == 1
    assert not found.is_empty
    assert {problem.kind for problem in found.problems} >= {"speck"}


def test_nothing_is_found_in_an_empty_annotation() -> None:
    painted = Painted(
        np.zeros((5, 5), np.int32), {}, ("background", "cell"), [], "unknown", "x"
    )
    assert inspect(painted).is_empty


def test_what_is_asked_for_last_is_looked_at_once(qtbot, inspector) -> None:
    first, second = (Labels(np.full((4, 4), i, np.int32)) for i in (1, 0))
    seen = []
    inspector.inspected.connect(seen.append)
    inspector.want(first)
    inspector.want(second)
    inspector.want(second)
    qtbot.waitUntil(lambda: bool(seen))
    qtbot.wait(50)
    assert [found.counts.n_cells for found in seen] == [0]


def test_annotation_that_is_gone_is_not_shown(qtbot, inspector) -> None:
    layer = Labels(np.ones((4, 4), np.int32))
    seen = []
    inspector.inspected.connect(seen.append)
    inspector.want(layer)
    inspector._look()
    assert inspector.is_running
    inspector.want(None)
    qtbot.waitUntil(lambda: not inspector.is_running)
    assert seen == []


def test_edits_while_it_looks_are_looked_at_afterwards(qtbot, inspector) -> None:
    layer = Labels(np.ones((4, 4), np.int32))
    seen = []
    inspector.inspected.connect(seen.append)
    inspector.want(layer)
    inspector._look()
    assert inspector.is_running
    layer.data = np.array([[1, 2], [3, 4]], np.int32)
    inspector.want(layer)
    inspector._look()
    qtbot.waitUntil(lambda: bool(seen) and seen[-1].counts.n_cells == 4)


def test_annotation_that_is_none_is_told(qtbot, inspector) -> None:
    layer = Labels(np.ones((4, 4), np.int32))
    note_about(layer, label_class={1: 5})
    with qtbot.waitSignal(inspector.failed) as caught:
        inspector.want(layer)
    assert "NU-L06" in caught.args[0].summary
