"""`napari-unet convert`, its results read independently."""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

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
    coco = pytest.importorskip("pycocotools.coco").COCO
    output = tmp_path / "images" / "cells.json"
    assert convert(masks, output, f"--images={tmp_path / 'images'}") == 0
    read = coco(output)
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
    roifile = pytest.importorskip("roifile")
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
    roifile = pytest.importorskip("roifile")
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
