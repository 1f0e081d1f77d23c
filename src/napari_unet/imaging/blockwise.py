"""Cells of an image that is too large to be looked at as a whole."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.instances import find_instances, has_cells
from napari_unet.imaging.joining import Block, Joiner, plan_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig

    Region = tuple[slice, ...]

# A block takes a second or two, and some 100 bytes a pixel while cells are found.
BLOCK_PX = {2: 2048, 3: 128}
# Cells of one image differ by less than this from what is typical, or nearly all.
_LARGEST_TO_TYPICAL = 3.0
_HALO_WITHOUT_SIZE_PX = {2: 128, 3: 32}
# More would be looked at than kept. Cells wider than half of it are joined all the
# same, but their outlines may differ at seams (`Joiner.n_wider_than`).
_LARGEST_HALO_PX = {2: 512, 3: 64}


@dataclass(frozen=True)
class Cutting:
    """How an image is cut into blocks.

    Parameters
    ----------
    size : int
        Side of the core of a block, in pixels.
    halo : int
        What is looked at around it, in pixels.
    """

    size: int
    halo: int

    @classmethod
    def of(cls, cell_diameter_px: float | None, n_dims: int) -> Cutting:
        """Return one whose halo is twice the largest cell to be expected.

        Parameters
        ----------
        cell_diameter_px : float, optional
            Of a typical cell, in pixels of the image; the largest is taken to be
            three times as wide. A halo is at most 512 px (64 px in volumes), so that
            memory stays bounded.
        n_dims : int
            2 for planes, 3 for volumes.
        """
        halo = _HALO_WITHOUT_SIZE_PX[n_dims]
        if cell_diameter_px:
            halo = int(np.ceil(2 * _LARGEST_TO_TYPICAL * cell_diameter_px))
        return cls(BLOCK_PX[n_dims], min(halo, _LARGEST_HALO_PX[n_dims]))


def find_in_blocks(
    get: Callable[[Region], NDArray[np.float32]],
    shape: Sequence[int],
    roles: Sequence[str],
    config: InstanceConfig,
    *,
    cutting: Cutting,
    joiner: Joiner,
    n_threads: int = 1,
) -> Iterator[tuple[Block, NDArray[np.int64]]]:
    """Find the cells of one plane (or volume) block by block.

    Parameters
    ----------
    get : callable
        Returns the outputs in a window, float32 (K, *window); asked block by block.
    shape : sequence of int
        Of the plane or volume, ([Z,] Y, X).
    roles, config
        As for `napari_unet.imaging.instances.find_instances`.
    cutting : Cutting
        How large blocks and their halos are.
    joiner : Joiner
        Learns which cells are the same: `Joiner.numbers` says so after the last block.
    n_threads : int
        In how many threads cells are found, beside the one that asks; with 0 in that
        one, so that no block waits in memory while the next one is asked for.

    Yields
    ------
    Block, ndarray of int64, shape of its core
        Cells by numbers for `Joiner.numbers`; of a model of areas their classes.
    """
    blocks = plan_blocks(shape, size=cutting.size, halo=cutting.halo)
    is_of_cells = has_cells(roles)

    def find(block: Block, outputs: NDArray[np.float32]) -> NDArray[np.int32]:
        sides = block.open_sides(shape) if is_of_cells else ()
        return find_instances(outputs, roles, config, open_sides=sides)

    for block, labels in _found(get, blocks, find, n_threads):
        if is_of_cells:
            yield block, joiner.add(block, labels)
        else:
            yield block, labels[block.core_in_window].astype(np.int64)


def _found(
    get: Callable[[Region], NDArray[np.float32]],
    blocks: Sequence[Block],
    find: Callable[[Block, NDArray[np.float32]], NDArray[np.int32]],
    n_threads: int,
) -> Iterator[tuple[Block, NDArray[np.int32]]]:
    """Yield blocks in order with the cells in their windows."""
    if n_threads == 0:
        for block in blocks:
            yield block, find(block, get(block.window))
        return
    waiting: deque[tuple[Block, Future[NDArray[np.int32]]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for block in blocks:
            waiting.append((block, pool.submit(find, block, get(block.window))))
            # No more of them wait than are worked on: each holds its outputs.
            if len(waiting) > n_threads:
                first, job = waiting.popleft()
                yield first, job.result()
        for first, job in waiting:
            yield first, job.result()


def find_all(
    outputs: NDArray[np.float32],
    roles: Sequence[str],
    config: InstanceConfig,
    *,
    cutting: Cutting,
    n_threads: int = 1,
) -> NDArray[np.int32]:
    """Label the cells of one plane (or volume), in blocks where it is large.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, [Z,] Y, X)
        Probabilities, as the network gives them.
    roles, config, cutting, n_threads
        As for `find_in_blocks`.

    Returns
    -------
    ndarray of int32, shape ([Z,] Y, X)
        Ids 1..n without gaps; 0 is background.
    """
    shape = outputs.shape[1:]
    if all(n <= cutting.size for n in shape):
        return find_instances(outputs, roles, config)
    joiner = Joiner(shape, cutting.halo)
    whole = np.zeros(shape, np.int32)
    for block, found in find_in_blocks(
        lambda window: outputs[(slice(None), *window)],
        shape,
        roles,
        config,
        cutting=cutting,
        joiner=joiner,
        n_threads=n_threads,
    ):
        whole[block.core] = found
    if not has_cells(roles):
        return whole
    numbers = joiner.numbers(
        min_size_px=config.min_size_px, clears_border=config.clear_border
    )
    return np.asarray(numbers.astype(np.int32)[whole])
