"""The graph of another program, ONNX or TorchScript, as a model of ours."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.config import ForeignConfig, InstanceConfig, NormalizationConfig
from napari_unet.errors import ModelError
from napari_unet.files.trusted import is_trusted, trust
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.model import Model
from napari_unet.learning.model_file.self_test import draw_input, logits_of
from napari_unet.learning.networks.foreign import ForeignNetwork, onnx_session
from napari_unet.learning.sharing.classes import classes_and_roles
from napari_unet.learning.sharing.zoo_geometry import SMALLEST_OUTPUT_PX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# U-Nets halve an image five times at most: tiles on this grid fall on their own.
_COARSEST_GRID = 32
# An odd number of times 1, 2, 4 ... 64, so that a size fits no coarser grid.
_PROBED_SIZES = {1: 49, 2: 50, 4: 52, 8: 56, 16: 48, 32: 96, 64: 192}


def graph_state(content: bytes) -> dict[str, Tensor]:
    """Return the state dict of a `ForeignNetwork` of this graph."""
    return {"graph": torch.frombuffer(bytearray(content), dtype=torch.uint8)}


def allow(content: bytes, name: str, *, trusted: bool) -> None:
    """Remember that a program is trusted, or refuse it if it is not.

    Raises
    ------
    ModelError
        Nobody trusted it (NU-M24).
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if trusted:
        trust(sha256)
    elif not is_trusted(sha256):
        raise ModelError(
            "NU-M24",
            f"{name} holds its network as TorchScript, a program that can read and "
            "write files: add --trust (trust=True) if you trust where it comes from, "
            "or ask its authors for ONNX or for weights",
        )


def onnx_ends(content: bytes, output: str, name: str) -> dict[str, str]:
    """Return the names of a graph's input and of its output, of several that called so.

    Raises
    ------
    ModelError
        No graph that can be run, or one of several inputs (NU-M23).
    """
    session = onnx_session(content)
    inputs = [end.name for end in session.get_inputs()]
    outputs = [end.name for end in session.get_outputs()]
    if len(inputs) != 1:
        raise ModelError(
            "NU-M23",
            f"{name} is a network of {len(inputs)} inputs ({', '.join(inputs)}), but "
            "only one image can be given: run it in the program that it is from",
        )
    return {
        "input_name": inputs[0],
        "output_name": output if output in outputs else outputs[0],
    }


def import_graph(
    content: bytes,
    name: str,
    *,
    is_trusted: bool = False,
    normalization: NormalizationConfig | None = None,
    class_names: Sequence[str] = (),
) -> Model:
    """Make a model of a bare graph, whose description there is none of.

    Sizes are tried out. The context that its output depends on stays unknown, so that
    tiles are blended. What is not known is assumed, and `Model.about` tells it.

    Parameters
    ----------
    content : bytes
        An ONNX file, or a TorchScript archive.
    name : str
        Of the file, for messages.
    is_trusted : bool
        Whether the user trusts it, if it is TorchScript.
    normalization : NormalizationConfig, optional
        How images are scaled; by percentiles of each image if omitted, and from 0 to
        255 with the policy "dataset".
    class_names : sequence of str
        What the outputs mean, background first.

    Raises
    ------
    ModelError
        It can't be run (NU-M23), or nobody trusts it (NU-M24).
    """
    is_onnx = not content.startswith(b"PK")
    if is_onnx:
        config = _probe(content, _onnx_shape(content, name), name)
    else:
        allow(content, name, trusted=is_trusted)
        config = _probe(content, {"format": "torchscript"}, name)
    model = Model(network=config, state=graph_state(content), roles=("value:0",))
    low, high = _range_of_outputs(model)
    scaling = normalization or NormalizationConfig()
    zeros = (0.0,) * config.in_channels
    span = IntensityRange(zeros, (255.0,) * config.in_channels)
    names, roles = _outputs(config.out_channels, (low, high), class_names)
    about = f"The network of {name}, without a description."
    if normalization is None:
        about += " Assumed: intensities are scaled by percentiles of each image."
    return Model(
        network=config,
        state=model.state,
        roles=roles,
        class_names=names,
        instances=InstanceConfig(give_back_gap=False),
        normalization=scaling,
        dataset_range=span if scaling.policy == "dataset" else None,
        about=about,
    )


def _outputs(
    n: int, span: tuple[float, float], class_names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return classes and roles: what lies within 0 and 1 are probabilities."""
    is_probability = span[0] >= 0 and span[1] <= 1
    if not is_probability and not class_names:
        return ("background",), tuple(f"value:channel {i}" for i in range(n))
    names, roles = classes_and_roles(n, class_names)
    if is_probability:
        kinds = (role.partition(":")[2] for role in roles)
        roles = tuple(f"probability:{own}" for own in kinds)
    return names, roles


def _range_of_outputs(model: Model) -> tuple[float, float]:
    outputs = outputs_for_drawn_cells(model)
    return float(outputs.min()), float(outputs.max())


def outputs_for_drawn_cells(model: Model) -> Tensor:
    """Return what a model's network gives for drawn cells, before any activation.

    Raises
    ------
    ModelError
        The graph can't be run, or what it gives are not numbers (NU-M23).
    """
    outputs = logits_of(model.build(), draw_input(model.network))
    if not outputs.isfinite().all():
        raise ModelError(
            "NU-M23",
            "the network of the other program gives values that are not numbers (NaN "
            "or infinite) for drawn cells: ask its authors for a file that is whole",
        )
    return outputs


def _onnx_shape(content: bytes, name: str) -> dict[str, Any]:
    """Return what a graph says of its input: axes that are free are no numbers."""
    ends = onnx_ends(content, "", name)
    shape = onnx_session(content).get_inputs()[0].shape
    n_dims = len(shape) - 2
    fixed = {n for n in shape[2:] if isinstance(n, int)}
    # Channels may also come last; which axis is what, a bare graph doesn't say.
    is_image = all(n >= SMALLEST_OUTPUT_PX for n in fixed)
    if n_dims not in (2, 3) or len(fixed) > 1 or not is_image:
        raise _unfit(
            name,
            f"its input is {shape}, and not an image, its channels and two or three "
            f"equal sides, free or of {SMALLEST_OUTPUT_PX} pixels at least",
        )
    channels = shape[1] if isinstance(shape[1], int) else 1
    known = {"format": "onnx", **ends, "n_dims": n_dims, "in_channels": channels}
    return known | ({"fixed_size": fixed.pop()} if fixed else {})


def _unfit(name: str, why: str) -> ModelError:
    return ModelError(
        "NU-M23",
        f"{name} can't be used here: {why}; as a bioimage.io package it could say what "
        "it takes",
    )


def _probe(content: bytes, known: dict[str, Any], name: str) -> ForeignConfig:
    """Return the geometry of a graph, by trying sizes."""
    dims = [known["n_dims"]] if "n_dims" in known else [2, 3]
    channels = [known["in_channels"]] if "in_channels" in known else [1, 2, 3, 4]
    sizes = _PROBED_SIZES
    if "fixed_size" in known:
        sizes = {1: known["fixed_size"]}
    axes = {2: "NCYX", 3: "NCZYX"}
    for n_dims, n_in in ((d, c) for d in dims for c in channels):
        for multiple, size in sizes.items():
            base = {
                "n_bytes": len(content),
                "n_dims": n_dims,
                "in_channels": n_in,
                "input_axes": axes[n_dims],
                "output_axes": axes[n_dims],
                **known,
            }
            if found := _tried(content, base, size):
                grid = 1 if "fixed_size" in known else max(multiple, _COARSEST_GRID)
                return ForeignConfig(
                    **base | found | {"multiple": grid, "min_size": grid}
                )
    raise _unfit(name, "it takes no image of 48 to 192 pixels a side")


def _tried(content: bytes, base: dict[str, Any], size: int) -> dict[str, int] | None:
    """Return channels and scale of the output for one size; None if it fails."""
    network = ForeignNetwork(ForeignConfig(**base))
    network.load_state_dict(graph_state(content))
    image = torch.zeros(1, base["in_channels"], *[size] * base["n_dims"])
    try:
        output = network.run(image)
    except ModelError as error:
        if error.code == "NU-M24":
            raise
        return None
    scales = {n / size for n in output.shape[2:]}
    scale = scales.pop()
    if scales or scale not in range(1, 17):
        return None
    return {"out_channels": output.shape[1], "upscale": int(scale)}
