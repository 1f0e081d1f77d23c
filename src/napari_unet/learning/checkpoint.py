"""The model file: safetensors with one JSON description; nothing executable."""

from __future__ import annotations

import json
import math
import os
import platform
import struct
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from napari_unet.errors import ModelError
from napari_unet.files.atomic import write_bytes
from napari_unet.files.model_places import shipped_model, shipped_models
from napari_unet.learning.model import (
    Look,
    Model,
    Origin,
    expected_tensors,
    weights_sha256,
)
from napari_unet.learning.model_file.description import (
    FORMAT_VERSION,
    Description,
    damaged,
    describe,
    read_description,
    unique_keys,
)
from napari_unet.learning.model_file.half_precision import (
    as_used,
    halved,
    kinds_in_half,
)
from napari_unet.learning.model_file.self_test import (
    LOAD_LIMIT,
    SelfTest,
    is_within,
    make_self_test,
    self_test_difference,
    self_test_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_unet.config import ForeignConfig, NetworkConfig
    from napari_unet.learning.model import TensorKinds

__all__ = ["FORMAT_VERSION", "Look", "Model", "Origin", "load_model", "save_model"]

_KEY = "napari_unet"
_MAX_HEADER_BYTES = 16 * 2**20
# By their names in a file: what networks are made of, and what a graph's bytes are.
_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "I64": torch.int64,
    "U8": torch.uint8,
}
# What was seen to compute what it did, in this process.
_passed: set[str] = set()


@dataclass(frozen=True, eq=False)
class Stored:
    """What a whole model file holds: the model, and what it computed back then.

    `sha256` is that of the weights, `key` stands for them and the self-test, `is_half`
    says that the file has them in half precision.
    """

    model: Model
    self_test: SelfTest
    sha256: str
    key: str
    is_half: bool


def save_model(path: Path | str, model: Model, *, half: bool = False) -> Path:
    """Write a model file, whole or not at all, and return its path.

    It gets a self-test: drawn cells, and what the network makes of them now. The same
    model gives the same bytes each time.

    Parameters
    ----------
    path : path
        The file, such as ``cells.unet``; replaced if it is there.
    model : Model
        The model; it is not changed.
    half : bool
        Store the weights in half precision, rounded to float16: half as large, for a
        model to pass on. They come back as float32, and checksum and self-test are
        those of the rounded weights.

    Raises
    ------
    SaveError
        The file can't be written; what was there before is untouched.
    ModelError, ConfigError
        Weights or outputs that are not numbers (NU-M06), or that half precision has no
        room for (NU-M12), weights of another network (NU-M04), or a field that
        `load_model` would not take (NU-C01): nothing is written.
    """
    path = Path(path)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state.items()}
    found = {name: (tuple(t.shape), t.dtype) for name, t in state.items()}
    _check_tensors(found, expected_tensors(model.network), "the model")
    _check_roles(model.roles, model.network, "the model")
    _check_numbers(state, "the model")
    stored = halved(state) if half else state
    model = replace(model, state=as_used(stored))
    test = make_self_test(model)
    _check_numbers(test.tensors(), "the model")
    description = describe(
        model,
        versions=versions_now(),
        sha256=weights_sha256(model.state),
        self_test_sha256=weights_sha256(test.tensors()),
        stored="float16" if half else "float32",
    )
    metadata = {_KEY: description.to_json()}
    write_bytes(path, save_tensors(stored | test.tensors(), metadata))
    return path


def load_model(path: Path | str) -> Model:
    """Read a model file; executes nothing but the network that it holds.

    Where there is no such file, "nuclei" is the model of that name that comes along.
    Once per process and content the network is applied to the file's self-test, on
    the CPU in fp32: a model that no longer computes what it did is refused.

    Raises
    ------
    ModelError
        No such file (NU-M00), not a model of this program (NU-M01), damaged (NU-M02),
        written by a newer (NU-M03) or early version (NU-M08), not the network that it
        says it is (NU-M04), described as this version does not know it or as no model
        can be, such as with other axes than its network's (NU-M05), weights
        that are not numbers (NU-M06), or a logit that differs by more than 1e-3 of
        the largest from what it was (NU-M07).
    """
    if not Path(path).exists() and str(path) in [p.stem for p in shipped_models()]:
        path = shipped_model(str(path))
    stored = read_stored(path)
    if stored.key not in _passed:
        difference = self_test_difference(stored.model, stored.self_test)
        if not is_within(difference, LOAD_LIMIT):
            raise changed(path, stored.model.versions, difference, LOAD_LIMIT)
        _passed.add(stored.key)
    return stored.model


def read_stored(path: Path | str) -> Stored:
    """Read a model file and check that it is whole; computes nothing with it.

    Raises
    ------
    ModelError
        As `load_model`, without NU-M07.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "missing"
        raise ModelError("NU-M00", f"model file {path} is {kind}: give a .unet file")
    try:
        with path.open("rb") as file:
            header = _read_header(file, path)
            text = header["__metadata__"][_KEY]
            description = read_description(text, path)
            n_bytes = file.tell() + _check_fits(header, description, path)
            if os.fstat(file.fileno()).st_size != n_bytes:
                raise damaged(path)
            file.seek(0)
            # All at once, not mapped into memory: the file may change afterwards.
            content = file.read(n_bytes)
    except OSError as error:
        raise ModelError("NU-M00", f"{path} can't be read: {error.strerror}") from error
    return _take_apart(content, description, path)


def versions_now() -> dict[str, str]:
    """Return the versions of the libraries on which a model's numbers depend."""
    from napari_unet import __version__

    return {
        "napari_unet": __version__,
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        "python": platform.python_version(),
    }


def _take_apart(content: bytes, description: Description, path: Path) -> Stored:
    try:
        state = load_tensors(content)
        test = SelfTest.taken_from(state)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise damaged(path) from error
    state = as_used(state)
    is_whole = (
        weights_sha256(state) == description.sha256
        and weights_sha256(test.tensors()) == description.self_test_sha256
    )
    if not is_whole:
        raise damaged(path)
    _check_numbers(state | test.tensors(), str(path))
    # The weights alone don't say what is done with them.
    key = f"{description.sha256} {description.self_test_sha256} {description.network!r}"
    is_half = description.stored == "float16"
    return Stored(description.to_model(state), test, description.sha256, key, is_half)


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    """Return the header of a file that has our description, or say that it has none."""
    foreign = ModelError(
        "NU-M01",
        f"{path} is not a napari-unet model: its header has no description; give a "
        ".unet file that napari-unet wrote",
    )
    start = file.read(8)
    (n_bytes,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
    if not 2 <= n_bytes <= _MAX_HEADER_BYTES:
        raise foreign
    text = file.read(n_bytes)
    is_ours = text.startswith(f'{{"__metadata__":{{"{_KEY}":'.encode())
    try:
        header = json.loads(text, object_pairs_hook=unique_keys)
        header["__metadata__"][_KEY]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise (damaged(path) if is_ours else foreign) from error
    return dict(header)


def _check_fits(header: dict[str, Any], description: Description, path: Path) -> int:
    """Compare the header with the network before any tensor is read or allocated.

    Returns the number of bytes that the tensors take.
    """
    network = description.network
    try:
        weights = expected_tensors(network)
        if description.stored == "float16":
            weights = kinds_in_half(weights)
        expected = weights | self_test_tensors(network)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            "NU-M04",
            f"{path} describes a network that can't be built ({error}): train it again",
        ) from error
    try:
        found = {
            name: (tuple(entry["shape"]), _DTYPES.get(entry["dtype"], entry["dtype"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (TypeError, KeyError) as error:
        raise damaged(path) from error
    _check_tensors(found, expected, str(path))
    _check_roles(description.roles, network, str(path))
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in expected.values())


def _check_tensors(
    found: Mapping[str, tuple[Any, Any]], expected: TensorKinds, holder: str
) -> None:
    if found == expected:
        return
    names = sorted(set(found) ^ set(expected)) or sorted(
        name for name in found if found[name] != expected[name]
    )
    first = names[0]
    raise ModelError(
        "NU-M04",
        f"{holder} does not hold the network that it describes: {first} is "
        f"{_kind(found.get(first))} and should be {_kind(expected.get(first))} "
        f"({len(names)} of {len(expected)} tensors differ); train it again",
    )


def _kind(kind: tuple[Any, Any] | None) -> str:
    if kind is None:
        return "absent"
    shape, dtype = kind
    return f"{str(dtype).removeprefix('torch.')} {shape}"


def _check_roles(
    roles: Sequence[str], network: NetworkConfig | ForeignConfig, holder: str
) -> None:
    if len(roles) != network.out_channels:
        raise ModelError(
            "NU-M04",
            f"{holder} names {len(roles)} outputs but its network has "
            f"{network.out_channels}: train it again",
        )


def _check_numbers(tensors: Mapping[str, Tensor], holder: str) -> None:
    for name in sorted(tensors):
        if not torch.isfinite(tensors[name]).all():
            raise ModelError(
                "NU-M06",
                f"{holder} can't be used, {name} holds values that are not numbers "
                "(NaN or infinite): train it again, with a smaller learning rate",
            )


def changed(
    path: Path | str, then: Mapping[str, str], difference: float, limit: float
) -> ModelError:
    """Return the error for a model that no longer computes what it did."""
    now = versions_now()
    differ = "; ".join(
        f"{name} {then.get(name, 'of unknown version')} then, {now[name]} now"
        for name in now
        if then.get(name) != now[name]
    )
    advice = (
        f"({differ}): install the versions that it was written with"
        if differ
        else "with the same versions, so the file was changed or this machine computes "
        "wrongly: copy it again, try another machine"
    )
    return ModelError(
        "NU-M07",
        f"{path} no longer computes what it did: its self-test differs by "
        f"{difference:.2g} where {limit:g} is allowed {advice}, or train it again",
    )
