"""Watching layers, and writing what is new in them in the background."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QCoreApplication
from qtpy.QtWidgets import QWidget

from napari_unet.errors import SaveError
from napari_unet.files.annotations import load_annotation
from napari_unet.widgets import _autosave as autosave
from napari_unet.widgets import _finished as finished
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._autosave import (
    Autosaver,
    autosave_all,
    autosaver_of,
    is_open,
)
from napari_unet.widgets._autosave_files import fingerprint, list_autosaves
from napari_unet.widgets._layers import about, show_labels
from napari_unet.widgets._painted import painted_of

LONG_S = 1000.0
RECTANGLE = np.array([[2, 3], [2, 6], [5, 6], [5, 3]])


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((8, 9)), name="nuclei")
    return viewer


@pytest.fixture
def labels(viewer):
    return painting.new_annotation(viewer, viewer.layers["nuclei"])


@pytest.fixture
def make_saver(qtbot, viewer, tmp_path):
    savers = []

    def make(delay_s: float = LONG_S) -> Autosaver:
        savers.append(Autosaver(viewer, folder=tmp_path, delay_s=delay_s))
        return savers[-1]

    yield make
    for saver in savers:
        idle(qtbot, saver)
        saver.deleteLater()


def idle(qtbot, saver: Autosaver) -> None:
    qtbot.waitUntil(lambda: not saver.is_writing)


def saved(tmp_path) -> list[np.ndarray]:
    return [
        load_annotation(found.path).annotation.labels
        for found in list_autosaves("key", tmp_path)
    ]


def test_stroke_is_written_after_the_delay(qtbot, make_saver, labels, tmp_path):
    saver = make_saver(0.02)
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    qtbot.waitUntil(lambda: len(saved(tmp_path)) == 1)
    np.testing.assert_array_equal(saved(tmp_path)[0], labels.data)


def test_later_strokes_do_not_put_the_writing_off(qtbot, make_saver, labels):
    saver = make_saver(LONG_S)
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    before = saver.remaining_s
    qtbot.wait(50)
    labels.paint((6, 6), 1)
    assert 0 < saver.remaining_s < before - 0.03


def test_writing_is_done_in_another_thread(qtbot, make_saver, labels, monkeypatch):
    threads = []
    write = autosave.write_autosave

    def spy(*args, **kwargs):
        threads.append(threading.current_thread())
        write(*args, **kwargs)

    monkeypatch.setattr(autosave, "write_autosave", spy)
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    saver.save_now()
    qtbot.waitUntil(lambda: bool(threads))
    assert threads[0] is not threading.main_thread()


def test_undo_is_written_too(qtbot, make_saver, labels, tmp_path):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    labels.paint((6, 6), 2)
    saver.save_now()
    idle(qtbot, saver)
    labels.undo()
    saver.save_now()
    idle(qtbot, saver)
    assert saved(tmp_path)[0].max() == 1


def test_nothing_new_is_not_written(qtbot, make_saver, labels, monkeypatch):
    n_written = []
    monkeypatch.setattr(autosave, "write_autosave", lambda *a, **k: n_written.append(1))
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.refresh()  # as undo does, or moving to another slice
    saver.save_now()
    idle(qtbot, saver)
    assert n_written == []  # nothing was ever painted
    for _ in range(2):
        labels.paint((2, 2), 1)
        saver.save_now()
        idle(qtbot, saver)
    assert n_written == [1]


def test_regions_classes_and_unpainted_are_written(
    qtbot, make_saver, viewer, labels, tmp_path
):
    saver = make_saver()
    saver.watch(labels, image="key")
    painting.paint_with(viewer, labels, painting.background_id(labels))
    labels.paint((2, 2), 1)
    painting.set_unpainted(labels, "background")
    shapes = finished.draw_finished(viewer, labels)
    saver.save_now()
    idle(qtbot, saver)
    shapes.add_rectangles(RECTANGLE)  # an edit of the Shapes layer alone
    saver.save_now()
    idle(qtbot, saver)
    stored = load_annotation(list_autosaves("key", tmp_path)[0].path)
    assert stored.annotation.label_class[1] == 0
    assert stored.unpainted == "background"
    assert len(stored.regions) == 1


def test_removed_layer_is_written(qtbot, make_saver, viewer, labels, tmp_path):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    viewer.layers.remove(labels)
    qtbot.waitUntil(lambda: len(saved(tmp_path)) == 1)
    assert not is_open(list_autosaves("key", tmp_path)[0].path)


@pytest.mark.parametrize("n_saved", [0, 1])
def test_closing_keeps_finished_regions_that_go_before_their_annotation(
    qtbot, make_saver, viewer, labels, tmp_path, n_saved
):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    shapes = finished.draw_finished(viewer, labels)
    shapes.add_rectangles(RECTANGLE)
    if n_saved:
        saver.flush()
    viewer.layers.remove(shapes)
    viewer.layers.remove(labels)
    saver.flush()
    stored = load_annotation(list_autosaves("key", tmp_path)[0].path)
    assert len(stored.regions) == 1


def test_finished_regions_that_the_user_deletes_are_gone(
    qtbot, make_saver, viewer, labels, tmp_path
):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    shapes = finished.draw_finished(viewer, labels)
    shapes.add_rectangles(RECTANGLE)
    saver.flush()
    viewer.layers.remove(shapes)
    qtbot.wait(20)
    viewer.layers.remove(labels)
    saver.flush()
    stored = load_annotation(list_autosaves("key", tmp_path)[0].path)
    assert len(stored.regions) == 0


def test_start_of_training_writes_all_of_this_viewer(
    qtbot, make_saver, viewer, labels, tmp_path
):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    autosave_all(ViewerModel())
    assert not saver.is_writing
    autosave_all(viewer)
    qtbot.waitUntil(lambda: len(saved(tmp_path)) == 1)


def test_closing_window_waits_for_the_writing(make_saver, labels, tmp_path, qtbot):
    saver = make_saver()
    saver.watch(labels, image="key")
    window = QWidget()
    qtbot.addWidget(window)
    saver.guard(window)
    labels.paint((2, 2), 1)
    window.close()
    assert len(saved(tmp_path)) == 1


def test_closing_writes_what_the_background_has_not_begun(
    make_saver, viewer, labels, tmp_path
):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    viewer.layers.remove(labels)  # handed to the background
    saver.flush()
    assert len(saved(tmp_path)) == 1


def test_older_job_never_replaces_a_newer_one(tmp_path, labels):
    writer = autosave._Writer()
    path = tmp_path / "x.tif"
    old = autosave._Job(1, path, "key", "cells", painted_of(labels))
    labels.data = np.full((8, 9), 5, np.int32)
    writer.do(autosave._Job(2, path, "key", "cells", painted_of(labels)))
    writer.do(old)
    assert load_annotation(path).annotation.labels.max() == 5


def test_saved_annotation_is_not_offered_until_it_is_edited(
    qtbot, make_saver, labels, tmp_path
):
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    saver.save_now()
    idle(qtbot, saver)
    saver.mark_saved(labels, fingerprint(painted_of(labels).stored()))
    idle(qtbot, saver)
    assert saved(tmp_path) == []
    labels.refresh()
    saver.save_now()
    idle(qtbot, saver)
    assert saved(tmp_path) == []
    labels.paint((6, 6), 2)
    saver.save_now()
    idle(qtbot, saver)
    assert saved(tmp_path)[0].max() == 2


def test_restored_annotation_goes_on_with_its_file(qtbot, make_saver, labels, tmp_path):
    path = tmp_path / "mine.tif"
    saver = make_saver()
    saver.watch(labels, image="key", path=path)
    assert is_open(path)
    labels.paint((2, 2), 1)
    saver.flush()
    assert path.exists()


def test_fault_is_told_and_tried_again(
    qtbot, make_saver, labels, monkeypatch, tmp_path
):
    def full(*args, **kwargs):
        raise SaveError("NU-S01", "the disk is full")

    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    with monkeypatch.context() as patch:
        patch.setattr(autosave, "write_autosave", full)
        with qtbot.waitSignal(saver.failed) as failed:
            saver.save_now()
        idle(qtbot, saver)
    assert "the disk is full" in failed.args[0].summary
    assert saver.remaining_s > 0
    saver.save_now()
    idle(qtbot, saver)
    assert len(saved(tmp_path)) == 1


def test_fault_of_one_annotation_does_not_stop_the_others(
    qtbot, make_saver, viewer, labels, tmp_path
):
    saver = make_saver()
    no_folder = tmp_path / "file" / "x.tif"
    no_folder.parent.write_text("in the way")
    saver.watch(labels, image="key", path=no_folder)
    other = painting.new_annotation(viewer, viewer.layers["nuclei"])
    saver.watch(other, image="key")
    for layer in (labels, other):
        layer.paint((2, 2), 1)
    with pytest.raises(SaveError, match="NU-S01"):
        saver.flush()
    assert len(saved(tmp_path)) == 1


def test_fault_on_closing_does_not_raise(qtbot, make_saver, labels, monkeypatch):
    def full(*args, **kwargs):
        raise SaveError("NU-S01", "the disk is full")

    monkeypatch.setattr(autosave, "write_autosave", full)
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    window = QWidget()
    qtbot.addWidget(window)
    saver.guard(window)
    with qtbot.waitSignal(saver.failed):
        window.close()


def test_every_viewer_has_one_autosaver(qtbot, viewer, tmp_path) -> None:
    saver = autosaver_of(viewer, folder=tmp_path)
    assert autosaver_of(PublicOnlyProxy(viewer)) is saver
    assert autosaver_of(ViewerModel(), folder=tmp_path) is not saver


def test_autosaver_goes_with_its_viewer(qtbot, tmp_path) -> None:
    viewer = ViewerModel()
    gone = weakref.ref(autosaver_of(viewer, folder=tmp_path))
    del viewer
    gc.collect()
    assert gone() is None


def test_what_a_closed_viewer_left_is_written(qtbot, tmp_path) -> None:
    viewer = ViewerModel()
    saver = autosaver_of(viewer, folder=tmp_path)
    for name in ("a", "b"):
        image = viewer.add_image(np.zeros((8, 9)), name=name)
        labels = painting.new_annotation(viewer, image)
        saver.watch(labels, image="key")
        labels.paint((2, 2), 1)
    viewer.layers.clear()
    del saver, viewer, image, labels
    gc.collect()
    qtbot.waitUntil(lambda: len(saved(tmp_path)) == 2)
    qtbot.waitUntil(lambda: not autosave._writing)


def test_corrected_result_is_autosaved(qtbot, viewer, tmp_path) -> None:
    image = viewer.layers["nuclei"]
    saver = autosaver_of(viewer, folder=tmp_path)
    result = show_labels(viewer, "cells", np.ones((8, 9), np.int32), like=image)
    assert not saver.is_watched(result)
    result.paint((2, 2), 5)
    assert about(result)["label_class"] == {}
    saver.flush()
    (found,) = list_autosaves(painting.image_key(image), tmp_path)
    labels = load_annotation(found.path).annotation.labels
    np.testing.assert_array_equal(labels, result.data)


def test_quitting_writes(qtbot, make_saver, labels, tmp_path) -> None:
    saver = make_saver()
    saver.watch(labels, image="key")
    labels.paint((2, 2), 1)
    QCoreApplication.instance().aboutToQuit.emit()
    assert len(saved(tmp_path)) == 1


def test_region_across_slices_does_not_stop_the_writing(viewer, tmp_path):
    image = viewer.add_image(np.zeros((3, 8, 9)), name="stack")
    labels = painting.new_annotation(viewer, image, "ZYX")
    shapes = finished.draw_finished(viewer, labels)
    corners = np.array([[0, 3, 0], [2, 3, 0], [2, 3, 5], [0, 3, 5]])
    shapes.add_polygons(corners)
    assert len(painted_of(labels).regions) == 0
