"""Images and their masks, paired by name and read together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.folders import pair_by_stem
from napari_unet.files.images import read_image
from napari_unet.files.lazy import ImageFile, MaskFile
from napari_unet.files.masks import read_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.imaging.arrays import Annotation, Image


def find_pairs(
    images: Sequence[Path], masks: Path, *, what: str = "mask"
) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each image with the mask of its name, one pair at least.

    Parameters
    ----------
    images : sequence of Path
        Images of one folder, at least one, such as `find_images` returns them.
    masks : Path
        Folder of the masks.
    what : str
        What is in it, named in messages: "mask" or "target".

    Returns
    -------
    pairs : list of (Path, Path)
        Image and mask.
    missing : list of Path
        Images without a mask.

    Raises
    ------
    FolderError
        No image has a mask (NU-F08); a folder that can't be used.
    """
    pairs, missing = pair_by_stem(images, masks)
    if not pairs:
        n = len(images)
        none = f"none of the {n} images" if n > 1 else "not even the only image"
        raise FolderError(
            "NU-F08",
            f"{none} in {images[0].parent} has a {what} of the "
            f"same name in {masks}: name each {what} as its image",
        )
    return pairs, missing


def as_files(
    pairs: Sequence[tuple[Path, Path]],
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    *,
    are_targets: bool = False,
) -> tuple[list[ImageFile], list[MaskFile] | list[ImageFile]]:
    """Return images and what is learned from them as files to be read when needed.

    Parameters
    ----------
    pairs : sequence of (Path, Path)
        Image, and its mask or target.
    axes, channels
        As for `read_image`; the channels are those of the images.
    are_targets : bool
        The second of each pair is an image to be made, not a mask.
    """
    chosen = None if channels is None else tuple(channels)
    images = [ImageFile(image, axes, chosen) for image, _ in pairs]
    if are_targets:
        return images, [ImageFile(target, axes) for _, target in pairs]
    return images, [MaskFile(mask, axes) for _, mask in pairs]


def read_pair(
    image: Path,
    mask: Path,
    *,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> tuple[Image, Annotation]:
    """Read an image and its mask, and compare their shapes.

    A mask is a label image, in which all that is not painted is background, or an
    annotation with a JSON file beside it that says what is known (see `read_mask`).

    Parameters
    ----------
    image, mask : Path
        The two files.
    axes, channels, notes
        As for `read_image`.

    Raises
    ------
    LabelError
        The mask does not fit the image (NU-L02), or is none.
    ImageError
        A file that can't be read.
    ConfigError
        A JSON file beside the mask that is not an annotation's (NU-C01).
    """
    picture = read_image(image, axes=axes, channels=channels, notes=notes)
    stored = read_mask(mask, image=picture, axes=axes, notes=notes)
    annotation = stored.annotation
    if annotation.labels.shape != picture.shape:
        raise LabelError(
            "NU-L02",
            f"{mask} is {_times(annotation.labels.shape)} but its image {image} is "
            f"{_times(picture.shape)}: annotate the full image, or crop both the same "
            "way",
        )
    return picture, annotation


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
