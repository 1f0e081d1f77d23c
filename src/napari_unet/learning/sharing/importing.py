"""Models of other programs, from packages and single files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.config import ForeignConfig
from napari_unet.errors import FolderError
from napari_unet.files.kinds import check_is_file, not_readable
from napari_unet.learning.checkpoint import load_model, read_stored
from napari_unet.learning.sharing.graph_import import allow, import_graph
from napari_unet.learning.sharing.state_dicts import import_state_dict
from napari_unet.learning.sharing.zoo_import import import_package
from napari_unet.learning.sharing.zoo_package import DESCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import NormalizationConfig
    from napari_unet.learning.model import Model


def import_model(
    path: Path | str,
    *,
    trust: bool = False,
    class_names: Sequence[str] = (),
    normalization: NormalizationConfig | None = None,
) -> Model:
    """Read a model of another program, known by its content.

    Parameters
    ----------
    path : path
        A package of the BioImage Model Zoo (a zip, or the folder that it was unpacked
        to), an ``.onnx`` file, a ``.pt`` or ``.pth`` file of weights (see
        `import_state_dict`) or of TorchScript, or a ``.unet`` file.
    trust : bool
        Whether you trust where a TorchScript program comes from. It is remembered on
        this computer for this very program. Nothing else is ever executed but ONNX
        graphs, by onnxruntime.
    class_names : sequence of str
        What the outputs mean, where the file doesn't say: background first, or for a
        package of foreground and boundary one name an output.
    normalization : NormalizationConfig, optional
        How images are scaled, for files that don't say it.

    Returns
    -------
    Model
        To use, or to save as a ``.unet`` file. `Model.about` tells what was assumed.

    Raises
    ------
    FolderError
        No such file (NU-F01), or it can't be read (NU-F04).
    ModelError
        Damaged or more than weights (NU-M20), of no known network (NU-M21), an unsafe
        package (NU-M22), one that can't be used here (NU-M23), or a program that is
        not trusted (NU-M24).
    ResourceError
        The extra ``zoo`` or ``onnx`` is not installed (NU-R10).
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "package":
        return import_package(path, trust=trust, class_names=class_names)
    if kind == "unet":
        return _load_trusted(path) if trust else load_model(path)
    if kind == "weights":
        return import_state_dict(
            path, normalization=normalization, class_names=class_names
        )
    return import_graph(
        path.read_bytes(),
        path.name,
        is_trusted=trust,
        normalization=normalization,
        class_names=class_names,
    )


def _kind(path: Path) -> str:
    """Return what a file is, by its content: package, unet, graph or weights."""
    if path.is_dir():
        return "package"
    if not path.exists():
        raise FolderError("NU-F01", f"there is no file {path}: check the path")
    check_is_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise not_readable(path, error) from error
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[8:9] == b"{" or path.suffix == ".unet":
        return "unet"
    # An ONNX file begins with its version, a small number.
    return "graph" if start[:1] == b"\x08" or path.suffix == ".onnx" else "weights"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError):
        # Whoever reads it says what is wrong.
        return "weights" if path.suffix in {".pt", ".pth"} else "package"
    if set(DESCRIPTIONS) & set(names) or path.suffix == ".zip":
        return "package"
    is_program = any(
        "/code/" in name or name.endswith("constants.pkl") for name in names
    )
    return "graph" if is_program else "weights"


def _load_trusted(path: Path) -> Model:
    """Load a model file, and trust the program in it."""
    model = read_stored(path).model
    network = model.network
    if isinstance(network, ForeignConfig) and network.format == "torchscript":
        allow(model.state["graph"].numpy().tobytes(), path.name, trusted=True)
    return load_model(path)
