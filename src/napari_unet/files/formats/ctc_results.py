"""What a result of the Cell Tracking Challenge consists of: frames and a table.

Format: Maška et al.: A benchmark for comparison of cell tracking algorithms.
Bioinformatics 30, 1609 (2014), and the challenge's pages: `maskTTT.tif` of uint16, and
`res_track.txt` with a line "L B E P" for each track.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError, LabelError, SaveError
from napari_unet.files.atomic import (
    Apart,
    digest,
    hidden_name,
    put_in_place,
    save_error,
)
from napari_unet.files.formats.ctc_files import frames_in
from napari_unet.files.formats.ctc_tracks import table_of, tracks_of
from napari_unet.files.images import labels_writer
from napari_unet.imaging.arrays import as_label_ids
from napari_unet.imaging.given import as_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.formats.ctc_tracks import Track

TABLE = "res_track.txt"
_MAX_ID = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class CtcResult:
    """The frames of a movie as the challenge wants them, and its tracks.

    Parameters
    ----------
    labels : sequence of ndarray of int32, shape ([Z,] Y, X)
        Ids of the cells in each frame; 0 is background.
    tracks : mapping of int to list of Track
        Of each id; see `napari_unet.files.formats.ctc_tracks.tracks_of`.
    """

    labels: Sequence[NDArray[np.int32]]
    tracks: Mapping[int, list[Track]]

    @classmethod
    def of(cls, labels: Sequence[NDArray[np.int32]], source: str) -> CtcResult:
        """Return the result of some frames.

        Raises
        ------
        LabelError
            Ids above 65,535, also those that new tracks would get (NU-L12).
        """
        tracks = tracks_of([_ids_in(frame) for frame in labels])
        _check_ids((track for runs in tracks.values() for track in runs), source)
        return cls(labels, tracks)

    @property
    def names(self) -> list[str]:
        """Names of the frames: three digits, or as many as are needed."""
        n_digits = max(3, len(str(len(self.labels) - 1)))
        return [f"mask{t:0{n_digits}}.tif" for t in range(len(self.labels))]

    @property
    def table(self) -> str:
        """Text of ``res_track.txt``."""
        return table_of(track for runs in self.tracks.values() for track in runs)

    def frames(self) -> Iterator[NDArray[np.int32]]:
        """Yield the frames with the ids of their tracks."""
        for t, frame in enumerate(self.labels):
            yield self._renumbered(frame, t)

    def _renumbered(self, frame: NDArray[np.int32], t: int) -> NDArray[np.int32]:
        renumbered = frame
        for i in _ids_in(frame):
            runs = self.tracks[i]
            label = next(run.label for run in runs if run.begin <= t <= run.end)
            if label != i:
                renumbered = np.where(frame == i, np.int32(label), renumbered)
        return renumbered


def _ids_in(frame: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in np.unique(frame) if i]


def _check_ids(tracks: Iterable[Track], source: str) -> None:
    highest = max((track.label for track in tracks), default=0)
    if highest > _MAX_ID:
        raise LabelError(
            "NU-L12",
            f"{source} needs the id {highest:,}, but the Cell Tracking Challenge has "
            f"ids up to {_MAX_ID:,}: renumber the cells, or save it as a label TIFF",
        )


def ctc_apart(
    folder: Path,
    labels: NDArray[np.int32],
    pixel_size_um: Sequence[float] | None = None,
    *,
    source: str,
) -> Apart:
    """Write a movie as a result that `put_in_place` gives its name.

    The same labels give the same bytes.

    Parameters
    ----------
    folder : Path
        Where it shall be, such as ``01_RES``; what is there is replaced, if it is such
        a result.
    labels : ndarray of int32, shape (T, [Z,] Y, X)
        Ids of the cells, the same in all frames; 0 is background.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.
    source : str
        What was segmented; named in errors.

    Raises
    ------
    LabelError
        Ids above 65,535 (NU-L12).
    SaveError
        A folder that holds anything else (NU-S03), or can't be written (NU-S01).
    """
    _check_replaceable(folder)
    result = CtcResult.of(list(labels), source)
    temporary = hidden_name(folder)
    axes = "ZYX"[-(labels.ndim - 1) :]
    apart = Apart(temporary, folder, "")
    try:
        temporary.mkdir()
        for name, frame in zip(result.names, result.frames(), strict=True):
            with (temporary / name).open("xb") as file:
                labels_writer(frame, axes=axes, pixel_size_um=pixel_size_um)(file)
        (temporary / TABLE).write_text(result.table, "ascii", newline="\n")
        return Apart(temporary, folder, digest(temporary))
    except OSError as error:
        apart.discard()
        raise save_error(folder, error) from error
    except BaseException:
        apart.discard()
        raise


def write_ctc_result(
    folder: str | Path,
    labels: NDArray[Any],
    *,
    pixel_size_um: Sequence[float] | None = None,
) -> None:
    """Write the labels of a movie as a result of the Cell Tracking Challenge.

    ``maskTTT.tif`` (uint16) for each frame and ``res_track.txt``, with a line for each
    track: its id, first and last frame, and parent. A cell that is away in between is
    a new track, whose parent is the one before.

    Parameters
    ----------
    folder : path
        Such as ``01_RES``; an earlier result is replaced.
    labels : array of int, shape (T, [Z,] Y, X)
        Ids of the cells, the same in all frames (see `link_frames`); 0 is background.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.

    Raises
    ------
    ImageError
        There is no time axis (NU-I15).
    LabelError
        No labels, or ids above 65,535 (NU-L12).
    SaveError
        A folder that holds anything else (NU-S03), or can't be written (NU-S01).
    """
    folder = Path(folder)
    found = as_label_ids(as_array(labels, source="labels"), source="labels")
    if found.ndim < 3:
        raise ImageError(
            "NU-I15",
            f"labels of {found.shape} are one plane and no movie: give an array whose "
            "first axis is time, (T, [Z,] Y, X)",
        )
    apart = ctc_apart(folder, found, pixel_size_um, source="the movie")
    for error in put_in_place([apart]).values():
        raise error


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what is no earlier result (NU-S03)."""
    if not os.path.lexists(folder):
        return
    ours = {TABLE}
    if folder.is_dir() and not folder.is_symlink():
        ours |= {frame.path.name for frame in frames_in(folder).get("mask", [])}
        others = sorted({path.name for path in folder.iterdir()} - ours)
        if not others:
            return
    raise SaveError(
        "NU-S03",
        f"{folder} is there and holds more than a result of the Cell Tracking "
        "Challenge: move it away, or choose another output folder",
    )
