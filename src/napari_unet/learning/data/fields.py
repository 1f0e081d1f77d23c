"""Planes, or blocks of large ones, that are read when they are needed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files.lazy import part_of
from napari_unet.imaging.arrays import Annotation, Image, Target
from napari_unet.imaging.intensity import normalize
from napari_unet.imaging.resampling import resample, resample_labels, scaled_shape
from napari_unet.imaging.targets import make_target
from napari_unet.imaging.weight_formulas import Formula, grid_of
from napari_unet.imaging.windows import within
from napari_unet.learning.data.painted import objects_of, pasted, with_lost_cells
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.data.sources import reading_again
from napari_unet.learning.data.summaries import coarser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.events import Region, Stroke
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.imaging.windows import Window
    from napari_unet.learning.data.sources import Sources
    from napari_unet.learning.data.summaries import PairSummary, PlaneSummary

# Of blocks; planes up to half as large again stay whole.
_BLOCK_PX = 1024
_MIN_BLOCK_PX = 256
# What a lazy array may raise when its store is gone.
_RAISED_BY_STORES = (OSError, LookupError, ValueError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How planes are made from the pairs; the same for all fields.

    Parameters
    ----------
    sources : Sources
        The pairs.
    pairs : tuple of PairSummary
        What is known of each.
    weights : WeightConfig
        How much each pixel counts.
    target : {"gap", "boundary", "distance"}
        What keeps touching cells apart.
    spans : tuple of IntensityRange
        What becomes 0 and 1, for each image.
    scales : tuple of float
        Working pixels for each pixel of the image, for each image.
    upscale : int
        Pixels to be made for each pixel of the image; to regress only.
    values : (IntensityRange or None, bool)
        What 0 and 1 of the images to be made stand for, and whether that follows the
        image (see `value_units.units_for`); to regress only.
    value_spans : tuple of IntensityRange
        The same for each image, in intensities.
    """

    sources: Sources
    pairs: tuple[PairSummary, ...]
    weights: WeightConfig
    target: Any
    spans: tuple[IntensityRange, ...]
    scales: tuple[float, ...]
    upscale: int = 1
    values: tuple[IntensityRange | None, bool] = (None, False)
    value_spans: tuple[IntensityRange, ...] = ()

    def reach_px(self, index: int) -> int:
        """Return how far around a pixel its weight looks, in working pixels."""
        size = self.working_size_um(index)
        grid = grid_of(self.weights, 2, size, source=self.pairs[index].source)
        formula = Formula(self.weights, grid)
        return max(grid.margins(max(formula.reach, formula.far_reach))) + 2

    def margin_px(self, index: int) -> int:
        """Return how far around a block its target looks, in pixels of the image."""
        if self.sources.is_regression:
            return 0
        cells = [p.cells for p in self.pairs[index].planes]
        sides = [np.ptp(c.boxes.reshape(-1, 2, 2), axis=1)[c.is_cell] for c in cells]
        longest = max((int(s.max()) for s in sides if s.size), default=0)
        # Whole cells, as far as they are no monsters.
        return math.ceil(self.reach_px(index) / self.scales[index]) + min(longest, 256)

    def working_size_um(self, index: int) -> tuple[float, ...] | None:
        """Return the size (Y, X) of a working pixel of a pair; None if unknown."""
        size = self.pairs[index].pixel_size_um
        scale = self.scales[index]
        return None if size is None else tuple(n / scale for n in size[-2:])


@dataclass(frozen=True, eq=False)
class Painted:
    """What is painted in a field, in pixels of the image and in working pixels."""

    given: Annotation
    scaled: Annotation


@dataclass(frozen=True, eq=False)
class Field:
    """A plane, or a block of a large one, that is read when it is needed.

    Parameters
    ----------
    region : Region
        The pixels that it counts for, each of which is in one field only.
    view : Region
        The pixels that it sees: those of `region` and, where blocks meet, what their
        weights depend on. A field to learn from never sees a held-back pixel.
    recipe : Recipe
        How planes are made.
    kinds : frozenset of int
        Classes that are painted here.
    ignored : tuple of int
        Ids of cells that count elsewhere, or nowhere: a line cuts them.
    """

    region: Region
    view: Region
    recipe: Recipe = field(repr=False)
    kinds: frozenset[int] = frozenset()
    ignored: tuple[int, ...] = ()

    @property
    def scale(self) -> float:
        """Working pixels for each pixel of the image."""
        return self.recipe.scales[self.view.image]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of its plane, in working pixels."""
        height, width = scaled_shape(self.view.shape, (self.scale,) * 2)
        return height, width

    def at(self, scale: float) -> Field:
        """Return the same field with its plane at another scale.

        Parameters
        ----------
        scale : float
            Working pixels for each pixel of the image.
        """
        scales = list(self.recipe.scales)
        scales[self.view.image] = scale
        return replace(self, recipe=replace(self.recipe, scales=tuple(scales)))

    def load(self) -> Plane:
        """Read it and make its target.

        Raises
        ------
        UNetError
            A file that changed or vanished since it was first read (NU-F11).
        """
        return self.load_with(())[0]

    def labels(self) -> NDArray[np.int32]:
        """Read what is painted, in working pixels, without target and image."""
        pair = self.recipe.sources.open(self.view.image)
        if isinstance(pair.annotation, Image):
            return np.zeros(self.shape, np.int32)
        given = part_of(pair.annotation, self.view.plane, self.view.slices)
        return objects_of(self.scaled(given))

    def load_with(self, strokes: Sequence[Stroke]) -> tuple[Plane, Painted | None]:
        """Read it as it is with these strokes, in their order.

        Returns
        -------
        Plane
            In working pixels.
        Painted or None
            What is painted; None to regress.
        """
        pair = self.recipe.sources.open(self.view.image)
        try:
            image = pair.image.data[(slice(None), *self.view.plane, *self.view.slices)]
            pixels = normalize(np.asarray(image), self.recipe.spans[self.view.image])
            if isinstance(pair.annotation, Image):
                return self._with_values(pixels, pair.annotation), None
            given = part_of(pair.annotation, self.view.plane, self.view.slices)
        except _RAISED_BY_STORES as error:
            raise reading_again(pair.image.source, error) from error
        for stroke in strokes:
            given = pasted(given, self.view, stroke)
        painted = Painted(given, self.scaled(given))
        target = self.target_of(painted.scaled)
        return self.plane_of(resample(pixels, self.shape), painted.scaled, target), (
            painted
        )

    def plane_of(
        self, pixels: NDArray[np.float32], painted: Annotation, target: Target
    ) -> Plane:
        """Return the plane of pixels, what is painted and the target, all scaled."""
        known = painted.is_known & self.own
        plane = Plane(pixels, objects_of(painted), known, target, self.view)
        return self._without_ignored(plane)

    def scaled(self, given: Annotation) -> Annotation:
        """Return what is painted in working pixels; no cell is lost."""
        if given.labels.shape == self.shape:
            return given
        labels = resample_labels(given.labels, self.shape)
        labels = with_lost_cells(labels, given.labels)
        known = resample_labels(given.is_known, self.shape) | (labels > 0)
        return replace(given, labels=labels, known=known)

    def target_of(self, painted: Annotation, window: Window | None = None) -> Target:
        """Return what to learn, of weight 0 outside of the field's own pixels.

        Parameters
        ----------
        painted : Annotation
            In working pixels, of the whole view or of a window of it.
        window : tuple of slice, optional
            Which window; all if left out.
        """
        target = make_target(
            painted,
            self.recipe.weights,
            target=self.recipe.target,
            pixel_size_um=self.recipe.working_size_um(self.view.image),
        )
        target.weights[~self.own[window or ...]] = 0
        return target

    @property
    def own(self) -> NDArray[np.bool_]:
        """Which working pixels it counts for, shape (Y, X)."""
        mine = np.zeros(self.shape, bool)
        mine[self.own_window] = True
        return mine

    @property
    def own_window(self) -> Window:
        """The working pixels that it counts for."""
        window = within(self.region.slices, self.view.slices)
        return self.to_working(window)

    def to_working(self, window: Window) -> Window:
        """Return the working pixels of a window of the view, in pixels of the image."""
        return tuple(
            slice(round(side.start * n / m), max(round(side.stop * n / m), 1))
            for side, n, m in zip(window, self.shape, self.view.shape, strict=True)
        )

    def _without_ignored(self, plane: Plane) -> Plane:
        """Return a plane in which cells that count elsewhere are not known."""
        if not self.ignored:
            return plane
        others = np.isin(plane.labels, self.ignored)
        plane.target.weights[others] = 0
        return replace(
            plane,
            labels=np.where(others, np.int32(0), plane.labels),
            known=plane.known & ~others,
        )

    def _with_values(self, pixels: NDArray[np.float32], made: Image) -> Plane:
        """Return a plane with the image to be made, of weight 0 where that is none."""
        finer = tuple(
            slice(self.recipe.upscale * s.start, self.recipe.upscale * s.stop)
            for s in self.view.slices
        )
        values = np.asarray(made.data[(slice(None), *self.view.plane, *finer)])
        weights = np.isfinite(values).all(axis=0)
        span = self.recipe.value_spans[self.view.image]
        target = Target(None, weights.astype(np.float32), normalize(values, span))
        known = coarser(weights, self.recipe.upscale)
        nothing = np.zeros(known.shape, np.int32)
        follows = self.recipe.values[1]
        return Plane(pixels, nothing, known, target, self.view, follows)


def fields_of(
    regions: Sequence[Region], recipe: Recipe, *, is_validated: bool
) -> tuple[Field, ...]:
    """Return the fields of regions, large ones in blocks.

    Parameters
    ----------
    regions : sequence of Region
        None sees beyond its own pixels.
    recipe : Recipe
        How planes are made.
    is_validated : bool
        Count only cells that lie in the region with all their pixels, each in one
        block.
    """
    summaries = {
        (i, plane.index): plane
        for i, pair in enumerate(recipe.pairs)
        for plane in pair.planes
    }
    margins: dict[int, int] = {}
    found = []
    for region in regions:
        plane = summaries.get((region.image, region.plane))
        blocks = _blocks(region, recipe.scales[region.image])
        if len(blocks) > 1 and region.image not in margins:
            margins[region.image] = recipe.margin_px(region.image)
        for block in blocks:
            margin = margins[region.image] if len(blocks) > 1 else 0
            view = _grown(block, margin, region)
            if plane is None or (
                len(blocks) == 1 or plane.may_be_known(block.slices) or not is_validated
            ):
                found.append(_field(block, view, region, plane, recipe, is_validated))
    return tuple(found)


def _field(
    block: Region,
    view: Region,
    region: Region,
    plane: PlaneSummary | None,
    recipe: Recipe,
    is_validated: bool,
) -> Field:
    if plane is None:
        return Field(block, view, recipe)
    cells = plane.cells
    kinds = frozenset(cells.kinds[cells.meeting(block.slices)].tolist())
    if not is_validated:
        return Field(block, view, recipe, kinds)
    counts = cells.inside(region.slices) & cells.inside(view.slices)
    counts &= cells.centred_in(block.slices)
    others = cells.is_cell & cells.meeting(view.slices) & ~counts
    return Field(block, view, recipe, kinds, tuple(cells.ids[others].tolist()))


def _blocks(region: Region, scale: float) -> list[Region]:
    """Return a region in blocks of about 1024 working pixels."""
    side = max(_MIN_BLOCK_PX, round(_BLOCK_PX / max(scale, 0.25)))
    sides = []
    for start, n in zip(region.start, region.shape, strict=True):
        ends = np.linspace(0, n, max(1, round(n / side)) + 1).round().astype(int)
        pieces = itertools.pairwise(ends.tolist())
        sides.append([(start + a, b - a) for a, b in pieces])
    return [
        replace(region, start=(y, x), shape=(height, width))
        for (y, height), (x, width) in itertools.product(*sides)
    ]


def _grown(block: Region, margin: int, region: Region) -> Region:
    """Return a block with what is around it, but for what is beyond its region."""
    ends = [
        (max(s.start - margin, r.start), min(s.stop + margin, r.stop))
        for s, r in zip(block.slices, region.slices, strict=True)
    ]
    (top, bottom), (left, right) = ends
    return replace(block, start=(top, left), shape=(bottom - top, right - left))
