"""`napari-unet evaluate --task regress`: made images against those they should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.cli import console
from napari_unet.errors import FolderError
from napari_unet.files.folders import find_images, pair_by_stem
from napari_unet.files.images import read_image
from napari_unet.imaging.image_comparison import compare_images, mean_scores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.image_comparison import ImageScores

_ENDINGS = ("", "_predicted")
_N_SHOWN = 3


def evaluate_images(
    truth: Path,
    pred: Path,
    *,
    pattern: str | None,
    axes: str | None,
    images: Path | None,
    figure: Path | None,
) -> dict[str, Any]:
    """Compare all pairs, say how near they are, and return it for JSON.

    Parameters
    ----------
    truth, pred : path
        Folders of the true images, and of those that were made.
    pattern : str, optional
        Only true files whose name matches.
    axes : str, optional
        Axes of the stored arrays, where the files don't say.
    images : path, optional
        Folder of the images that they were made from, judged beside them.
    figure : path, optional
        Where to draw the first ones.

    Raises
    ------
    UNetError
        No pair (NU-F08), or a file that can't be read or compared.
    """
    pairs, missing = pair_by_stem(find_images(truth, pattern), pred, endings=_ENDINGS)
    if not pairs:
        raise FolderError(
            "NU-F08",
            f"no file in {truth} has a prediction in {pred}: name it as the true file, "
            "with or without '_predicted'",
        )
    if missing:
        names = ", ".join(path.name for path in missing[:5])
        console.warn(f"no prediction for {names}: left out")
    sources = {}
    if images is not None:
        sources = dict(pair_by_stem([true for true, _ in pairs], images)[0])
    seen = [
        _compared(true, made, sources.get(true), axes)
        for true, made in console.track(pairs, "Comparing")
    ]
    whole = mean_scores([each.scores for each in seen])
    named = [{"name": s.path.name, **s.scores.as_dict()} for s in seen]
    found: dict[str, Any] = {**whole.as_dict(), "images": named}
    table = [("PSNR (dB)", f"{whole.psnr:.2f}"), ("SSIM", f"{whole.ssim:.3f}")]
    before = [each.before for each in seen if each.before is not None]
    if len(before) == len(seen):
        own = mean_scores(before)
        found["input"] = own.as_dict()
        table.append(("PSNR of the input (dB)", f"{own.psnr:.2f}"))
        table.append(("SSIM of the input", f"{own.ssim:.3f}"))
    title = f"Images compared: {console.counted(len(seen), 'file')}"
    console.show_table(title, ("", "value"), table)
    if figure is not None:
        _draw(figure, seen[:_N_SHOWN])
    return found


@dataclass(frozen=True)
class _Compared:
    """A true file, its scores, those of what it was made from, and planes to draw."""

    path: Path
    scores: ImageScores
    before: ImageScores | None
    planes: tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any]]


def _compared(
    path: Path, made: Path, source: Path | None, axes: str | None
) -> _Compared:
    true, own = (np.asarray(read_image(p, axes=axes).data) for p in (path, made))
    image = before = None
    if source is not None:
        image = np.asarray(read_image(source, axes=axes).data)
        before = compare_images(true, image) if image.shape == true.shape else None
    shown = None if image is None else _first_plane(image)
    planes = (shown, _first_plane(own), _first_plane(true))
    return _Compared(path, compare_images(true, own), before, planes)


def _first_plane(data: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(data.reshape(-1, *data.shape[-2:])[0])


def _draw(path: Path, seen: list[_Compared]) -> None:
    from napari_unet.figures import draw_made_images, save_figure

    save_figure(path, draw_made_images([(e.path.stem, *e.planes) for e in seen]))
    console.say(f"figure: {path}")
