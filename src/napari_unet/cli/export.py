"""`napari-unet export`: a model for other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import FILES, Output
from napari_unet.cli.folders import prepare_file
from napari_unet.events import Note

_Text = Annotated[str, Parameter(group=FILES, show_default=False)]


def export(
    *,
    model: Annotated[Path, Parameter(group=FILES)],
    to: Annotated[Literal["bioimageio", "onnx"], Parameter(group=FILES)],
    out: Output,
    name: _Text = "",
    license: _Text = "",  # noqa: A002 - becomes --license
    author: Annotated[
        list[str] | None, Parameter(group=FILES, negative="", consume_multiple=False)
    ] = None,
    size: Annotated[int | None, Parameter(group=FILES)] = None,
) -> int:
    """Write a model as a file that other programs open.

    bioimageio: a package of the BioImage Model Zoo, for ilastik, deepImageJ and others,
    with the weights for PyTorch, TorchScript and ONNX, a test image, a picture and a
    README. onnx: the network alone, for onnxruntime. The file is written only after it
    gave what the model gives. Tests and pictures show drawn cells, no image of yours.

    ```
    napari-unet export --model cells.unet --to bioimageio --out cells.zip --license MIT
    ```

    Parameters
    ----------
    model
        The model, such as cells.unet.
    to
        For which programs.
    out
        The file to write, such as cells.zip or cells.onnx; replaced if it is there.
    name
        What the model is called; the name of its file if not given.
    license
        Under which it may be used: an SPDX id such as CC-BY-4.0 or CC0-1.0; the one
        that the model has if not given.
    author
        Who made the model; give it once for each. The model's own if not given.
    size
        Side of the images in px, for a network that looks at its whole input (such as
        trans_unet); that of its training patches if not given.
    """
    prepare_file(out)

    from napari_unet.learning.sharing.export import Exported, export_events

    events = export_events(
        model, out, to=to, name=name, license=license, authors=author or (), size=size
    )
    with console.working("Exporting"):
        for event in events:
            if isinstance(event, Note):
                say = console.warn if event.is_warning else console.say_error
                say(event.message)
            elif isinstance(event, Exported):
                megabytes = event.n_bytes / 1e6
                console.say(f"exported: {event.path} ({megabytes:.1f} MB)")
    return 0
