"""Saving and loading annotations in Annotate, in every format."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Layer

from napari_unet.errors import ImageError, LabelError, SaveError
from napari_unet.files.annotations import Region, StoredAnnotation, load_annotation
from napari_unet.files.formats import FORMATS, read_annotations, write_annotations
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets import _annotation_files as module
from napari_unet.widgets import _annotation_formats as formats
from napari_unet.widgets._annotation_files import AnnotationFiles
from napari_unet.widgets._autosave import Autosaver
from napari_unet.widgets._autosave_files import list_autosaves
from napari_unet.widgets._file_filters import (
    as_written,
    filters_to_load,
    filters_to_save,
    format_of_filter,
)
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about
from napari_unet.widgets._painted import painted_of
from napari_unet.widgets._painting import add_regions, image_key, new_annotation
from napari_unet.widgets.readers import read_layers

SQUARE = [(1, 1), (1, 30), (30, 30), (30, 1)]


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((40, 50)), name="nuclei")
    return viewer


@pytest.fixture
def files(qtbot, viewer, tmp_path) -> AnnotationFiles:
    autosaver = Autosaver(viewer, folder=tmp_path / "autosave", delay_s=1000)
    boxes = [LayerBox(viewer, kind, kind, kind) for kind in ("image", "labels")]
    for box in boxes:
        qtbot.addWidget(box)
    files = AnnotationFiles(viewer, *boxes, autosaver)

    def settle(_) -> None:
        qtbot.waitUntil(lambda: not (files._saver.is_running or autosaver.is_writing))

    qtbot.addWidget(files, before_close_func=settle)
    files.autosaver = autosaver
    return files


@pytest.fixture
def labels(viewer, files):
    """A watched annotation of two cells."""
    labels = new_annotation(viewer, viewer.layers["nuclei"])
    labels.data[5:9, 5:9], labels.data[20:24, 20:24] = 1, 2
    files.watch(labels)
    return labels


def done(qtbot, files: AnnotationFiles, word: str) -> str:
    qtbot.waitUntil(
        lambda: files.message.text().startswith(word) or not files.failure.isHidden()
    )
    assert files.failure.isHidden(), files.failure.summary.text()
    return files.message.text()


def failed(qtbot, files: AnnotationFiles) -> str:
    qtbot.waitUntil(lambda: not files.failure.isHidden())
    qtbot.waitUntil(lambda: not files._saver.is_running)
    return files.failure.summary.text()


@pytest.mark.parametrize("name", ["a.tif", "a.json", "a.zip", "a.geojson"])
def test_what_is_saved_can_be_loaded(qtbot, files, labels, tmp_path, name) -> None:
    files.save_to(tmp_path / name)
    assert done(qtbot, files, "Saved").startswith(f"Saved {tmp_path / name}")
    with qtbot.waitSignal(files.opened) as opened:
        files.load_from(tmp_path / name)
        done(qtbot, files, "Loaded")
    (loaded,) = opened.args
    assert loaded.name == "a"
    np.testing.assert_array_equal(loaded.data, labels.data)


def test_files_of_no_known_shape_get_that_of_the_image(
    qtbot, files, labels, tmp_path
) -> None:
    files.save_to(tmp_path / "a.zip")
    done(qtbot, files, "Saved")
    (alone,) = read_annotations(tmp_path / "a.zip").values()
    files.load_from(tmp_path / "a.zip")
    done(qtbot, files, "Loaded")
    assert files._viewer.layers[-1].data.shape == (40, 50)
    assert alone.annotation.labels.shape != (1, 1)


def test_what_another_format_can_t_hold_is_said(
    qtbot, viewer, files, labels, tmp_path
) -> None:
    add_regions(viewer, labels, [Region((), SQUARE)])
    files.save_to(tmp_path / "a.zip")
    assert "finished" in done(qtbot, files, "Saved")
    files.save_to(tmp_path / "a.tif")
    assert done(qtbot, files, "Saved") == f"Saved {tmp_path / 'a.tif'}"


def test_only_the_pair_ends_the_autosave(qtbot, viewer, files, labels, tmp_path):
    def is_offered() -> bool:
        found = list_autosaves(
            image_key(viewer.layers["nuclei"]), tmp_path / "autosave"
        )
        return bool(found)

    labels.data_setitem((np.array([30]), np.array([30])), 3)
    files.autosaver.save_now()
    qtbot.waitUntil(is_offered)
    files.save_to(tmp_path / "a.zip")
    done(qtbot, files, "Saved")
    qtbot.waitUntil(lambda: not files.autosaver.is_writing)
    assert is_offered()
    files.save_to(tmp_path / "a.tif")
    done(qtbot, files, "Saved")
    qtbot.waitUntil(lambda: not is_offered())


def test_a_loaded_pair_is_not_autosaved_until_it_changes(
    qtbot, viewer, files, labels, tmp_path
) -> None:
    add_regions(viewer, labels, [Region((), np.array(SQUARE) / 3)])
    files.save_to(tmp_path / "a.tif")
    done(qtbot, files, "Saved")
    viewer.layers.remove(labels)
    files.load_from(tmp_path / "a.tif")
    done(qtbot, files, "Loaded")
    loaded = next(layer for layer in viewer.layers if layer.name == "a")
    loaded.events.metadata()  # looked at, and nothing is new
    files.autosaver.save_now()
    qtbot.waitUntil(lambda: not files.autosaver.is_writing)
    key = image_key(viewer.layers["nuclei"])
    assert list_autosaves(key, tmp_path / "autosave") == []
    loaded.data_setitem((np.array([30]), np.array([30])), 3)
    files.autosaver.save_now()
    qtbot.waitUntil(lambda: list_autosaves(key, tmp_path / "autosave") != [])


def test_an_annotation_that_napari_opened_is_autosaved(
    qtbot, viewer, files, labels, tmp_path
) -> None:
    files.save_to(tmp_path / "a.tif")
    done(qtbot, files, "Saved")
    (read,) = read_layers(str(tmp_path / "a.json"))
    opened = viewer.add_layer(Layer.create(*read))
    files._labels_box.set_layer(opened)
    files.refresh()
    opened.data_setitem((np.array([30]), np.array([30])), 3)
    files.autosaver.save_now()
    key = image_key(viewer.layers["nuclei"])
    qtbot.waitUntil(lambda: list_autosaves(key, tmp_path / "autosave") != [])


def test_files_are_read_in_the_background(
    qtbot, files, labels, tmp_path, monkeypatch
) -> None:
    threads = []
    read = formats.read_annotations

    def reading(*args, **kwargs):
        threads.append(threading.current_thread())
        return read(*args, **kwargs)

    monkeypatch.setattr(formats, "read_annotations", reading)
    files.save_to(tmp_path / "a.tif")
    done(qtbot, files, "Saved")
    files.load_from(tmp_path / "a.tif")
    done(qtbot, files, "Loaded")
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_one_thing_at_a_time(qtbot, files, labels, tmp_path) -> None:
    files.save_to(tmp_path / "a.tif")
    files.load_from(tmp_path / "no.tif")
    assert done(qtbot, files, "Saved") == f"Saved {tmp_path / 'a.tif'}"


def test_an_image_that_went_meanwhile_is_said(
    qtbot, viewer, files, labels, tmp_path
) -> None:
    files.save_to(tmp_path / "a.tif")
    done(qtbot, files, "Saved")
    image = viewer.layers["nuclei"]
    files.load_from(tmp_path / "a.tif")
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: "its image is gone" in files.message.text())


def test_the_chosen_image_is_found_in_a_file_of_many(
    qtbot, viewer, files, tmp_path
) -> None:
    def stored(i: int) -> StoredAnnotation:
        return StoredAnnotation(Annotation(np.full((40, 50), i)))

    three = {f"x/{name}.tif": stored(i) for i, name in enumerate("ab", 1)}
    write_annotations(tmp_path / "c.json", three | {"x/nuclei.png": stored(3)})
    files.load_from(tmp_path / "c.json")
    done(qtbot, files, "Loaded")
    assert np.unique(viewer.layers[-1].data) == [3]
    write_annotations(tmp_path / "d.json", three)
    files.load_from(tmp_path / "d.json")
    assert "none of them is called nuclei" in failed(qtbot, files)


def test_a_file_of_a_movie_stands_for_its_folder(qtbot, tmp_path) -> None:
    movie = np.zeros((2, 12, 14), np.int32)
    movie[:, 3:6, 3:6] = 4
    stored = StoredAnnotation(Annotation(movie), axes="TYX")
    write_annotations(tmp_path / "m", {"m": stored}, format="ctc")
    (track,) = (tmp_path / "m").glob("*_track.txt")
    (first, _) = sorted((tmp_path / "m").glob("*.tif"))
    for path, chosen in [(track, None), (first, "ctc")]:
        read = formats.read_for(path, movie.shape, {"m"}, format=chosen)
        np.testing.assert_array_equal(read.annotation.labels, movie)


def test_a_format_without_unpainted_asks_for_it(qtbot, files, labels, tmp_path):
    tifffile.imwrite(tmp_path / "a.png.tif", labels.data.astype(np.uint8))
    files.load_from(tmp_path / "a.png.tif")
    done(qtbot, files, "Loaded")
    assert not files.ask_box.isHidden()
    files.background_button.click()
    loaded = files._viewer.layers[-1]
    assert about(loaded)["unpainted"] == "background"
    assert painted_of(loaded).annotation().is_known.all()


def test_another_shape_than_the_image_is_said(qtbot, files, tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((5, 6), np.uint8))
    files.load_from(tmp_path / "a.tif")
    assert "choose the image that was annotated" in failed(qtbot, files)
    assert files.message.text() == ""


def test_files_of_others_are_kept(qtbot, files, labels, tmp_path) -> None:
    (tmp_path / "a.zip").write_bytes(b"precious")
    with pytest.raises(SaveError, match="is no annotation of ours"):
        files.save_to(tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"precious"
    files.save_to(tmp_path / "b.tif")
    done(qtbot, files, "Saved")
    files.save_to(tmp_path / "b.json", may_replace=True)
    assert "belongs to the label TIFF beside it" in failed(qtbot, files)
    load_annotation(tmp_path / "b.tif")


def test_without_layers_nothing_is_saved_or_loaded(qtbot, files, viewer, tmp_path):
    with pytest.raises(LabelError, match="there is no annotation yet"):
        files.save_to(tmp_path / "a.tif")
    viewer.layers.clear()
    with pytest.raises(ImageError, match="there is no image to annotate"):
        files.load_from(tmp_path / "a.tif")


# -- dialogues -----------------------------------------------------------------


def test_dialogues_offer_every_format() -> None:
    to_load = filters_to_load().split(";;")
    assert to_load[0].startswith("All annotations (")
    for ending in ("*.tif", "*.json", "*.zip", "*.geojson", "*_seg.npy", "*_track.txt"):
        assert ending in to_load[0]
    assert [format_of_filter(text) for text in to_load] == [None, *FORMATS.values()]
    to_save = filters_to_save(is_stack=True).split(";;")
    names = [one.name for one in map(format_of_filter, to_save) if one]
    assert names == ["tiff", "coco", "imagej", "geojson", "ctc"]
    assert len(filters_to_save(is_stack=False).split(";;")) == 4


def test_a_path_gets_the_suffix_of_the_chosen_format(tmp_path) -> None:
    def named(name: str, chosen: str | None = None) -> tuple[str, str]:
        format_ = None if chosen is None else FORMATS[chosen]
        path, one = as_written(tmp_path / name, format_)
        return path.name, one.name

    assert named("a") == ("a.tif", "tiff")
    assert named("a.1") == ("a.1.tif", "tiff")
    assert named("a.TIFF") == ("a.TIFF", "tiff")
    assert named("a", "coco") == ("a.json", "coco")
    assert named("a.zip", "coco") == ("a.zip", "imagej")
    assert named("a.png", "geojson") == ("a.png.geojson", "geojson")
    assert named("a", "ctc") == ("a", "ctc")


@pytest.mark.parametrize("kind", ["imagej", "geojson"])
def test_the_filter_of_the_dialogue_decides(
    qtbot, files, labels, tmp_path, monkeypatch, kind
) -> None:
    files.refresh()
    chosen = (str(tmp_path / "mine"), f"{FORMATS[kind].title} (*.x)")
    monkeypatch.setattr(module.QFileDialog, "getSaveFileName", lambda *_: chosen)
    files.save_button.click()
    done(qtbot, files, "Saved")
    (path,) = tmp_path.glob("mine*")
    assert path.suffix == FORMATS[kind].suffixes[0]
    chosen = (str(path), "All annotations (*.x)")
    monkeypatch.setattr(module.QFileDialog, "getOpenFileName", lambda *_: chosen)
    files.load_button.click()
    done(qtbot, files, "Loaded")


def test_a_closed_dialogue_does_nothing(files, labels, monkeypatch) -> None:
    files.refresh()
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(module.QFileDialog, name, lambda *_: ("", ""))
    files.save_button.click()
    files.load_button.click()
    assert files.message.text() == ""
