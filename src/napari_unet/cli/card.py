"""`napari-unet card`: what is known of a model, to read and to pass on."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import FILES, OptionalInputFolder, Output, Pattern
from napari_unet.cli.folders import prepare_folder
from napari_unet.cli.settings import UsageError
from napari_unet.files.folders import find_images
from napari_unet.files.pairs import find_pairs

_Named = Annotated[str | None, Parameter(group=FILES, allow_leading_hyphen=True)]


def card(  # noqa: PLR0913 - one parameter a flag
    *,
    model: Annotated[Path, Parameter(group=FILES)],
    out: Output,
    author: Annotated[
        list[str] | None, Parameter(group=FILES, negative="", consume_multiple=False)
    ] = None,
    license: _Named = None,  # noqa: A002 - becomes --license
    about: _Named = None,
    images: OptionalInputFolder = None,
    masks: OptionalInputFolder = None,
    pattern: Pattern = None,
) -> int:
    """Write a model card: README.md with pictures, made from what the model knows.

    It says what the model takes and gives, how it was trained, how well it did on
    held-back pixels and how to use it. --author, --license and --about are kept in the
    model file first. Without --images no pixel of any image gets into the card.

    ```
    napari-unet card --model cells.unet --out card --author "A. Author" --license MIT
    ```

    Parameters
    ----------
    model
        The model, such as cells.unet.
    out
        Folder for the card; it is made if needed.
    author
        Who made the model; give it once for each.
    license
        Under which it may be used: an SPDX id such as CC-BY-4.0; '' for none.
    about
        What it is for, in a few sentences.
    images
        Folder of images to show, small: the first twelve.
    masks
        Folder of their masks: the best and the worst predictions are shown.
    pattern
        Take only the images whose name fits, such as 'val_*'.
    """
    if images is None and not (masks is None and pattern is None):
        raise UsageError("--masks and --pattern are about --images: give it as well")
    paths = [] if images is None else find_images(images, pattern)
    pairs = [] if masks is None else _pairs(paths, masks)
    prepare_folder(out)

    from napari_unet.learning.sharing.cards import name_on_card, write_card

    named = name_on_card(model, authors=author, license=license, about=about)
    with console.working("Writing the card"):
        written = write_card(
            named,
            out,
            images=[image for image, _ in pairs] or paths or None,
            annotations=[mask for _, mask in pairs] or None,
            name=model.stem,
        )
    console.say(f"card: {written}")
    return 0


def _pairs(paths: list[Path], masks: Path) -> list[tuple[Path, Path]]:
    pairs, missing = find_pairs(paths, masks)
    for path in missing:
        console.warn(f"{path.name} has no mask in {masks} and is left out")
    return pairs
