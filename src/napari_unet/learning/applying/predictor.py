"""A model applied to one image: tile by tile, or a window of it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ResourceError
from napari_unet.events import Note, TileDone
from napari_unet.imaging.grids import Grids
from napari_unet.imaging.intensity import normalize
from napari_unet.imaging.resampling import scaled_shape
from napari_unet.learning.applying.inference import network_for, precision_of
from napari_unet.learning.applying.passes import Passes
from napari_unet.learning.applying.ranges import image_range, in_units, values_span
from napari_unet.learning.applying.tiles import plan_for, tile_size_for
from napari_unet.learning.device import choose_device, return_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.imaging.tiling import Tile
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks import Network

    Region = tuple[slice, ...]

# Smaller tiles would be mostly halo.
_SMALLEST_TILE_PX = 64


class Predictor:
    """A model applied to one image; nothing of it is read before it is needed.

    Parameters
    ----------
    model : Model
        The model to apply.
    image : Image
        Image of the channels that the model takes; lazy data is read tile by tile.
    config : PredictConfig
        Tile size and halo, device and precision.
    factors : sequence of float
        Pixels that the network sees for each of the image, one an axis ([Z,] Y, X).
    shift : int
        By how much the seams of tiles lie elsewhere than without it, in pixels that
        the network sees.
    net : Network, optional
        The model's network, from `network_for`: for many images it is made but once.

    Attributes
    ----------
    shape : tuple of int
        Of the outputs, (K, [T,] [Z,] Y, X).
    tile_size : int
        Side of a tile without its halo, in pixels that the network sees; smaller once
        memory was not enough.
    spread : ndarray of float32, shape ([T,] [Z,] Y, X), or None
        With test-time augmentation, after `tiles`: the standard deviation over it of
        the output in which it is largest.
    """

    def __init__(
        self,
        model: Model,
        image: Image,
        config: PredictConfig,
        factors: Sequence[float],
        *,
        shift: int = 0,
        net: Network | None = None,
    ) -> None:
        self._data, self._roles = image.data, model.roles
        self.spread: NDArray[np.float32] | None = None
        self._shift = shift
        self._span = image_range(model, image)
        self._values = values_span(model, self._span)
        self._device, self._halo = choose_device(config.device), config.halo
        precision = precision_of(model, config, self._device)
        self._net = network_for(model, config) if net is None else net
        self._passes = Passes(
            self._net, self._device, model.roles, config.test_time_augmentation
        )
        n_dims, finer = model.network.n_dims, model.network.upscale
        own = tuple(image.shape[-n_dims:])
        seen = scaled_shape(own, factors)
        self._grids = Grids(own, seen, finer)
        self._stack = image.shape[: -len(own)]
        self.shape: tuple[int, ...] = (
            len(model.roles),
            *self._stack,
            *(n * finer for n in own),
        )
        size = config.tile_size or tile_size_for(
            self._net, seen, self._device, precision
        )
        # A tile larger than the image would only be padding.
        self._cut(min(size, max(seen)))

    def _cut(self, tile_size: int) -> None:
        self.tile_size = tile_size
        self._plan = plan_for(
            self._net,
            self._grids.seen,
            tile_size=tile_size,
            halo=self._halo,
            shift=self._shift,
        )

    def tiles(
        self, viewed: Callable[[], Sequence[float] | None] | None = None
    ) -> Iterator[Note | TileDone]:
        """Predict the whole image, yielding after each tile.

        Where memory is too little the plane (or volume) begins again with tiles half
        as large, which for a local network gives the same; a `Note` says so.

        Parameters
        ----------
        viewed : callable, optional
            Returns what the user looks at by now: its middle in pixels of the outputs,
            ([T,] [Z,] Y, X), or None. What is near it comes first.

        Yields
        ------
        TileDone
            Its `outputs` are float32 of `shape`, the same array each time, whole after
            the last event.
        """
        n_outputs, *rest = self.shape
        n_given = n_outputs + self._passes.gives_spread
        every = np.zeros((n_given, *rest), np.float32)
        outputs = every[:n_outputs]
        if self._passes.gives_spread:
            self.spread = every[n_outputs]
        viewed = viewed or (lambda: None)
        n_planes = math.prod(self._stack)
        left: list[tuple[int, ...]] = list(np.ndindex(self._stack))
        while left:
            index = left.pop(_nearest(left, viewed()))
            n_before = n_planes - len(left) - 1
            own = np.moveaxis(every, 0, len(index))[index]
            for n, write in self._plane(own, index, viewed):
                if write is None:
                    size = self.tile_size
                    yield Note(f"memory was too little: tiles of {size} px from now on")
                    continue
                n_tiles = len(self._plan.tiles)
                where = (*(slice(i, i + 1) for i in index), *write)
                n_done, n_all = n_before * n_tiles + n, n_planes * n_tiles
                yield TileDone(n_done, n_all, where, outputs, self.spread)

    def _plane(
        self,
        outputs: NDArray[np.float32],
        index: tuple[int, ...],
        viewed: Callable[[], Sequence[float] | None],
    ) -> Iterator[tuple[int, Region | None]]:
        """Predict one plane (or volume), tile by tile.

        Yields how many tiles are done and which outputs are there by the last one;
        none where it begins again, with smaller tiles.
        """
        while True:
            in_order = self._by_view(index, viewed)
            try:
                for i, (tile, found) in enumerate(self._passed(index, in_order)):
                    yield i + 1, self._write(outputs, found, tile)
            except ResourceError as error:
                if not self._shrinks(error):
                    raise
                outputs[:] = 0
                yield 0, None
            else:
                return

    def _by_view(
        self, index: tuple[int, ...], viewed: Callable[[], Sequence[float] | None]
    ) -> Iterator[Tile]:
        """Yield each tile, always the one that is nearest to what is seen by then."""
        left = list(self._plan.tiles)
        while left:
            yield left.pop(self._nearest_tile(left, index, viewed()))

    def _passed(
        self, index: tuple[int, ...], tiles: Iterable[Tile]
    ) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
        """Yield each tile with its outputs (K, [Z,] Y, X): what it keeps, or all.

        All where tiles are blended. With test-time augmentation the spread comes last.
        """
        begun: deque[Tile] = deque()

        def given() -> Iterator[tuple[NDArray[np.float32], Region]]:
            for tile in tiles:
                begun.append(tile)
                read = self._grids.read(
                    lambda window: self._normal(index, window),
                    tile.read,
                    self._plan.pads,
                )
                yield read, () if tile.weights else self._finer(tile.crop)

        for found in self._passes.all(given()):
            yield begun.popleft(), in_units(found, self._roles, self._values)

    def _finer(self, region: Region) -> Region:
        """Return a window of the network's input as it counts in its outputs."""
        finer = self._grids.finer
        return tuple(slice(r.start * finer, r.stop * finer) for r in region)

    def _nearest_tile(
        self, tiles: list[Tile], index: tuple[int, ...], view: Sequence[float] | None
    ) -> int:
        if view is None or tuple(map(int, view[: len(index)])) != index:
            return 0
        ratios = np.divide(self._grids.seen, self._grids.own) / self._grids.finer
        at = np.asarray(view[len(index) :]) * ratios
        ends = np.array([[(w.start, w.stop) for w in t.write] for t in tiles])
        gaps = np.maximum(0, np.maximum(ends[..., 0] - at, at - ends[..., 1]))
        return int((gaps**2).sum(1).argmin())

    def window(
        self, region: Sequence[slice], index: tuple[int, ...] = ()
    ) -> NDArray[np.float32]:
        """Return a window of the outputs: what `tiles` gives there.

        Parameters
        ----------
        region : sequence of slice
            In pixels of the outputs, ([Z,] Y, X).
        index : tuple of int
            Of the plane or volume in a stack or movie.

        Returns
        -------
        ndarray of float32, shape (K, *region)

        Raises
        ------
        ResourceError
            Memory is too little even for small tiles (NU-R02).
        """
        region = tuple(region)
        needed, finer = self._grids.needed(region), self._grids.finer
        within = [slice(n.start // finer, -(-n.stop // finer)) for n in needed]
        shape = [n.stop - n.start for n in needed]
        while True:
            found = np.zeros((self.shape[0], *shape), np.float32)
            try:
                tiles = self._plan.within(within)
                for tile, own in self._passed(index, tiles):
                    self._place(found, own[: len(found)], tile, needed)
                    # Else what was freed adds up to more than one tile takes.
                    return_freed_memory()
                break
            except ResourceError as error:
                if not self._shrinks(error):
                    raise
        return found if self._grids.is_one else self._grids.window(found, region)

    def error_of_halo(self) -> float | None:
        """Return how far off outputs are by a halo smaller than the network's reach.

        That is the largest difference in the tile that has most around it, of the
        middle plane or volume; None where the halo is enough, tiles are blended, or
        memory is too little to find out.
        """
        reach, given = self._net.halo, self._halo
        if self._plan.cut is None or reach is None or given == "exact":
            return None
        if given >= reach or len(self._plan.tiles) == 1:
            return None
        exact = plan_for(self._net, self._grids.seen, tile_size=self.tile_size)
        i, tile = max(enumerate(exact.tiles), key=lambda pair: _n_read(pair[1]))
        index = tuple(n // 2 for n in self._stack)
        tiles = [self._plan.tiles[i], tile]
        try:
            ours, truth = (found for _, found in self._passed(index, tiles))
        except ResourceError as error:
            if error.code != "NU-R02":
                raise
            return None
        return float(np.abs(ours - truth).max())

    def _shrinks(self, error: ResourceError) -> bool:
        """Take smaller tiles after an error of memory; return whether there are any."""
        if error.code != "NU-R02" or self.tile_size <= _SMALLEST_TILE_PX:
            return False
        n_before = len(self._plan.tiles)
        self._cut(max(self.tile_size // 2, _SMALLEST_TILE_PX))
        # A network that takes one size only can't do with less.
        return len(self._plan.tiles) > n_before

    def _normal(self, index: tuple[int, ...], window: Region) -> NDArray[np.float32]:
        part = np.asarray(self._data[(slice(None), *index, *window)])
        return normalize(part, self._span)

    def _write(
        self, outputs: NDArray[np.float32], found: NDArray[np.float32], tile: Tile
    ) -> Region:
        """Put a tile's outputs into those of the image; return which are there now."""
        grids, finer = self._grids, self._grids.finer
        shape = [n * finer for n in grids.seen]
        final = _within(tile.write, shape, finer)
        region, found = _share(found, tile, shape, finer)
        if not grids.is_one:
            grids.add(outputs, found, region)
            return grids.final(final)
        if tile.weights:
            outputs[(slice(None), *region)] += found
        else:
            outputs[(slice(None), *region)] = found
        return final

    def _place(
        self,
        outputs: NDArray[np.float32],
        found: NDArray[np.float32],
        tile: Tile,
        needed: Region,
    ) -> None:
        """Add a tile's outputs to those of a window, on the network's grid."""
        shape = [n * self._grids.finer for n in self._grids.seen]
        region, found = _share(found, tile, shape, self._grids.finer)
        common = [
            slice(max(r.start, n.start), min(r.stop, n.stop))
            for r, n in zip(region, needed, strict=True)
        ]
        if any(c.start >= c.stop for c in common):
            return
        own = (slice(None), *_moved(common, region))
        outputs[(slice(None), *_moved(common, needed))] += found[own]


def _n_read(tile: Tile) -> int:
    return math.prod(part.stop - part.start for part in tile.read)


def _nearest(planes: list[tuple[int, ...]], view: Sequence[float] | None) -> int:
    """Return which plane of a stack or movie is nearest to the one that is seen."""
    if view is None or not planes[0]:
        return 0
    seen = np.asarray(view[: len(planes[0])])
    return int(np.abs(np.array(planes) - seen).sum(1).argmin())


def _share(
    found: NDArray[np.float32], tile: Tile, shape: Sequence[int], finer: int
) -> tuple[Region, NDArray[np.float32]]:
    """Return what a tile adds to the outputs on the network's grid, and where."""
    covered = tile.write
    if tile.weights:
        for axis, weights in enumerate(tile.weights):
            others = [1] * (len(shape) - axis - 1)
            found = found * np.repeat(weights, finer).reshape(-1, *others)
        covered = tuple(
            slice(w.start, w.start + len(weights))
            for w, weights in zip(tile.write, tile.weights, strict=True)
        )
    # The last tiles reach beyond the image, into its mirrored edge.
    region = _within(covered, shape, finer)
    return region, found[(slice(None), *_moved(region, region))]


def _moved(part: Sequence[slice], whole: Sequence[slice]) -> Region:
    """Return a window as it counts from the start of another one."""
    return tuple(
        slice(p.start - w.start, p.stop - w.start)
        for p, w in zip(part, whole, strict=True)
    )


def _within(region: Sequence[slice], shape: Sequence[int], finer: int) -> Region:
    return tuple(
        slice(r.start * finer, min(r.stop * finer, n))
        for r, n in zip(region, shape, strict=True)
    )
