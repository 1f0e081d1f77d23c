"""Models of other programs, from packages of the BioImage Model Zoo."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import ForeignConfig
from napari_unet.errors import ModelError
from napari_unet.learning.model import Model, expected_tensors, weights_sha256
from napari_unet.learning.model_file.description import read_description as read_own
from napari_unet.learning.sharing.graph_import import (
    allow,
    graph_state,
    onnx_ends,
    outputs_for_drawn_cells,
)
from napari_unet.learning.sharing.onnx import require
from napari_unet.learning.sharing.state_dicts import model_of, read_state_dict
from napari_unet.learning.sharing.zoo_export import require_zoo
from napari_unet.learning.sharing.zoo_geometry import cannot, geometry, space_axes
from napari_unet.learning.sharing.zoo_package import (
    Package,
    check_sha256,
    open_package,
    read_description,
    refused,
)
from napari_unet.learning.sharing.zoo_processing import meaning, scaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learning.sharing.zoo_processing import Scaling

_UM = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}
_OWN = "napari_unet"
_SUM_TOLERANCE = 1e-3


def import_package(
    path: Path | str, *, trust: bool = False, class_names: Sequence[str] = ()
) -> Model:
    """Read a package of the BioImage Model Zoo; see `importing.import_model`.

    What is taken, the first that is there: a model that this program exported, whole;
    ONNX; weights of a known network; TorchScript, if it is trusted. Architecture files
    are programs and are never executed.
    """
    require("zoo", "ruyaml")
    package = open_package(Path(path))
    raw = read_description(package)
    weights = raw.get("weights")
    if not isinstance(weights, dict):
        raise refused(package.name, "it names no weights")
    own = raw.get("config")
    own = own.get(_OWN) if isinstance(own, dict) else None
    if isinstance(own, dict) and isinstance(own.get("description"), str):
        return _own_model(package, weights, own["description"])
    described = _validated(raw, package)
    model = _model(package, weights, described, trust=trust)
    model = _with_meaning(model, described, class_names, package.name)
    return _credited(model, described)


def _read(package: Package, weights: dict[str, Any], kind: str) -> bytes | None:
    """Return the weights of a kind, where the package has them."""
    entry = weights.get(kind)
    if not isinstance(entry, dict) or entry.get("source") is None:
        return None
    source = entry["source"]
    if not isinstance(source, str) or "://" in source:
        raise refused(package.name, f"its {kind} is not in it but elsewhere")
    if entry.get("external_data"):
        raise cannot(package.name, f"its {kind} comes in two files")
    content = package.read(source)
    check_sha256(content, entry.get("sha256"), package.name)
    return content


def _own_model(package: Package, weights: dict[str, Any], text: str) -> Model:
    """Return a model that was exported from here."""
    try:
        description = read_own(text, Path(package.name))
    except ModelError as error:
        if error.code != "NU-M02":
            raise
        why = "what it says about the model is no description of one"
        raise refused(package.name, why) from error
    content = _read(package, weights, "pytorch_state_dict")
    if content is None:
        raise refused(package.name, "its weights are missing")
    state = read_state_dict(BytesIO(content), package.name)
    found = {key: (tuple(t.shape), t.dtype) for key, t in state.items()}
    is_whole = found == expected_tensors(description.network)
    if not is_whole or weights_sha256(state) != description.sha256:
        raise refused(package.name, "its weights are not those that it describes")
    return description.to_model(state)


def _validated(raw: dict[str, Any], package: Package) -> Any:
    """Return the description as bioimageio.spec understands it, in format 0.5."""
    require_zoo()
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description
    from bioimageio.spec.model.v0_5 import ModelDescr

    context = ValidationContext(
        perform_io_checks=False, disable_cache=True, log_warnings=False
    )
    # Older formats are translated into this one.
    is_present = str(raw.get("format_version")).startswith("0.5")
    described = build_description(
        raw, context=context, format_version="discover" if is_present else "latest"
    )
    if isinstance(described, InvalidDescr) or not isinstance(described, ModelDescr):
        errors = [e for d in described.validation_summary.details for e in d.errors]
        told = f"{'.'.join(map(str, errors[0].loc))}: {errors[0].msg}" if errors else ""
        told = " ".join(told.split())[:200] or "it describes no model"
        raise refused(package.name, told)
    return described


def _model(
    package: Package, weights: dict[str, Any], described: Any, *, trust: bool
) -> Model:
    """Return a model whose outputs have no meaning yet."""
    name = package.name
    given, output = described.inputs[0], described.outputs[0]
    wanted = [tensor for tensor in described.inputs if not tensor.optional]
    if wanted != [given]:
        raise cannot(name, f"it wants {len(wanted)} images at once")
    before = scaling(given, name)
    fields = {**geometry(given, output, name), "clip": before.clip}
    content = _read(package, weights, "onnx")
    if content is not None:
        fields |= {"format": "onnx", **onnx_ends(content, str(output.id), name)}
    elif (known := _known_network(package, weights, fields)) is not None:
        return _scaled(known, before, given)
    else:
        content = _read(package, weights, "torchscript")
        if content is None:
            raise _no_weights(name, weights)
        allow(content, name, trusted=trust)
        fields["format"] = "torchscript"
    config = ForeignConfig(n_bytes=len(content), **fields)
    roles = tuple(f"value:{i}" for i in range(config.out_channels))
    return _scaled(Model(config, graph_state(content), roles), before, given)


def _scaled(model: Model, before: Scaling, given: Any) -> Model:
    return replace(
        model,
        normalization=before.config,
        dataset_range=before.span,
        pixel_size_um=_pixel_size(given),
    )


def _with_meaning(
    model: Model, described: Any, class_names: Sequence[str], name: str
) -> Model:
    sums = outputs_for_drawn_cells(model).sum(0)
    told = meaning(
        described.outputs[0],
        described.tags,
        class_names,
        name,
        sums_to_one=bool(abs(sums - 1).max() < _SUM_TOLERANCE),
    )
    return replace(
        model,
        roles=told.roles,
        class_names=told.class_names,
        instances=told.instances,
    )


def _known_network(
    package: Package, weights: dict[str, Any], fields: dict[str, Any]
) -> Model | None:
    """Return a network of ours with the package's weights, if their names tell it."""
    content = _read(package, weights, "pytorch_state_dict")
    if content is None or fields["clip"] != (None, None):
        return None
    try:
        model = model_of(read_state_dict(BytesIO(content), package.name), package.name)
    except ModelError:
        return None
    network = model.network
    same = ("in_channels", "out_channels", "n_dims", "upscale")
    fits = all(getattr(network, key) == fields[key] for key in same)
    return model if fits and fields["shrink"] == 0 else None


def _no_weights(name: str, weights: dict[str, Any]) -> ModelError:
    told = ", ".join(map(str, weights)) or "none"
    return cannot(
        name,
        f"it has weights as {told}, but only ONNX, TorchScript and the weights of a "
        "known U-Net are read (its architecture file is a program and is not executed)",
    )


def _pixel_size(tensor: Any) -> tuple[float, ...] | None:
    axes = sorted(space_axes(tensor), key=lambda axis: "zyx".index(str(axis.id)))
    if any(axis.unit not in _UM for axis in axes):
        return None
    return tuple(float(axis.scale) * _UM[axis.unit] for axis in axes)


def _credited(model: Model, described: Any) -> Model:
    """Return a model that says whom it is owed to, and what it is."""
    cited = [" ".join(str(c.text or c.doi or c.url).split()) for c in described.cite]
    about = f"{described.name}: {described.description or ''}".strip()
    about += f" Cite: {'; '.join(cited)}." if cited else ""
    return replace(
        model,
        authors=tuple(str(author.name) for author in described.authors),
        license=str(described.license or ""),
        about=f"{about} {model.about}".strip(),
    )
