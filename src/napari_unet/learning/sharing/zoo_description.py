"""What a bioimage.io package says of a model: tensors, sizes, preprocessing, people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.learning.sharing.card_text import seen_at
from napari_unet.learning.sharing.graphs import Sizes, input_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network

_LONGEST_DESCRIPTION = 512
_AXES = ("z", "y", "x")
_INPUT = "image"
# bioimageio.core 0.11 uses this one whatever a description says.
_EPSILON = 1e-6

_RONNEBERGER = (
    "Ronneberger, Fischer, Brox: U-Net: Convolutional networks for biomedical image "
    "segmentation. MICCAI 2015",
    "10.1007/978-3-319-24574-4_28",
)
_CICEK = (
    "Çiçek et al.: 3D U-Net: Learning dense volumetric segmentation from sparse "
    "annotation. MICCAI 2016",
    "10.1007/978-3-319-46723-8_49",
)
_PAPERS = {
    "residual_unet": (
        "He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016",
        "10.1109/CVPR.2016.90",
    ),
    "attention_unet": (
        "Oktay et al.: Attention U-Net: Learning where to look for the pancreas. "
        "MIDL 2018",
        "10.48550/arXiv.1804.03999",
    ),
    "trans_unet": (
        "Chen et al.: TransUNet: Transformers make strong encoders for medical image "
        "segmentation. 2021",
        "10.48550/arXiv.2102.04306",
    ),
}
_TITLES = {
    "unet": "U-Net",
    "residual_unet": "Residual U-Net",
    "attention_unet": "Attention U-Net",
    "trans_unet": "TransU-Net",
}


@dataclass(frozen=True)
class Publication:
    """What people are told of a model besides what it is.

    Parameters
    ----------
    name : str
        Letters, digits, spaces and ``_+-()``; 5 to 128 of them.
    license : str
        SPDX id, such as ``"CC-BY-4.0"``.
    authors : tuple of str
        Who made it; may be empty.
    """

    name: str
    license: str
    authors: tuple[str, ...] = ()


def publication(
    model: Model,
    *,
    name: str,
    license: str = "",  # noqa: A002 - the field's name
    authors: Iterable[str] = (),
) -> Publication:
    """Return what to publish, where nothing is given from the model.

    Parameters
    ----------
    model : Model
        May know its licence and authors.
    name : str
        Any text; what the format doesn't allow becomes a space.
    license : str
        SPDX id.
    authors : iterable of str
        Names.

    Raises
    ------
    ConfigError
        No licence is known (NU-C20), or it is none (NU-C21).
    """
    chosen = license or model.license
    if not chosen:
        raise ConfigError(
            "NU-C20",
            "a model without a licence may be used by nobody: choose one, such as "
            "CC-BY-4.0 (free to use, naming you) or CC0-1.0 (no conditions), and give "
            "it with --license, or in the model's card",
        )
    from bioimageio.spec.generic.v0_3 import LicenseId

    try:
        LicenseId(chosen)
    except ValueError as error:
        raise ConfigError(
            "NU-C21",
            f"{chosen!r} is no licence of the SPDX list: give one such as CC-BY-4.0, "
            "CC0-1.0 or MIT, written like that",
        ) from error
    kept = " ".join(re.sub(r"[^A-Za-z0-9_+\- ()]", " ", name).split())
    full = kept if len(kept) >= 5 else f"U-Net {kept}".strip()
    people = tuple(authors) or model.authors
    return Publication(full[:128], chosen, people)


def sizes_with_halo(model: Model, size: int | None = None) -> Sizes:
    """Return input sizes of which something remains when the halo is cut off."""
    sizes = input_sizes(model, size)
    halo = _halo_px(model.build())
    return Sizes(sizes.at_least(2 * halo + 1), sizes.step)


def _halo_px(network: Network) -> int:
    """Return what consumers should cut off, in input pixels.

    What a valid network loses it cut off by itself.
    """
    return 0 if network.margin else network.halo or 0


def input_tensor(model: Model, sizes: Sizes, test_tensor: str) -> dict[str, Any]:
    """Return the description of the input; `test_tensor` names a .npy file."""
    size: Any = sizes.smallest
    if not sizes.is_fixed:
        size = {"min": sizes.smallest, "step": sizes.step}
    names = model.channel_names or tuple(f"channel{i}" for i in range(model.n_channels))
    return {
        "id": _INPUT,
        "description": "The image, in any intensities",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": _identifiers(names)},
            *[
                {"type": "space", "id": axis, "size": size, **scale}
                for axis, scale in _spatial(model).items()
            ],
        ],
        "data": {"type": "float32"},
        "preprocessing": [
            {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
            *preprocessing(model),
        ],
        "test_tensor": {"source": test_tensor},
    }


def output_tensor(model: Model, test_tensor: str) -> dict[str, Any]:
    """Return the description of the outputs, relative to the input's sizes."""
    network = model.build()
    finer = model.network.upscale
    halo = _halo_px(network) * finer
    axes = []
    for axis, scale in _spatial(model).items():
        size = {
            "tensor_id": _INPUT,
            "axis_id": axis,
            "offset": -2 * network.margin * finer,
        }
        finer_scale = {**scale, "scale": scale["scale"] / finer}
        cut_off = {"halo": halo} if halo else {}
        axes.append({"type": "space", "id": axis, "size": size} | finer_scale | cut_off)
    names = [role.partition(":")[2] or role for role in model.roles]
    is_probability = gives_probabilities(model)
    return {
        "id": "outputs",
        "description": "Probabilities" if is_probability else "Values",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": _identifiers(names)},
            *axes,
        ],
        "data": {
            "type": "float32",
            "range": [0.0, 1.0] if is_probability else [None, None],
        },
        "test_tensor": {"source": test_tensor},
    }


def gives_probabilities(model: Model) -> bool:
    """Whether all outputs are between 0 and 1."""
    kinds = {role.partition(":")[0] for role in model.roles}
    return kinds <= {"softmax", "softmax-area", "softmax-boundary", "sigmoid"}


def _spatial(model: Model) -> dict[str, dict[str, Any]]:
    """Return each spatial axis with its unit and pixel size."""
    axes = _AXES[-model.network.n_dims :]
    sizes_um = model.pixel_size_um
    if sizes_um is None or len(sizes_um) != len(axes):
        return {axis: {"scale": 1.0} for axis in axes}
    # Sizes are computed as int(n * scale / scale): the product of an integer and a
    # number of float32's digits is exact, so that no pixel gets lost. What the
    # network sees are pixels of the working scale.
    return {
        axis: {"unit": "micrometer", "scale": float(np.float32(um / model.scale))}
        for axis, um in zip(axes, sizes_um, strict=True)
    }


def preprocessing(model: Model) -> list[dict[str, Any]]:
    """Return the declared operations that normalise as prediction does.

    They differ where a channel is (nearly) constant: percentiles that coincide are not
    replaced by minimum and maximum, and a small epsilon is added to the span.
    """
    config, limits = model.normalization, model.dataset_range
    if config.policy == "dataset" and limits is not None:
        return _fixed_scaling(limits)
    kwargs = {"axes": list(_AXES[-model.network.n_dims :]), "eps": _EPSILON}
    if config.policy == "standardize":
        return [{"id": "zero_mean_unit_variance", "kwargs": kwargs}]
    percentiles = {
        "min_percentile": config.low_percentile,
        "max_percentile": config.high_percentile,
    }
    return [{"id": "scale_range", "kwargs": kwargs | percentiles}]


def _fixed_scaling(limits: IntensityRange) -> list[dict[str, Any]]:
    spans = [high - low for low, high in zip(limits.low, limits.high, strict=True)]
    gain = [1 / span if span > 0 else 0.0 for span in spans]
    offset = [-low * g for low, g in zip(limits.low, gain, strict=True)]
    if all(g == 1 for g in gain) and not any(offset):
        return []  # the format refuses to do nothing
    kwargs = {"axis": "channel", "gain": gain, "offset": offset}
    return [{"id": "scale_linear", "kwargs": kwargs}]


def _identifiers(names: Iterable[str]) -> list[str]:
    """Return names as the format wants them: Python identifiers, each once."""
    taken: list[str] = []
    for name in names:
        kept = re.sub(r"\W+", "_", name).strip("_") or "channel"
        base = kept if kept.isidentifier() else f"_{kept}"
        chosen, n = base, 2
        while chosen in taken:
            chosen, n = f"{base}_{n}", n + 1
        taken.append(chosen)
    return taken


def citations(model: Model) -> list[dict[str, str]]:
    """Return the papers of a model's network."""
    papers = [_RONNEBERGER]
    if model.network.n_dims == 3:
        papers.append(_CICEK)
    special = _PAPERS.get(model.network.architecture)
    papers += [special] if special else []
    return [{"text": text, "doi": doi} for text, doi in papers]


def tags(model: Model) -> list[str]:
    """Return the words by which a model is found."""
    kinds = {role.partition(":")[0] for role in model.roles}
    task = "image-restoration" if "value" in kinds else "semantic-segmentation"
    is_of_cells = "softmax" in kinds and "cell" in model.class_names
    return [
        f"{model.network.n_dims}d",
        "unet",
        "pytorch",
        task,
        *(["cells"] if is_of_cells else []),
        "napari",
    ]


def describe_briefly(model: Model) -> str:
    """Return what a model is in a sentence or two, as far as it knows."""
    network = model.network
    what = f"{_TITLES.get(network.architecture, 'U-Net')} ({network.n_dims}D)"
    names = ", ".join(role.partition(":")[2] or role for role in model.roles)
    told = f"{what} with the outputs {names}"
    if model.n_train_images:
        told += f", trained on {model.n_train_images} image"
        told += "" if model.n_train_images == 1 else "s"
    text = f"{model.about.strip()} {told} with napari-unet.".strip()
    # What must be known is not what is cut off.
    needed = "".join(f" {sentence}" for sentence in left_to_do(model))
    return text[: _LONGEST_DESCRIPTION - len(needed)] + needed


def left_to_do(model: Model) -> list[str]:
    """Return what other programs must do that this one does by itself, in sentences."""
    sentences = []
    if seen := seen_at(model):
        by = f" (by {model.scale:.3g})" if not model.scales_by_cells else ""
        sentences.append(f"Rescale images first{by}: {seen}.")
    if model.value_range is not None:
        low, high = (
            ", ".join(f"{end:.6g}" for end in ends)
            for ends in (model.value_range.low, model.value_range.high)
        )
        of = " of the range of the image" if model.values_follow_image else ""
        sentences.append(f"Its values 0 and 1 stand for {low} and {high}{of}.")
    return sentences


def details(model: Model) -> dict[str, Any]:
    """Return how a model was made, for machines."""
    training = model.training
    return {
        "architecture_type": f"{model.network.n_dims}D "
        f"{_TITLES.get(model.network.architecture, 'U-Net')}",
        "model_parameter_count": sum(p.numel() for p in model.build().parameters()),
        "training": {
            "training_batch_size": training.batch_size,
            "initial_learning_rate": training.learning_rate,
            "loss_function": training.loss,
            "optimizer": training.optimizer,
            "n_training_images": model.n_train_images,
            "training_data_sha256": model.fingerprint,
        },
    }
