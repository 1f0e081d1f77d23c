"""`napari-unet weights`: border weight maps of masks."""

from pathlib import Path

from napari_unet.cli import console
from napari_unet.cli.flags import InputFolder, Output, Pattern, Switch, Weights
from napari_unet.cli.folders import prepare_folder
from napari_unet.config import WeightConfig
from napari_unet.errors import FolderError, UNetError
from napari_unet.files.folders import find_images, stem_of
from napari_unet.files.images import write_image
from napari_unet.files.masks import read_mask
from napari_unet.imaging.targets import cut_annotation
from napari_unet.imaging.weight_maps import class_weights, weight_map


def weights(
    *,
    masks: InputFolder,
    out: Output,
    pattern: Pattern = None,
    cut: Switch = False,
    config: Weights = WeightConfig(),  # noqa: B008 - frozen
) -> int:
    """Write the weight map of each mask: how much each pixel counts in training.

    Pixels between two close cells count more, so that the network learns to keep the
    cells apart (Ronneberger 2015; Falk 2019 also lowers the weight of background far
    from cells). Writes NAME_weights.tif as 32-bit numbers; 0 where an annotation's JSON
    file says that nothing is known. Sigmas in um take the mask's own pixel size. A mask
    that can't be used is named and does not stop the others.

    Masks are weighed as they are: cells that touch have no gap that could weigh more.
    With --cut they are cut apart first, as training does.

    ```
    napari-unet weights --masks masks --out weights --w0 10 --sigma 5
    ```

    Parameters
    ----------
    masks
        Folder of label images: 0 is background, each cell has its own number.
    out
        Folder for the weight maps; it is made if needed.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    cut
        Cut touching cells apart first, by one pixel of each.
    """
    paths = find_images(masks, pattern)
    if out.resolve() == masks.resolve():
        raise FolderError(
            "NU-F09",
            f"{out} is the folder of the masks: give another for the weight maps",
        )
    prepare_folder(out)
    n_failed = 0
    for path in console.track(paths, "Weighing"):
        try:
            _weigh(path, out, config, cut=cut)
        except UNetError as error:
            n_failed += 1
            console.say_error(f"failed: {path}: {error}")
    n_done = console.counted(len(paths) - n_failed, "weight map")
    console.say(f"{n_done}, {n_failed} failed: {out}")
    return 3 if n_failed else 0


def _weigh(path: Path, out: Path, config: WeightConfig, *, cut: bool) -> None:
    """Weigh each plane by itself."""
    notes: list[str] = []
    mask = read_mask(path, notes=notes)
    for note in notes:
        console.warn(note)
    annotation, pixel_size_um = mask.annotation, mask.pixel_size_um
    if cut:
        annotation = cut_annotation(annotation)
    values = weight_map(annotation, config, n_dims=2, pixel_size_um=pixel_size_um)
    write_image(
        out / f"{stem_of(path)}_weights.tif",
        values,
        axes=mask.axes or "TZYX"[-values.ndim :],
        pixel_size_um=pixel_size_um,
    )
    if config.balance_classes:
        factors = zip(annotation.class_names, class_weights(annotation), strict=True)
        told = ", ".join(f"{name} {factor:.3g}" for name, factor in factors)
        console.say(f"{path.name}: class weights: {told}")
