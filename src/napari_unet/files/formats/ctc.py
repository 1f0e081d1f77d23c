"""Folders of the Cell Tracking Challenge: one label image for each frame.

Formats: Maška et al. 2014 and the challenge's pages: `maskTTT.tif` for results,
`man_segTTT.tif` and `man_trackTTT.tif` for the truth, "L B E P" for the tracks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import FolderError, LabelError, SaveError
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.files.atomic import write_text
from napari_unet.files.axes import is_same_but_for_singletons
from napari_unet.files.formats.ctc_files import find_sequence, frames_in
from napari_unet.files.formats.ctc_results import TABLE, CtcResult
from napari_unet.files.formats.ctc_tracks import read_tracks
from napari_unet.files.formats.not_held import not_held
from napari_unet.files.formats.shapes import check_pixels, objects
from napari_unet.files.images import LabelImage, read_label_image, write_labels
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.annotations import Unpainted
    from napari_unet.files.formats.ctc_files import Frame, FrameSequence
    from napari_unet.files.formats.ctc_tracks import Track

_TABLES = {"mask": TABLE, "man_track": "man_track.txt"}


def read_ctc(
    folder: str | Path,
    *,
    shape: tuple[int, ...] | None = None,
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read a folder of the Cell Tracking Challenge.

    A cell has the same id in all frames. Frames (and slices) that have a file count
    as completely annotated, the others as unknown; markers (`man_track`) may be
    smaller than their cells, so that there nothing unpainted is known. Who descends
    from whom is not kept.

    Parameters
    ----------
    folder : path
        Folder of ``maskTTT.tif``, ``man_segTTT.tif`` (also ``man_seg_TTT_ZZZ.tif``) or
        ``man_trackTTT.tif``, or one with a folder SEG or TRA of such files.
    shape : tuple of int, optional
        Shape (T, [Z,] Y, X) of the images, or that of a single frame. By default the
        last frame is the last that has a file.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Returns
    -------
    StoredAnnotation
        With axes TYX or TZYX.

    Raises
    ------
    FolderError
        No such folder (NU-F01, NU-F02, NU-F04), no such files in it (NU-F03), two
        files for one frame (NU-F05).
    ImageError, LabelError
        A frame as `read_labels`; frames that don't fit each other or `shape` (NU-L02).
    """
    notes = [] if notes is None else notes
    sequence = find_sequence(Path(folder), notes)
    frames = sequence.frames
    first = min(frames, key=lambda frame: (frame.z is not None, frame.t))
    read = _read(first, None, [])
    if read.labels.ndim > 3:
        raise LabelError(
            "NU-L02",
            f"{name_of(first.path)} has the shape {read.labels.shape}: a frame has the "
            "axes YX or ZYX, and each frame is a file",
        )
    full_shape = _full_shape(sequence, read.labels.shape, shape)
    if len(frames) < full_shape[0]:  # a single small file may be frame 999999999
        check_pixels(str(folder), full_shape)
    labels = np.zeros(full_shape, np.int32)
    is_there = np.zeros(full_shape[:-2], bool)
    for frame in frames:
        place = (frame.t,) if frame.z is None else (frame.t, frame.z)
        labels[place] = _read(frame, labels[place].shape, notes).labels
        is_there[place] = True
    axes = "TYX" if labels.ndim == 3 else "TZYX"
    if shape is not None and len(shape) < labels.ndim:
        labels, is_there, axes = labels[0], is_there[0], axes[1:]
    _check_table(sequence, labels, notes)
    annotation, regions, unpainted = _annotation(sequence, labels, is_there, notes)
    return StoredAnnotation(
        annotation, regions, unpainted, axes=axes, pixel_size_um=read.pixel_size_um
    )


def _read(frame: Frame, shape: tuple[int, ...] | None, notes: list[str]) -> LabelImage:
    read = read_label_image(frame.path, shape=shape, notes=notes)
    if shape is not None and is_same_but_for_singletons(read.labels.shape, shape):
        read = read._replace(labels=read.labels.reshape(shape))
    if shape is not None and read.labels.shape != shape:
        raise LabelError(
            "NU-L02",
            f"{name_of(frame.path)} has the shape {read.labels.shape}, but {shape} was "
            "expected: all frames must be as large as the images",
        )
    return read


def _full_shape(
    sequence: FrameSequence, read: tuple[int, ...], shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the shape (T, [Z,] Y, X); `read` is that of a frame, or of a slice."""
    n_t = 1 + max(frame.t for frame in sequence.frames)
    n_z = 1 + max(-1 if frame.z is None else frame.z for frame in sequence.frames)
    is_volume = len(read) == 3 or n_z > 0
    if shape is None:
        return (n_t, *((n_z,) if is_volume and len(read) == 2 else ()), *read)
    has_time = len(shape) == 4 or (len(shape) == 3 and not is_volume)
    full = tuple(shape) if has_time else (1, *shape)
    if n_t > full[0] or (n_z and (len(full) < 4 or n_z > full[1])):
        place = f", slice {n_z - 1}" if n_z else ""
        raise LabelError(
            "NU-L02",
            f"{sequence.folder} goes to frame {n_t - 1}{place} but the image has "
            f"the shape {tuple(shape)}: open it on its own image",
        )
    return full


def _annotation(
    sequence: FrameSequence,
    labels: NDArray[np.int32],
    is_there: NDArray[np.bool_],
    notes: list[str],
) -> tuple[Annotation, tuple[Region, ...], Unpainted | None]:
    """Return what was read, with what is known of the unpainted pixels."""
    folder = sequence.folder
    regions: tuple[Region, ...] = ()
    unpainted: Unpainted | None = None
    if sequence.kind == "man_track":
        notes.append(f"{folder} holds markers, which may be smaller than the cells")
    elif is_there.all():
        n_painted = np.count_nonzero(labels, axis=(-2, -1))
        # Planes without a cell would otherwise count as not looked at.
        regions = _whole_planes(np.equal(n_painted, 0), labels.shape)
        unpainted = "background"
    else:
        regions = _whole_planes(is_there, labels.shape)
        unpainted = "unknown"
        notes.append(
            f"{folder}: {is_there.sum()} of {is_there.size} planes are annotated; the "
            "others are unknown"
        )
    known = known_pixels(labels, regions, unpainted)
    annotation = Annotation(labels, known=known, source=str(folder))
    return annotation, regions, unpainted


def _whole_planes(
    is_known: NDArray[np.bool_] | np.bool_, shape: tuple[int, ...]
) -> tuple[Region, ...]:
    """Return a finished region for each plane that is known as a whole."""
    y, x = shape[-2] - 0.5, shape[-1] - 0.5
    corners = ((-0.5, -0.5), (-0.5, x), (y, x), (y, -0.5))
    planes = np.argwhere(is_known).tolist() if is_known.ndim else [[]] * int(is_known)
    return tuple(Region(tuple(plane), corners) for plane in planes)


def _check_table(
    sequence: FrameSequence, labels: NDArray[np.int32], notes: list[str]
) -> None:
    """Compare the ids with the table of tracks, and tell what is not kept of it."""
    path = sequence.folder / _TABLES.get(sequence.kind, "")
    if not path.is_file():
        return
    tracks = read_tracks(path)
    if tracks is None:
        notes.append(f"{path} is no table of tracks (L B E P): it was left out")
        return
    found = set(np.unique(labels).tolist()) - {0}
    listed = {track.label for track in tracks}
    for ids, what in (
        (found - listed, "in the frames but not in it"),
        (listed - found, "in it but in no frame"),
    ):
        if ids:
            some = ", ".join(map(str, sorted(ids)[:5])) + ", ..." * (len(ids) > 5)
            n_ids = "1 id" if len(ids) == 1 else f"{len(ids):,} ids"
            are = "is" if len(ids) == 1 else "are"
            notes.append(f"{path}: {n_ids} ({some}) {are} {what}")
    n_parents = sum(track.parent != 0 for track in tracks)
    if n_parents:
        tracks_have = "1 track has" if n_parents == 1 else f"{n_parents:,} tracks have"
        notes.append(
            f"{path}: who descends from whom is not kept ({tracks_have} a parent)"
        )


def write_ctc(
    folder: str | Path, stored: StoredAnnotation, *, notes: list[str] | None = None
) -> None:
    """Write single cells as results of the Cell Tracking Challenge.

    ``maskTTT.tif`` (uint16) for each frame and ``res_track.txt``. A cell that is away
    in between is a new track with a new id, whose parent is the one before.

    Parameters
    ----------
    folder : path
        Folder to write to; it is made if it is not there.
    stored : StoredAnnotation
        What to write. Its first axis is time, unless its axes say ZYX or YX: then it
        is a single frame.
    notes : list of str, optional
        What got lost or was changed is added here.

    Raises
    ------
    LabelError
        Ids above 65,535, also those that new tracks would get (NU-L12).
    FolderError
        The folder is a file (NU-F02).
    SaveError
        It holds masks of another sequence (NU-S03), or can't be written (NU-S01,
        NU-S02).
    """
    folder, notes = Path(folder), [] if notes is None else notes
    cells = stored.annotation.cells()
    axes = stored.axes if len(stored.axes) == cells.ndim else ""
    is_single = cells.ndim == 2 or axes == "ZYX"
    frames = list(cells[np.newaxis] if is_single else cells)
    result = CtcResult.of(frames, stored.annotation.source)
    _make_folder(folder, result.names)
    for name, frame in zip(result.names, result.frames(), strict=True):
        write_labels(
            folder / name,
            frame,
            axes="ZYX"[-frame.ndim :],
            pixel_size_um=stored.pixel_size_um,
        )
    write_text(folder / TABLE, result.table)
    notes.extend(_notes_on_writing(folder, stored, result.tracks))


def _make_folder(folder: Path, names: Sequence[str]) -> None:
    """Make a folder, unless frames of another sequence would stay in it."""
    if folder.exists() and not folder.is_dir():
        raise FolderError("NU-F02", f"{folder} is a file: give a folder to write to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "NU-S02",
            f"the folder {folder} can't be made ({error.strerror or error}): choose "
            "another one",
        ) from error
    frames = frames_in(folder).values()
    there = {frame.path.name for of_kind in frames for frame in of_kind}
    others = sorted(there - set(names))
    if others:
        raise SaveError(
            "NU-S03",
            f"{folder} holds {others[0]} of another sequence: save to an empty folder",
        )


def _notes_on_writing(
    folder: Path, stored: StoredAnnotation, tracks: Mapping[int, list[Track]]
) -> list[str]:
    """Return what got lost or was changed, in sentences."""
    annotation = stored.annotation
    title = "the Cell Tracking Challenge"
    notes = not_held(stored, folder.name, title, is_complete=True)
    n_split = sum(len(runs) > 1 for runs in tracks.values())
    if n_split:
        cells = "1 cell is" if n_split == 1 else f"{n_split} cells are"
        notes.append(
            f"{folder.name}: {cells} away in between; from there on each has a new id, "
            "with the id before as its parent"
        )
    n_others = len(set(np.unique(annotation.labels).tolist()) - {0} - set(tracks))
    if n_others:
        notes.append(
            f"{folder.name}: {objects(n_others)} left out, as background or areas have "
            "no place there"
        )
    kinds = {annotation.label_class.get(i, 1) for i in tracks}
    if len(kinds) > 1:
        notes.append(f"{folder.name}: the {len(kinds)} classes of cells are not kept")
    return notes
