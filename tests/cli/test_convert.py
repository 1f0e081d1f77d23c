"""`napari-unet convert`, its results read independently."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
import tifffile
from pycocotools.coco import COCO

from napari_unet.cli import run
from napari_unet.files.annotations import (
    Region,
    load_annotation,
    save_annotation,
)
from napari_unet.files.images import read_label_image, write_image
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("tiff", "coco", "imagej", "geojson")
FILES = {"tiff": "a.tif", "coco": "c.json", "imagej": "a.zip", "geojson": "a.geojson"}
SHAPE = (50, 64)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Two drawn annotations of two classes, in `masks`; their images in `images`."""
    rng = np.random.default_rng(9)
    for folder in ("masks", "images"):
        (tmp_path / folder).mkdir()
    for stem in "ab":
        image, labels = draw_cells(SHAPE, n_cells=6, rng=rng)
        write_image(
            tmp_path / "images" / f"{stem}.tif",
            image[None],
            axes="CYX",
            pixel_size_um=(0.5, 0.25),
        )
        annotation = Annotation(
            labels * 3,  # ids need not be consecutive
            label_class={3: 2, 6: 2},
            class_names=("background", "cell", "dividing"),
        )
        save_annotation(
            tmp_path / "masks" / f"{stem}.tif", annotation, unpainted="background"
        )
    return tmp_path / "masks"


def convert(source: Path, output: Path, *flags: str) -> int:
    return run(["convert", f"--input={source}", f"--output={output}", *flags])


def labels_in(path: Path) -> np.ndarray:
    return tifffile.imread(path).astype(np.int32)


def one_file(folder: Path, name: str, source: Path) -> Path:
    """Return the annotation `a` in one format."""
    path = folder / FILES[name]
    folder.mkdir()
    assert convert(source / "a.tif", path) == 0
    return path


# -- all pairs of formats -------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(permutations(FORMATS, 2)))
def test_pixels_ids_and_classes_survive_each_pair_of_formats(
    tmp_path: Path, masks: Path, first: str, second: str
) -> None:
    images = f"--images={tmp_path / 'images'}"
    start = one_file(tmp_path / "1", first, masks)
    (tmp_path / "2").mkdir()
    middle = tmp_path / "2" / FILES[second]
    assert convert(start, middle, images) == 0
    assert convert(middle, tmp_path / "end", images, "--to=tiff") == 0
    end, truth = tmp_path / "end" / "a.tif", masks / "a.tif"
    np.testing.assert_array_equal(labels_in(end), labels_in(truth))
    stored, original = load_annotation(end), load_annotation(truth)
    assert names_of_classes(stored) == names_of_classes(original)
    assert stored.unpainted == "background"
    assert stored.pixel_size_um == (0.5, 0.25)


def names_of_classes(stored) -> dict[int, str]:
    annotation = stored.annotation
    ids = np.setdiff1d(annotation.labels, [0])
    return {
        int(i): annotation.class_names[annotation.label_class.get(int(i), 1)]
        for i in ids
    }


# -- what other programs read ---------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_what_its_own_library_reads(tmp_path: Path, masks: Path) -> None:
    output = tmp_path / "images" / "cells.json"
    assert convert(masks, output, f"--images={tmp_path / 'images'}") == 0
    read = COCO(output)
    names = {image["file_name"]: image["id"] for image in read.loadImgs(read.imgs)}
    assert set(names) == {"a.tif", "b.tif"}
    labels = labels_in(masks / "a.tif")
    found = [
        (
            read.annToMask(one).astype(bool),
            read.cats[one["category_id"]]["name"],
        )
        for one in read.loadAnns(read.getAnnIds(imgIds=names["a.tif"]))
    ]
    assert len(found) == len(np.unique(labels)) - 1
    for mask, category in found:
        (i,) = np.unique(labels[mask])
        np.testing.assert_array_equal(mask, labels == i)
        assert category == ("dividing" if i in (3, 6) else "cell")


def test_imagej_reads_as_many_rois_as_there_are_cells(
    tmp_path: Path, masks: Path
) -> None:
    assert convert(masks, tmp_path / "out", "--to=imagej") == 0
    for stem in "ab":
        rois = roifile.roiread(tmp_path / "out" / f"{stem}.zip")
        assert len(rois) == len(np.unique(labels_in(masks / f"{stem}.tif"))) - 1


def test_geojson_names_the_classes(tmp_path: Path, masks: Path) -> None:
    assert convert(masks / "a.tif", tmp_path / "a.geojson") == 0
    content = json.loads((tmp_path / "a.geojson").read_text("utf-8"))
    names = [
        feature["properties"]["classification"]["name"]
        for feature in content["features"]
        if "classification" in feature["properties"]
    ]
    assert names.count("dividing") == 2
    assert names.count("cell") == len(np.unique(labels_in(masks / "a.tif"))) - 3


def test_paths_in_coco_start_at_the_file(tmp_path: Path, masks: Path) -> None:
    assert convert(masks, tmp_path / "c.json", f"--images={tmp_path / 'images'}") == 0
    content = json.loads((tmp_path / "c.json").read_text("utf-8"))
    names = [image["file_name"] for image in content["images"]]
    assert names == ["images/a.tif", "images/b.tif"]


def test_a_movie_becomes_a_folder_and_comes_back(tmp_path: Path) -> None:
    movie = np.zeros((3, 20, 22), np.uint16)
    movie[0, 2:6, 2:6], movie[1, 3:7, 3:7], movie[1:, 12:16, 12:16] = 1, 1, 2
    tifffile.imwrite(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "TYX"})
    assert convert(tmp_path / "m.tif", tmp_path / "m", "--to=ctc") == 0
    frames = [tifffile.imread(path) for path in sorted((tmp_path / "m").glob("*.tif"))]
    np.testing.assert_array_equal(np.stack(frames), movie)
    assert convert(tmp_path / "m", tmp_path / "back.tif") == 0
    read = read_label_image(tmp_path / "back.tif")
    np.testing.assert_array_equal(read.labels, movie)
    assert read.axes == "TYX"


def test_converted_masks_can_be_trained_on(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = f"--images={tmp_path / 'images'}"
    assert convert(masks, tmp_path / "c.json", images) == 0
    assert convert(tmp_path / "c.json", tmp_path / "m", images, "--to=tiff") == 0
    argv = [images, f"--masks={tmp_path / 'm'}", f"--out={tmp_path / 'x.unet'}"]
    flags = ["--max-steps=1", "--base-width=2", "--depth=1", "--device=cpu"]
    assert run(["train", *argv, *flags]) == 0, capsys.readouterr().err


# -- what is said and what is decided -------------------------------------------


def test_what_is_not_painted_is_background_unless_told_otherwise(
    tmp_path: Path, masks: Path
) -> None:
    (masks / "a.json").unlink()
    assert convert(masks / "a.tif", tmp_path / "b.tif") == 0
    assert convert(masks / "a.tif", tmp_path / "u.tif", "--unpainted=unknown") == 0
    assert load_annotation(tmp_path / "b.tif").unpainted == "background"
    assert load_annotation(tmp_path / "u.tif").unpainted == "unknown"
    assert convert(masks / "b.tif", tmp_path / "x.tif", "--unpainted=unknown") == 0
    assert load_annotation(tmp_path / "x.tif").unpainted == "background"


def test_what_the_target_can_t_hold_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region = Region((), [(0, 0), (0, 9), (9, 9), (9, 0)])
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 2:5] = 1
    save_annotation(tmp_path / "a.tif", Annotation(labels), [region])
    assert convert(tmp_path / "a.tif", tmp_path / "a.zip") == 0
    told = capsys.readouterr().err
    assert "warning: " in told
    assert "finished" in told


def test_a_shape_that_nothing_says_is_taken_from_the_image(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = np.array([[5, 5], [9, 5], [9, 8], [5, 8]], float)  # x, y
    roifile.ImagejRoi.frompoints(square, name="one").tofile(tmp_path / "a.roi")
    flags = ["--to=tiff", f"--images={tmp_path / 'images'}"]
    assert convert(tmp_path / "a.roi", tmp_path / "out", *flags) == 0
    labels = labels_in(tmp_path / "out" / "a.tif")
    expected = np.zeros(SHAPE, np.int32)
    expected[5:8, 5:9] = 1
    np.testing.assert_array_equal(labels, expected)
    assert convert(tmp_path / "a.roi", tmp_path / "small.tif") == 0
    assert labels_in(tmp_path / "small.tif").shape != SHAPE
    assert "warning: " in capsys.readouterr().err


def test_results_are_paired_with_images_and_called_after_them(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a_labels", "z"):
        tifffile.imwrite(tmp_path / f"{name}.tif", labels_in(masks / "a.tif"))
    flags = ["--to=imagej", f"--images={tmp_path / 'images'}"]
    assert convert(tmp_path, tmp_path / "out", *flags) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.zip", "z.zip"}
    assert f"no image in {tmp_path / 'images'} for z" in capsys.readouterr().err


def test_pattern_chooses_files_and_images_in_coco(tmp_path: Path, masks: Path) -> None:
    assert convert(masks, tmp_path / "out", "--to=imagej", "--pattern=b*") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.zip"]
    assert convert(masks, tmp_path / "c.json") == 0
    flags = ["--to=imagej", "--pattern=a*"]
    assert convert(tmp_path / "c.json", tmp_path / "one", *flags) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.zip"]
    assert (
        convert(tmp_path / "c.json", tmp_path / "none", "--pattern=x", "--to=imagej")
        == 1
    )


def partly_annotated(folder: Path) -> Path:
    """Write a pair in which most is unknown, and return its path."""
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 2:5] = 1
    region = Region((), [(0, 0), (0, 9), (9, 9), (9, 0)])
    save_annotation(folder / "a.tif", Annotation(labels), [region])
    return folder / "a.tif"


def test_warnings_begin_with_the_file_that_they_are_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = partly_annotated(tmp_path)
    assert convert(source, tmp_path / "out_coco", "--to=coco") == 0
    assert "warning: a.tif: COCO has no place for" in capsys.readouterr().err
    assert convert(source, tmp_path / "out", "--to=imagej") == 0
    assert "warning: a.zip: ImageJ has no place for" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [None, "background", "unknown"])
def test_unknown_never_becomes_background_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str | None
) -> None:
    source = partly_annotated(tmp_path)
    assert convert(source, tmp_path / "a.zip") == 0
    assert "a.zip: ImageJ has no place for what is not painted being unknown" in (
        capsys.readouterr().err
    )
    flags = [] if flag is None else [f"--unpainted={flag}"]
    assert convert(tmp_path / "a.zip", tmp_path / "b.tif", *flags) == 0
    told = capsys.readouterr().err
    told_of_it = "a.zip doesn't say what unpainted pixels are: taken as background; "
    assert (told_of_it in told) == (flag is None)
    expected = flag or "background"
    assert load_annotation(tmp_path / "b.tif").unpainted == expected


def test_what_is_assumed_is_said_once(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stem in "ab":
        (masks / f"{stem}.json").unlink()
    assert convert(masks, tmp_path / "out", "--to=tiff") == 0
    told = capsys.readouterr().err
    assert told.count("taken as background") == 1
    assert f"{masks / 'a.tif'} and 1 more don't say what unpainted" in told


def test_what_is_not_painted_around_markers_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "TRA").mkdir()
    frame = np.zeros((8, 8), np.uint16)
    frame[2, 2] = 1
    for t in range(2):
        tifffile.imwrite(tmp_path / "TRA" / f"man_track{t:03}.tif", frame)
    assert convert(tmp_path / "TRA", tmp_path / "a.tif") == 0
    told = capsys.readouterr().err
    assert "around the markers was taken as unknown; --unpainted background" in told
    assert "taken as background" not in told
    assert load_annotation(tmp_path / "a.tif").unpainted == "unknown"
    flags = ["--unpainted=background"]
    assert convert(tmp_path / "TRA", tmp_path / "b.tif", *flags) == 0
    assert "was taken" not in capsys.readouterr().err
    assert load_annotation(tmp_path / "b.tif").unpainted == "background"


def of_one_class(folder: Path, stem: str, name: str, **more: Any) -> None:
    labels = draw_cells(SHAPE, n_cells=3, rng=np.random.default_rng(3))[1]
    annotation = Annotation(labels, class_names=("background", name), **more)
    save_annotation(folder / f"{stem}.tif", annotation, unpainted="background")


@pytest.mark.parametrize("name", ["tiff", "imagej", "geojson", "coco"])
def test_all_that_is_written_has_the_same_classes_and_can_be_trained_on(
    tmp_path: Path,
    masks: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    colors = ("#000000", "#ff0000")
    of_one_class(masks, "a", "Tumor")
    of_one_class(masks, "b", "Immune", class_colors=colors)
    images = f"--images={tmp_path / 'images'}"
    assert convert(masks, tmp_path / "m", f"--to={name}", images) == 0
    told = capsys.readouterr().err
    assert "all get the same list (background, Tumor, Immune)" in told
    assert convert(tmp_path / "m", tmp_path / "t", "--to=tiff", images) == 0
    for stem, kind in (("a", 1), ("b", 2)):
        annotation = load_annotation(tmp_path / "t" / f"{stem}.tif").annotation
        assert annotation.class_names == ("background", "Tumor", "Immune")
        assert set(annotation.label_class.values()) == {kind}
        assert annotation.class_colors[2] == "#ff0000"
    argv = [images, f"--masks={tmp_path / 't'}", f"--out={tmp_path / 'x.unet'}"]
    flags = ["--max-steps=1", "--base-width=2", "--depth=1", "--device=cpu"]
    assert run(["train", *argv, *flags]) == 0, capsys.readouterr().err


def test_annotations_that_are_not_kept_are_read_again(
    tmp_path: Path, masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_one_class(masks, "b", "Immune")
    assert convert(masks, tmp_path / "kept", "--to=tiff") == 0
    monkeypatch.setattr("napari_unet.cli.convert._MAX_PIXELS_KEPT", 0)
    assert convert(masks, tmp_path / "read", "--to=tiff") == 0
    for path in (tmp_path / "kept").iterdir():
        assert path.read_bytes() == (tmp_path / "read" / path.name).read_bytes()


def test_one_slice_of_a_stack_comes_through(tmp_path: Path) -> None:
    labels = np.zeros((1, 20, 20), np.int32)
    labels[0, 2:5, 2:5] = 1
    region = Region((0,), [(0, 0), (0, 9), (9, 9), (9, 0)])
    save_annotation(tmp_path / "a.tif", Annotation(labels), [region], axes="ZYX")
    assert convert(tmp_path / "a.tif", tmp_path / "b.tif") == 0
    stored = load_annotation(tmp_path / "b.tif")
    assert (stored.annotation.labels.shape, stored.axes) == (labels.shape, "ZYX")
    assert [region.plane for region in stored.regions] == [(0,)]
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.tif", labels[None], axes="CZYX")
    images = f"--images={tmp_path / 'images'}"
    assert convert(tmp_path / "a.tif", tmp_path / "c.tif", images) == 0
    stored = load_annotation(tmp_path / "c.tif")
    assert (stored.annotation.labels.shape, stored.axes) == ((20, 20), "YX")
    assert [region.plane for region in stored.regions] == [()]


def test_the_truth_of_a_movie_is_one_movie(tmp_path: Path) -> None:
    frame = np.zeros((8, 9), np.uint16)
    frame[2:5, 2:5] = 3
    for folder, kind in (("SEG", "man_seg"), ("TRA", "man_track")):
        (tmp_path / "01_GT" / folder).mkdir(parents=True)
        for t in range(2):
            path = tmp_path / "01_GT" / folder / f"{kind}{t:03}.tif"
            tifffile.imwrite(path, frame)
    assert convert(tmp_path / "01_GT", tmp_path / "r", "--to=tiff") == 0
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "01_GT.tif",
        "01_GT.json",
    }
    np.testing.assert_array_equal(labels_in(tmp_path / "r" / "01_GT.tif"), [frame] * 2)


def test_files_that_look_like_a_movie_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for t in range(2):
        path = tmp_path / "in" / f"mask{t:03}.tif"
        tifffile.imwrite(path, np.eye(8, dtype=np.uint8))
    assert convert(tmp_path / "in", tmp_path / "r", "--to=tiff") == 0
    assert "2 files were taken as separate label TIFFs; if this is a movie: --from" in (
        capsys.readouterr().err
    )
    assert convert(tmp_path / "in", tmp_path / "m.tif", "--from=ctc") == 0
    assert "separate" not in capsys.readouterr().err
    assert labels_in(tmp_path / "m.tif").shape == (2, 8, 8)


# -- failures -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imagej", "coco"])
def test_a_bad_file_is_named_and_the_others_are_converted(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (masks / "0.tif").write_bytes(b"no picture")
    assert convert(masks, tmp_path / "out", f"--to={name}") == 3
    said, told = capsys.readouterr()
    assert f"failed: {masks / '0.tif'}: " in told
    assert f"2 converted, 1 failed: {tmp_path / 'out'}" in said


def test_a_stack_does_not_take_the_planes_down_with_it(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = np.zeros((4, *SHAPE), np.uint16)
    tifffile.imwrite(masks / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    assert convert(masks, tmp_path / "c.json") == 3
    assert "s.tif is a stack (4 x 50 x 64)" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "c.json").read_text("utf-8"))["images"]) == 2


def test_a_single_bad_file_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").write_bytes(b"no picture")
    assert convert(tmp_path / "a.tif", tmp_path / "a.zip") == 1
    assert "not a TIFF or PNG" in capsys.readouterr().err
    assert not (tmp_path / "a.zip").exists()
    assert convert(tmp_path / "a.tif", tmp_path / "new" / "er", "--to=imagej") == 1
    assert not (tmp_path / "new").exists()


def test_a_single_bad_movie_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "RES").mkdir()
    (tmp_path / "RES" / "mask000.tif").write_bytes(b"no picture")
    (tmp_path / "RES" / "res_track.txt").write_text("1 0 0 0")
    assert convert(tmp_path / "RES", tmp_path / "out" / "a.tif") == 1
    assert "not a TIFF or PNG" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_without_a_result_are_not_left(tmp_path: Path, masks: Path) -> None:
    for stem in "ab":
        (masks / f"{stem}.tif").write_bytes(b"no picture")
    assert convert(masks, tmp_path / "out" / "er", "--to=imagej") == 3
    assert not (tmp_path / "out").exists()
    # Read, but too much to write.
    labels = np.full((8, 8), 70_000, np.int32)
    save_annotation(tmp_path / "x.tif", Annotation(labels), unpainted="background")
    assert convert(tmp_path / "x.tif", tmp_path / "new" / "movie", "--to=ctc") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("is_dangling", [True, False])
def test_nothing_is_written_through_a_link(
    tmp_path: Path,
    masks: Path,
    capsys: pytest.CaptureFixture[str],
    is_dangling: bool,
) -> None:
    (tmp_path / "out").mkdir()
    other = tmp_path / "other"
    if not is_dangling:
        other.write_text("precious")
    (tmp_path / "out" / "a.zip").symlink_to(other)
    for flags in ([], ["--force"]):
        assert convert(masks, tmp_path / "out", "--to=imagej", *flags) == 1
        assert "a.zip is a link to" in capsys.readouterr().err
    assert other.exists() is not is_dangling
    if not is_dangling:
        assert other.read_text() == "precious"
    (tmp_path / "movie").mkdir()
    (tmp_path / "movie" / "mask000.tif").symlink_to(other)
    flags = ["--to=ctc", "--force"]
    assert convert(masks / "a.tif", tmp_path / "movie", *flags) == 1
    assert "mask000.tif is a link to" in capsys.readouterr().err


def test_another_shape_than_the_image_is_refused(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", labels_in(masks / "a.tif")[:20])
    images = f"--images={tmp_path / 'images'}"
    assert convert(tmp_path / "a.tif", tmp_path / "a.zip", images) == 1
    told = capsys.readouterr().err
    assert "a.tif is 20 x 64 but its image" in told
    assert "is 50 x 64: give the image that was annotated" in told


def test_nothing_is_replaced_without_force(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text("{}")
    assert convert(masks, tmp_path / "out", "--to=tiff") == 1
    assert "a.json is there already: give another" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 1
    (tmp_path / "out" / "a.json").rename(tmp_path / "out" / "b.zip")
    assert convert(masks, tmp_path / "out", "--to=imagej", "--force") == 0


def test_what_is_read_is_never_replaced(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for output in (masks, tmp_path / "images"):
        flags = ["--to=tiff", "--force", f"--images={tmp_path / 'images'}"]
        assert convert(masks, output, *flags) == 1
        assert "is one of the files to read" in capsys.readouterr().err
    assert convert(masks / "a.tif", masks / "a.json", "--force") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("files", "flags", "sentence"),
    [
        (["a.tif"], [], "could be of any format: choose with --to (tiff, coco, imagej"),
        (["a.tif", "a.zip"], ["--to=coco"], "choose one with --from (tiff or imagej)"),
        (["c.json", "d.json"], ["--to=tiff"], "holds 2 COCO files: give one of them"),
    ],
)
def test_what_is_not_clear_is_asked_for(
    tmp_path: Path,
    masks: Path,
    capsys: pytest.CaptureFixture[str],
    files: list[str],
    flags: list[str],
    sentence: str,
) -> None:
    (tmp_path / "in").mkdir()
    for name in files:
        assert convert(masks / "a.tif", tmp_path / "in" / name) == 0
    assert convert(tmp_path / "in", tmp_path / "out", *flags) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_name_of_another_format_is_refused(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(masks, tmp_path / "a.zip", "--to=coco") == 2
    assert "--to coco does not fit" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("cells")
    assert convert(tmp_path / "a.txt", tmp_path / "a.zip") == 2
    assert "say what it is with --from (tiff, coco" in capsys.readouterr().err


def test_missing_and_empty_inputs_are_errors(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert convert(tmp_path / "no", output, "--to=tiff") == 1
    assert "there is no file or folder" in capsys.readouterr().err
    assert convert(masks, output, "--to=tiff", "--from=geojson") == 1
    assert "holds no QuPath GeoJSON file" in capsys.readouterr().err
    assert convert(masks, output, "--to=tiff", "--pattern=z*") == 1
    assert "holds no Label TIFF and JSON file like 'z*'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert convert(tmp_path / "empty", output, "--to=tiff") == 1
    assert "holds no annotation" in capsys.readouterr().err


def test_two_annotations_of_one_image_are_refused(
    tmp_path: Path, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (masks / "a.tif").with_name("a_labels.tif").write_bytes(
        (masks / "a.tif").read_bytes()
    )
    images = f"--images={tmp_path / 'images'}"
    assert convert(masks, tmp_path / "out", "--to=imagej", images) == 1
    assert "stand for the same image a" in capsys.readouterr().err
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert convert(masks / "b.tif", tmp_path / "b.zip", images) == 1
    assert "stand for the same image: keep one" in capsys.readouterr().err
