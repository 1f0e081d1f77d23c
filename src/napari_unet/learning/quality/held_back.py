"""What is validated on: a fixed choice of held-back pixels, made ready to be scored."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.errors import ConfigError
from napari_unet.imaging.cell_counts import TrueCells
from napari_unet.imaging.intensity import normalize
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.learning.applying.cell_sizes import step_of
from napari_unet.learning.applying.outputs import is_of_softmax
from napari_unet.learning.applying.tiles import plan_for, tile_size_for
from napari_unet.learning.data.fields import Field
from napari_unet.learning.data.planes import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from napari_unet.config import TrainConfig
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.imaging.tiling import Tile
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network

    AnyField = TypeVar("AnyField", bound="Field | Plane")


# Enough for a steady score; more would make training wait.
_MOST_PX, _LEAST_PX = 2**19, 2**16
# A validated pixel costs about half a trained one.
_SHARE_OF_TRAINED_PX = 0.15
# Larger planes are predicted in tiles as large as memory allows.
_MAX_SIDE_PX = 1024
# On a CPU larger batches would only leave its cache.
_BATCH_PX = {"cpu": 2**16}
_BATCH_PX_OF_GPUS = 2**20
# More would make validation wait for what may be nothing but noise.
_FURTHEST = 4.0
_GOLDEN_RATIO = (math.sqrt(5) + 1) / 2
_UNKNOWN = -1
_OF_IMAGES = ("psnr", "ssim")


@dataclass(frozen=True, eq=False)
class Piece:
    """A held-back plane with what it is compared with.

    Parameters
    ----------
    plane : Plane
        Its image and target.
    cells : TrueCells, optional
        The true cells; None where images are made.
    classes : ndarray of int16, shape (Y, X), optional
        True class of each pixel, -1 where it is not known; boundaries are of the
        class of their cell.
    field : Field or Plane, optional
        What it was read from, and can be read from again at another scale.
    """

    plane: Plane
    cells: TrueCells | None
    classes: NDArray[np.int16] | None
    field: Field | Plane | None = None

    @property
    def scale(self) -> float:
        """Working pixels for each pixel of the image; 1 where nobody knows."""
        return self.field.scale if isinstance(self.field, Field) else 1.0


class HeldBack:
    """Held-back pixels, at most so many, evenly spread and always the same.

    Parameters
    ----------
    fields : sequence of Field or Plane
        All that is held back.
    model : Model
        What is learned.
    max_px : int, optional
        About how many pixels to take. Left out, what can be validated without
        making training wait.
    tile_px : int, optional
        Side of the tiles that are predicted at once, in pixels; None takes whole
        pieces, several together.

    Attributes
    ----------
    pieces : tuple of Piece
        What is validated on, those of one size beside each other.
    tile_px : int or None
        As given; to be lowered where memory is too little.

    Raises
    ------
    ConfigError
        The best model is to be chosen by a score that this task doesn't have (NU-C01).
    """

    def __init__(
        self,
        fields: Sequence[Field | Plane],
        model: Model,
        *,
        max_px: int | None = None,
        tile_px: int | None = None,
    ) -> None:
        _check_choice(model.training)
        self.tile_px = tile_px
        max_px = max_px or px_while_training(model.training)
        self._model = model
        self._take([_prepared(field, model) for field in subset(fields, max_px)])
        # Where each image with a scale of its own began.
        self._begun = self.scales if model.scales_by_cells else {}

    @property
    def scales(self) -> dict[int, float]:
        """Working pixels for each pixel of an image, by the image's number."""
        fields = [piece.field for piece in self.pieces]
        return {f.region.image: f.scale for f in fields if isinstance(f, Field)}

    def look_closer(self, areas: Sequence[NDArray[np.int64]]) -> None:
        """See each image at a better scale from now on, by the cells found in it.

        One step of what prediction does for an image that it has never seen, in
        `napari_unet.learning.applying.cell_sizes`: nothing that is annotated counts.
        Nothing changes unless the model learned each image at its own scale.

        Parameters
        ----------
        areas : sequence of ndarray of int64
            Those of the cells found in each piece, in pixels that the network sees.
        """
        found: dict[int, list[NDArray[np.int64]]] = {}
        for piece, own in zip(self.pieces, areas, strict=True):
            if isinstance(piece.field, Field):
                found.setdefault(piece.field.region.image, []).append(own)
        scales = self.scales
        self.see_at(
            {
                image: _within(scales[image] * step, self._begun[image])
                for image, own in found.items()
                if image in self._begun
                and (step := step_of(self._model, np.concatenate(own))) != 1
            }
        )

    def see_at(self, scales: Mapping[int, float]) -> None:
        """Read those pieces again whose image has another scale now."""
        now = self.scales
        if any(now.get(image, scale) != scale for image, scale in scales.items()):
            self._take([self._seen_at(scales, piece) for piece in self._as_given])

    def _seen_at(self, scales: Mapping[int, float], piece: Piece) -> Piece:
        if not isinstance(field := piece.field, Field):
            return piece
        scale = scales.get(field.region.image, field.scale)
        return (
            piece if scale == field.scale else _prepared(field.at(scale), self._model)
        )

    def _take(self, pieces: list[Piece]) -> None:
        """Take pieces in the order given, whatever happened before."""
        self._as_given = pieces
        # Of one size they are predicted together.
        self.pieces = tuple(sorted(pieces, key=lambda p: p.plane.image.shape))

    def state_dict(self) -> dict[str, float]:
        """Return the scales, for a checkpoint."""
        return {str(image): scale for image, scale in self.scales.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint of the same training."""
        self.see_at({int(image): scale for image, scale in state.items()})

    def seen_at(self, scales: Mapping[int, float]) -> HeldBack:
        """Return the same pieces in the same order, at other scales.

        Parameters
        ----------
        scales : mapping of int to float
            By the number of the image; those of other images stay as they are.
        """
        other = copy.copy(self)
        other.pieces = tuple(self._seen_at(scales, piece) for piece in self.pieces)
        return other

    def changed(self, limits: IntensityRange) -> HeldBack:
        """Return the same with intensities whose `low` is 0 and whose `high` is 1."""
        other = copy.copy(self)
        other.pieces = tuple(
            replace(
                piece,
                plane=replace(piece.plane, image=normalize(piece.plane.image, limits)),
            )
            for piece in self.pieces
        )
        return other

    @property
    def n_cells(self) -> int:
        """Number of true cells."""
        return sum(p.cells.ids.size for p in self.pieces if p.cells is not None)


def px_while_training(config: TrainConfig) -> int:
    """Return how many pixels may be validated each time.

    Examples
    --------
    >>> from napari_unet.config import TrainConfig
    >>> px_while_training(TrainConfig(validate_every=1))
    65536
    """
    n = config.validate_every * config.batch_size * config.patch_size**2
    return int(np.clip(_SHARE_OF_TRAINED_PX * n, _LEAST_PX, _MOST_PX))


def subset(fields: Sequence[AnyField], max_px: int) -> list[AnyField]:
    """Return fields, evenly spread, that together have at most `max_px` pixels.

    At least one, however large. The choice is always the same.

    References
    ----------
    Multiples of the golden ratio leave no large gap, however many there are: Knuth,
    The Art of Computer Programming 3, 1998, section 6.4, theorem S.
    """
    n_px = [math.prod(shape_of(field)) for field in fields]
    if sum(n_px) <= max_px:
        return list(fields)
    spread = np.argsort(np.arange(1, len(fields) + 1) * _GOLDEN_RATIO % 1)
    chosen: list[int] = []
    left = max_px
    for k in spread.argsort().tolist():
        if not chosen or n_px[k] <= left:
            chosen.append(k)
            left -= n_px[k]
    return [fields[i] for i in sorted(chosen)]


def shape_of(field: Field | Plane) -> tuple[int, ...]:
    """Return rows and columns of a field."""
    return field.labels.shape if isinstance(field, Plane) else field.shape


def predictions(
    network: Network, held: HeldBack, device: DeviceChoice
) -> Iterator[tuple[Piece, torch.Tensor]]:
    """Yield each piece with its logits, float32 (K, Y, X), on the device.

    Parameters
    ----------
    network : Network
        As `napari_unet.learning.applying.inference.for_inference` made it.
    held : HeldBack
        Its pieces of one size go through the network together, or, where it says
        how large tiles may be, tile by tile.
    device : DeviceChoice
        Where the network is.
    """
    most_px = _BATCH_PX.get(device.name, _BATCH_PX_OF_GPUS)
    for _, group in itertools.groupby(held.pieces, lambda p: p.plane.image.shape):
        alike = list(group)
        n = 1 if held.tile_px else max(1, most_px // alike[0].plane.labels.size)
        for batch in (alike[i : i + n] for i in range(0, len(alike), n)):
            images = np.stack([piece.plane.image for piece in batch])
            shape = batch[0].plane.target.weights.shape
            logits = _logits(network, images, device, held.tile_px)
            yield from zip(batch, logits[..., : shape[0], : shape[1]], strict=True)


@torch.no_grad()
def _logits(
    network: Network,
    images: NDArray[np.float32],
    device: DeviceChoice,
    tile_px: int | None,
) -> torch.Tensor:
    """Return the logits (N, K, Y, X) of images (N, C, Y, X), and maybe some beyond."""
    shape, finer = images.shape[2:], network.config.upscale
    if tile_px is None:
        is_large = max(shape) > _MAX_SIDE_PX
        tile_px = tile_size_for(network, shape, device, "fp32") if is_large else None
    plan = plan_for(network, shape, tile_size=tile_px or max(shape))
    padded = mirror_pad(images, [(0, 0), (0, 0), *plan.pads])
    ends = (n + after for n, (_, after) in zip(shape, plan.pads, strict=True))
    size = [finer * end for end in ends]
    found = None
    for tile in plan.tiles:
        seen = np.ascontiguousarray(padded[:, :, *tile.read])
        part = network(torch.from_numpy(seen).to(device.torch))
        part = _what_counts(part, tile, finer)
        if len(plan.tiles) == 1:
            return part
        if found is None:
            found = part.new_zeros((*part.shape[:2], *size))
        y, x = (finer * w.start for w in tile.write)
        found[..., y : y + part.shape[2], x : x + part.shape[3]] += part
    if found is None:
        raise TypeError("an image has one tile at least")
    return found


def _what_counts(part: torch.Tensor, tile: Tile, finer: int) -> torch.Tensor:
    """Return what a tile's output adds to that of the image."""
    if not tile.weights:
        y, x = (slice(finer * c.start, finer * c.stop) for c in tile.crop)
        return part[..., y, x]
    y_weights, x_weights = (
        torch.from_numpy(np.repeat(w, finer)).to(part.device) for w in tile.weights
    )
    return part * y_weights[:, None] * x_weights


def _within(scale: float, begun: float) -> float:
    """Return a scale that is not too far from where it began, to three digits."""
    bounded = min(max(scale, begun / _FURTHEST), begun * _FURTHEST)
    return float(f"{bounded:.3g}")


def _prepared(field: Field | Plane, model: Model) -> Piece:
    plane = field if isinstance(field, Plane) else field.load()
    if model.training.task == "regress" or plane.target.classes is None:
        return Piece(plane, None, None, field)
    cells = TrueCells(plane.labels, plane.known)
    return Piece(plane, cells, _classes(plane, model), field)


def _classes(plane: Plane, model: Model) -> NDArray[np.int16]:
    """Return the class of each pixel, boundaries being of the class of their cell."""
    classes = np.array(plane.target.classes)
    softmax = [role for role in model.roles if is_of_softmax(role)]
    for k, role in enumerate(softmax):
        if role.startswith("softmax-boundary"):
            of_label = np.zeros(int(plane.labels.max()) + 1, classes.dtype)
            inside = (plane.labels > 0) & (classes != k)
            of_label[plane.labels[inside]] = classes[inside]
            classes = np.where(classes == k, of_label[plane.labels], classes)
    classes[plane.target.weights == 0] = _UNKNOWN
    return classes


def _check_choice(config: TrainConfig) -> None:
    by, is_of_images = config.choose_by, config.choose_by in _OF_IMAGES
    if by in {None, "loss"} or is_of_images == (config.task == "regress"):
        return
    own = "psnr, ssim" if config.task == "regress" else "mean_ap, ap, f1, iou"
    raise ConfigError(
        "NU-C01",
        f"the best model is to be chosen by {by}, but the task {config.task!r} has "
        f"the scores {own} and loss: choose by one of these",
    )
