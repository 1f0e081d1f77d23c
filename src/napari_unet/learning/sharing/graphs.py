"""A model as a graph that other programs run: its sizes, its inputs, its check."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_unet.errors import ModelError
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.model_file.self_test import draw_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_unet.learning.model import Model

    Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# What two programs' float32 may differ by, for probabilities.
TOLERANCE = 1e-5


class OutputNetwork(nn.Module):
    """A model's network with the activation inside: images to outputs.

    Parameters
    ----------
    model : Model
        Its network must be a U-Net of this program.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.build()
        self.roles = model.roles
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Map images, normalised (N, C, [Z,] Y, X), to outputs (N, K, ...)."""
        return activate(self.network(image), self.roles, dim=1)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Do the same with arrays."""
        with torch.inference_mode():
            outputs: NDArray[np.float32] = self(torch.from_numpy(image)).numpy()
        return outputs


@dataclass(frozen=True)
class Sizes:
    """Input sizes that a graph takes, the same along each axis, in pixels.

    Parameters
    ----------
    smallest : int
        The smallest one.
    step : int
        What may be added to it, any number of times; 0 if only `smallest` will do.
    """

    smallest: int
    step: int

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one size."""
        return self.step == 0

    def at_least(self, n: int) -> int:
        """Return the smallest size of `n` or more pixels, or the only one."""
        if self.is_fixed:
            return self.smallest
        n_steps = max(-(-(n - self.smallest) // self.step), 0)
        return self.smallest + n_steps * self.step


def input_sizes(model: Model, size: int | None = None) -> Sizes:
    """Return the sizes that a graph of a model takes.

    Any that the network takes where its output is local. A network that looks at its
    whole input does something else at each size, so that one is chosen: the one that
    it was trained with.

    Parameters
    ----------
    model : Model
        The model.
    size : int, optional
        Pixels along an axis, for a network that looks at its whole input; rounded up
        to what it takes.
    """
    network = model.build()
    if network.halo is None:
        wanted = (size or model.training.patch_size) * network.config.upscale
        return Sizes(network.input_size_for(wanted), 0)
    return Sizes(network.input_size_for(1), network.multiple)


def drawn_image(model: Model, *sides: int) -> NDArray[np.float32]:
    """Return drawn cells as a normalised input, float32 (1, C, [Z,] Y, X).

    Parameters
    ----------
    model : Model
        The self-test's input of its network is continued by its mirror image.
    *sides : int
        Size along each axis, or one for all.
    """
    small = draw_input(model.network).numpy()
    lengths = sides * model.network.n_dims if len(sides) == 1 else sides
    pads = [
        (0, max(n - have, 0)) for n, have in zip(lengths, small.shape[1:], strict=True)
    ]
    large = mirror_pad(small, [(0, 0), *pads])
    cut = tuple(slice(0, n) for n in lengths)
    return np.ascontiguousarray(large[(None, slice(None), *cut)])


def check_graph(model: Model, sizes: Sizes, run: Run, what: str) -> None:
    """Compare a graph with the model's own network on drawn cells.

    Parameters
    ----------
    model, sizes
        The model, and what its graph takes.
    run : callable
        The graph.
    what : str
        Its name in the error.

    Raises
    ------
    ModelError
        It computes something else (NU-M40).
    """
    network = OutputNetwork(model)
    n = sizes.smallest
    lengths = [n + i * sizes.step for i in range(model.network.n_dims)]
    for image in (drawn_image(model, n), drawn_image(model, *lengths)):
        expected, found = network.run(image), run(image)
        scale = max(1.0, float(np.abs(expected).max()))
        is_same = expected.shape == found.shape and (
            float(np.abs(expected - found).max()) <= TOLERANCE * scale
        )
        if not is_same:
            raise ModelError(
                "NU-M40",
                f"the exported {what} computes something else than the model, so "
                "nothing was written: report this, with the model if you can",
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters say of their own insides from the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
