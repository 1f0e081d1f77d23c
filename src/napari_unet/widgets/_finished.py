"""The finished regions of an annotation: all cells in them are painted."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QTimer

from napari_unet.errors import LabelError
from napari_unet.widgets._layers import placed_like, unwrapped
from napari_unet.widgets._painted import (
    link_regions,
    regions_from_shapes,
    regions_layer_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.files.annotations import Region


# Of the image, and of the screen: what napari draws by a click without a drag is 2.5
# pixels of the screen large.
_LEAST_PX, _LEAST_ON_SCREEN_PX = 2.0, 4.0


def draw_finished(
    viewer: ViewerModel,
    labels: Labels,
    shape: Literal["rectangle", "polygon"] = "rectangle",
) -> Shapes:
    """Draw finished regions for an annotation; adds their layer at first."""
    shapes = regions_layer_of(labels) or add_regions(viewer, labels, [])
    unwrapped(viewer).layers.selection.active = shapes
    shapes.mode = f"add_{shape}"
    return shapes


def finish_plane(viewer: ViewerModel, labels: Labels) -> None:
    """Make the whole plane on screen a finished region, once.

    Raises
    ------
    LabelError
        No plane of Y and X is on screen (NU-L09).
    """
    viewer = unwrapped(viewer)
    shown = set(viewer.dims.displayed)
    if shown != {viewer.dims.ndim - 2, viewer.dims.ndim - 1}:
        raise LabelError(
            "NU-L09",
            "a finished region lies on one slice: show slices of Y and X (2D) first",
        )
    point = labels.world_to_data(viewer.dims.point[-labels.ndim :])
    plane = tuple(round(float(x)) for x in point[:-2])
    rows, columns = (n - 0.5 for n in labels.data.shape[-2:])
    corners = [(-0.5, -0.5), (-0.5, columns), (rows, columns), (rows, -0.5)]
    shapes = regions_layer_of(labels)
    if shapes is None:
        shapes = add_regions(viewer, labels, [])
    elif any(
        region.plane == plane
        and len(region.vertices) == len(corners)
        and np.allclose(region.vertices, corners, atol=1e-3)
        for region in regions_from_shapes(shapes, labels, skip_crossing=True)
    ):
        return
    shapes.add_rectangles(_in_stack(plane, corners))
    unwrapped(viewer).layers.selection.active = labels


def add_regions(
    viewer: ViewerModel, labels: Labels, regions: Iterable[Region]
) -> Shapes:
    """Add the layer of an annotation's finished regions, given in its pixels."""
    corners = [_in_stack(plane, vertices) for plane, vertices in regions]
    shapes = Shapes(
        corners or None,
        ndim=labels.ndim,
        shape_type="polygon",
        name=f"{labels.name.removesuffix(' cells')} finished",
        face_color="transparent",
        edge_color="lime",
        edge_width=max(1.0, max(labels.data.shape) / 400),
        **placed_like(labels, labels.ndim),
    )
    # Known for what it is before anyone hears of it.
    link_regions(viewer, labels, shapes)
    unwrapped(viewer).add_layer(shapes)
    _drop_slips(viewer, shapes)
    return shapes


def _drop_slips(viewer: ViewerModel, shapes: Shapes) -> None:
    """Drop tiny regions as they are drawn: slips of the mouse."""
    viewer_ref, shapes_ref = weakref.ref(unwrapped(viewer)), weakref.ref(shapes)
    n_before = 0

    def drop() -> None:
        viewer, shapes = viewer_ref(), shapes_ref()
        if viewer is None or shapes is None or len(shapes.data) <= n_before:
            return
        extents = np.ptp(shapes.data[-1], axis=0)
        # Before 0.9 napari had it elsewhere.
        zoom = getattr(viewer, "scene", viewer).camera.zoom
        on_screen = extents * np.abs(shapes.scale) * zoom
        is_large = (extents >= _LEAST_PX) & (on_screen >= _LEAST_ON_SCREEN_PX)
        if np.count_nonzero(is_large) < 2:
            shapes.selected_data = {len(shapes.data) - 1}
            shapes.remove_selected()
            viewer.status = "a click draws no finished region: drag the mouse"

    def on_data(event: Any) -> None:
        nonlocal n_before
        shapes = event.source
        if event.action == "adding":
            n_before = len(shapes.data)
        elif event.action == "added" and shapes.mode.startswith("add_"):
            QTimer.singleShot(0, drop)  # once napari is done with it

    shapes.events.data.connect(on_data)


def _in_stack(plane: tuple[int, ...], vertices: Any) -> NDArray[np.float64]:
    return np.column_stack([np.tile(plane, (len(vertices), 1)), vertices]).astype(float)
