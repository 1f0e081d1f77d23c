"""The model card: Markdown with pictures, and who is to be named on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError, SaveError
from napari_unet.figures import (
    draw_history,
    draw_overlay,
    draw_thumbnails,
    save_figure,
)
from napari_unet.files.atomic import write_text
from napari_unet.files.inputs import as_image
from napari_unet.files.markdown import as_text
from napari_unet.imaging.instances import (
    check_finds_cells,
    find_instances,
    has_cells,
)
from napari_unet.imaging.scores import score
from napari_unet.learning.checkpoint import load_model, read_stored, save_model
from napari_unet.learning.data.pairs import pair_up
from napari_unet.learning.model import Model
from napari_unet.learning.prediction import predict
from napari_unet.learning.sharing.card_text import Picture, card_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike, Pair

__all__ = ["Picture", "card_text", "name_on_card", "write_card"]

_N_THUMBNAILS = 12
_N_EXAMPLES = 2
# The form of an SPDX id, or of several with AND, OR, WITH.
_SPDX_ID = r"\(?[A-Za-z0-9][A-Za-z0-9.+-]*\)?"
_SPDX = re.compile(rf"{_SPDX_ID}( (AND|OR|WITH) {_SPDX_ID})*")


@dataclass(frozen=True, eq=False)
class _Example:
    """One plane with its truth, what was predicted, and how well they agree."""

    source: str
    plane: NDArray[np.float32]
    truth: NDArray[np.int32]
    predicted: NDArray[np.int32]
    score: float


def write_card(
    model: Model | Path | str,
    folder: Path | str,
    *,
    images: Sequence[ImageLike] | None = None,
    annotations: Sequence[AnnotationLike] | None = None,
    name: str = "",
) -> Path:
    """Write a model card, README.md with its pictures, into a folder.

    Without `images` no pixel of any image gets into the card.

    Parameters
    ----------
    model : Model or path
        The model to describe.
    folder : path
        Where to write, made if missing. Files of these names are replaced: README.md,
        curves.png and, with images, images.png and examples (best_1.png, worst_1.png).
    images : sequence of Image, ndarray (Y, X) or path, optional
        Images to show, small: the first twelve of them.
    annotations : sequence of Annotation, ndarray or path, optional
        One an image: the planes with the best and the worst predictions are shown.
    name : str
        What the model is called; that of its file if omitted.

    Returns
    -------
    Path
        The README.md.

    Raises
    ------
    ModelError
        The model can't be loaded, or has no classes that annotations could be compared
        with (NU-M11).
    ConfigError
        Annotations without images, or not one an image (NU-C03).
    ImageError, LabelError
        Images or annotations that can't be used, or don't fit the model.
    SaveError
        The folder can't be written (NU-S02), or a file in it (NU-S01).

    References
    ----------
    Mitchell et al.: Model Cards for Model Reporting. FAT* 2019.
    https://arxiv.org/abs/1810.03993
    """
    if not isinstance(model, Model):
        name = name or Path(model).stem
        model = load_model(model)
    if annotations is not None and images is None:
        raise ConfigError(
            "NU-C03", "annotations came without images: give the images as well"
        )
    examples = (
        [] if annotations is None else _examples(model, images or (), annotations)
    )
    folder = Path(folder)
    _make(folder)
    pictures = [
        *_draw_curves(model, folder),
        *_draw_images(images or (), folder),
        *_draw_examples(model, examples, folder),
    ]
    path = folder / "README.md"
    write_text(path, card_text(model, name=name or "model", pictures=pictures))
    return path


def name_on_card(
    path: Path | str,
    *,
    authors: Sequence[str] | None = None,
    license: str | None = None,  # noqa: A002 - the field's name
    about: str | None = None,
) -> Model:
    """Store in a model file who made it, its licence, and what it is for.

    Parameters
    ----------
    path : path
        The model file; it is replaced as a whole, or left as it was.
    authors, license, about : optional
        What is None stays as it is.

    Returns
    -------
    Model
        The model with them.

    Raises
    ------
    ModelError
        The model can't be loaded.
    ConfigError
        The licence is no SPDX id (NU-C01).
    SaveError
        The file can't be written; it is what it was.
    """
    if license and not _SPDX.fullmatch(license):
        raise ConfigError(
            "NU-C01",
            f"the licence {license!r} is no SPDX id: give one of "
            "https://spdx.org/licenses, such as CC-BY-4.0, CC0-1.0 or MIT",
        )
    model = load_model(path)
    named = replace(
        model,
        authors=model.authors if authors is None else tuple(authors),
        license=model.license if license is None else license,
        about=model.about if about is None else about,
    )
    fields = ("authors", "license", "about")
    if any(getattr(named, field) != getattr(model, field) for field in fields):
        save_model(path, named, half=read_stored(path).is_half)
    return named


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "NU-S02",
            f"the folder {folder} can't be made ({error.strerror}): choose another",
        ) from error


def _draw_curves(model: Model, folder: Path) -> Iterator[Picture]:
    if not model.history:
        return
    losses = [(look.step, look.loss) for look in model.history if look.loss is not None]
    looks = [(look.step, look.validation_loss, look.score) for look in model.history]
    save_figure(folder / "curves.png", draw_history(losses, looks))
    yield Picture("curves.png", "Losses and score during training")


def _draw_images(images: Sequence[ImageLike], folder: Path) -> Iterator[Picture]:
    shown = [as_image(image) for image in images[:_N_THUMBNAILS]]
    if not shown:
        return
    # Of a stack its middle plane: the first is often out of focus.
    planes = [list(image.planes()) for image in shown]
    middle = [each[len(each) // 2][1][0] for each in planes]
    save_figure(folder / "images.png", draw_thumbnails(middle))
    names = ", ".join(
        f"{i}: {as_text(Path(image.source).name)}" for i, image in enumerate(shown, 1)
    )
    left_out = len(images) - len(shown)
    more = f"; {left_out} more are not shown" if left_out else ""
    yield Picture("images.png", "Images", f"{names}{more}.")


def _examples(
    model: Model, images: Sequence[ImageLike], annotations: Sequence[AnnotationLike]
) -> list[_Example]:
    """Return all annotated planes with their predictions, the best first."""
    check_finds_cells(model.roles)
    found = [
        example
        for pair in pair_up(images, annotations)
        for example in _predicted(model, pair)
    ]
    return sorted(found, key=lambda example: -example.score)


def _predicted(model: Model, pair: Pair) -> Iterator[_Example]:
    is_of_cells = has_cells(model.roles)
    given = pair.annotation
    truth = given.cells() if is_of_cells else given.class_map().astype(np.int32)
    outputs = predict(model, pair.image)
    for index, plane in pair.image.planes():
        if not truth[index].any():
            continue
        where: tuple[slice | int, ...] = (slice(None), *index)
        found = find_instances(outputs[where], model.roles, model.instances)
        scores = score(truth[index], found, known=given.is_known[index])
        value = scores.f1["0.5"] if is_of_cells else scores.iou
        at = f", plane {', '.join(str(i + 1) for i in index)}" if index else ""
        source = f"{Path(pair.image.source).name}{at}"
        yield _Example(source, plane[0], truth[index], found, value)


def _draw_examples(
    model: Model, examples: Sequence[_Example], folder: Path
) -> Iterator[Picture]:
    """Draw the best and the worst, each plane once."""
    what = "F1 of cells at IoU 0.5" if has_cells(model.roles) else "IoU"
    n = len(examples)
    n_best = min(_N_EXAMPLES, (n + 1) // 2)
    n_worst = min(_N_EXAMPLES, n - n_best)
    kinds = {"best": range(n_best), "worst": range(n - n_worst, n)}
    for kind, ranks in kinds.items():
        for i, rank in enumerate(ranks, 1):
            example, file = examples[rank], f"{kind}_{i}.png"
            figure = draw_overlay(example.plane, example.truth, example.predicted)
            save_figure(folder / file, figure)
            caption = f"{as_text(example.source)}: {what} {example.score:.2f}."
            # Of four the second best need not be good: the title says no more than is.
            of_all = f" {rank + 1} of {n}, from the best to the worst" if n > 1 else ""
            yield Picture(file, f"Prediction{of_all}", caption)
