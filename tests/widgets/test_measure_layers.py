"""What Measure does to layers."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_unet.widgets._measure_layers import Rings, look_at, show_features


def show(rings: Rings, labels, n: int, *, are_volumes: bool = False) -> None:
    positions = np.arange(n * labels.ndim, dtype=float).reshape(n, labels.ndim)
    rings.show(
        labels,
        positions,
        np.full(n, 10.0),
        is_one=np.arange(n) == 1,
        are_volumes=are_volumes,
    )


def test_rings_share_one_layer_for_each_number_of_axes() -> None:
    viewer = ViewerModel()
    plane = viewer.add_labels(np.ones((20, 20), int), scale=(0.5, 0.5), name="plane")
    stack = viewer.add_labels(np.ones((3, 20, 20), int), name="stack")
    rings = Rings(viewer)
    for labels, n in ((plane, 3), (stack, 2), (plane, 1), (stack, 4), (stack, 0)):
        viewer.layers.selection.active = labels
        show(rings, labels, n)
        assert viewer.layers.selection.active is labels
        assert [x.name for x in rings.layers() if x.visible] == (
            [f"{labels.name} chosen cells"] if n else []
        )
    assert len(viewer.layers) == 4


def test_rings_lie_around_their_cells_and_the_chosen_one_is_white() -> None:
    viewer = ViewerModel()
    labels = viewer.add_labels(np.ones((20, 20), int), scale=(0.5, 0.25))
    rings = Rings(viewer)
    show(rings, labels, 3)
    (layer,) = rings.layers()
    assert layer.scale.tolist() == [0.5, 0.25]
    assert layer.data.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (layer.size > 10).all()  # outside of the cell
    is_white = (layer.border_color[:, :3] == 1).all(axis=1)
    assert is_white.tolist() == [False, True, False]
    assert (layer.face_color[:, 3] == 0).all()
    assert not layer.editable


def test_a_cell_too_small_to_be_seen_is_made_larger_and_no_other() -> None:
    viewer = ViewerModel()
    labels = viewer.add_labels(np.ones((900, 900), int))
    camera = viewer.scene.camera
    camera.zoom = 0.1
    look_at(viewer, labels, np.array([100.0, 200.0]), 10.0)
    assert camera.center[-2:] == (100, 200)
    near = camera.zoom
    assert near > 1
    look_at(viewer, labels, np.array([300.0, 200.0]), 100.0)
    assert camera.zoom == near


def test_features_without_ids_are_those_of_0_1_2() -> None:
    labels = ViewerModel().add_labels(
        np.ones((4, 4), int), features={"mark": list("abcdefg")}
    )
    show_features(labels, {"label": np.array([2, 5]), "area_px": np.array([16.0, 12])})
    found = labels.features.set_index("index")
    assert found["mark"].tolist() == list("abcdefg")
    assert found.loc[[2, 5], "area_px"].tolist() == [16, 12]
    assert found["area_px"].isna().sum() == 5
