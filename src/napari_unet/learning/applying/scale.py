"""At which size a network sees an image: the working scale of a model and an image.

Factors are pixels that the network sees for each pixel of an image, one an axis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_unet.imaging.instances import finds_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import InstanceConfig, PredictConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.model import Model

# Training varies sizes by more than this.
_NEAR = 0.1
# Such pixel sizes are wrong more often than not: of a scanner, or of a default.
LARGEST_RATIO = 8.0
# No image is made larger or smaller by more.
LARGEST_SCALE = 16.0


def scale_for(
    own_um: Sequence[float] | None,
    reference_um: Sequence[float] | None,
    scale: float = 1.0,
    *,
    n_dims: int = 2,
) -> tuple[float, ...]:
    """Return the factors at which an image is as large as the reference at `scale`.

    Parameters
    ----------
    own_um, reference_um : sequence of float, optional
        Pixel sizes ([Z,] Y, X) of the image and of the reference, in micrometres.
        Where one is not known, or they are more than 8 times apart, `scale` alone
        counts.
    scale : float
        Pixels seen for each pixel of the reference.
    n_dims : int
        2 for planes, 3 for volumes.

    Returns
    -------
    tuple of float
        One an axis; 1 where it is within 10 % of that.

    Examples
    --------
    >>> scale_for((0.25, 0.25), (0.5, 0.5)), scale_for((0.52, 0.52), (0.5, 0.5))
    ((0.5, 0.5), (1.0, 1.0))
    """
    ratios = pixel_size_ratios(own_um, reference_um, n_dims=n_dims)
    if ratios is None or not all(_is_believed(ratio) for ratio in ratios):
        ratios = (1.0,) * n_dims
    return tuple(_rounded(scale * ratio) for ratio in ratios)


def pixel_size_ratios(
    own_um: Sequence[float] | None,
    reference_um: Sequence[float] | None,
    *,
    n_dims: int = 2,
) -> tuple[float, ...] | None:
    """Return how many times larger an image's pixels are; None where nobody knows.

    Parameters are those of `scale_for`.
    """
    sizes = own_um or (), reference_um or ()
    if any(len(size) < n_dims for size in sizes):
        return None
    pairs = zip(sizes[0][-n_dims:], sizes[1][-n_dims:], strict=True)
    return tuple(own / reference for own, reference in pairs)


def factors_for(
    model: Model, image: Image, config: PredictConfig | None = None
) -> tuple[float, ...]:
    """Return the factors at which a model sees an image, one an axis ([Z,] Y, X).

    A model of cells sees them as large as in training, if both pixel sizes are known.
    One that makes images sees pixels as they are: their noise is what it knows.
    Nothing of the image's content is looked at; see
    `napari_unet.learning.applying.cell_sizes.measured_factors`.

    Parameters
    ----------
    model : Model
        Its pixel size and scale count.
    image : Image
        Its pixel size counts.
    config : PredictConfig, optional
        Its `scale`, or else its `cell_diameter_px`, where given, is taken instead.
    """
    n_dims = model.network.n_dims
    given = given_scale(model, config)
    if given is not None:
        return (_rounded(given),) * n_dims
    own = image.pixel_size_um if finds_cells(model.roles) else None
    return scale_for(own, model.pixel_size_um, model.scale, n_dims=n_dims)


def given_scale(model: Model, config: PredictConfig | None) -> float | None:
    """Return the scale that the user's settings ask for; None where they leave it open.

    Parameters are those of `factors_for`.
    """
    if config is None:
        return None
    if config.scale is not None:
        return config.scale
    if config.cell_diameter_px is None or model.working_cell_px is None:
        return None
    scale = model.working_cell_px / config.cell_diameter_px
    return min(max(scale, 1 / LARGEST_SCALE), LARGEST_SCALE)


def scale_warning(
    model: Model, image: Image, config: PredictConfig | None = None
) -> str:
    """Return what is odd about an image's pixel size; empty if nothing is.

    Parameters are those of `factors_for`.
    """
    if given_scale(model, config) is not None:
        return ""
    if config is not None and config.cell_diameter_px is not None:
        return (
            "the model does not know how large its cells are, so the cell diameter "
            f"that was given for {image.source} is not used: give a scale"
        )
    n_dims = model.network.n_dims
    sizes = image.pixel_size_um, model.pixel_size_um
    ratios = pixel_size_ratios(*sizes, n_dims=n_dims)
    if ratios is None:
        return ""
    ratio = max(ratios, key=lambda r: abs(math.log(r)))
    axis = ratios.index(ratio) - n_dims
    own, other = (size[axis] if size else 0.0 for size in sizes)
    said = (
        f"{image.source} has {own:.3g} µm per pixel but the model was trained at "
        f"{other:.3g} µm"
    )
    if not _is_believed(ratio):
        return (
            f"{said}, {max(ratio, 1 / ratio):.3g} times apart, which is not believed: "
            "the image is taken at the size of the training images; correct its pixel "
            "size, or give a scale"
        )
    if not finds_cells(model.roles) and _rounded(ratio) != 1:
        return (
            f"{said}: what it shows looks larger or smaller to the model than what it "
            "knows; train on such images, or give a scale"
        )
    return ""


def scale_note(
    model: Model,
    image: Image,
    config: PredictConfig | None = None,
    factors: Sequence[float] | None = None,
) -> str:
    """Return in a sentence that an image is rescaled for a model; empty if it is not.

    Parameters are those of `factors_for`; `factors` are those that were found on the
    image itself.
    """
    told = factors_for(model, image, config)
    factors = tuple(factors or told)
    if all(factor == 1 for factor in factors):
        return ""
    each = sorted(set(factors))
    by = " x ".join(f"{f:.3g}" for f in (factors if len(each) > 1 else each))
    measured = "shows cells that were measured in a first look"
    why = _why(model, image, config) if factors == told else measured
    return (
        f"{image.source} {why}: it was rescaled by {by} for the "
        "network, and the results are on its own grid"
    )


def _why(model: Model, image: Image, config: PredictConfig | None) -> str:
    if given_scale(model, config) is not None:
        return "has a scale that was given"
    own, other = image.pixel_size_um, model.pixel_size_um
    if own and other and finds_cells(model.roles):
        return (
            f"has {own[-1]:.3g} µm per pixel and the model was trained at "
            f"{other[-1]:.3g} µm{_learned_at(model)}"
        )
    return f"is for a model that learned{_learned_at(model)}"


def _learned_at(model: Model) -> str:
    return "" if model.scale == 1 else f" at {model.scale:.3g} times the size"


def on_own_grid(instances: InstanceConfig, factors: Sequence[float]) -> InstanceConfig:
    """Return settings in pixels of an image, of those in pixels that a network sees.

    Examples
    --------
    >>> from napari_unet.config import InstanceConfig
    >>> own = on_own_grid(InstanceConfig(min_size_px=20, smoothing_px=1), (0.5, 0.5))
    >>> own.min_size_px, own.smoothing_px
    (80, 2.0)
    """
    area = math.prod(factors)
    if area == 1:
        return instances
    length = area ** (1 / len(factors))
    return instances.model_copy(
        update={
            "min_size_px": round(instances.min_size_px / area),
            "smoothing_px": instances.smoothing_px / length,
        }
    )


def _is_believed(ratio: float) -> bool:
    return 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO


def _rounded(factor: float) -> float:
    return 1.0 if abs(factor - 1) <= _NEAR else factor
