"""How classes show in a Labels layer: colours, and names under the cursor."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from napari.utils.colormaps import CyclicLabelColormap, label_colormap

from napari_unet.widgets._classes import classes_of
from napari_unet.widgets._layers import about

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.widgets._classes import Classes

# napari's own colours for cells, but for its greys, which are not seen on an image,
# and for hues like that of background; a colour of a class comes back after many more
# ids than they do.
_N_PLAIN_COLORS = 49
_N_COLORS = 2**14 - 1
_MIN_COLORFULNESS = 0.2
_BACKGROUND_HUES = (0.58, 0.81)
# Background and areas are large: the image shows through.
_AREA_ALPHA = 0.55
# Cells of one class that touch must be told apart.
_SHADES = np.array([1.0, 0.72, 0.52])
N_SHADES = len(_SHADES)
_NAME = "classes of napari-unet"
# Ids may be sparse and large: the table of names is not.
_N_NAMED_IDS = 10_000
_N_NAMED_AT_ONCE = 500
# What layers show already: painting asks more often than something changes.
_drawn: WeakKeyDictionary[Labels, tuple[object, ...]] = WeakKeyDictionary()


def is_colored_by_class(labels: Labels) -> bool:
    """Return whether cells show in the colour of their class.

    As the user chose; else where there is more than one class.
    """
    n_classes = len(classes_of(labels)) - 1
    chosen = about(labels).get("color_by", "class" if n_classes > 1 else "cell")
    return bool(chosen == "class")


def draw_classes(labels: Labels, n_ids: int) -> None:
    """Show the class of each id up to `n_ids`, and of those that are named."""
    classes, by_class = classes_of(labels), is_colored_by_class(labels)
    label_class = about(labels).get("label_class", {})
    # Rounded up: the next cells have their name already.
    n_ids = min(-(-n_ids // _N_NAMED_AT_ONCE) * _N_NAMED_AT_ONCE, _N_NAMED_IDS)
    others = {*label_class, int(labels.selected_label)} - {0}
    ids = [0, *sorted({*range(1, n_ids + 1), *others})]
    new = (classes, by_class, label_class, len(ids))
    if labels.colormap.name == _NAME and _drawn.get(labels) == new:
        return
    _drawn[labels] = new
    _set_colors(labels, _colors(label_class, classes, by_class=by_class))
    names = [classes.names[label_class.get(i, 1)] if i else "not painted" for i in ids]
    own = pd.DataFrame({"index": ids, "class": names})
    features = _joined(own, labels.features)
    if not features.equals(labels.features):
        labels.features = features


def _joined(own: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return the classes with what else is known of the ids, such as measurements."""
    others = before.drop(columns="class", errors="ignore")
    if "index" not in others or others.shape[1] == 1:
        return own
    return own.merge(others, on="index", how="outer")


def _set_colors(labels: Labels, colors: NDArray[np.float32]) -> None:
    """Give napari what is new only.

    A new colormap takes it a twentieth of a second on 2048 x 2048, because it maps
    all pixels anew; other colours of as many entries take a tenth of that.
    """
    colormap = labels.colormap
    if colormap.name != _NAME or len(colormap.colors) != len(colors):
        labels.colormap = CyclicLabelColormap(
            colors=colors, background_value=0, name=_NAME, seed=_plain().seed
        )
        # For more colours napari makes the layer's picture anew, and forgets that it
        # lies on top of the others until it orders them again.
        labels.events.visible()
    elif not np.array_equal(colormap.colors, colors):
        colormap.colors = colors
        labels.events.colormap()


def _colors(
    label_class: Mapping[int, int], classes: Classes, *, by_class: bool
) -> NDArray[np.float32]:
    """Return the colour (RGBA) of the ids 0, 1, ..., which come back cyclically."""
    rgba = np.array(
        [_rgba(color, k, classes) for k, color in enumerate(classes.colors)]
    )
    ids = np.arange(_N_COLORS + 1)
    if not classes.is_cell(1):
        colors = rgba[np.ones_like(ids)]
    elif by_class:
        colors = _shaded(rgba[np.ones_like(ids)], ids)
    else:
        colors = _cell_colors().copy()
    named = np.array(list(label_class.items()), int).reshape(-1, 2)
    is_cell = ~np.isin(named[:, 1], [0, *classes.areas])
    cells, areas = named[is_cell], named[~is_cell]
    own = _shaded(rgba[cells[:, 1]], cells[:, 0])
    colors[_slots(cells)] = own if by_class else _cell_colors()[_slots(cells)]
    colors[_slots(areas)] = rgba[areas[:, 1]]
    colors[0] = 0
    return np.asarray(colors, np.float32)


def _slots(named: NDArray[np.int_]) -> NDArray[np.int_]:
    return np.asarray((named[:, 0] - 1) % _N_COLORS + 1)


def _rgba(color: str, k: int, classes: Classes) -> tuple[float, ...]:
    alpha = 1.0 if classes.is_cell(k) else _AREA_ALPHA
    return (*(int(color[j : j + 2], 16) / 255 for j in (1, 3, 5)), alpha)


def _shaded(rgba: NDArray[np.float64], ids: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return colours (N, RGBA) in a shade for each id: 1, 2, 3 differ."""
    shades = _SHADES[(ids - 1) % len(_SHADES), None]
    return np.concatenate([rgba[:, :3] * shades, rgba[:, 3:]], axis=1)


@lru_cache(maxsize=1)
def _plain() -> CyclicLabelColormap:
    return label_colormap(_N_PLAIN_COLORS)


@lru_cache(maxsize=1)
def _cell_colors() -> NDArray[np.float64]:
    nothing, cells = _plain().colors[:1], _plain().colors[1:]
    cells = cells[np.ptp(cells[:, :3], axis=1) > _MIN_COLORFULNESS]
    hues = np.array([colorsys.rgb_to_hsv(*rgb)[0] for rgb in cells[:, :3].tolist()])
    low, high = _BACKGROUND_HUES
    cells = cells[(hues < low) | (hues > high)]
    n_repeats = -(-_N_COLORS // len(cells))
    colors = np.concatenate([nothing, *[cells] * n_repeats])[: _N_COLORS + 1]
    return np.asarray(colors, float)
