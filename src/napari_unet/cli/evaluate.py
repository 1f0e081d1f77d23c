"""`napari-unet evaluate`: predicted labels against the truth."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from napari_unet.cli import console
from napari_unet.cli.evaluate_images import evaluate_images
from napari_unet.cli.flags import (
    FILES,
    Axes,
    InputFolder,
    OptionalInputFolder,
    Pattern,
    Switch,
)
from napari_unet.cli.folders import prepare_file
from napari_unet.cli.settings import UsageError
from napari_unet.errors import FolderError, LabelError
from napari_unet.files.annotations import load_annotation, path_of_json
from napari_unet.files.atomic import write_text
from napari_unet.files.folders import find_images, pair_by_stem, stem_of
from napari_unet.files.images import read_label_image
from napari_unet.imaging.scores import Tally, pool, tally

_ENDINGS = ("", "_labels")


def evaluate(  # noqa: PLR0913 - one parameter a flag
    *,
    truth: InputFolder,
    pred: InputFolder,
    pattern: Pattern = None,
    paired_only: Switch = False,
    axes: Axes = None,
    task: Annotated[Literal["segment", "regress"], Parameter(group=FILES)] = "segment",
    images: OptionalInputFolder = None,
    figure: Annotated[Path | None, Parameter(group=FILES)] = None,
    json_file: Annotated[Path | None, Parameter(name="--json", group=FILES)] = None,
) -> None:
    """Score predicted labels, or images, against the truth, over all files together.

    A predicted cell counts as right if it overlaps a true one enough; each cell has
    one partner at most. The files are paired by name: NAME with NAME or NAME_labels.
    The frames of a movie are compared one by one. True files that are annotations, with
    their JSON beside them, are judged where they are known.

    ```
    napari-unet evaluate --truth masks --pred labels --json scores.json
    ```

    Parameters
    ----------
    truth
        Folder of label images that are right.
    pred
        Folder of predicted label images.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    paired_only
        Leave out true files without a prediction. Otherwise their cells count as
        missed.
    task
        regress compares images with images, NAME or NAME_predicted, by PSNR and SSIM.
    images
        Folder of the images that they were made from, to be judged beside them.
    figure
        Also draw images, predictions, truth and differences to this PNG file.
    json_file
        Also write the scores to this file, as JSON.
    """
    if json_file is not None:
        prepare_file(json_file)
    if task == "regress":
        found = evaluate_images(
            truth, pred, pattern=pattern, axes=axes, images=images, figure=figure
        )
        if json_file is not None:
            write_text(json_file, json.dumps(found, indent=2) + "\n")
        return
    if images is not None or figure is not None:
        raise UsageError("--images and --figure are for --task regress")
    _evaluate_labels(truth, pred, pattern, axes, json_file, paired_only=paired_only)


def _evaluate_labels(
    truth: Path,
    pred: Path,
    pattern: str | None,
    axes: str | None,
    json_file: Path | None,
    *,
    paired_only: bool,
) -> None:
    paths = find_images(truth, pattern)
    predictions = _predictions(pred)
    pairs, missing = (
        ([], paths) if not predictions else pair_by_stem(paths, pred, endings=_ENDINGS)
    )
    if not pairs and (predictions or paired_only):
        n = len(paths)
        none = f"none of the {n} files" if n > 1 else "not even the only file"
        raise FolderError(
            "NU-F08",
            f"{none} in {truth} has a prediction in {pred}: name it as the true file, "
            "with or without '_labels'",
        )
    if missing:
        what = "left out" if paired_only else "counted as missed cells"
        console.warn(f"no prediction for {_names(missing)}: {what}")
    # A pattern leaves out true files; their predictions are no surprise.
    stems = {stem_of(path) + end for path in find_images(truth) for end in _ENDINGS}
    extra = [path for path in predictions if stem_of(path) not in stems]
    if extra:
        console.warn(f"no true file for {_names(extra)}: left out")
    unpaired = [] if paired_only else [(path, None) for path in missing]
    jobs: list[tuple[Path, Path | None]] = [*pairs, *unpaired]
    notes: list[str] = []
    tallies = [_count(*job, axes, notes) for job in console.track(jobs, "Comparing")]
    for note in dict.fromkeys(notes):
        console.warn(note)
    scores = pool(tallies)
    if json_file is not None:
        write_text(json_file, json.dumps(scores.as_dict(), indent=2) + "\n")
    console.show_scores(scores, console.counted(len(jobs), "file"))


def _predictions(folder: Path) -> list[Path]:
    """Return the images of a folder, which may be empty: no cell was found."""
    try:
        return find_images(folder)
    except FolderError as error:
        if error.code == "NU-F03":
            return []
        raise


def _names(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:5])
    return f"{names} and {len(paths) - 5} more" if len(paths) > 5 else names


def _count(
    truth: Path, prediction: Path | None, axes: str | None, notes: list[str]
) -> Tally:
    true_labels, order, known = _read_truth(truth, axes, notes)
    if prediction is None:
        labels = np.zeros_like(true_labels)
    else:
        spatial = "".join(a for a in (axes or "").upper() if a in order)
        labels = read_label_image(
            prediction, axes=spatial or None, shape=true_labels.shape, notes=notes
        ).labels
    if labels.shape != true_labels.shape:
        raise LabelError(
            "NU-L02",
            f"{truth} is {_times(true_labels.shape)} but {prediction} is "
            f"{_times(labels.shape)}: compare label images of the same size",
        )
    if true_labels.ndim > 2 and not order:
        notes.append(
            f"{truth} does not say what its axes are: its planes were compared as one "
            "volume; for a movie, whose cells are numbered frame by frame, give "
            "--axes TYX"
        )
    if "T" not in order:
        return tally(true_labels, labels, known=known)
    # Time comes first, and the same number may be another cell in the next frame.
    frames = zip(true_labels, labels, known, strict=True)
    return sum((tally(a, b, known=k) for a, b, k in frames), Tally())


def _read_truth(
    path: Path, axes: str | None, notes: list[str]
) -> tuple[NDArray[np.int32], str, NDArray[np.bool_]]:
    """Return true cells, their axes, and where they are known.

    With its JSON beside it the truth is an annotation, of which parts may be unknown.
    """
    if path_of_json(path).is_file():
        stored = load_annotation(path)
        notes.extend(stored.notes)
        return stored.annotation.cells(), stored.axes, stored.annotation.is_known
    labels, order, _ = read_label_image(path, axes=axes, notes=notes)
    return labels, order, np.ones(labels.shape, bool)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
