"""Weights from a plain PyTorch file, into a network of ours; nothing in it runs."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_unet.errors import FolderError, ModelError
from napari_unet.files.kinds import check_is_file
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.model import Model
from napari_unet.learning.sharing.classes import classes_and_roles
from napari_unet.learning.sharing.layouts import COUNTER, to_ours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BytesIO

    from napari_unet.config import NetworkConfig, NormalizationConfig
    from napari_unet.learning.sharing.layouts import Layout, State

# What torch.load raises on files that are damaged, hold no weights, or would run. The
# first is pickle's error by way of torch: no module of ours imports pickle.
_RAISED_ON_DAMAGE = (
    torch.serialization.pickle.UnpicklingError,  # type: ignore[attr-defined]
    RuntimeError,
    EOFError,
    LookupError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    struct.error,
)
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")


def import_state_dict(
    path: Path | str,
    *,
    network: NetworkConfig | None = None,
    normalization: NormalizationConfig | None = None,
    class_names: Sequence[str] = (),
) -> Model:
    """Read the weights in a ``.pt`` or ``.pth`` file as a model.

    Known are this program's own names, those of milesial/Pytorch-UNet (with transposed
    convolutions) and of mateuszbuda/brain-segmentation-pytorch. Sizes come from the
    shapes of the weights. What weights don't say is assumed, and `Model.about` tells
    it: how images are scaled, what the outputs mean, and for our own names whether the
    network pads.

    Parameters
    ----------
    path : path
        A file of `torch.save`: a state dict, or a dict with one under "state_dict",
        "model_state_dict", "model" or "net". Nothing in it is executed.
    network : NetworkConfig, optional
        The network, for weights under our own names; found by the shapes if omitted.
    normalization : NormalizationConfig, optional
        How images are scaled; as the other program does if omitted.
    class_names : sequence of str
        What the outputs mean, background first.

    Returns
    -------
    Model
        Weights as float32.

    Raises
    ------
    FolderError
        No such file (NU-F01, NU-F02, NU-F04).
    ModelError
        Damaged or more than weights (NU-M20), weights of no known network (NU-M21).
    """
    path = Path(path)
    if not path.exists():
        raise FolderError("NU-F01", f"there is no file {path}: check the path")
    check_is_file(path)
    state = read_state_dict(path, path.name)
    return model_of(
        state,
        path.name,
        network=network,
        normalization=normalization,
        class_names=class_names,
    )


def model_of(
    state: State,
    name: str,
    *,
    network: NetworkConfig | None = None,
    normalization: NormalizationConfig | None = None,
    class_names: Sequence[str] = (),
) -> Model:
    """Return the model of named weights; see `import_state_dict`."""
    layout, config, state = to_ours(state, name, network)
    names, roles = classes_and_roles(config.out_channels, class_names)
    scaling = normalization or layout.normalization
    span = None
    if scaling.policy == "dataset":
        low, high = layout.values
        span = IntensityRange((low,) * config.in_channels, (high,) * config.in_channels)
    return Model(
        network=config,
        state=state,
        roles=roles,
        class_names=names,
        normalization=scaling,
        dataset_range=span,
        about=_assumed(name, layout, normalization),
    )


def _assumed(
    name: str, layout: Layout, normalization: NormalizationConfig | None
) -> str:
    told = f"Weights of {name}, names as in {layout.name}."
    if normalization is not None:
        return told
    low, high = layout.values
    how = {
        "dataset": f"from {low:g} to {high:g}, as that program does with 8-bit images",
        "standardize": "to mean 0 and standard deviation 1 of each image",
        "image": "by percentiles of each image",
    }[layout.normalization.policy]
    return f"{told} Assumed: intensities are scaled {how}."


def read_state_dict(source: Path | BytesIO, name: str) -> State:
    """Return the tensors that a file of `torch.save` holds, by name, as float32.

    Parameters
    ----------
    source : Path or BytesIO
        The file, or its content.
    name : str
        Of the file, for messages.

    Raises
    ------
    ModelError
        Damaged, it holds more than weights, or none (NU-M20).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            # weights_only is written out: left at its default, an environment variable
            # could make torch execute what the file says.
            content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except _RAISED_ON_DAMAGE as error:
        raise ModelError(
            "NU-M20",
            f"{name} is damaged, or holds more than weights, which could run a "
            "program and is not read: save it again with "
            "torch.save(model.state_dict(), path)",
        ) from error
    return _tensors(content, name)


def _tensors(content: Any, name: str) -> State:
    """Return the tensors inside of what other programs wrap around them."""
    for _ in range(len(_WRAPPERS)):
        inner = [
            content[key]
            for key in _WRAPPERS
            if isinstance(content, dict) and isinstance(content.get(key), dict)
        ]
        if not inner:
            break
        content = inner[0]
    items = content.items() if isinstance(content, dict) else ()
    state = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise ModelError(
            "NU-M20",
            f"{name} holds no named weights: save it again with "
            "torch.save(model.state_dict(), path)",
        )
    while prefix := next(
        (p for p in _PREFIXES if all(key.startswith(p) for key in state)), ""
    ):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: _plain(key, value.detach(), name) for key, value in state.items()}


def _plain(key: str, value: Tensor, name: str) -> Tensor:
    """Return a tensor of the file, real numbers as float32."""
    is_plain = (
        value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_nested)
        # One number that stands for many would not stay as small as it is in the file.
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
    if not is_plain:
        raise ModelError(
            "NU-M20",
            f"{name}: {key[:60]!a} is no plain tensor with all its values: save "
            "it again as one, on the CPU",
        )
    value = value.float() if value.is_floating_point() else value
    if key.endswith(COUNTER) and not value.is_complex():
        # In half precision, as its weights, it may have become infinite.
        return value.nan_to_num(posinf=0, neginf=0).long()
    if not value.isfinite().all():
        raise ModelError(
            "NU-M20",
            f"{name}: {key[:60]!a} holds values that are not numbers (NaN or "
            "infinite): ask its authors for weights that are whole",
        )
    return value
