"""What there is to learn from: each pair looked at once, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.imaging.cell_size import diameters
from napari_unet.learning.data.fingerprint import of_digests
from napari_unet.learning.data.pairs import (
    Facts,
    called,
    check_pair,
    check_target_image,
)
from napari_unet.learning.data.summaries import summarize
from napari_unet.learning.data.value_units import are_of_one_scale, follow_the_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.config import NormalizationConfig
    from napari_unet.learning.data.pairs import LazyPair
    from napari_unet.learning.data.sources import Sources
    from napari_unet.learning.data.summaries import PairSummary


@dataclass(frozen=True, eq=False)
class Survey:
    """What there is to learn from, as it was given, in numbers.

    Parameters
    ----------
    pairs : tuple of PairSummary
        One an image, in the order given.
    upscale : int
        Pixels of what is to be made for each pixel of the image; 1 but to regress.
    """

    pairs: tuple[PairSummary, ...]
    upscale: int = 1

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.pairs)

    @property
    def n_planes(self) -> int:
        """Number of planes on which something is known."""
        return sum(len(pair.planes) for pair in self.pairs)

    @property
    def n_channels(self) -> int:
        """Number of channels of the images."""
        return self.pairs[0].facts.n_channels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, background first; empty to regress."""
        return self.pairs[0].facts.class_names

    @property
    def area_classes(self) -> frozenset[int]:
        """Classes that are areas and no single cells."""
        return self.pairs[0].facts.area_classes

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (Y, X) of the planes of each image, in pixels."""
        return tuple(pair.plane_shape for pair in self.pairs)

    @property
    def n_known_px(self) -> int:
        """Number of pixels that are painted or known to be background."""
        return sum(plane.n_known for pair in self.pairs for plane in pair.planes)

    @property
    def n_px_of_class(self) -> tuple[int, ...]:
        """Known pixels of each class, background first."""
        counts = [pair.n_px_of_class for pair in self.pairs]
        return tuple(map(sum, zip(*counts, strict=True)))

    @property
    def cell_areas_px(self) -> NDArray[np.int64]:
        """Areas of the painted cells of all planes, in pixels of the images."""
        return np.concatenate([_cell_areas(pair) for pair in self.pairs])

    @property
    def cell_diameters_px(self) -> NDArray[np.float64]:
        """Diameters of circles of the areas of the painted cells, in pixels."""
        return diameters(self.cell_areas_px)

    @property
    def cell_diameters_of(self) -> tuple[NDArray[np.float64], ...]:
        """Diameters of the painted cells of each image, in pixels."""
        return tuple(diameters(_cell_areas(pair)) for pair in self.pairs)

    @property
    def changes_images(self) -> bool:
        """Whether the images to be made show the same, as bright; False to segment."""
        return follow_the_image(self.pairs) and are_of_one_scale(self.pairs)

    @property
    def fingerprint(self) -> str:
        """sha256 over the pairs, in hex, whatever their order."""
        return of_digests(pair.digest for pair in self.pairs)


def _cell_areas(pair: PairSummary) -> NDArray[np.int64]:
    found = [plane.cells.areas[plane.cells.is_cell] for plane in pair.planes]
    return np.concatenate([np.empty(0, np.int64), *found])


def take_survey(
    sources: Sources,
    policy: NormalizationConfig,
    *,
    first: LazyPair | None = None,
) -> Survey:
    """Look at each pair once, with one pair in memory at a time.

    Parameters
    ----------
    sources : Sources
        The pairs.
    policy : NormalizationConfig
        How the ranges of the images are measured.
    first : LazyPair, optional
        What all of them must agree with; else the first of them.

    Raises
    ------
    UNetError
        A pair that can't be read, or does not fit; only images that are all alike.

    Notes
    -----
    An image whose pixels are all alike, such as of an empty well, is left out of
    `sources` with a note where there are others.
    """
    summaries: list[PairSummary] = []
    upscales = set()
    while len(summaries) < len(sources):
        index = len(summaries)
        pair = sources.open(index)
        first = first or pair
        if sources.is_regression:
            upscales.add(check_target_image(pair, first))
        else:
            check_pair(Facts.of(pair), Facts.of(first))
        try:
            summaries.append(summarize(pair, policy))
        except ImageError as error:
            if error.code != "NU-I12" or len(sources) == 1:
                raise
            why = "is left out, all its pixels are alike: check how it was saved"
            sources.leave_out(index, f"{called(pair.image.source)} {why}")
            # What comes next is compared with a pair that is learned from.
            first = None if first is pair else first
    return Survey(tuple(summaries), max(upscales, default=1))
