"""The model file: safetensors with one JSON description; nothing executable."""

from __future__ import annotations

import hashlib
import json
import platform
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict

from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ModelError
from napari_unet.files.atomic import write_bytes
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.model import Look, Model, Origin, weights_sha256
from napari_unet.learning.networks import build_network

__all__ = ["FORMAT_VERSION", "Look", "Model", "Origin", "load_model", "save_model"]

FORMAT_VERSION = 2
_KEY = "napari_unet"
_MAX_HEADER_BYTES = 16 * 2**20


class _Description(BaseModel):
    """The JSON in a model file's header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    network: NetworkConfig
    roles: tuple[str, ...]
    class_names: tuple[str, ...]
    training: TrainConfig
    weights: WeightConfig
    instances: InstanceConfig
    normalization: NormalizationConfig
    dataset_range: tuple[tuple[float, ...], tuple[float, ...]] | None
    typical_span: tuple[float, ...]
    image_dtype: str
    channel_names: tuple[str, ...]
    pixel_size_um: tuple[float, ...] | None
    cell_diameter_px: float | None
    scores: dict[str, float]
    n_train_images: int
    step: int
    class_colors: tuple[str, ...]
    axes: str
    fingerprint: str
    license: str
    authors: tuple[str, ...]
    about: str
    derived_from: tuple[Origin, ...]
    history: tuple[Look, ...]
    versions: dict[str, str]
    sha256: str
    description_sha256: str = ""

    def checksum(self) -> str:
        """Return the sha256 of the description itself, a threshold's bits included."""
        text = self.model_dump_json(exclude={"description_sha256"})
        return hashlib.sha256(text.encode()).hexdigest()


def _describe(model: Model) -> _Description:
    from napari_unet import __version__

    span = model.dataset_range
    own = {name: getattr(model, name) for name in _SHARED}
    description = _Description(
        **own,
        format_version=FORMAT_VERSION,
        scores=dict(model.scores),
        dataset_range=None if span is None else (span.low, span.high),
        versions={
            "napari_unet": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        sha256=weights_sha256(model.state),
    )
    return description.model_copy(update={"description_sha256": description.checksum()})


_SHARED = (
    "network", "roles", "class_names", "training", "weights", "instances",
    "normalization", "typical_span", "image_dtype", "channel_names",
    "pixel_size_um", "cell_diameter_px", "n_train_images", "step",
    "class_colors", "axes", "fingerprint", "license", "authors", "about",
    "derived_from", "history",
)  # fmt: skip


def save_model(path: Path | str, model: Model) -> Path:
    """Write a model file, whole or not at all, and return its path.

    Raises
    ------
    SaveError
        The file can't be written; what was there before is untouched.
    """
    path = Path(path)
    metadata = {_KEY: _describe(model).model_dump_json()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))
    return path


def load_model(path: Path | str) -> Model:
    """Read a model file; executes nothing.

    Raises
    ------
    ModelError
        No such file, not a model of this program, written by a newer version,
        damaged, or not the network that it says it is.
    """
    path = Path(path)
    description = _read_description(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            _check_shapes(file, description.network, path)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path) from error
    is_whole = description.checksum() == description.description_sha256
    if not is_whole or weights_sha256(state) != description.sha256:
        raise _damaged(path)
    span = description.dataset_range
    return Model(
        state=state,
        scores=description.scores,
        versions=description.versions,
        dataset_range=None if span is None else IntensityRange(*span),
        **{name: getattr(description, name) for name in _SHARED},
    )


def _damaged(path: Path) -> ModelError:
    return ModelError(
        "NU-M02", f"{path} is a damaged model file: copy it again, or train it again"
    )


def _read_description(path: Path) -> _Description:
    header = _read_header(path)
    text = header.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ModelError(
            "NU-M01",
            f"{path} is not a napari-unet model: its header has no description; give "
            "a .unet file that napari-unet wrote",
        )
    try:
        raw = json.loads(text)
        version = raw.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelError(
                "NU-M03",
                f"{path} was written by a newer version of napari-unet (format "
                f"{version}, this one reads {FORMAT_VERSION}): update napari-unet",
            )
        if isinstance(version, int) and 0 < version < FORMAT_VERSION:
            raise ModelError(
                "NU-M08",
                f"{path} was written by an early version of napari-unet (format "
                f"{version}, this one reads {FORMAT_VERSION}): train the model again",
            )
        return _Description.model_validate(raw)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error


def _read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a safetensors file, or say that it is none."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "missing"
        raise ModelError("NU-M00", f"model file {path} is {kind}: give a .unet file")
    foreign = ModelError(
        "NU-M01",
        f"{path} is not a napari-unet model: give a .unet file that napari-unet wrote",
    )
    try:
        with path.open("rb") as file:
            start = file.read(8)
            (n_bytes,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
            if not 2 <= n_bytes <= _MAX_HEADER_BYTES:
                raise foreign
            header = json.loads(file.read(n_bytes))
    except OSError as error:
        raise ModelError("NU-M00", f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict) or not isinstance(
        header.get("__metadata__", {}), dict
    ):
        raise foreign
    return header


def _check_shapes(file: Any, config: NetworkConfig, path: Path) -> None:
    """Compare names and shapes with the architecture before any tensor is read."""
    with torch.device("meta"):
        expected = {
            name: list(tensor.shape)
            for name, tensor in build_network(config).state_dict().items()
        }
    found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    if found != expected:
        names = sorted(set(found) ^ set(expected)) or sorted(
            name for name in found if found[name] != expected[name]
        )
        raise ModelError(
            "NU-M04",
            f"{path} does not hold the network that it describes: {names[0]} "
            f"({len(names)} tensors differ); train it again",
        )
