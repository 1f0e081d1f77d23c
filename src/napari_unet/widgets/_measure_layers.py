"""What Measure does to layers: features, rings around cells, and where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from napari.layers import Points

from napari_unet.widgets._check_list import go_to
from napari_unet.widgets._layers import META, about, placed_like, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

_SHOWN_AS = "chosen cells"
_RING, _RING_OF_ONE = "#ffd400", "#ffffff"
# Around the cell, not upon its border.
_RING_TO_CELL = 1.3
_LEAST_SHARE_OF_VIEW = 0.08
# Columns of ours in the features of layers: the others are someone else's.
_ours: WeakKeyDictionary[Labels, set[str]] = WeakKeyDictionary()


def show_features(layer: Labels, columns: Mapping[str, NDArray[Any]]) -> None:
    """Make measurements the features of labels, which napari shows under the mouse.

    What others put there, such as the classes of an annotation, stays; what was
    measured before goes.

    Parameters
    ----------
    layer : napari Labels layer
        What was measured.
    columns : mapping of str to ndarray, shape (n,)
        As `Measurements.columns`, each label once. napari finds a label's row by the
        column ``index``.
    """
    ours = pd.DataFrame({"index": columns["label"], **columns}).set_index("index")
    before = layer.features.drop(columns=list(_ours.get(layer, ())), errors="ignore")
    if "index" in before:
        before = before.set_index("index")
    _ours[layer] = set(ours) - set(before)
    names = list(dict.fromkeys([*ours, *before]))
    merged = ours.combine_first(before)[names] if before.shape[1] else ours
    layer.features = merged.rename_axis("index").reset_index()


class Rings:
    """Rings around cells, in one Points layer of a viewer for each number of axes.

    It is made when first needed, and hidden after: taking layers out of a viewer can
    crash OpenGL. Rings cost by the cell and not by the pixel: any number of cells of an
    image of any size is shown at once.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = unwrapped(viewer)

    def layers(self) -> list[Points]:
        """Return the layers that there are."""
        layers = self._viewer.layers
        return [x for x in layers if about(x).get("shown_as") == _SHOWN_AS]

    def show(
        self,
        labels: Labels,
        positions: NDArray[np.float64],
        diameters: NDArray[np.float64],
        *,
        is_one: NDArray[np.bool_],
        are_volumes: bool,
    ) -> None:
        """Put rings around cells, or hide all where there are none.

        Parameters
        ----------
        labels : napari Labels layer
            Whose cells they are.
        positions : ndarray of float64, shape (n, number of axes)
            In pixels of the labels.
        diameters : ndarray of float64, shape (n,)
            In pixels.
        is_one : ndarray of bool, shape (n,)
            Which of them is the one that is looked at: its ring is white.
        are_volumes : bool
            Whether cells are seen in several slices.
        """
        self.hide()
        if not len(positions):
            return
        fitting = [layer for layer in self.layers() if layer.ndim == labels.ndim]
        layer = fitting[0] if fitting else self._add(labels)
        for key, value in placed_like(labels, labels.ndim).items():
            setattr(layer, key, value)
        layer.name = f"{labels.name} chosen cells"
        layer.data = positions
        layer.size = _RING_TO_CELL * diameters
        layer.border_color = np.where(is_one, _RING_OF_ONE, _RING)
        layer.face_color = "transparent"
        layer.out_of_slice_display = are_volumes
        layer.selected_data = set()
        layer.visible = True
        layer.editable = False  # showing a layer makes it so again

    def hide(self) -> None:
        """Show no rings."""
        for layer in self.layers():
            layer.visible = False

    def _add(self, labels: Labels) -> Points:
        layers = self._viewer.layers
        active = layers.selection.active
        layer = Points(
            ndim=labels.ndim,
            face_color="transparent",
            border_width=0.08,
            blending="translucent_no_depth",
            metadata={META: {"shown_as": _SHOWN_AS}},
            **placed_like(labels, labels.ndim),
        )
        layers.append(layer)
        # What is painted in stays to be painted in.
        layers.selection.active = active
        return layer


def look_at(
    viewer: ViewerModel,
    labels: Labels,
    position: NDArray[np.float64],
    diameter: float,
) -> None:
    """Show a cell in the middle; zooms in only where it would be too small to be seen.

    Parameters
    ----------
    viewer : napari viewer
        Whose camera and slices are moved.
    labels : napari Labels layer
        Becomes the active layer.
    position : ndarray of float64, shape (number of axes,)
        In pixels of the labels.
    diameter : float
        In pixels of the labels.
    """
    viewer = unwrapped(viewer)
    go_to(viewer, labels, tuple(position))
    # Before 0.9 napari had them elsewhere.
    camera = getattr(viewer, "scene", viewer).camera
    view = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    extent = max(diameter, 1.0) * abs(float(labels.scale[-1]))
    camera.zoom = max(camera.zoom, _LEAST_SHARE_OF_VIEW * min(view) / extent)
