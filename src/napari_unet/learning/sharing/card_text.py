"""A model card's words: all that a model knows about itself, in Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.config import NetworkConfig
from napari_unet.files.markdown import as_text, paragraphs, table
from napari_unet.imaging.instances import has_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.learning.model import Model

_ARCHITECTURES = {
    "unet": "U-Net",
    "residual_unet": "U-Net with residual blocks",
    "attention_unet": "Attention U-Net",
    "trans_unet": "TransU-Net",
}
_NORMS = {"batch": "BatchNorm", "group": "GroupNorm", "instance": "InstanceNorm"}
_ROLES = {
    "softmax": "probability of *{}*; those of all classes sum to 1",
    "softmax-area": "probability of *{}*, an area without single cells",
    "softmax-boundary": "probability of the boundary of a cell",
    "sigmoid": "probability of *{}*, by itself",
    "probability": "probability of *{}*, by itself",
    "value": "values of *{}*, as they are",
    "distance": "distance to the border of the cell, 1 in its middle",
}
_LOSSES = {
    "cross_entropy": "weighted cross entropy",
    "dice": "Dice loss",
    "combined": "weighted cross entropy + Dice loss",
    "focal": "focal loss",
}
_FORMULAS = {
    "ronneberger2015": "Ronneberger 2015, eq. 2",
    "falk2019": "Falk 2019",
}
_SCORES = {
    "f1": "F1 of cells, at IoU 0.5",
    "ap": "AP of cells, at IoU 0.5",
    "map": "AP of cells, mean over IoU 0.5 to 0.95",
    "iou": "IoU of the foreground",
    "dice": "Dice of the foreground",
    "loss": "loss",
}
_A_FEW_CELLS = 100
_HEADS = ["what", "value"]
_USE_OF_CLASSES = """\
napari: open *Plugins > U-Net > Predict*, choose the model file and an image.

Command line:

```
napari-unet predict --model {file} --input images --output labels
```

Python:

```python
import napari_unet as nu

model = nu.load_model("{file}")
labels = nu.segment(model, "image.tif")
nu.write_labels("labels.tif", labels)
```"""
_USE_OF_VALUES = """\
Command line:

```
napari-unet predict --model {file} --input images --output predicted
```

Python:

```python
import napari_unet as nu

model = nu.load_model("{file}")
outputs = nu.predict(model, "image.tif")  # channels first
```"""
_SIMPLE_NAME = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Picture:
    """A picture of a card.

    Parameters
    ----------
    file : str
        Name of its file, beside the card.
    title : str
        What it shows, in a few words.
    caption : str
        More about it, in Markdown.
    """

    file: str
    title: str
    caption: str = ""


def card_text(
    model: Model, *, name: str = "model", pictures: Sequence[Picture] = ()
) -> str:
    r"""Return a model card in Markdown, made from what the model knows.

    Parameters
    ----------
    model : Model
        The model to describe.
    name : str
        What it is called, such as the stem of its file.
    pictures : sequence of Picture
        Pictures to show, in this order.

    Returns
    -------
    str
        Markdown without HTML: names and texts of users are shown as they are.

    References
    ----------
    Mitchell et al.: Model Cards for Model Reporting. FAT* 2019.
    https://arxiv.org/abs/1810.03993
    """
    sections = {
        "What it takes": _takes(model),
        "What it gives": _gives(model),
        "How good it is": _quality(model),
        "How it was trained": _training(model),
        "Pictures": _shown(pictures),
        "Limits": _limits(model),
        "How to use it": _usage(model, name),
        "Who made it": _origin(model),
    }
    parts = [f"# {as_text(name)}", paragraphs(model.about)]
    for heading, text in sections.items():
        parts += [f"## {heading}", text] if text else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _takes(model: Model) -> str:
    shape = "volumes" if "Z" in model.axes else "planes (of stacks, each slice)"
    names = ", ".join(as_text(n) for n in model.channel_names)
    n = model.n_channels
    channels = f"{n} channel{'s' if n > 1 else ''}{f': {names}' if names else ''}"
    rows = [
        ["Images", f"{shape} with {channels}; axes {as_text(model.axes)}"],
        ["Pixel size", _pixel_size(model)],
        ["Intensities", _intensities(model)],
    ]
    if model.cell_diameter_px is not None:
        rows.insert(2, ["Cells", f"about {_diameter(model)} across"])
    if seen := seen_at(model):
        rows.insert(-1, ["Scale", seen])
    return table(_HEADS, rows)


def seen_at(model: Model) -> str:
    """Return in words at which size a model sees images; empty if at their own."""
    if model.scale == 1 and not model.scales_by_cells:
        return ""
    cells = model.working_cell_px
    said = f"the network saw {model.scale:.3g} pixels for each pixel of its images"
    if model.scales_by_cells:
        said = "the network saw each image at a scale of its own"
    return said + (f", cells about {cells:.3g} pixels across" if cells else "")


def _pixel_size(model: Model) -> str:
    if model.pixel_size_um is None:
        return "not known: compare the size of the cells"
    sides = " x ".join(f"{side:.4g}" for side in model.pixel_size_um)
    return f"{sides} µm ({'ZYX'[-len(model.pixel_size_um) :]})"


def _diameter(model: Model) -> str:
    pixels = model.cell_diameter_px or 0.0
    size = "" if model.pixel_size_um is None else model.pixel_size_um[-1] * pixels
    return f"{pixels:.3g} pixels" + (f" ({size:.3g} µm)" if size else "")


def _intensities(model: Model) -> str:
    how = model.normalization
    scaled = "scaled, per channel, so that"
    if how.policy == "standardize":
        text = f"{scaled} each image's mean is 0 and its standard deviation 1"
    elif how.policy == "dataset" and model.dataset_range is not None:
        span = model.dataset_range
        low, high = (", ".join(f"{x:g}" for x in xs) for xs in (span.low, span.high))
        text = f"{scaled} {low} is 0 and {high} is 1, in every image"
    else:
        low, high = f"{how.low_percentile:g}", f"{how.high_percentile:g}"
        text = f"{scaled} each image's percentiles {low} and {high} are 0 and 1"
    seen = f"; the training images were {as_text(model.image_dtype)}"
    return text + (seen if model.image_dtype else "")


def _gives(model: Model) -> str:
    rows = []
    for i, role in enumerate(model.roles):
        kind, _, of = role.partition(":")
        colour = model.class_colors[i] if i < len(model.class_colors) else ""
        meaning = _ROLES.get(kind, "{}").format(as_text(of) or "the image")
        rows.append([f"{i}", meaning, as_text(colour)])
    has_colours = any(row[2] for row in rows)
    heads = ["channel", "meaning", "colour"][: 3 if has_colours else 2]
    outputs = table(heads, [row[: len(heads)] for row in rows])
    return f"{outputs}\n\n{_cells(model)}" if has_cells(model.roles) else outputs


def _cells(model: Model) -> str:
    how = model.instances
    gap = "; the gap between touching cells is given back" if how.give_back_gap else ""
    return (
        f"Cells: pixels above {how.threshold:.3g}, grown from regions above "
        f"{how.seed_threshold:.3g} after smoothing by {how.smoothing_px:.3g} px, at "
        f"least {how.min_size_px} px large{gap}."
        + (" These settings were tuned on held-back pixels." if model.scores else "")
    )


def _quality(model: Model) -> str:
    known = {k: v for k, v in model.scores.items() if k in _SCORES}
    if not known:
        return "Not known: the file holds no scores."
    rows = [[word, f"{known[k]:.3f}"] for k, word in _SCORES.items() if k in known]
    n_cells = int(model.scores.get("n_cells", 0))
    on = f", with {n_cells:,} annotated cells" if n_cells else ""
    few = " They are few: expect other numbers on other images."
    return (
        f"On pixels that were held back from training{on}:\n\n"
        f"{table(['score', 'value'], rows)}\n\n"
        "Read these with care: the best model and its thresholds were chosen on the "
        f"same pixels.{few if 0 < n_cells < _A_FEW_CELLS else ''} Look at the model's "
        "results on images of your own that it has not seen."
    )


def _training(model: Model) -> str:
    how = model.training
    rows = [["Network", _network(model)]]
    if model.n_train_images:
        steps = f"{model.step:,} of at most {how.max_steps:,}"
        rows += [
            ["Images", f"{model.n_train_images}{_fingerprint(model)}"],
            ["Steps", f"{steps}, {how.batch_size} patches of {how.patch_size} px each"],
            ["Loss", f"{_LOSSES[how.loss]}; weights: {_weights(model)}"],
            ["Optimiser", _optimizer(model)],
        ]
    return table(_HEADS, rows)


def _fingerprint(model: Model) -> str:
    # Long enough to be unique, short enough to be read out.
    sha = as_text(model.fingerprint)
    return f" (fingerprint of the training data: {sha[:16]})" if sha else ""


def _weights(model: Model) -> str:
    how = model.weights
    balanced = ", classes balanced" if how.balance_classes else ""
    unit = "px" if how.unit == "px" else "µm"
    return (
        f"{_FORMULAS[how.formula]}, w0 = {how.w0:g}, sigma = {how.sigma:g} {unit}"
        f"{balanced}"
    )


def _optimizer(model: Model) -> str:
    how = model.training
    name = {"adamw": "AdamW", "sgd": f"SGD, momentum {how.momentum:g}"}[how.optimizer]
    decay = f", weight decay {how.weight_decay:g}" if how.weight_decay else ""
    return f"{name}, learning rate {how.learning_rate:g}{decay}"


def _network(model: Model) -> str:
    config = model.network
    if not isinstance(config, NetworkConfig):
        return "of another program"
    net = model.build()
    n_parameters = sum(p.numel() for p in net.parameters())
    sees = "its whole input" if net.halo is None else f"{net.halo} px around each pixel"
    norm = _NORMS.get(config.norm, "no normalisation layers")
    times = "once" if config.depth == 1 else f"{config.depth} times"
    return "; ".join(
        (
            _ARCHITECTURES.get(config.architecture, config.architecture),
            f"{n_parameters:,} parameters",
            f"{config.base_width} channels at full resolution, halved {times}, {norm}",
            f"inputs whose sides are multiples of {net.multiple}"
            if config.padding == "same"
            else "without padding: the output is smaller than the input",
            f"sees {sees}",
        )
    )


def _shown(pictures: Sequence[Picture]) -> str:
    def one(picture: Picture) -> str:
        shown = f"![{as_text(picture.title)}]({picture.file})"
        parts = (f"**{as_text(picture.title)}**", shown, picture.caption)
        return "\n\n".join(part for part in parts if part)

    return "\n\n".join(one(picture) for picture in pictures)


def _limits(model: Model) -> str:
    return "\n".join(f"- {limit}" for limit in _each_limit(model))


def _each_limit(model: Model) -> Iterator[str]:
    if model.scales_by_cells:
        yield (
            "It takes a first look at how large the cells of an image are: where it "
            "finds other things than cells, give it the diameter of the cells."
        )
    elif model.pixel_size_um is not None:
        yield (
            "Images of another pixel size are rescaled for it, and its results come "
            "back on their own pixels; where a file gives a wrong pixel size, or none, "
            "cells look larger or smaller to it than those that it knows."
        )
    elif model.cell_diameter_px is not None:
        yield (
            "The pixel size of its training images is not known: where cells are not "
            f"about {model.cell_diameter_px:.3g} pixels across, give it their diameter."
        )
    if 0 < model.n_train_images < 5:
        n = model.n_train_images
        yield f"It learned from {n} image{'s' if n > 1 else ''} only."
    yield (
        "It knows the kind of images that it was trained on: other stains, cells or "
        "microscopes need a look at the results, and often some fine-tuning."
    )


def _usage(model: Model, name: str) -> str:
    # Only a name that needs quoting nowhere goes into commands.
    file = f"{name if _SIMPLE_NAME.fullmatch(name) else 'model'}.unet"
    has_areas = any(role.startswith("softmax-area:") for role in model.roles)
    has_classes = has_areas or has_cells(model.roles)
    return (_USE_OF_CLASSES if has_classes else _USE_OF_VALUES).format(file=file)


def _origin(model: Model) -> str:
    rows = [
        ["Authors", ", ".join(as_text(one) for one in model.authors) or "not named"],
        ["Licence", as_text(model.license) or "none is named: ask before using it"],
    ]
    for origin in model.derived_from:
        by = ", ".join(as_text(one) for one in origin.authors) or "not named"
        rights = as_text(origin.license) or "no licence is named"
        rows.append(
            ["Trained on from", f"{as_text(origin.sha256[:16])} (by {by}; {rights})"]
        )
    if model.versions:
        versions = (f"{as_text(k)} {as_text(v)}" for k, v in model.versions.items())
        rows.append(["Written by", ", ".join(versions)])
    return table(_HEADS, rows)
