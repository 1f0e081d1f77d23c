"""Overlap-tile prediction: aligned tiles with enough context leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError
from napari_unet.events import Note, TileDone
from napari_unet.files.inputs import as_image
from napari_unet.imaging.uncertainty import check_tells_uncertainty, uncertainty_of
from napari_unet.learning.applying.cell_sizes import measured_factors, wants_measuring
from napari_unet.learning.applying.inference import precision_of
from napari_unet.learning.applying.predictor import Predictor
from napari_unet.learning.applying.ranges import image_range
from napari_unet.learning.applying.scale import factors_for
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.data.pairs import check_channels
from napari_unet.learning.device import choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.data.pairs import ImageLike
    from napari_unet.learning.networks import Network
    from napari_unet.mailbox import Mailbox


def predict_tiles(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    factors: Sequence[float] | None = None,
    mailbox: Mailbox | None = None,
    net: Network | None = None,
) -> Iterator[Note | TileDone]:
    """Predict an image tile by tile, yielding after each tile.

    A network of planes takes a stack plane by plane; one of volumes takes a movie
    volume by volume. The tiles of a local network leave no trace
    (see `napari_unet.learning.applying.tiles.plan_for`). The network sees the image at
    the size of its training images, as far as that is known; the outputs are on its
    own grid.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        Tile size and halo, in pixels that the network sees; scale, device, precision.
    factors : sequence of float, optional
        Pixels that the network sees for each of the image, one an axis ([Z,] Y, X);
        those of `working_factors` if omitted.
    mailbox : Mailbox, optional
        Where it is said which region the user looks at (`Mailbox.look_at`): what is
        there comes first, then what is near.
    net : Network, optional
        The model's network, from `network_for`: for many images it is made but once.

    Yields
    ------
    TileDone
        Its `outputs` are float32 (K, [T,] [Z,] Y, X), the same array each time, whole
        after the last event. The axes that the network sees are `upscale` times finer
        than the image's.
    Note
        The halo given is too small to be exact, and by how much outputs are off;
        memory was too little for such tiles: they are smaller from now on.

    Raises
    ------
    ImageError
        The image has another number of channels than the model takes, or no volume
        for a model of volumes.
    ModelError, ResourceError
        The model can't be loaded; the device is missing or has too little memory.

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015, fig. 2 (overlap-tile strategy).
    """
    config = config or PredictConfig()
    image = as_image(image)
    model = model if isinstance(model, Model) else load_model(model)
    check_channels(model, image)
    check_axes(model, image)
    factors = factors or working_factors(model, image, config, net=net)
    predictor = Predictor(model, image, config, factors, net=net)
    if (error := predictor.error_of_halo()) is not None:
        yield Note(
            f"a halo of {config.halo} px is less than this network needs to be exact: "
            f"in one tile outputs are off by up to {error:.1g}"
        )
    finer = model.network.upscale
    yield from predictor.tiles(lambda: _middle(mailbox, finer))


def _middle(mailbox: Mailbox | None, finer: int) -> tuple[float, ...] | None:
    """Return the middle of what the user sees, in pixels of the outputs."""
    view = None if mailbox is None else mailbox.view
    if view is None:
        return None
    sides = zip(view.start, view.shape, strict=True)
    return (*view.plane, *((start + n / 2) * finer for start, n in sides))


def predict(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> NDArray[np.float32]:
    """Return the outputs for a whole image, float32 (K, [T,] [Z,] Y, X).

    Parameters and errors are those of `predict_tiles`; what each of the K channels
    means stands in `Model.roles`.
    """
    *_, last = predict_tiles(model, image, config)
    if not isinstance(last, TileDone):  # pragma: no cover - see Predictor.tiles
        raise TypeError(f"prediction ended with {last!r}")
    return last.outputs


def uncertainty_maps(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return how unsure a model is of an image, pixel by pixel.

    Parameters are those of `predict_tiles`.

    Returns
    -------
    dict of str to ndarray of float32, shape ([T,] [Z,] Y, X)
        "entropy" of the classes, 0 where one is certain and 1 where none is; with
        `PredictConfig.test_time_augmentation` also "spread", the standard deviation
        over the mirror images of the output in which it is largest.

    Raises
    ------
    ModelError
        The model makes values, and there are no mirror images (NU-M13).
    UNetError
        As `predict_tiles`.
    """
    config = config or PredictConfig()
    model = model if isinstance(model, Model) else load_model(model)
    is_augmented = config.test_time_augmentation != "off"
    check_tells_uncertainty(model.roles, has_spread=is_augmented)
    *_, last = predict_tiles(model, image, config)
    if not isinstance(last, TileDone):  # pragma: no cover - see Predictor.tiles
        raise TypeError(f"prediction ended with {last!r}")
    return uncertainty_of(last.outputs, model.roles, last.spread)


def working_factors(
    model: Model,
    image: Image,
    config: PredictConfig | None = None,
    *,
    net: Network | None = None,
) -> tuple[float, ...]:
    """Return how many pixels the network sees for each pixel of an image, one an axis.

    What the user gives comes first, then the pixel sizes of image and model. A model
    that learned all cells at one size looks first how large these are. Parameters are
    those of `predict_tiles`.
    """
    factors = factors_for(model, image, config)
    if not wants_measuring(model, config):
        return factors

    def run(fixed: Model, part: Image, factors: Sequence[float]) -> NDArray[np.float32]:
        check_channels(fixed, part)
        whole = tuple(slice(0, n) for n in part.shape)
        settings = config or PredictConfig()
        return Predictor(fixed, part, settings, factors, net=net).window(whole)

    span = image_range(model, image)
    return measured_factors(model, image, factors, span=span, run=run)


def resolved(model: Model, config: PredictConfig) -> dict[str, str | int]:
    """Return the device, precision and halo that a prediction really uses.

    The halo is "blended" for a network whose output depends on its whole input.
    """
    device = choose_device(config.device)
    halo = model.build().halo if config.halo == "exact" else config.halo
    return {
        "device": device.name,
        "precision": precision_of(model, config, device),
        "halo": "blended" if halo is None else halo,
    }


def check_axes(model: Model, image: Image) -> None:
    """Refuse planes where a model takes volumes (NU-I09)."""
    if model.network.n_dims == 3 and not image.axes.endswith("ZYX"):
        raise ImageError(
            "NU-I09",
            f"the model takes volumes, and {image.source} has the axes {image.axes}: "
            "give a stack of planes whose axes end in ZYX",
        )
