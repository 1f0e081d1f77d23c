"""Models as ONNX: one file that onnxruntime and many other programs run."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.errors import ModelError, ResourceError
from napari_unet.learning.sharing.graphs import (
    OutputNetwork,
    Sizes,
    check_graph,
    drawn_image,
    input_sizes,
    quiet,
)

if TYPE_CHECKING:
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.model import Model

# protobuf holds no more in one message.
_LARGEST_BYTES = 2**31 - 2**20
_AXES = "zyx"


def require(extra: str, *modules: str) -> None:
    """Say which optional libraries are missing, and how to get them.

    Parameters
    ----------
    extra : str
        Name of the extra that brings them.
    *modules : str
        Top-level modules that are needed.

    Raises
    ------
    ResourceError
        One of them is not installed (NU-R10).
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ResourceError(
            "NU-R10",
            f"{' and '.join(missing)} can't be found: install with "
            f"pip install 'napari-unet-loop[{extra}]'",
        )


def onnx_bytes(model: Model, *, name: str = "U-Net", size: int | None = None) -> bytes:
    """Return a model as an ONNX file.

    The graph maps ``image``, float32 (N, C, [Z,] Y, X), normalised, to ``outputs``,
    float32 (N, K, [s Z,] s Y, s X): probabilities, and values of regression. Batch and
    sizes are free, as far as the network takes them; a network that looks at its whole
    input gets one size. The file's metadata say what the outputs are and how images are
    normalised. It was run by onnxruntime and agrees with the model within 1e-5.

    Parameters
    ----------
    model : Model
        The model.
    name : str
        Name in the metadata.
    size : int, optional
        See `input_sizes`.

    Returns
    -------
    bytes
        The file's content.

    Raises
    ------
    ResourceError
        The extra ``onnx`` is not installed (NU-R10).
    ModelError
        The graph computes something else than the model (NU-M40), or is too large for
        one file (NU-M41).
    """
    require("onnx", "onnx", "onnxscript", "onnxruntime")
    network = OutputNetwork(model)
    n_bytes = sum(p.nbytes for p in network.state_dict().values())
    if n_bytes > _LARGEST_BYTES:
        raise ModelError(
            "NU-M41",
            f"the model has {n_bytes / 2**30:.1f} GB of weights, but an ONNX file "
            "holds 2 GB: export with --to bioimageio, or train a narrower network",
        )
    sizes = input_sizes(model, size)
    content = _convert(network, model, sizes, name)
    check_graph(model, sizes, onnx_runner(content), "ONNX graph")
    return content


def onnx_runner(content: bytes) -> Any:
    """Return a function that runs an ONNX file on an array, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    given = session.get_inputs()[0].name
    return lambda image: session.run(None, {given: image})[0]


def _convert(network: OutputNetwork, model: Model, sizes: Sizes, name: str) -> bytes:
    # Neither a batch nor a number of steps of 1: the exporter would take 1 for fixed.
    image = drawn_image(model, sizes.at_least(sizes.smallest + 2 * sizes.step))
    example = torch.from_numpy(image).repeat(2, *[1] * (image.ndim - 1))
    with quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=(_dynamic_shapes(model, sizes),),
            input_names=["image"],
            output_names=["outputs"],
            verbose=False,
        )
    if program is None:
        raise TypeError("torch.onnx.export returned no program")
    proto = program.model_proto
    proto.producer_name = "napari-unet"
    for key, value in _metadata(model, name).items():
        proto.metadata_props.add(key=key, value=value)
    content: bytes = proto.SerializeToString()
    return content


def _dynamic_shapes(model: Model, sizes: Sizes) -> dict[int, Any]:
    """Return which axes are free: sizes are multiples of the step plus a rest."""
    dimensions: dict[int, Any] = {0: torch.export.Dim("batch")}
    if sizes.is_fixed:
        return dimensions
    n_steps, rest = divmod(sizes.smallest, sizes.step)
    n_dims = model.network.n_dims
    for i, axis in enumerate(_AXES[-n_dims:]):
        steps = torch.export.Dim(f"{axis}_steps", min=n_steps)
        # The valid network of 2015 takes 16 k + 12.
        size = sizes.step * steps
        dimensions[2 + i] = size + rest if rest else size
    return dimensions


def _metadata(model: Model, name: str) -> dict[str, str]:
    """Return what the file says of itself, each value as JSON."""
    described: dict[str, Any] = {
        "name": name,
        "roles": model.roles,
        "normalization": {
            **model.normalization.model_dump(mode="json"),
            "dataset_range": _ends(model.dataset_range),
        },
        "channel_names": model.channel_names,
        "class_names": model.class_names,
        # Of what goes into the graph: of images at the working scale.
        "pixel_size_um": _seen_um(model),
        "scale": model.scale,
        "cell_diameter_px": model.working_cell_px,
        "value_range": _ends(model.value_range),
        "values_follow_image": model.values_follow_image,
        "authors": model.authors,
        "license": model.license,
    }
    return {f"napari_unet.{k}": json.dumps(v) for k, v in described.items()}


def _seen_um(model: Model) -> tuple[float, ...] | None:
    if model.pixel_size_um is None:
        return None
    n_coarse = len(model.pixel_size_um) - model.network.n_dims
    return tuple(
        um if axis < n_coarse else um / model.scale
        for axis, um in enumerate(model.pixel_size_um)
    )


def _ends(limits: IntensityRange | None) -> list[tuple[float, ...]] | None:
    return None if limits is None else [limits.low, limits.high]
