"""What a model file says about its model: JSON in the header, checked when read."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from napari_unet.config import (
    ForeignConfig,
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError, ModelError
from napari_unet.events import Region
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.model import Look, Model, Origin, Round
from napari_unet.learning.model_file.consistency import contradiction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FORMAT_VERSION = 2
_CHECKSUM = "description_sha256"

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
# The low ends and the high ends of an `IntensityRange`.
_Ends = tuple[tuple[_Finite, ...], tuple[_Finite, ...]]


class Description(BaseModel):
    """All of a model but its weights, with the checksums of what stands beside it.

    Parameters
    ----------
    sha256 : str
        Of the weights; see `napari_unet.learning.model.weights_sha256`.
    self_test_sha256 : str
        Of the self-test's tensors, likewise.
    stored : {"float32", "float16"}
        Precision of the weights in the file; they are used in float32.
    versions : dict of str to str
        Of the libraries that wrote the file.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # A validation may have given no number, and JSON knows none for that.
        ser_json_inf_nan="strings",
    )

    format_version: int = Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)
    network: Annotated[
        NetworkConfig | ForeignConfig, Field(discriminator="architecture")
    ]
    roles: tuple[str, ...]
    class_names: tuple[str, ...] = Field(min_length=1)
    class_colors: tuple[Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")], ...]
    training: TrainConfig
    weights: WeightConfig
    instances: InstanceConfig
    normalization: NormalizationConfig
    dataset_range: _Ends | None
    # Infinite where the largest floats are further apart than floats go.
    typical_span: tuple[Annotated[float, Field(ge=0)], ...]
    image_dtype: str
    axes: str
    channel_names: tuple[str, ...]
    pixel_size_um: (
        Annotated[tuple[_Positive, ...], Field(min_length=2, max_length=3)] | None
    )
    cell_diameter_px: _Positive | None
    n_train_images: _Count
    fingerprint: str = Field(pattern="^([0-9a-f]{64})?$")
    license: str
    authors: tuple[str, ...]
    about: str
    derived_from: tuple[Origin, ...]
    step: _Count
    scores: dict[str, float]
    history: tuple[Look, ...]
    # Files of earlier versions have none of these.
    scale: _Positive = 1.0
    scales_by_cells: bool = False
    value_range: _Ends | None = None
    values_follow_image: bool = False
    rounds: tuple[Round, ...] = ()
    held_back: tuple[Region, ...] = ()
    validated_on: str = ""
    stored: Literal["float32", "float16"] = "float32"
    versions: dict[str, str]
    sha256: str
    self_test_sha256: str

    @model_validator(mode="after")
    def _fits_its_network(self) -> Self:
        if found := contradiction(self):
            raise ValueError(found)
        return self

    def to_model(self, state: Mapping[str, Tensor]) -> Model:
        """Return the model that is described, with its weights."""
        own = {name: getattr(self, name) for name in _OF_MODEL}
        for name in _RANGES:
            ends = own[name]
            own[name] = None if ends is None else IntensityRange(*ends)
        return Model(state=state, **own)

    def to_json(self) -> str:
        """Return it as JSON, with a checksum over itself.

        Raises
        ------
        ConfigError
            NU-C01: a name or text that is not Unicode.
        """
        try:
            raw = json.loads(self.model_dump_json())
        except PydanticSerializationError as error:
            raise ConfigError(
                "NU-C01",
                f"the model can't be saved, a name or text in it is not Unicode "
                f"({error}): set it anew",
            ) from error
        return json.dumps(raw | {_CHECKSUM: _checksum(raw)}, ensure_ascii=False)


_OF_FILE = {"format_version", "stored", "sha256", "self_test_sha256"}
_RANGES = ("dataset_range", "value_range")
_OF_MODEL = tuple(name for name in Description.model_fields if name not in _OF_FILE)


def describe(
    model: Model,
    *,
    versions: Mapping[str, str],
    sha256: str,
    self_test_sha256: str,
    stored: Literal["float32", "float16"] = "float32",
) -> Description:
    """Return the description of a model.

    Raises
    ------
    ConfigError
        NU-C01: a field of the model is not of its type, out of bounds, or doesn't
        fit the network.
    """
    own = {name: getattr(model, name) for name in _OF_MODEL}
    # Settings that were copied with other values were never looked at.
    own = {k: dict(v) if isinstance(v, BaseModel) else v for k, v in own.items()}
    for name in _RANGES:
        span = own[name]
        own[name] = None if span is None else (span.low, span.high)
    try:
        return Description(
            **own | {"versions": dict(versions)},
            format_version=FORMAT_VERSION,
            stored=stored,
            sha256=sha256,
            self_test_sha256=self_test_sha256,
        )
    except ValidationError as error:
        raise ConfigError(
            "NU-C01", f"the model can't be saved, {_first(error)}: set it anew"
        ) from error


def read_description(text: object, path: Path) -> Description:
    """Read the description of a model file.

    Parameters
    ----------
    text : object
        What the file's header holds: JSON, if it is whole.
    path : Path
        The file, for messages.

    Raises
    ------
    ModelError
        Damaged (NU-M02), of a newer (NU-M03) or early version (NU-M08), or with a
        network, settings or other fields that this version does not know or that
        can't be (NU-M05).
    """
    try:
        raw = _parse(text, path)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path) from error
    _check_architecture(raw, path)
    try:
        return Description.model_validate(raw)
    except ValidationError as error:
        raise ModelError(
            "NU-M05",
            f"{path} describes a model that this version of napari-unet can't use, "
            f"{_first(error)}: update napari-unet, or make the file again",
        ) from error


def _parse(text: object, path: Path) -> dict[str, Any]:
    if not isinstance(text, str):
        raise TypeError("the description is no text")
    raw: dict[str, Any] = json.loads(text, object_pairs_hook=unique_keys)
    version = raw.get("format_version")
    # Whatever else newer versions change, this is where they say so.
    if isinstance(version, int):
        _check_version(version, path)
    if raw.pop(_CHECKSUM, None) != _checksum(raw):
        raise ValueError("the checksum differs")
    return raw


def damaged(path: Path) -> ModelError:
    """Return the error for a model file that is not whole."""
    return ModelError(
        "NU-M02", f"{path} is a damaged model file: copy it again, or train it again"
    )


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return JSON's pairs as a dict; of two values for one key, one would be lost.

    Raises
    ------
    ValueError
        A key is given twice.
    """
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _checksum(raw: dict[str, Any]) -> str:
    """Return a sha256 that doesn't depend on the order of keys, a threshold's bits in.

    The same in all format versions.
    """
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_version(version: int, path: Path) -> None:
    if version > FORMAT_VERSION:
        raise ModelError(
            "NU-M03",
            f"{path} was written by a newer version of napari-unet (format {version}, "
            f"this one reads {FORMAT_VERSION}): update napari-unet",
        )
    if 0 < version < FORMAT_VERSION:
        raise ModelError(
            "NU-M08",
            f"{path} was written by an early version of napari-unet (format "
            f"{version}, this one reads {FORMAT_VERSION}): train the model again",
        )


def _check_architecture(raw: dict[str, Any], path: Path) -> None:
    kinds = (NetworkConfig, ForeignConfig)
    names = (get_args(kind.model_fields["architecture"].annotation) for kind in kinds)
    known = tuple(chain.from_iterable(names))
    network = raw.get("network")
    name = network.get("architecture") if isinstance(network, dict) else None
    if isinstance(name, str) and name not in known:
        raise ModelError(
            "NU-M05",
            f"{path} holds a network {name!r}, which this version of napari-unet does "
            f"not know (it knows {', '.join(known)}): update napari-unet",
        )


def _first(error: ValidationError) -> str:
    """Return what is wrong with the first field that doesn't fit."""
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    said = f"{said[:1].lower()}{said[1:]}"
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {said}" if where else said
