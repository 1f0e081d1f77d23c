"""The picture on a shared model's cover: what goes in, beside what comes out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Picture
from PIL import ImageColor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.learning.model import Model

# Two squares: bioimage.io wants covers twice as wide as high.
_SIDE_PX = 256
# Okabe & Ito 2008: told apart with any colour vision; background is black.
_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def cover_picture(
    model: Model, image: NDArray[np.float32], outputs: NDArray[np.float32]
) -> bytes:
    """Return a PNG, twice as wide as high: an input beside its outputs.

    Parameters
    ----------
    model : Model
        For the roles of the outputs, and the colours of the classes.
    image : ndarray of float32, shape (C, [Z,] Y, X)
        Of its first channel, and of a volume the middle plane, a square is shown.
    outputs : ndarray of float32, shape (K, [s Z,] s Y, s X)
        Of the same region, or of its middle.

    Returns
    -------
    bytes
        The file.
    """
    finer = model.network.upscale
    seen, found = _middle_plane(image), _middle_plane(outputs)
    margin = (min(seen.shape[1:]) - min(found.shape[1:]) // finer) // 2
    inner = slice(margin, -margin or None)
    left = _grey(seen[0, inner, inner])
    right = _colored(found, model)
    sides = [
        np.asarray(
            Picture.fromarray(side).resize((_SIDE_PX, _SIDE_PX), Picture.Resampling.BOX)
        )
        for side in (left, right)
    ]
    file = io.BytesIO()
    Picture.fromarray(np.hstack(sides)).save(file, "PNG", optimize=True)
    return file.getvalue()


def _middle_plane(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a square (C, Y, X) from (C, [Z,] Y, X)."""
    plane = array[:, array.shape[1] // 2] if array.ndim == 4 else array
    side = min(plane.shape[1:])
    return plane[:, :side, :side]


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0)
    return np.repeat((255 * scaled).astype(np.uint8)[..., None], 3, axis=2)


def _colored(outputs: NDArray[np.float32], model: Model) -> NDArray[np.uint8]:
    """Mix the colours of the classes by their probabilities; show values in grey."""
    kinds = [role.partition(":")[0] for role in model.roles]
    if not all(kind.startswith(("softmax", "sigmoid")) for kind in kinds):
        return _grey(outputs[0])
    colors = [
        ImageColor.getrgb(_color(i, role, model)) for i, role in enumerate(model.roles)
    ]
    mixed = np.einsum("kyx,kc->yxc", outputs, np.array(colors, np.float64)[:, :3])
    return np.asarray(np.clip(mixed, 0, 255), np.uint8)


def _color(i: int, role: str, model: Model) -> str:
    if role.partition(":")[2] == "background":
        return "#000000"
    if i < len(model.class_colors):
        return model.class_colors[i]
    return _COLORS[(i - 1) % len(_COLORS)]
