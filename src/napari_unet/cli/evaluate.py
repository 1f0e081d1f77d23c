"""`napari-unet evaluate`: predicted labels against the truth."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import FILES, InputFolder, Pattern, Switch
from napari_unet.errors import FolderError, LabelError
from napari_unet.files.atomic import write_text
from napari_unet.files.images import find_images, pair_by_stem, read_labels
from napari_unet.imaging.scores import Tally, pool, tally


def evaluate(
    *,
    truth: InputFolder,
    pred: InputFolder,
    pattern: Pattern = None,
    paired_only: Switch = False,
    json_file: Annotated[Path | None, Parameter(name="--json", group=FILES)] = None,
) -> None:
    """Score predicted labels against the truth, over all files together.

    A predicted cell counts as right if it overlaps a true one enough; each cell has
    one partner at most. The files are paired by name: NAME with NAME or NAME_labels.

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
    json_file
        Also write the scores to this file, as JSON.
    """
    paths = find_images(truth, pattern)
    pairs, missing = pair_by_stem(paths, pred, endings=("", "_labels"))
    if not pairs:
        raise FolderError(
            "NU-F08",
            f"none of the {len(paths)} files in {truth} has a prediction in {pred}: "
            "name it as the true file, with or without '_labels'",
        )
    if missing:
        what = "left out" if paired_only else "counted as missed cells"
        names = ", ".join(path.name for path in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        console.warn(f"no prediction for {names}{more}: {what}")
    unpaired = [] if paired_only else [(path, None) for path in missing]
    jobs: list[tuple[Path, Path | None]] = [*pairs, *unpaired]
    scores = pool([_count(*job) for job in console.track(jobs, "Comparing")])
    if json_file is not None:
        write_text(json_file, json.dumps(scores.as_dict(), indent=2) + "\n")
    console.show_scores(scores, f"{len(jobs)} files")


def _count(truth: Path, prediction: Path | None) -> Tally:
    true_labels = read_labels(truth)
    if prediction is None:
        return tally(true_labels, np.zeros_like(true_labels))
    labels = read_labels(prediction)
    if labels.shape != true_labels.shape:
        raise LabelError(
            "NU-L02",
            f"{truth} is {_times(true_labels.shape)} but {prediction} is "
            f"{_times(labels.shape)}: compare label images of the same size",
        )
    return tally(true_labels, labels)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
