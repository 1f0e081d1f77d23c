"""`napari-unet import`: a model of another program as a model file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import FILES, Output, Switch, channel_list

if TYPE_CHECKING:
    from napari_unet.learning.model import Model

_SCALING = {
    "image": "by percentiles of each image",
    "standardize": "to mean 0 and standard deviation 1 of each image",
    "dataset": "by fixed numbers",
}


def import_(
    *,
    model: Annotated[Path, Parameter(group=FILES)],
    out: Output,
    trust: Switch = False,
    classes: Annotated[str | None, Parameter(group=FILES)] = None,
) -> None:
    """Make a model file of another program's U-Net.

    Takes packages of the BioImage Model Zoo, ONNX files, and weights of well-known
    U-Nets. Nothing in them is executed but the network itself; a network that is stored
    as TorchScript only with --trust. Says what was understood, and what was assumed.

    ```
    napari-unet import --model other.zip --out other.unet
    ```

    Parameters
    ----------
    model
        A package (.zip or its folder), .onnx, .pt or .pth.
    out
        The model file to write, such as other.unet.
    trust
        You trust where a TorchScript program comes from: it can read and write files.
    classes
        What the outputs mean, with commas, where the file doesn't say:
        'background,cell'.
    """
    from napari_unet.learning.checkpoint import save_model
    from napari_unet.learning.sharing.importing import import_model

    imported = import_model(
        model, trust=trust, class_names=tuple(channel_list(classes) or ())
    )
    save_model(out, imported)
    for line in summary(imported):
        console.say(line)
    console.say(f"Model: {out}")


def summary(model: "Model") -> list[str]:
    """Return what was understood of a model, a line each."""
    network = model.network
    lines = [
        f"Network: {network.architecture}, {network.n_dims}D, {network.in_channels} "
        f"channels in, {network.out_channels} out",
        f"Outputs: {', '.join(model.roles)}",
        f"Intensities: {_SCALING[model.normalization.policy]}",
    ]
    if model.authors:
        lines.append(f"Authors: {', '.join(model.authors)}")
    if model.license:
        lines.append(f"Licence: {model.license}")
    if model.about:
        lines.append(f"About: {model.about}")
    return lines
