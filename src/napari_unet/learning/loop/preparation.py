"""From what training was given to fields to learn from, and a model to train."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_unet.config import InstanceConfig, TrainConfig, WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.imaging.cell_size import typical_diameter
from napari_unet.imaging.tuning import derive_instances
from napari_unet.learning.applying.scale import scale_for
from napari_unet.learning.data.fields import Recipe, fields_of
from napari_unet.learning.data.leakage import leakage_warnings
from napari_unet.learning.data.pairs import size_warnings
from napari_unet.learning.data.splitting import Division, Split, given_apart, hold_back
from napari_unet.learning.data.value_units import span_of_values, units_for
from napari_unet.learning.loop.starting import fresh_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import NetworkConfig
    from napari_unet.events import Region
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.summaries import PairSummary
    from napari_unet.learning.data.survey import Survey
    from napari_unet.learning.loop.material import Material
    from napari_unet.learning.model import Model

# Enough to see whether cells that touch were cut apart.
_MAX_LOOKED_AT = 8
# With as many empty planes for each with a cell they were likely not annotated yet.
_EMPTY_FOR_EACH = 2


class Prepared(NamedTuple):
    """What training begins with.

    Parameters
    ----------
    model : Model
        The model to begin with.
    split : Split
        What to learn from and what to validate on.
    warnings : list of str
        What the user should know.
    """

    model: Model
    split: Split
    warnings: list[str]


def pooled_range(ranges: Sequence[IntensityRange]) -> IntensityRange:
    """Return the median range of several images, channel by channel."""
    low = np.median([r.low for r in ranges], axis=0)
    high = np.median([r.high for r in ranges], axis=0)
    return type(ranges[0])(tuple(map(float, low)), tuple(map(float, high)))


def prepare(
    material: Material,
    config: TrainConfig,
    *,
    network: NetworkConfig | None = None,
    weights: WeightConfig | None = None,
    scale: float = 1.0,
    scales: Sequence[float] | None = None,
) -> Prepared:
    """Return the model to begin with, what to learn from and validate on, and warnings.

    Parameters
    ----------
    material : Material
        What training was given.
    config : TrainConfig
        That of the material, completed.
    network : NetworkConfig, optional
        Shape of a fresh network; that of a model to start from goes on as it is.
    weights : WeightConfig, optional
        Weights of the pixels; left out, those of the model to start from.
    scale : float
        Working pixels for each pixel of the first image, and of others by their pixel
        size: what is validated on is seen as in prediction.
    scales : sequence of float, optional
        The same for each image to learn from, such as by the size of its cells.

    Raises
    ------
    ConfigError
        Images are to be made at another scale than their own (NU-C01), or the weights
        need a pixel size that an image lacks.
    """
    start, seen = material.start, material.survey
    weights = weights or (start.weights if start else WeightConfig())
    recipe = _recipe(material, config, weights, scale, scales)
    division = _divided(material, config)
    split = _split(division, recipe, _scales_of_prediction(material, scale))
    begin = start or fresh_model(seen, config, network)
    own = [pair.span for pair in seen.pairs]
    scaled = _areas(seen, division.train, recipe.scales)
    first = seen.pairs[0]
    model = replace(
        begin,
        instances=_instances(begin, scaled, split.train),
        training=config,
        weights=weights,
        normalization=material.policy,
        dataset_range=recipe.spans[0] if material.policy.policy == "dataset" else None,
        typical_span=tuple(h - lo for lo, h in _zipped(pooled_range(own))),
        image_dtype=first.dtype,
        channel_names=first.channel_names,
        pixel_size_um=first.pixel_size_um,
        cell_diameter_px=_diameter(scaled, scale),
        scale=scale,
        scales_by_cells=_has_own_scales(material, scale, scales),
        value_range=recipe.values[0],
        values_follow_image=recipe.values[1],
        class_colors=first.class_colors or begin.class_colors,
        fingerprint=seen.fingerprint,
        n_train_images=len(seen.pairs),
    )
    return Prepared(model, split, _warnings(material))


def _has_own_scales(
    material: Material, scale: float, scales: Sequence[float] | None
) -> bool:
    """Return whether images are seen at scales that follow from their cells."""
    known = material.start is not None and material.start.scales_by_cells
    as_predicted = _scales_of_prediction(material, scale)
    return known or (
        scales is not None
        and any(own != told for own, told in zip(scales, as_predicted, strict=False))
    )


def _diameter(scaled: NDArray[np.int64], scale: float) -> float | None:
    """Return that of a typical cell, as the network sees it, in pixels of an image.

    Parameters
    ----------
    scaled : ndarray of int64, shape (n,)
        Areas of the cells in pixels that the network sees.
    scale : float
        Pixels that it sees for each of a typical image.
    """
    seen = typical_diameter(scaled)
    return None if seen is None else seen / scale


def _recipe(
    material: Material,
    config: TrainConfig,
    weights: WeightConfig,
    scale: float,
    scales: Sequence[float] | None,
) -> Recipe:
    """Return how planes are made, with one range for all where the policy says so."""
    seen = material.survey
    each = _scales_of_prediction(material, scale)
    if scales is not None:
        each = (*scales, *each[len(scales) :])
    if config.task == "regress" and set(each) != {1.0}:
        raise ConfigError(
            "NU-C01",
            f"the working scale is {scale:g} but images are made from images at their "
            "own scale: leave it at 1",
        )
    spans = [pair.span for pair in material.pairs]
    if material.policy.policy == "dataset":
        spans = [pooled_range([pair.span for pair in seen.pairs])] * len(spans)
    has_cells = set(range(1, len(seen.class_names))) - seen.area_classes
    target = config.target if has_cells else "gap"
    recipe = Recipe(
        material.sources,
        material.pairs,
        weights,
        target,
        tuple(spans),
        each,
        seen.upscale,
    )
    if config.task == "regress":
        recipe = _with_values(recipe, material)
    for index in range(len(material.pairs)):
        recipe.reach_px(index)  # a pixel size that is missing is told now
    return recipe


def _divided(material: Material, config: TrainConfig) -> Division:
    """Return which regions are learned from, and which are held back."""
    seen = material.survey
    if material.validation is None:
        rng = np.random.default_rng([config.seed, 0])
        return hold_back(seen.pairs, config.val_fraction, rng)
    return given_apart(material.pairs, seen.n_images)


def _scales_of_prediction(material: Material, scale: float) -> tuple[float, ...]:
    """Return the scale at which each image would be predicted."""
    if material.sources.is_regression:  # their noise is what is learned
        return (scale,) * len(material.pairs)
    sizes = [pair.pixel_size_um for pair in material.pairs]
    return tuple(scale_for(size, sizes[0], scale)[-1] for size in sizes)


def _split(
    division: Division, recipe: Recipe, scales_of_prediction: tuple[float, ...]
) -> Split:
    # What is validated on is seen as new images will be: nobody knows their cells.
    as_predicted = replace(recipe, scales=scales_of_prediction)
    back = fields_of(
        division.held_back, as_predicted, is_validated=division.is_held_back
    )
    return Split(
        fields_of(division.train, recipe, is_validated=False),
        back,
        division.how,
        division.is_held_back,
        division.held_back if division.is_held_back else (),
        fields_of(division.spare, recipe, is_validated=False),
    )


def _areas(
    seen: Survey, regions: Sequence[Region], scales: Sequence[float] | None = None
) -> NDArray[np.int64]:
    """Return the areas of the cells in these regions, in pixels, scaled if asked."""
    planes = {(i, p.index): p for i, pair in enumerate(seen.pairs) for p in pair.planes}
    found = [np.empty(0, np.int64)]
    for region in regions:
        cells = planes[region.image, region.plane].cells
        own = cells.areas[cells.is_cell & cells.centred_in(region.slices)]
        factor = 1.0 if scales is None else scales[region.image] ** 2
        found.append(np.round(own * factor).astype(np.int64))
    return np.concatenate(found)


def _instances(
    begin: Model, areas: NDArray[np.int64], fields: Sequence[Field]
) -> InstanceConfig:
    """Return instance settings with what follows from the annotation."""
    step = max(1, -(-len(fields) // _MAX_LOOKED_AT))
    labels = [each.labels() for each in fields[::step]] if areas.size else []
    return derive_instances(begin.instances, begin.roles, labels, areas)


def _zipped(span: IntensityRange) -> list[tuple[float, float]]:
    return list(zip(span.low, span.high, strict=True))


def _with_values(recipe: Recipe, material: Material) -> Recipe:
    """Return a recipe that knows the ranges of the images to be made."""
    pairs = material.survey.pairs
    units = units_for(material.start, pairs, recipe.spans[: len(pairs)])
    each = tuple(span_of_values(*units, span) for span in recipe.spans)
    return replace(recipe, values=units, value_spans=each)


def _empty_planes(pairs: Sequence[PairSummary]) -> list[str]:
    """Return a warning where planes look as if nobody had annotated them yet."""
    found = []
    for pair in pairs:
        n_px = math.prod(pair.plane_shape)
        n_with = sum(plane.cells.ids.size > 0 for plane in pair.planes)
        # Of a plane that is known in part somebody said so.
        n_empty = sum(
            plane.n_known == n_px and not plane.cells.ids.size for plane in pair.planes
        )
        if n_with and n_empty >= _EMPTY_FOR_EACH * n_with:
            found.append(
                f"{n_empty} of {math.prod(pair.stack_shape)} planes of "
                f"{pair.facts.annotation} hold no cell and are learned as "
                "background: if they are not annotated yet, give the annotated planes "
                "alone, or save them from the Annotate widget, where unpainted may "
                "mean unknown"
            )
    if len(found) > 1:
        found[0] += f" ({len(found) - 1} more stacks are like that)"
    return found[:1]


def _warnings(material: Material) -> list[str]:
    """Return what the user should know before the first step."""
    seen = material.survey
    found = [*dict.fromkeys(material.sources.notes)]
    found += size_warnings(
        seen.pairs, material.start, are_rescaled=not material.sources.is_regression
    )
    if material.validation is not None:
        found += leakage_warnings(seen.pairs, material.validation.pairs)
    found += _empty_planes(seen.pairs)
    counts = seen.n_px_of_class
    missing = [
        name
        for name, n in zip(seen.class_names[1:], counts[1:], strict=False)
        if n == 0
    ]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        named = " and ".join(repr(name) for name in missing)
        found.append(
            f"{named} {are} painted nowhere, so that nothing about it can be learned: "
            "paint some, or remove the class"
        )
    return found
