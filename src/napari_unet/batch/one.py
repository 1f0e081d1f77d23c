"""From an image to its cells, and from a folder of images to a folder of labels."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import InstanceConfig, PredictConfig
from napari_unet.errors import FolderError, SaveError, UNetError
from napari_unet.events import (
    FileDone,
    FileProgress,
    FileStarted,
    FolderFinished,
    FolderStarted,
    Note,
    Segmented,
    TileDone,
)
from napari_unet.files.atomic import sweep_strays
from napari_unet.files.folders import find_images, stem_of
from napari_unet.files.images import read_image, write_image, write_labels
from napari_unet.files.inputs import as_image
from napari_unet.imaging.instances import (
    check_finds_cells,
    find_instances,
    finds_cells,
)
from napari_unet.imaging.intensity import intensity_range
from napari_unet.learning.applying.scale import on_own_grid, scale_note, scale_warning
from napari_unet.learning.attention import attention_maps, check_has_gates
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.data.fit import is_constant
from napari_unet.learning.device import choose_device
from napari_unet.learning.model_file.self_test import reduced_precision_difference
from napari_unet.learning.prediction import predict_tiles, resolved, working_factors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.events import Event
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.data.pairs import ImageLike

_EMPTY_SHARE = 0.2
# bfloat16 changes a probability by about 0.01.
_PRECISION_TOLERANCE = 0.05


def segment_events(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    instances: InstanceConfig | None = None,
) -> Iterator[Note | TileDone | Segmented]:
    """Segment an image, yielding an event for each tile; the labels come last.

    What the dock widget and Python do; a folder goes by the same two steps.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        How to apply the model.
    instances : InstanceConfig, optional
        How probabilities become cells, in pixels of the image; the settings tuned with
        the model, at the image's scale, if omitted.

    Yields
    ------
    Note, TileDone, Segmented
        Warnings first; `Segmented` is the last.

    Raises
    ------
    UNetError
        The image does not fit the model, or the machine can't do it.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_finds_cells(model.roles)
    image = as_image(image)
    outputs, factors = yield from predict_events(model, image, config)
    settings = instances or on_own_grid(model.instances, factors)
    yield Segmented(_labels(model, outputs, settings), outputs)


def predict_events(
    model: Model, image: Image, config: PredictConfig | None = None
) -> Generator[Note | TileDone, None, tuple[NDArray[np.float32], tuple[float, ...]]]:
    """Predict an image, and tell what is unlike the model's and how it was scaled.

    Returns
    -------
    outputs : ndarray of float32, shape (K, [T,] [Z,] Y, X)
        See `predict_tiles`, whose parameters and errors these are.
    factors : tuple of float
        Pixels that the network saw for each of the image.
    """
    fit = fit_warnings(model, image, config)
    for warning in (*precision_warnings(model, config), *fit):
        yield Note(warning, is_warning=True)
    factors = working_factors(model, image, config)
    if rescaled := scale_note(model, image, config, factors):
        yield Note(rescaled)
    for event in predict_tiles(model, image, config, factors=factors):
        yield event
        if isinstance(event, TileDone):
            outputs = event.outputs
    return outputs, factors


def _labels(
    model: Model, outputs: NDArray[np.float32], settings: InstanceConfig
) -> NDArray[np.int32]:
    """Return the cells, plane by plane or volume by volume, ids unique over all."""
    labels = np.zeros(outputs.shape[1:], np.int32)
    n_cells = 0
    for index in np.ndindex(labels.shape[: -model.network.n_dims]):
        found = find_instances(outputs[(slice(None), *index)], model.roles, settings)
        labels[index] = np.where(found > 0, found + n_cells, 0)
        n_cells += int(found.max(initial=0))
    return labels


def segment(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    instances: InstanceConfig | None = None,
) -> NDArray[np.int32]:
    """Return the cells of an image as labels, int32 ([T,] [Z,] Y, X).

    Parameters and errors are those of `segment_events`; its warnings are dropped.
    """
    *_, last = segment_events(model, image, config=config, instances=instances)
    if not isinstance(last, Segmented):  # pragma: no cover - see segment_events
        raise TypeError(f"segmentation ended with {last!r}")
    return last.labels


def precision_warnings(model: Model, config: PredictConfig | None = None) -> list[str]:
    """Return a warning if reduced precision changes what a model gives by much."""
    config = config or PredictConfig()
    precision = resolved(model, config)["precision"]
    if precision == "fp32":
        return []
    difference = reduced_precision_difference(model, choose_device(config.device))
    if difference is None or difference <= _PRECISION_TOLERANCE:
        return []
    return [
        f"with reduced precision ({precision}) this model's outputs change by up to "
        f"{difference:.2g} on its self-test: choose precision fp32"
    ]


def fit_warnings(
    model: Model, image: Image, config: PredictConfig | None = None
) -> list[str]:
    """Return what makes an image unlike those that the model was trained on."""
    warnings = []
    if odd_size := scale_warning(model, image, config):
        warnings.append(odd_size)
    if is_constant(image):
        warnings.append(f"{image.source} is empty: all its pixels are alike")
    elif str(image.data.dtype) == model.image_dtype and model.typical_span:
        limits = intensity_range(image, model.normalization)
        span = np.subtract(limits.high, limits.low)
        if (span < _EMPTY_SHARE * np.asarray(model.typical_span)).all():
            warnings.append(
                f"{image.source} may be empty: its contrast is under a fifth of that "
                "of the training images"
            )
    return warnings


@dataclass(frozen=True)
class _Job:
    """What is the same for all files of a folder."""

    model: Model
    output: Path
    config: PredictConfig
    instances: InstanceConfig | None
    axes: str | None
    channels: Sequence[str] | None
    probabilities: bool
    attention: bool


def segment_folder(  # noqa: PLR0913 - the settings of a run, all keyword-only
    model: Model | Path | str,
    source: Path | str,
    output: Path | str,
    *,
    pattern: str | None = None,
    config: PredictConfig | None = None,
    instances: InstanceConfig | None = None,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    probabilities: bool = False,
    attention: bool = False,
) -> Iterator[Event]:
    """Segment a file or all images of a folder; one bad file stops no other.

    Writes ``<stem>_labels.tif`` for each image, ``<stem>_probabilities.tif`` if
    asked, and a row in ``ledger.jsonl``. Each file is written whole or not at all.
    A model that makes images from images writes ``<stem>_predicted.tif`` instead.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    source : path
        An image, or a folder of images.
    output : path
        Folder for the results, made if missing; not the folder of the images.
    pattern : str, optional
        Only files whose name matches, such as ``"val_*"``.
    config : PredictConfig, optional
        How to apply the model.
    instances : InstanceConfig, optional
        How probabilities become cells; as tuned with the model if omitted.
    axes : str, optional
        Axes of the stored arrays, such as ``"ZYX"``, where the files don't say.
    channels : sequence of str, optional
        Names or numbers of the channels to use.
    probabilities : bool
        Also write the probabilities.
    attention : bool
        Also write what the gates of an Attention U-Net let through, as
        ``<stem>_attention.tif``.

    Yields
    ------
    Note, FolderStarted, FileStarted, FileProgress, FileDone, FolderFinished
        Warnings of the model first; `FolderFinished` is the last.

    Raises
    ------
    UNetError
        Before the first file: no such folder, no images, an output folder that
        can't be written, no model, or one without attention gates.
    """
    source, output = Path(source), Path(output)
    loaded = model if isinstance(model, Model) else load_model(model)
    paths = _inputs(source, pattern)
    _check_output(source, output)
    job = _Job(
        loaded,
        output,
        config or PredictConfig(),
        instances,
        axes,
        channels,
        probabilities,
        attention,
    )
    if attention:
        check_has_gates(loaded)
    name = "in memory" if isinstance(model, Model) else str(model)
    used = {"model": name, **resolved(loaded, job.config)}
    for warning in precision_warnings(loaded, job.config):
        yield Note(warning, is_warning=True)
    yield FolderStarted(tuple(paths))
    n_failed = 0
    written: dict[str, Path] = {}
    for index, path in enumerate(paths):
        yield FileStarted(index, path)
        done = yield from _one_file(job, index, path, written)
        n_failed += done.state == "failed"
        _log(output, done, used)
        yield done
    yield FolderFinished(len(paths) - n_failed, n_failed)


def _inputs(source: Path, pattern: str | None) -> list[Path]:
    if source.is_file():
        return [source]
    return find_images(source, pattern)


def _check_output(source: Path, output: Path) -> None:
    folder = source if source.is_dir() else source.parent
    if output.resolve() == folder.resolve():
        raise FolderError(
            "NU-F09",
            f"the output folder {output} is the folder of the images: give another, "
            "so that images and results don't mix",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "ledger.jsonl").open("a").close()
    except OSError as error:
        raise SaveError(
            "NU-S02",
            f"the output folder {output} can't be written ({error.strerror}): choose "
            "another folder",
        ) from error
    # What a killed run left half-written.
    sweep_strays(output)


def _one_file(
    job: _Job, index: int, path: Path, written: dict[str, Path]
) -> Generator[FileProgress, None, FileDone]:
    start = time.monotonic()
    notes: list[str] = []
    try:
        _check_unwritten(path, written)
        image = read_image(path, axes=job.axes, channels=job.channels, notes=notes)
        notes += fit_warnings(job.model, image, job.config)
        factors = working_factors(job.model, image, job.config)
        if rescaled := scale_note(job.model, image, job.config, factors):
            notes.append(rescaled)
        for event in predict_tiles(job.model, image, job.config, factors=factors):
            if isinstance(event, Note):
                notes.append(event.message)
                continue
            yield FileProgress(index, event.n_done, event.n_tiles)
            outputs = event.outputs
        target, n_cells = _write(job, path, image, outputs, factors)
        written[stem_of(path)] = path
    except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
        message = str(error) if isinstance(error, UNetError) else repr(error)
        elapsed_s = time.monotonic() - start
        return FileDone(index, path, "failed", None, 0, elapsed_s, message)
    elapsed_s = time.monotonic() - start
    return FileDone(index, path, "done", target, n_cells, elapsed_s, "; ".join(notes))


def _check_unwritten(path: Path, written: dict[str, Path]) -> None:
    if stem_of(path) in written:
        raise FolderError(
            "NU-F05",
            f"{path.name} would overwrite the result of {written[stem_of(path)].name}: "
            "give one of them another name",
        )


def _write(
    job: _Job,
    path: Path,
    image: Image,
    outputs: NDArray[np.float32],
    factors: Sequence[float],
) -> tuple[Path, int | None]:
    """Write what was asked for; return the main file and the cells that are in it."""
    model, size = job.model, _pixel_size(job.model, image)
    common: dict[str, Any] = {"axes": image.axes, "pixel_size_um": size}
    roles = [role.partition(":")[2] for role in model.roles]

    def named(what: str) -> Path:
        return job.output / f"{stem_of(path)}_{what}.tif"

    if job.attention:
        maps = attention_maps(model, image, job.config)
        # On the image's own grid, whatever the network's.
        own = common | {"pixel_size_um": image.pixel_size_um}
        gates = [f"gate {i + 1}" for i in range(len(maps))]
        write_image(named("attention"), maps, channel_names=gates, **own)
    if not finds_cells(model.roles):
        write_image(named("predicted"), outputs, channel_names=roles, **common)
        return named("predicted"), None
    if job.probabilities:
        write_image(named("probabilities"), outputs, channel_names=roles, **common)
    settings = job.instances or on_own_grid(model.instances, factors)
    labels = _labels(model, outputs, settings)
    write_labels(named("labels"), labels, axes=image.axes[1:], pixel_size_um=size)
    return named("labels"), int(labels.max(initial=0))


def _pixel_size(model: Model, image: Image) -> tuple[float, ...] | None:
    """Return the pixel size of what a model makes of an image, in micrometres."""
    if image.pixel_size_um is None or model.network.upscale == 1:
        return image.pixel_size_um
    n_coarse = len(image.pixel_size_um) - model.network.n_dims
    return tuple(
        size if axis < n_coarse else size / model.network.upscale
        for axis, size in enumerate(image.pixel_size_um)
    )


def _log(output: Path, done: FileDone, used: Mapping[str, str | int]) -> None:
    row = {
        "input": str(done.path),
        "state": done.state,
        "output": str(done.output) if done.output else None,
        "n_cells": done.n_cells,
        "elapsed_s": round(done.elapsed_s, 3),
        "message": done.message,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **used,
    }
    path = output / "ledger.jsonl"
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise SaveError(
            "NU-S01", f"{path} can't be written: {error.strerror}"
        ) from error
