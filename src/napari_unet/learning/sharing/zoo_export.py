"""Models as bioimage.io packages: one zip that many programs open."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch

from napari_unet.errors import ModelError, ResourceError
from napari_unet.events import Note
from napari_unet.files.atomic import write_atomically
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange, intensity_range, normalize
from napari_unet.learning.checkpoint import versions_now
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.model_file.description import describe
from napari_unet.learning.model_file.self_test import make_self_test
from napari_unet.learning.sharing.card_text import card_text
from napari_unet.learning.sharing.cover import cover_picture
from napari_unet.learning.sharing.graphs import (
    OutputNetwork,
    Sizes,
    check_graph,
    drawn_image,
    input_sizes,
    quiet,
)
from napari_unet.learning.sharing.onnx import onnx_bytes, require
from napari_unet.learning.sharing.standalone import (
    CALLABLE,
    architecture_kwargs,
    architecture_source,
)
from napari_unet.learning.sharing.zoo_description import (
    Publication,
    citations,
    describe_briefly,
    details,
    input_tensor,
    output_tensor,
    sizes_with_halo,
    tags,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_unet.learning.model import Model

# What is used here stands in it; more programs open it than the newest.
_FORMAT_VERSION = "0.5.4"
_ARCHITECTURE, _WEIGHTS = "architecture.py", "weights.pt"
_TORCHSCRIPT, _ONNX = "torchscript.pt", "model.onnx"
_TEST_INPUT, _TEST_OUTPUT = "test_input.npy", "test_output.npy"
_COVER, _README = "cover.png", "README.md"
# Of less, a cover would show nothing.
_TEST_SIDE_PX = {2: 64, 3: 32}
_MORE_README = """
## Validation

Compare the model's results with cells that you annotated by hand, on images that it
has not seen: `napari-unet evaluate --truth masks --pred labels`.

## This package

A bioimage.io model: its intensities are scaled by the preprocessing that `rdf.yaml`
declares, and its outputs are probabilities (or values), not cells. To use it in
napari-unet, with everything that it knows:

```
napari-unet import --model package.zip --out model.unet
```
"""


def package_events(
    model: Model, path: Path, facts: Publication, *, size: int | None = None
) -> Iterator[Note]:
    """Write a bioimage.io package, whole or not at all, and say what is done.

    The zip holds the weights three times (as PyTorch state dict with the network's
    source, as TorchScript, as ONNX), a drawn test image with what the model makes of
    it, the preprocessing as declared operations, a README and a cover. It is written
    only after bioimageio.core opened it and got the same outputs from each.

    Parameters
    ----------
    model : Model
        A U-Net of this program.
    path : Path
        The zip.
    facts : Publication
        Name, licence and authors.
    size : int, optional
        Input size of a network that looks at its whole input.

    Raises
    ------
    ResourceError
        The extra ``zoo`` is not installed (NU-R10).
    ModelError
        The package doesn't compute what the model does (NU-M40).
    SaveError
        The file can't be written; what was there before is untouched.
    """
    require_zoo()
    model = replace(model, license=facts.license, authors=facts.authors)
    sizes = sizes_with_halo(model, size)
    with TemporaryDirectory(prefix="napari-unet-") as name:
        folder = Path(name)
        _write_documents(model, folder, facts, sizes)
        weights = {"pytorch_state_dict": _write_weights(model, folder)}
        yield Note("Converting to TorchScript and ONNX")
        try:
            weights["torchscript"] = _write_torchscript(model, folder, size)
        except (RuntimeError, ModelError) as error:
            yield Note(f"TorchScript is left out of the package: {error}", True)
        weights["onnx"] = _write_onnx(model, folder, facts, size)
        zipped = _zip(folder, _describe(model, facts, weights, sizes))
        yield Note("Testing the package with bioimageio.core")
        _test(zipped)

        def copy(file: BinaryIO) -> None:
            with zipped.open("rb") as source:
                shutil.copyfileobj(source, file)

        write_atomically(path, copy)


def _write_documents(
    model: Model, folder: Path, facts: Publication, sizes: Sizes
) -> None:
    """Write the test image, its outputs, the cover and the README."""
    image = _test_image(model, sizes)
    limits = model.dataset_range
    if model.normalization.policy != "dataset" or limits is None:
        limits = intensity_range(Image(image[0]), model.normalization)
    outputs = OutputNetwork(model).run(normalize(image[0], limits)[None])
    np.save(folder / _TEST_INPUT, image)
    np.save(folder / _TEST_OUTPUT, outputs)
    (folder / _COVER).write_bytes(cover_picture(model, image[0], outputs[0]))
    text = card_text(model, name=facts.name) + _MORE_README
    (folder / _README).write_text(text, encoding="utf-8")


def _test_image(model: Model, sizes: Sizes) -> NDArray[np.float32]:
    """Return drawn cells with intensities of a camera or of the training images."""
    drawn = drawn_image(model, sizes.at_least(_TEST_SIDE_PX[model.network.n_dims]))
    limits = model.dataset_range or IntensityRange(
        (100.0,) * model.n_channels, (1100.0,) * model.n_channels
    )
    shape = (1, -1, *[1] * model.network.n_dims)
    low, high = (
        np.asarray(ends, np.float32).reshape(shape)
        for ends in (limits.low, limits.high)
    )
    return np.asarray(low + drawn * (high - low), np.float32)


def _write_weights(model: Model, folder: Path) -> dict[str, Any]:
    """Write the state dict and the source of its network."""
    torch.save(dict(model.state), folder / _WEIGHTS)
    (folder / _ARCHITECTURE).write_text(architecture_source(model), encoding="utf-8")
    return {
        "source": _WEIGHTS,
        "pytorch_version": _torch_version(),
        "architecture": {
            "source": _ARCHITECTURE,
            "callable": CALLABLE,
            "kwargs": architecture_kwargs(model),
        },
    }


@quiet()
def _write_torchscript(model: Model, folder: Path, size: int | None) -> dict[str, Any]:
    sizes = input_sizes(model, size)
    example = torch.from_numpy(drawn_image(model, sizes.at_least(1)))
    with torch.no_grad():
        trace: Any = torch.jit.trace
        traced = trace(OutputNetwork(model), example)
    traced.save(str(folder / _TORCHSCRIPT))

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            outputs: NDArray[np.float32] = traced(torch.from_numpy(image)).numpy()
        return outputs

    check_graph(model, sizes, run, "TorchScript")
    return {
        "source": _TORCHSCRIPT,
        "pytorch_version": _torch_version(),
        "parent": "pytorch_state_dict",
    }


def _write_onnx(
    model: Model, folder: Path, facts: Publication, size: int | None
) -> dict[str, Any]:
    import onnx

    content = onnx_bytes(model, name=facts.name, size=size)
    (folder / _ONNX).write_bytes(content)
    opset = onnx.load_from_string(content).opset_import[0].version
    return {"source": _ONNX, "opset_version": opset, "parent": "pytorch_state_dict"}


def _torch_version() -> str:
    # Without "+cpu" and the like, which no package index knows.
    return str(torch.__version__).partition("+")[0]


def require_zoo() -> None:
    """Say what is missing to write packages.

    Raises
    ------
    ResourceError
        The extra ``zoo`` is not installed (NU-R10), or doesn't fit the pydantic that
        is (NU-R12).
    """
    require("zoo", "bioimageio.spec", "bioimageio.core", "onnx", "onnxscript")
    # bioimageio.spec 0.5.12 calls a serializer in a way that pydantic 2.14 refuses.
    spec, pydantic = _release("bioimageio.spec"), _release("pydantic")
    if spec < (0, 5, 13) and pydantic >= (2, 14):
        raise ResourceError(
            "NU-R12",
            f"bioimageio.spec {version('bioimageio.spec')} doesn't work with pydantic "
            f"{version('pydantic')}: pip install 'pydantic<2.14'",
        )


def _release(library: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version(library))[:3])


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what bioimageio logs out of the terminal."""
    from loguru import logger

    with quiet():
        logger.disable("bioimageio")
        try:
            yield
        finally:
            logger.enable("bioimageio")


def file_description(model: Model) -> str:
    """Return what the model's file says of it, as JSON: all but the tensors."""
    return describe(
        model,
        versions=model.versions or versions_now(),
        sha256=weights_sha256(model.state),
        self_test_sha256=weights_sha256(make_self_test(model).tensors()),
    ).to_json()


def _describe(
    model: Model, facts: Publication, weights: dict[str, Any], sizes: Sizes
) -> dict[str, Any]:
    """Return what stands in rdf.yaml."""
    return {
        "format_version": _FORMAT_VERSION,
        "type": "model",
        "name": facts.name,
        "description": describe_briefly(model),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        # The format takes no slash in a name.
        "authors": [{"name": name.replace("/", "-")} for name in facts.authors],
        "license": facts.license,
        "cite": citations(model),
        "tags": tags(model),
        "covers": [{"source": _COVER}],
        "documentation": {"source": _README},
        "inputs": [input_tensor(model, sizes, _TEST_INPUT)],
        "outputs": [output_tensor(model, _TEST_OUTPUT)],
        "weights": weights,
        "config": {
            "bioimageio": details(model),
            "napari_unet": {"description": file_description(model)},
        },
    }


def _zip(folder: Path, described: dict[str, Any]) -> Path:
    """Add the checksum of each file to the description, and zip all."""
    for entry in _with_source(described):
        entry["sha256"] = _sha256(folder / entry["source"])
    path = folder / "package.zip"
    with ZipFile(path, "w", ZIP_STORED) as zipped:
        # Every JSON text is YAML; a YAML library would be one more to need.
        zipped.writestr("rdf.yaml", json.dumps(described, indent=2, ensure_ascii=False))
        for entry in _with_source(described):
            zipped.write(folder / entry["source"], entry["source"])
    return path


def _with_source(described: Any) -> Iterator[dict[str, Any]]:
    """Yield each part of the description that names a file."""
    if isinstance(described, dict):
        if "source" in described:
            yield described
        described = list(described.values())
    if isinstance(described, list):
        for part in described:
            yield from _with_source(part)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@_silent()
def _test(zipped: Path) -> None:
    """Let bioimageio.core run the package, with all of its weights."""
    from bioimageio.core import test_model

    # It seeds the random state, which is the user's.
    with torch.random.fork_rng(devices=[]):
        summary = test_model(zipped)
    if summary.status != "passed":
        errors = [entry.msg for detail in summary.details for entry in detail.errors]
        raise ModelError(
            "NU-M40",
            "bioimageio.core doesn't get from the package what the model gives, so "
            f"nothing was written: {errors[0] if errors else summary.status}",
        )
