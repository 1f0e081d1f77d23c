"""Images that are too large to be looked at as a whole: block by block to the disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.batch.large_measuring import Votes, about_left_out, measure_stored
from napari_unet.config import PredictConfig
from napari_unet.errors import FolderError
from napari_unet.events import BlockDone, LabelsWritten, Note, counted
from napari_unet.files.atomic import Apart, put_in_place, sweep_strays, write_apart
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.ome_zarr import LabelStore
from napari_unet.files.tables import table_writer
from napari_unet.files.tiled_tiff import tiled_labels_writer
from napari_unet.imaging.blockwise import find_in_blocks
from napari_unet.imaging.instances import check_finds_cells, has_cells, is_cell
from napari_unet.imaging.joining import Joiner, plan_blocks
from napari_unet.learning.applying.blocks import cutting_for, pixel_size_of_outputs
from napari_unet.learning.applying.inference import network_for, precision_of
from napari_unet.learning.applying.predictor import Predictor
from napari_unet.learning.applying.scale import on_own_grid
from napari_unet.learning.applying.tiles import bytes_per_pixel, tile_size_for
from napari_unet.learning.data.pairs import check_channels
from napari_unet.learning.device import choose_device, return_freed_memory
from napari_unet.learning.prediction import check_axes, working_factors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.imaging.blockwise import Cutting
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks import Network

    Write = Callable[[BinaryIO], None]

# Of labels stored in one file each: blocks of volumes are small.
_CHUNK_PX = {2: 1024, 3: 256}
# What the features of one tile may take on a CPU by `bytes_per_pixel`, which is about
# twice what plain networks were seen to take.
_FEATURES_BYTES = 2**30
_LEAST_TILE_PX = 256


# What is looked at as a whole: a plane, or a volume, in pixels.
LARGEST_PX = {2: 4096**2, 3: 2**28}


def is_large(image: Image, n_dims: int) -> bool:
    """Return whether an image is to go block by block, from the disk to the disk.

    Parameters
    ----------
    image : Image
        One that is in memory is not.
    n_dims : int
        2 where each plane is looked at by itself, 3 for volumes.
    """
    is_in_memory = isinstance(image.data, np.ndarray)
    return not is_in_memory and math.prod(image.shape[-n_dims:]) > LARGEST_PX[n_dims]


@dataclass(frozen=True)
class Large:
    """What was written of a large image, not yet in place.

    Parameters
    ----------
    labels : LabelsWritten
        What is told of it.
    files : tuple of Apart
        The labels, and what else was asked for.
    """

    labels: LabelsWritten
    files: tuple[Apart, ...]


def segment_large(  # noqa: PLR0913 - see large_apart
    model: Model,
    image: Image,
    output: Path | str,
    config: PredictConfig | None = None,
    instances: InstanceConfig | None = None,
    *,
    factors: Sequence[float] | None = None,
    net: Network | None = None,
    cutting: Cutting | None = None,
) -> Iterator[Note | BlockDone | LabelsWritten]:
    """Find the cells of an image of any size, and write them to a file.

    Parameters are those of `large_apart`.

    Yields
    ------
    BlockDone, Note
        As `large_apart`.
    LabelsWritten
        The last one.

    Raises
    ------
    UNetError
        As `large_apart`.
    """
    large = yield from large_apart(
        model,
        image,
        output,
        config,
        instances,
        factors=factors,
        net=net,
        cutting=cutting,
    )
    for error in put_in_place(large.files).values():
        raise error
    yield large.labels


def large_apart(  # noqa: PLR0913 - what is known already need not be found again
    model: Model,
    image: Image,
    output: Path | str,
    config: PredictConfig | None = None,
    instances: InstanceConfig | None = None,
    *,
    factors: Sequence[float] | None = None,
    net: Network | None = None,
    cutting: Cutting | None = None,
    table: Path | None = None,
    also: Mapping[Path, Callable[[LazyArray], Write]] | None = None,
) -> Generator[Note | BlockDone, None, Large]:
    """Find the cells of an image of any size; the caller puts the files in place.

    The image is read, predicted and looked at block by block, and labels go to the
    disk, so that memory does not grow with the image: base width 16 and cells of some
    20 px take two thirds of a gigabyte. The labels are those of the whole image
    (see `napari_unet.imaging.blockwise`). A file that is there is replaced once the
    new one is whole; closing the generator leaves nothing behind.

    Parameters
    ----------
    model : Model
        The model to apply.
    image : Image
        Image of the channels that the model takes; lazy, to keep memory bounded.
    output : path
        ``*.zarr`` becomes an OME-Zarr of uint32 with coarser levels, all else a tiled
        OME-TIFF of uint16, or uint32 where an id is above 65,535.
    config : PredictConfig, optional
        How to apply the model.
    instances : InstanceConfig, optional
        How probabilities become cells, in pixels of the image; the settings tuned with
        the model, at the image's scale, if omitted.
    factors : sequence of float, optional
        Pixels that the network sees for each of the image, one an axis ([Z,] Y, X).
    net : Network, optional
        The model's network, from `network_for`: for many images it is made but once.
    cutting : Cutting, optional
        How the image is cut into blocks; as the model's cells ask for if omitted.
    table : Path, optional
        Also measure each cell, for this CSV.
    also : mapping of Path to callable, optional
        Other files that are made of the labels: given these, lazy, what writes them.

    Yields
    ------
    BlockDone
        After each block.
    Note
        Memory was too little for such tiles; cells were found that are larger than
        the halo of blocks is made for, or too large to be measured.

    Returns
    -------
    Large

    Raises
    ------
    FolderError
        The output is the image itself (NU-F09).
    ImageError, ModelError, ResourceError
        As `napari_unet.learning.prediction.predict_tiles`, which writes nothing.
    SaveError
        The output can't be written (NU-S01).
    """
    output, config = Path(output), config or PredictConfig()
    check_finds_cells(model.roles)
    check_channels(model, image)
    check_axes(model, image)
    _check_is_another(output, image)
    net = net or network_for(model, config)
    factors = factors or working_factors(model, image, config, net=net)
    settings = instances or on_own_grid(model.instances, factors)
    cutting = cutting or cutting_for(model, factors)
    tile_size = _tile_size(model, net, config, cutting, factors)
    config = config.model_copy(update={"tile_size": tile_size})
    predictor = Predictor(model, image, config, factors, net=net)
    # What a killed run left of another result.
    sweep_strays(output.parent)
    axes, n_dims = image.axes[1:], model.network.n_dims
    size_um = pixel_size_of_outputs(model, image)
    store = LabelStore(
        output, predictor.shape[1:], axes, size_um, chunk_px=_CHUNK_PX[n_dims]
    )
    files: list[Apart] = []
    try:
        n_threads = 0 if choose_device(config.device).name == "cpu" else 1
        votes = None
        if table is not None and sum(map(is_cell, model.roles)) > 1:
            votes = Votes(model.roles)
        work = _Work(model, predictor, settings, cutting, store, n_threads, votes)
        yield from work.all()
        if table is not None:
            classes = None if votes is None else votes.names()
            found, n_left_out = measure_stored(store, image, n_dims, classes)
            columns: dict[str, Any] = {**found.columns}
            files.append(write_apart(table, table_writer(columns)))
            if n_left_out:
                yield Note(about_left_out(n_left_out, n_dims), is_warning=True)
        for path, make in (also or {}).items():
            files.append(write_apart(path, make(LazyArray(store.array))))
        if output.suffix.lower() == ".zarr":
            files.insert(0, store.apart())
        else:
            write = tiled_labels_writer(store, axes=axes, pixel_size_um=size_um)
            files.insert(0, write_apart(output, write))
    except BaseException:
        for file in files:
            file.discard()
        raise
    finally:
        store.discard()
    written = LabelsWritten(
        output, work.n_cells, cutting.size, cutting.halo, predictor.tile_size
    )
    return Large(written, tuple(files))


def _check_is_another(output: Path, image: Image) -> None:
    if output.resolve() == Path(image.source).resolve():
        raise FolderError(
            "NU-F09",
            f"the labels of {output} would replace the image itself: give another name",
        )


def _tile_size(
    model: Model,
    net: Network,
    config: PredictConfig,
    cutting: Cutting,
    factors: Sequence[float],
) -> int:
    """Return a side of tiles that divides a block's window evenly and fits memory."""
    if config.tile_size is not None:
        return config.tile_size
    device = choose_device(config.device)
    side = cutting.size + 2 * cutting.halo
    window = [math.ceil(side * f / model.network.upscale) for f in factors]
    precision = precision_of(model, config, device)
    if device.name == "cpu" and len(window) == 2:
        read = math.isqrt(_FEATURES_BYTES // bytes_per_pixel(net, precision))
        size = max(read - 2 * (net.halo or 0), _LEAST_TILE_PX)
    else:
        size = tile_size_for(net, window, device, precision)
    n_tiles = math.ceil(max(window) / size)
    return math.ceil(max(window) / n_tiles / net.multiple) * net.multiple


class _Work:
    """All planes (or volumes) of an image, one after the other, to a store of labels.

    Attributes
    ----------
    n_cells : int
        Found so far; of a model of areas the highest class.
    """

    def __init__(
        self,
        model: Model,
        predictor: Predictor,
        settings: InstanceConfig,
        cutting: Cutting,
        store: LabelStore,
        n_threads: int,
        votes: Votes | None,
    ) -> None:
        self._roles, self._predictor = model.roles, predictor
        self._settings, self._cutting = settings, cutting
        self._store, self._n_threads, self._votes = store, n_threads, votes
        n_dims = model.network.n_dims
        self._shape = predictor.shape[-n_dims:]
        self._stack = predictor.shape[1:-n_dims]
        self.n_cells = 0

    def all(self) -> Iterator[Note | BlockDone]:
        """Find the cells of all planes, ids unique over all of them."""
        n_each = len(
            plan_blocks(self._shape, size=self._cutting.size, halo=self._cutting.halo)
        )
        n_blocks, n_done = n_each * math.prod(self._stack), 0
        n_wide, tile_size = 0, self._predictor.tile_size
        for index in np.ndindex(self._stack):
            joiner = Joiner(self._shape, self._cutting.halo)
            for _ in self._blocks(index, joiner):
                if self._predictor.tile_size < tile_size:
                    tile_size = self._predictor.tile_size
                    yield Note(
                        f"memory was too little: going on with tiles of {tile_size} px"
                    )
                n_done += 1
                yield BlockDone(n_done, n_blocks)
            if has_cells(self._roles):
                n_wide += joiner.n_wider_than(self._cutting.halo // 2)
                self._number(index, joiner)
        if n_wide and n_each > 1:
            yield Note(self._about_wide(n_wide), is_warning=True)

    def _blocks(self, index: tuple[int, ...], joiner: Joiner) -> Iterator[None]:
        """Write what is found block by block, by numbers that are no one else's."""
        likeliest: dict[str, NDArray[np.uint8]] = {}

        def outputs(window: tuple[slice, ...]) -> NDArray[np.float32]:
            found = self._predictor.window(window, index)
            if self._votes is not None:
                likeliest[str(window)] = self._votes.likeliest(found)
            return found

        for block, found in find_in_blocks(
            outputs,
            self._shape,
            self._roles,
            self._settings,
            cutting=self._cutting,
            joiner=joiner,
            n_threads=self._n_threads,
        ):
            if not has_cells(self._roles):
                self.n_cells = max(self.n_cells, int(found.max()))
            if self._votes is not None:
                classes = likeliest.pop(str(block.window))
                self._votes.add(found, classes[block.core_in_window])
            where = (*(slice(i, i + 1) for i in index), *block.core)
            self._store.write(where, found[(np.newaxis,) * len(index)])
            # Else what was freed adds up, block by block, to as much as is in use.
            return_freed_memory()
            yield

    def _number(self, index: tuple[int, ...], joiner: Joiner) -> None:
        """Give the cells of a plane, all found, the numbers that they keep."""
        numbers = joiner.numbers(
            min_size_px=self._settings.min_size_px,
            clears_border=self._settings.clear_border,
            first=self.n_cells + 1,
        )
        self.n_cells = max(self.n_cells, int(numbers.max(initial=0)))
        for where in self._store.chunks(index):
            found = self._store.read(where)
            if found.any():
                self._store.write(where, numbers[found])
        if self._votes is not None:
            self._votes.settle(numbers)

    def _about_wide(self, n: int) -> str:
        half = self._cutting.halo // 2
        return (
            f"{counted(n, 'cell')} wider than {half} px, for which blocks overlap: "
            "the outlines of such cells may differ from those of the whole image where "
            "blocks meet; give their cell diameter, or predict at a smaller scale"
        )
