from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.errors import FolderError, ImageError, LabelError, SaveError, UNetError
from napari_unet.files.annotations import Region, StoredAnnotation
from napari_unet.files.formats.ctc import read_ctc, write_ctc
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 4, (5, 12, 14)).astype(np.uint16)
VOLUMES = RNG.integers(0, 4, (3, 4, 12, 14)).astype(np.uint16)


def stored(labels: Any, axes: str = "", **more: Any) -> StoredAnnotation:
    return StoredAnnotation(Annotation(np.asarray(labels), **more), axes=axes)


def write_frames(folder: Path, frames: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        tifffile.imwrite(folder / name, frame, photometric="minisblack")
    return folder


def check_results(folder: Path) -> dict[int, np.ndarray]:
    """Check a result folder by the challenge's rules; return its frames."""
    frames = {}
    for path in folder.glob("*.tif"):
        assert path.name.startswith("mask")
        frames[int(path.stem[4:])] = tifffile.imread(path)
    assert sorted(frames) == list(range(len(frames)))
    assert len({frame.shape for frame in frames.values()}) == 1
    assert all(frame.dtype == np.uint16 for frame in frames.values())
    seen = defaultdict(set)
    for t, frame in frames.items():
        for i in set(frame.ravel().tolist()) - {0}:
            seen[i].add(t)
    lines = (folder / "res_track.txt").read_text().splitlines()
    tracks = {}
    for line in lines:
        label, begin, end, parent = map(int, line.split(" "))
        assert label not in tracks
        assert 0 < label <= 65_535
        assert 0 <= begin <= end < len(frames)
        tracks[label] = (begin, end, parent)
    assert set(tracks) == set(seen)
    for label, (begin, end, parent) in tracks.items():
        assert seen[label] == set(range(begin, end + 1))
        assert parent == 0 or tracks[parent][1] < begin
    return frames


@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3)),
        elements=st.integers(0, 3),
    )
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_results_follow_the_rules_of_the_challenge(
    tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("out") / "01_RES"
    write_ctc(folder, stored(labels))
    frames = np.stack([frame for _, frame in sorted(check_results(folder).items())])
    np.testing.assert_array_equal(frames > 0, labels > 0)
    # Each track is one cell: the ids before never differ where the ids after agree.
    pairs = set(zip(frames[frames > 0], labels[labels > 0], strict=True))
    assert len(pairs) == len({i for i, _ in pairs})
    read = read_ctc(folder, shape=labels.shape).annotation
    np.testing.assert_array_equal(read.labels, frames)
    assert read.is_known.all()


@pytest.mark.parametrize(
    ("labels", "axes"), [(FRAMES, "TYX"), (FRAMES, ""), (VOLUMES, "TZYX")]
)
def test_what_was_written_is_read(tmp_path: Path, labels: Any, axes: str) -> None:
    write_ctc(tmp_path / "new" / "01_RES", stored(labels, axes))
    notes: list[str] = []
    read = read_ctc(tmp_path / "new" / "01_RES", notes=notes)
    np.testing.assert_array_equal(read.annotation.labels, labels)
    assert read.axes == ("TYX" if labels.ndim == 3 else "TZYX")
    assert read.annotation.is_known.all()
    assert read.unpainted == "background"
    assert not notes


@pytest.mark.parametrize(("shape", "axes"), [((6, 7), "YX"), ((3, 6, 7), "ZYX")])
def test_a_single_frame_comes_back(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    labels = np.zeros(shape, int)
    labels[..., 2:4, 2:4] = 9
    write_ctc(tmp_path, stored(labels, axes))
    assert [p.name for p in tmp_path.glob("*.tif")] == ["mask000.tif"]
    read = read_ctc(tmp_path, shape=shape)
    np.testing.assert_array_equal(read.annotation.labels, labels)
    assert read.axes == axes
    assert read.annotation.is_known.all()
    assert read_ctc(tmp_path).annotation.labels.shape == (1, *shape)


def test_pixel_size_comes_back(tmp_path: Path) -> None:
    annotation = Annotation(FRAMES)
    write_ctc(tmp_path, StoredAnnotation(annotation, pixel_size_um=(0.5, 0.25)))
    assert read_ctc(tmp_path).pixel_size_um == (0.5, 0.25)


def test_a_cell_that_is_away_gets_a_new_id_and_a_parent(tmp_path: Path) -> None:
    labels = np.zeros((6, 2, 2), int)
    labels[[0, 1, 3, 5], 0, 0] = 4
    labels[2:, 1, 1] = 2
    notes: list[str] = []
    write_ctc(tmp_path, stored(labels), notes=notes)
    frames = check_results(tmp_path)
    assert [int(frames[t][0, 0]) for t in range(6)] == [4, 4, 0, 5, 0, 6]
    assert (tmp_path / "res_track.txt").read_text() == (
        "2 2 5 0\n4 0 1 0\n5 3 3 4\n6 5 5 5\n"
    )
    assert len(notes) == 2
    assert "what is not painted being unknown: it will be read as backgr" in notes[0]
    assert "1 cell is away in between" in notes[1]
    read_notes: list[str] = []
    read_ctc(tmp_path, notes=read_notes)
    assert (
        "who descends from whom is not kept (2 tracks have a parent)" in read_notes[0]
    )


def test_what_is_no_cell_is_left_out(tmp_path: Path) -> None:
    annotation = Annotation(
        [[[1, 2, 3, 4, 0]]],
        {1: 0, 2: 2, 4: 3},
        class_names=("background", "cell", "tissue", "mitosis"),
        area_classes=frozenset({2}),
    )
    square = Region((0,), [(0, 0), (0, 1), (1, 1)])
    notes: list[str] = []
    write_ctc(tmp_path, StoredAnnotation(annotation, (square,)), notes=notes)
    assert check_results(tmp_path)[0].tolist() == [[0, 0, 3, 4, 0]]
    assert [note.split(": ", 1)[1] for note in notes] == [
        "the Cell Tracking Challenge has no place for 1 finished region: left out",
        "the Cell Tracking Challenge has no place for what is not painted being "
        "unknown: it will be read as background",
        "2 objects left out, as background or areas have no place there",
        "the 2 classes of cells are not kept",
    ]


@pytest.mark.parametrize("labels", [[[[65_536]]], [[[65_535]], [[0]], [[65_535]]]])
def test_ids_above_16_bits_are_refused(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(LabelError, match=r"needs the id 65,536.*NU-L12"):
        write_ctc(tmp_path / "new", stored(labels))
    assert not (tmp_path / "new").exists()


def test_more_than_999_frames_have_four_digits(tmp_path: Path) -> None:
    labels = np.zeros((1001, 1, 1), int)
    labels[1000] = 1
    write_ctc(tmp_path, stored(labels))
    assert (tmp_path / "mask1000.tif").exists()
    assert (tmp_path / "mask0000.tif").exists()
    assert read_ctc(tmp_path).annotation.labels[1000, 0, 0] == 1


def test_writing_again_replaces_and_never_mixes(tmp_path: Path) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    write_ctc(tmp_path, stored(FRAMES[::-1]))
    np.testing.assert_array_equal(read_ctc(tmp_path).annotation.labels, FRAMES[::-1])
    with pytest.raises(SaveError, match=r"mask004\.tif of another sequence.*NU-S03"):
        write_ctc(tmp_path, stored(FRAMES[:4]))
    np.testing.assert_array_equal(read_ctc(tmp_path).annotation.labels, FRAMES[::-1])


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="NU-F02"):
        write_ctc(tmp_path / "file", stored(FRAMES))
    with pytest.raises(SaveError, match="NU-S02"):
        write_ctc(tmp_path / "file" / "new", stored(FRAMES))


# What others write


@pytest.mark.parametrize("kind", ["mask", "man_seg", "MASK"])
@pytest.mark.parametrize("n_digits", [3, 4])
def test_all_numberings_are_read(tmp_path: Path, kind: str, n_digits: int) -> None:
    frames = {f"{kind}{t:0{n_digits}}.tif": frame for t, frame in enumerate(FRAMES)}
    folder = write_frames(tmp_path, {**frames, "t000.tif": FRAMES[0]})
    read = read_ctc(folder)
    np.testing.assert_array_equal(read.annotation.labels, FRAMES)
    assert read.annotation.is_known.all()


def test_markers_leave_open_what_unpainted_is(tmp_path: Path) -> None:
    frames = {f"man_track{t:03}.tif": frame for t, frame in enumerate(VOLUMES)}
    notes: list[str] = []
    read = read_ctc(write_frames(tmp_path, frames), notes=notes)
    np.testing.assert_array_equal(read.annotation.labels, VOLUMES)
    assert read.unpainted is None
    np.testing.assert_array_equal(read.annotation.is_known, VOLUMES > 0)
    assert "markers" in notes[0]


def test_missing_frames_are_unknown_and_the_others_complete(tmp_path: Path) -> None:
    gold = FRAMES[:2].copy()
    gold[1] = 0
    write_frames(
        tmp_path / "SEG", {"man_seg001.tif": gold[0], "man_seg003.tif": gold[1]}
    )
    write_frames(tmp_path / "TRA", {f"man_track{t:03}.tif": gold[0] for t in range(6)})
    notes: list[str] = []
    read = read_ctc(tmp_path, shape=(6, 12, 14), notes=notes)
    labels = read.annotation.labels
    np.testing.assert_array_equal(labels[[1, 3]], gold)
    assert not labels[[0, 2, 4, 5]].any()
    known = read.annotation.is_known.all(axis=(1, 2)).tolist()
    assert known == [False, True, False, True, False, False]
    assert read.annotation.is_known.sum() == 2 * 12 * 14
    assert [region.plane for region in read.regions] == [(1,), (3,)]
    assert read.unpainted == "unknown"
    assert "also holds man_track files" in notes[0]
    assert "2 of 6 planes are annotated" in notes[1]
    assert read_ctc(tmp_path).annotation.labels.shape == (4, 12, 14)
    assert read_ctc(tmp_path / "TRA").annotation.labels.shape == (6, 12, 14)


def test_single_slices_of_volumes_lie_where_their_names_say(tmp_path: Path) -> None:
    plane = FRAMES[0]
    frames = {"man_seg_000_002.tif": plane, "man_seg_002_001.tif": plane}
    folder = write_frames(tmp_path, frames)
    expected = np.zeros((3, 4, 12, 14), int)
    expected[0, 2] = expected[2, 1] = plane
    for shape in ((3, 4, 12, 14), None):
        read = read_ctc(folder, shape=shape).annotation
        n_z = 4 if shape else 3
        np.testing.assert_array_equal(read.labels, expected[:, :n_z])
        known = np.zeros_like(expected[:, :n_z], bool)
        known[0, 2] = known[2, 1] = True
        np.testing.assert_array_equal(read.is_known, known)
    write_frames(tmp_path, {"man_seg001.tif": VOLUMES[1]})
    expected[1] = VOLUMES[1]
    np.testing.assert_array_equal(read_ctc(folder).annotation.labels, expected)


def test_the_table_is_compared_with_the_frames(tmp_path: Path) -> None:
    frames = {f"man_track{t:03}.tif": frame for t, frame in enumerate(FRAMES)}
    folder = write_frames(tmp_path / "TRA", frames)
    (folder / "man_track.txt").write_text("1 0 4 0\n2 0 4 1\n\n8 0 1 1\r\n9 0 1 0\n")
    notes: list[str] = []
    read_ctc(tmp_path, notes=notes)
    assert "1 id (3) is in the frames but not in it" in notes[0]
    assert "2 ids (8, 9) are in it but in no frame" in notes[1]
    assert "2 tracks have a parent" in notes[2]


@pytest.mark.parametrize(
    "text",
    [b"1 2 3\n", b"1 2 3 4 5\n", b"a b c d\n", b"\xff\xfe\0", b"9" * 5000 + b" 1 1 1"],
)
def test_a_table_that_is_none_is_noted(tmp_path: Path, text: bytes) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    (tmp_path / "res_track.txt").write_bytes(text)
    notes: list[str] = []
    read_ctc(tmp_path, notes=notes)
    assert "res_track.txt is no table of tracks" in notes[0]


def test_a_huge_table_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    monkeypatch.setattr("napari_unet.files.formats.ctc_tracks._MAX_BYTES", 3)
    notes: list[str] = []
    read_ctc(tmp_path, notes=notes)
    assert "is no table" in notes[0]


# What can't be read


def test_a_folder_without_frames_is_said(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="NU-F03"):
        read_ctc(tmp_path)
    with pytest.raises(FolderError, match="NU-F01"):
        read_ctc(tmp_path / "none")
    (tmp_path / "mask1.tif").write_text("")
    with pytest.raises(FolderError, match="NU-F02"):
        read_ctc(tmp_path / "mask1.tif")
    with pytest.raises(FolderError, match=r"give a folder.*such as 01_RES.*NU-F03"):
        read_ctc(tmp_path)


def test_a_folder_that_may_not_be_listed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", fail)
    with pytest.raises(FolderError, match="NU-F04"):
        read_ctc(tmp_path)


def test_two_files_for_a_frame_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, {"mask001.tif": FRAMES[0], "mask0001.tif": FRAMES[1]})
    with pytest.raises(FolderError, match=r"are the same frame.*NU-F05"):
        read_ctc(tmp_path)


@pytest.mark.parametrize(
    ("frames", "shape", "why"),
    [
        (
            {"mask001.tif": FRAMES[0][:-1]},
            None,
            r"mask001\.tif has the shape \(11, 14\)",
        ),
        ({"mask001.tif": VOLUMES[0]}, None, r"\(4, 12, 14\), but \(12, 14\)"),
        ({}, (1, 12, 15), r"mask000\.tif has the shape"),
        ({}, (1, 4, 12, 14), r"mask000\.tif has the shape"),
        ({"mask007.tif": FRAMES[0]}, (7, 12, 14), "goes to frame 7 but the image"),
        ({"mask001.tif": FRAMES[0]}, (12, 14), "goes to frame 1 but"),
        ({"mask_001_004.tif": FRAMES[0]}, (4, 4, 12, 14), "goes to frame 1, slice 4"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    tmp_path: Path, frames: dict[str, np.ndarray], shape: Any, why: str
) -> None:
    write_frames(tmp_path, {"mask000.tif": FRAMES[0], **frames})
    with pytest.raises(LabelError, match=rf"{why}.*NU-L02"):
        read_ctc(tmp_path, shape=shape)


def test_a_sequence_in_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask000.tif"
    axes = {"axes": "TZYX"}
    tifffile.imwrite(path, VOLUMES, photometric="minisblack", metadata=axes)
    with pytest.raises(LabelError, match=r"each frame is a file.*NU-L02"):
        read_ctc(tmp_path)


def test_a_frame_far_away_takes_no_memory(tmp_path: Path) -> None:
    write_frames(tmp_path, {"mask999999999.tif": FRAMES[0]})
    with pytest.raises(ImageError, match="NU-I03"):
        read_ctc(tmp_path)


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    content = (tmp_path / "mask003.tif").read_bytes()
    (tmp_path / "mask003.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(UNetError, match=r"mask003\.tif"):
        read_ctc(tmp_path)


@pytest.mark.parametrize("shape", [(6, 1, 1, 4), (6, 1, 5, 4), (1, 1, 5, 4)])
def test_volumes_of_one_slice_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.int32)
    labels[..., 0, 1:3] = 5
    write_ctc(tmp_path, stored(labels, "TZYX"))
    read = read_ctc(tmp_path, shape=shape)
    np.testing.assert_array_equal(read.annotation.labels, labels)
    assert read.axes == "TZYX"


def test_what_is_complete_loses_nothing(tmp_path: Path) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    read, notes = read_ctc(tmp_path), list[str]()
    write_ctc(tmp_path, read, notes=notes)
    assert notes == []


def test_one_of_something_is_called_one(tmp_path: Path) -> None:
    write_ctc(tmp_path, stored(FRAMES))
    notes: list[str] = []
    ids = np.setdiff1d(FRAMES, [0]).tolist()
    lines = [f"{i} 0 4 {int(i == ids[0])}" for i in [*ids, 99]]
    (tmp_path / "res_track.txt").write_text("\n".join(lines))
    read_ctc(tmp_path, notes=notes)
    assert "1 id (99) is in it but in no frame" in notes[0]
    assert "(1 track has a parent)" in notes[1]
