"""Models for other programs, as one file each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_unet.config import NetworkConfig
from napari_unet.errors import ModelError, SaveError
from napari_unet.events import Event, Note
from napari_unet.files.atomic import write_bytes
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.model import Model
from napari_unet.learning.sharing.graphs import input_sizes
from napari_unet.learning.sharing.onnx import onnx_bytes
from napari_unet.learning.sharing.zoo_description import left_to_do, publication
from napari_unet.learning.sharing.zoo_export import package_events, require_zoo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Target = Literal["bioimageio", "onnx"]


@dataclass(frozen=True)
class Exported(Event):
    """The last event of an export: the file, and its size in bytes."""

    path: Path
    n_bytes: int


def export_events(
    model: Model | Path | str,
    path: Path | str,
    *,
    to: Target = "bioimageio",
    name: str = "",
    license: str = "",  # noqa: A002 - the field's name
    authors: Iterable[str] = (),
    size: int | None = None,
) -> Iterator[Event]:
    """Export a model, saying what is done; see `export_model`.

    Yields
    ------
    Event
        `Note`, and at last `Exported`.
    """
    path = Path(path)
    name = name or (path.stem if isinstance(model, Model) else Path(model).stem)
    if not isinstance(model, Model):
        model = load_model(model)
    _check(model, path)
    yield from _notes(model, size)
    if to == "onnx":
        write_bytes(path, onnx_bytes(model, name=name, size=size))
    else:
        require_zoo()
        facts = publication(model, name=name, license=license, authors=authors)
        if not facts.authors:
            yield Note(
                "nobody is named as author: bioimage.io asks for one before a model is "
                "published there; name them with --author, or in the model's card",
                is_warning=True,
            )
        yield from package_events(model, path, facts, size=size)
    yield Exported(path, path.stat().st_size)


def export_model(
    model: Model | Path | str,
    path: Path | str,
    *,
    to: Target = "bioimageio",
    name: str = "",
    license: str = "",  # noqa: A002 - the field's name
    authors: Iterable[str] = (),
    size: int | None = None,
) -> Path:
    """Write a model as a file that other programs open.

    The file is written whole or not at all, after it was seen to compute what the
    model does; one of that name is replaced. No image of a user gets into it: tests
    and pictures show drawn cells.

    Parameters
    ----------
    model : Model or path
        A model with a network of this program.
    path : path
        The file, such as ``cells.zip`` or ``cells.onnx``.
    to : {"bioimageio", "onnx"}
        ``"bioimageio"``: a package of the BioImage Model Zoo, with the weights for
        PyTorch, TorchScript and ONNX; needs the extra ``zoo``. ``"onnx"``: the graph
        alone, from a normalised image to outputs; needs the extra ``onnx``.
    name : str
        What the model is called; the name of its file if omitted.
    license : str
        SPDX id such as ``"CC-BY-4.0"``; the model's own if omitted. A package needs
        one.
    authors : iterable of str
        Names; the model's own if omitted.
    size : int, optional
        Input size in pixels along an axis, for a network that looks at its whole input
        and so is exported for one size: by default that of its training patches. All
        other networks take any size.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResourceError
        An extra is not installed (NU-R10), or its libraries don't fit (NU-R12).
    ConfigError
        No licence (NU-C20), or none that is known (NU-C21).
    ModelError
        The model can't be loaded; it is another program's (NU-M42); the file would
        compute something else (NU-M40); it is too large for ONNX (NU-M41).
    SaveError
        The file can't be written; what was there before is untouched.
    """
    for _ in export_events(
        model,
        path,
        to=to,
        name=name,
        license=license,
        authors=authors,
        size=size,
    ):
        pass
    return Path(path)


def _check(model: Model, path: Path) -> None:
    """Refuse, before minutes of work, what can't be exported or written."""
    if not isinstance(model.network, NetworkConfig):
        raise ModelError(
            "NU-M42",
            "the model is the graph of another program: share the file that it was "
            "imported from",
        )
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that is not there"
        raise SaveError("NU-S02", f"{path} {what}: give the name of a file")
    if not os.access(folder, os.W_OK):
        raise SaveError(
            "NU-S02", f"the folder {folder} can't be written: choose another folder"
        )


def _notes(model: Model, size: int | None) -> Iterator[Note]:
    for sentence in left_to_do(model):
        yield Note(f"Other programs won't know by themselves: {sentence}", True)
    sizes = input_sizes(model, size)
    if sizes.is_fixed:
        n = sizes.smallest
        yield Note(
            f"the network looks at its whole input: it is exported for inputs of {n} "
            f"px along each axis, and no others"
        )
    elif size is not None:
        yield Note(
            "the network takes any size: the size that was given is not used",
            is_warning=True,
        )
