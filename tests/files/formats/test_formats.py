"""The formats of annotations: recognising them, and round trips through them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet.errors import FolderError, LabelError, SaveError
from napari_unet.files.annotations import StoredAnnotation, save_annotation
from napari_unet.files.formats import (
    FORMATS,
    file_stem,
    format_of,
    formats_in,
    image_stem,
    paths_to_write,
    read_annotations,
    write_annotations,
)
from napari_unet.files.formats.recognition import kind_of
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells

PLANE_FORMATS = ("tiff", "coco", "imagej", "geojson")


@pytest.fixture
def stored() -> StoredAnnotation:
    """Touching cells of two classes, one with a hole, one in two pieces."""
    rng = np.random.default_rng(5)
    labels = draw_cells((60, 70), n_cells=7, rng=rng)[1].astype(np.int32)
    labels[labels == 3] = 40  # ids need not be consecutive
    labels[50:58, 50:58], labels[53:55, 53:55] = 50, 0
    labels[2:4, 60:62], labels[2:4, 65:67] = 51, 51
    return StoredAnnotation(
        Annotation(
            labels,
            label_class={40: 2, 50: 2},
            known=np.ones(labels.shape, bool),
            class_names=("background", "cell", "dividing"),
            class_colors=("#000000", "#00ff00", "#ff0080"),
            source="drawn",
        ),
        unpainted="background",
    )


def suffix_of(name: str) -> str:
    return FORMATS[name].suffixes[0]


def classes_by_name(stored: StoredAnnotation) -> np.ndarray:
    names = np.array(stored.annotation.class_names)
    return names[stored.annotation.class_map()]


# -- which format ----------------------------------------------------------------


@pytest.mark.parametrize("name", PLANE_FORMATS)
def test_what_was_written_is_known_by_its_content(tmp_path, stored, name) -> None:
    path = tmp_path / f"a{suffix_of(name)}"
    write_annotations(path, {"a.tif": stored}, format=name)
    assert format_of(path) is FORMATS[name]


def test_the_json_beside_a_label_tiff_stands_for_it(tmp_path, stored) -> None:
    write_annotations(tmp_path / "a.tif", {"a": stored})
    assert kind_of(tmp_path / "a.json") == "tiff"
    assert formats_in(tmp_path) == {"tiff": [tmp_path / "a.tif"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"shapes": [], "imagePath": "a.png"}'),
        ("a.json", b'{"images": [1, 2], "title": "a gallery"}'),
        ("a.json", b"[1, 2, 3]"),
        ("a.json", b"no JSON at all"),
        ("a.json", b""),
        ("a.geojson", b'{"train": {"max_steps": 5}}'),
        ("a_seg.npy", b"no array"),
        ("a.npy", b"\x93NUMPY"),
        ("a.zip", b"PK\x03\x04 and damaged"),
        ("a.zip", b"no archive"),
        ("a.roi", b"no ROI"),
        ("a.csv", b"y,x"),
    ],
)
def test_files_of_others_are_in_no_format(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    assert format_of(tmp_path / name) is None


def test_a_zip_of_other_files_is_in_no_format(tmp_path) -> None:
    for names in ([], ["notes.txt"], ["a.png"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        assert format_of(tmp_path / "a.zip") is None


def test_a_missing_file_is_known_by_its_name() -> None:
    found = {name: format_of(f"no/a{name}") for name in (".tiff", ".zip", ".json")}
    assert [one.name for one in found.values() if one] == ["tiff", "imagej", "coco"]
    assert format_of("no/a.txt") is None


def test_a_folder_of_a_movie_is_known_by_the_names_in_it(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "mask000.tif", np.eye(8, dtype=np.uint16))
    assert format_of(tmp_path) is None  # may be the mask of a single image
    (tmp_path / "man_track.txt").write_text("1 0 1 0\n")
    assert format_of(tmp_path) is FORMATS["ctc"]


def test_hidden_files_are_left_out(tmp_path, stored) -> None:
    write_annotations(tmp_path / ".a.zip", {"a": stored})
    assert formats_in(tmp_path) == {}


def test_a_folder_that_is_none_can_t_be_listed(tmp_path) -> None:
    with pytest.raises(FolderError, match="can't be read"):
        formats_in(tmp_path / "no")


# -- round trips -----------------------------------------------------------------


@pytest.mark.parametrize("name", PLANE_FORMATS)
def test_pixels_ids_and_classes_survive(tmp_path, stored, name) -> None:
    path = tmp_path / f"a{suffix_of(name)}"
    notes: list[str] = []
    write_annotations(path, {"a.tif": stored}, notes=notes)
    shapes = {"a": stored.annotation.labels.shape}
    (read,) = read_annotations(path, shapes=shapes, notes=notes).values()
    np.testing.assert_array_equal(read.annotation.labels, stored.annotation.labels)
    np.testing.assert_array_equal(classes_by_name(read), classes_by_name(stored))
    assert read.annotation.class_colors[1:] == stored.annotation.class_colors[1:]


@pytest.mark.parametrize("name", ["imagej", "geojson", "tiff"])
def test_a_folder_holds_one_file_for_each_image(tmp_path, stored, name) -> None:
    written = write_annotations(tmp_path, {"a": stored, "b": stored}, format=name)
    assert {path.name for path in written} >= {f"{s}{suffix_of(name)}" for s in "ab"}
    read = read_annotations(tmp_path, shapes=dict.fromkeys("ab", (60, 70)))
    assert list(read) == ["a", "b"]
    for one in read.values():
        np.testing.assert_array_equal(one.annotation.labels, stored.annotation.labels)


def test_coco_holds_all_images_in_one_file(tmp_path, stored) -> None:
    both = {"x/a.tif": stored, "x/b.tif": stored}
    assert write_annotations(tmp_path, both, format="coco") == [
        tmp_path / "annotations.json"
    ]
    content = json.loads((tmp_path / "annotations.json").read_text("utf-8"))
    assert [image["file_name"] for image in content["images"]] == list(both)
    assert list(read_annotations(tmp_path / "annotations.json")) == list(both)


def test_a_movie_is_a_folder(tmp_path, stored) -> None:
    labels = np.stack([stored.annotation.labels] * 2)
    movie = StoredAnnotation(Annotation(labels), axes="TYX")
    assert write_annotations(tmp_path / "m", {"m": movie}, format="ctc") == [
        tmp_path / "m"
    ]
    (read,) = read_annotations(tmp_path / "m").values()
    np.testing.assert_array_equal(read.annotation.labels, labels)
    assert read.axes == "TYX"


def test_a_label_tiff_alone_leaves_open_what_is_not_painted(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.eye(8, dtype=np.uint8))
    (read,) = read_annotations(tmp_path / "a.tif").values()
    assert read.unpainted is None
    assert not read.annotation.is_known[0, 1]


def test_the_shape_of_the_image_says_that_a_stack_is_no_colour_picture(
    tmp_path,
) -> None:
    stack = np.zeros((3, 8, 9), np.uint16)
    stack[0, :3], stack[1, 4:], stack[2, :, 5:] = 1, 2, 3
    colours = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", stack, **colours)
    read = read_annotations(tmp_path / "a.tif", shapes={"a": (3, 8, 9)})
    np.testing.assert_array_equal(read["a"].annotation.labels, stack)


def test_what_the_json_of_another_tiff_means_is_noted(tmp_path, stored) -> None:
    save_annotation(tmp_path / "a.tif", stored.annotation)
    tifffile.imwrite(tmp_path / "a.tif", np.eye(8, dtype=np.uint8))
    notes: list[str] = []
    read_annotations(tmp_path / "a.tif", notes=notes)
    assert any("another version" in note for note in notes)


# -- names -----------------------------------------------------------------------


def test_names_of_files_come_from_images() -> None:
    assert image_stem(Path("x/a_seg.npy")) == "a"
    assert image_stem(Path("x/a.ome.tif")) == "a"
    assert file_stem("x/../a.tif") == "a"
    assert file_stem(r"C:\x\a.b.png") == "a.b"
    assert file_stem("..") == file_stem("") == "image"
    assert file_stem("a:\x00?.tif") == "__"


def test_one_annotation_may_name_its_file() -> None:
    chosen, path = FORMATS["imagej"], Path("no/cells.zip")
    assert paths_to_write(path, ["x/a.tif"], chosen) == {"x/a.tif": path}
    with pytest.raises(FolderError, match="there are 2 annotations: give a folder"):
        paths_to_write(path, ["a", "b"], chosen)


def test_two_annotations_never_share_a_file() -> None:
    with pytest.raises(FolderError, match=r"x/a.tif and y/a.tif would both be written"):
        paths_to_write(Path("no"), ["x/a.tif", "y/a.tif"], FORMATS["tiff"])


# -- refusals --------------------------------------------------------------------


def test_unknown_formats_are_refused(tmp_path, stored) -> None:
    (tmp_path / "a.txt").write_text("cells")
    with pytest.raises(FolderError, match="no format of annotations that is known"):
        read_annotations(tmp_path / "a.txt")
    with pytest.raises(FolderError, match="no format of annotations that is known"):
        write_annotations(tmp_path / "b.txt", {"b": stored})
    with pytest.raises(FolderError, match="there is no file or folder"):
        read_annotations(tmp_path / "no.tif")


def test_cellpose_is_read_only(tmp_path, stored) -> None:
    with pytest.raises(FolderError, match="read but not written"):
        write_annotations(tmp_path / "a_seg.npy", {"a": stored}, format="cellpose")


def test_a_folder_of_several_formats_is_not_guessed_at(tmp_path, stored) -> None:
    with pytest.raises(FolderError, match="holds no annotation"):
        read_annotations(tmp_path)
    for suffix in (".tif", ".zip"):
        write_annotations(tmp_path / f"a{suffix}", {"a": stored})
    with pytest.raises(FolderError, match="holds Label TIFF and JSON and ImageJ ROIs"):
        read_annotations(tmp_path)
    shapes = {"a": (60, 70)}
    assert list(read_annotations(tmp_path, format="imagej", shapes=shapes)) == ["a"]


def test_the_json_of_a_label_tiff_is_not_replaced(tmp_path, stored) -> None:
    write_annotations(tmp_path / "a.tif", {"a": stored})
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(SaveError, match="belongs to the label TIFF beside it"):
        write_annotations(tmp_path / "a.json", {"a.tif": stored})
    assert (tmp_path / "a.json").read_bytes() == before


def test_a_label_tiff_that_is_none_is_refused(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 0.5))
    with pytest.raises(LabelError, match="not whole numbers"):
        read_annotations(tmp_path / "a.tif")
