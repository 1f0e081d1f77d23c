"""From images and annotations to planes to learn from, and a model to train."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.config import (
    ForeignConfig,
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError, LabelError
from napari_unet.imaging.arrays import Annotation, Target
from napari_unet.imaging.instances import gap_is_from_cutting, minimum_size
from napari_unet.imaging.intensity import intensity_range, normalize
from napari_unet.imaging.targets import make_target
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.fingerprint import fingerprint
from napari_unet.learning.model import Model, Origin, weights_sha256
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.pretrained import load_pretrained
from napari_unet.learning.pairs import (
    Pair,
    check_annotated,
    check_channels,
    check_not_constant,
    pair_up,
    size_warnings,
    validation_pairs,
)
from napari_unet.learning.patches import Plane
from napari_unet.learning.splitting import Split, hold_back

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.pairs import AnnotationLike, ImageLike


def pooled_range(ranges: Sequence[IntensityRange]) -> IntensityRange:
    """Return the median range of several images, channel by channel."""
    low = np.median([r.low for r in ranges], axis=0)
    high = np.median([r.high for r in ranges], axis=0)
    return type(ranges[0])(tuple(map(float, low)), tuple(map(float, high)))


def planes_of(pair: Pair, span: IntensityRange, weights: WeightConfig) -> list[Plane]:
    """Return the annotated planes of a pair, normalised, with their targets.

    On a stack only planes that hold a painted pixel or a finished region count.
    """
    size = pair.image.pixel_size_um
    target = make_target(pair.annotation, weights, pixel_size_um=size)
    if target.classes is None:
        raise TypeError("segmentation needs a target with classes")
    objects = _objects(pair.annotation)
    planes = []
    for index, plane in pair.image.planes():
        known = pair.annotation.is_known[index]
        if known.any():
            planes.append(
                Plane(
                    normalize(plane, span),
                    objects[index],
                    known,
                    Target(target.classes[index], target.weights[index]),
                )
            )
    return planes


def _objects(annotation: Annotation) -> NDArray[np.int32]:
    """Return what predicted labels are compared with: cells, or else areas."""
    n_classes = len(annotation.class_names)
    if set(range(1, n_classes)) <= annotation.area_classes:
        return annotation.class_map().astype(np.int32)
    return annotation.cells()


def cell_areas(planes: Sequence[Plane]) -> NDArray[np.int64]:
    """Return the areas of all painted cells, in pixels, int64 (n,)."""
    areas = [np.bincount(plane.labels.ravel())[1:] for plane in planes]
    every = np.concatenate(areas) if areas else np.empty(0, np.int64)
    return every[every > 0]


def derived_instances(base: InstanceConfig, planes: Sequence[Plane]) -> InstanceConfig:
    """Return instance settings with what follows from the annotation."""
    derived = {
        "min_size_px": minimum_size(cell_areas(planes)),
        "give_back_gap": gap_is_from_cutting([plane.labels for plane in planes]),
    }
    return base.model_copy(update=derived)


def prepare(
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike],
    config: TrainConfig,
    *,
    network: NetworkConfig | None,
    weights: WeightConfig | None,
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike]] | None,
    start_from: Model | Path | str | None,
) -> tuple[Model, Split, list[str]]:
    """Return the model to begin with, what to learn from and validate on, and warnings.

    The parameters are those of `train`.

    Raises
    ------
    UNetError
        The input can't be learned from.
    """
    if network is not None:
        _check_trainable(network)
    pairs = pair_up(images, annotations)
    check_annotated([pair.annotation for pair in pairs])
    for pair in pairs:
        check_not_constant(pair.image)
    start = start_from
    if start is not None and not isinstance(start, Model):
        start = load_model(start)
    if start is not None:
        _check_start(start, pairs[0], network)
    warnings = size_warnings(pairs, start)
    policy = start.normalization if start else _normalization_for(network)
    weights = weights or (start.weights if start else WeightConfig())
    own = [intensity_range(pair.image, policy) for pair in pairs]
    fixed = pooled_range(own) if policy.policy == "dataset" else None
    groups = [
        planes_of(pair, fixed or span, weights)
        for pair, span in zip(pairs, own, strict=True)
    ]
    if validation is None:
        rng = np.random.default_rng([config.seed, 0])
        split = hold_back(groups, config.val_fraction, rng)
    else:
        held = validation_pairs(pairs[0], validation)
        spans = [fixed or intensity_range(pair.image, policy) for pair in held]
        back = [
            plane
            for pair, span in zip(held, spans, strict=True)
            for plane in planes_of(pair, span, weights)
        ]
        train = [plane for group in groups for plane in group]
        split = Split(
            train, back, f"{len(held)} validation image{'s' if len(held) > 1 else ''}"
        )
    begin = _going_on(start) if start else _fresh(pairs[0], network, config.seed)
    model = replace(
        begin,
        instances=derived_instances(begin.instances, split.train),
        training=config,
        weights=weights,
        normalization=policy,
        dataset_range=fixed,
        typical_span=tuple(h - lo for lo, h in _zipped(pooled_range(own))),
        image_dtype=str(pairs[0].image.data.dtype),
        channel_names=pairs[0].image.channel_names,
        pixel_size_um=pairs[0].image.pixel_size_um,
        cell_diameter_px=_diameter(cell_areas(split.train)),
        class_colors=pairs[0].annotation.class_colors or begin.class_colors,
        fingerprint=fingerprint((pair.image, pair.annotation) for pair in pairs),
        n_train_images=len(pairs),
    )
    return model, split, warnings


def _normalization_for(network: NetworkConfig | None) -> NormalizationConfig:
    """Return how images are scaled for a fresh network."""
    if network is not None and network.norm == "none":
        # He's weights keep the variance that comes in, so it has to be 1 there: with
        # [0, 1] SGD learned no more than how frequent the classes are.
        return NormalizationConfig(policy="standardize")
    return NormalizationConfig()


def _zipped(span: IntensityRange) -> list[tuple[float, float]]:
    return list(zip(span.low, span.high, strict=True))


def _diameter(areas: NDArray[np.int64]) -> float | None:
    return float(2 * np.sqrt(np.median(areas) / np.pi)) if areas.size else None


def _going_on(start: Model) -> Model:
    """Return a model to train on from, which says whom it is owed to.

    What comes of it is another work: whoever trains it states author, licence and
    purpose anew. What the sources ask for, such as attribution, stays on record.
    """
    owed = (origin for origin in start.derived_from if origin.authors or origin.license)
    parent = Origin(weights_sha256(start.state), start.authors, start.license)
    origins = tuple(dict.fromkeys([parent, *owed]))
    return replace(start, authors=(), license="", about="", derived_from=origins)


def _fresh(pair: Pair, network: NetworkConfig | None, seed: int) -> Model:
    """Return a model to begin with, for the channels and classes of a pair."""
    names = pair.annotation.class_names
    network = (network or NetworkConfig()).model_copy(
        update={"in_channels": pair.image.n_channels, "out_channels": len(names)}
    )
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        torch.default_generator.manual_seed(seed)  # not the GPUs'
        fresh = build_network(network)
        if network.pretrained:
            load_pretrained(fresh)
    areas = pair.annotation.area_classes
    roles = tuple(
        f"softmax-area:{name}" if i in areas else f"softmax:{name}"
        for i, name in enumerate(names)
    )
    return Model(network, fresh.state_dict(), roles=roles, class_names=names)


def _check_trainable(
    network: NetworkConfig | ForeignConfig, *, is_start: bool = False
) -> None:
    """Refuse a network that training can't do, a new one or that of a model to start.

    Of a new one the setting can be changed, of a model only the model.
    """
    if isinstance(network, ForeignConfig):
        raise ConfigError(
            "NU-C05",
            f"the model to start from holds another program's {network.format} graph, "
            "which can't be trained on: start from scratch, or from a model made here",
        )
    whose = "the model to start from" if is_start else "the network"
    if network.n_dims != 2:
        remedy = "start from scratch" if is_start else "set n_dims to 2"
        raise ConfigError(
            "NU-C05",
            f"{whose} has {network.n_dims} dimensions but training works on planes "
            f"so far: {remedy}; a stack is then learned plane by plane",
        )
    if network.upscale != 1:
        remedy = "start from scratch" if is_start else "set upscale to 1"
        raise ConfigError(
            "NU-C05",
            f"{whose} has outputs {network.upscale} times finer than the image but "
            f"annotations are as fine as the image: {remedy}",
        )


def _check_start(start: Model, pair: Pair, network: NetworkConfig | None) -> None:
    _check_trainable(start.network, is_start=True)
    if not all(role.startswith("softmax") for role in start.roles):
        raise ConfigError(
            "NU-C05",
            f"the model to start from has the outputs {', '.join(start.roles)} but "
            "training learns classes, of one softmax: start from scratch",
        )
    check_channels(start, pair.image)
    names = pair.annotation.class_names
    if len(names) != len(start.class_names):
        raise LabelError(
            "NU-L06",
            f"the model to start from has the classes {start.class_names} but "
            f"{pair.annotation.source} has {names}: annotate with the model's classes, "
            "or start from scratch",
        )
    own = start.network.model_dump()
    if network is not None and any(
        getattr(network, name) != own[name] for name in network.model_fields_set
    ):
        raise ConfigError(
            "NU-C04",
            "a model to start from came together with other network settings: leave "
            "them out, its network goes on",
        )
