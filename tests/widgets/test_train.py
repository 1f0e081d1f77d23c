from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QMessageBox,
    QWidget,
)

from napari_unet import events as ev
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.lazy import ImageFile, MaskFile
from napari_unet.learning.model import Round
from napari_unet.widgets import train as module
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._training_line import AT_WORK
from napari_unet.widgets.train import (
    TrainWidget,
    new_run_folder,
)

FEW_STEPS = TrainConfig(
    max_steps=4, batch_size=1, patch_size=16, validate_every=2, device="cpu"
)
TINY = NetworkConfig(base_width=2, depth=1)
# Stands for a model where nothing is done with it.
BEST = SimpleNamespace(rounds=())


@pytest.fixture(autouse=True)
def _nothing_trained(monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {})


@pytest.fixture
def painted(viewer, drawn):
    """A viewer with an image and a completely painted layer."""
    image, labels = drawn
    viewer.add_image(image, name="nuclei")
    layer = viewer.add_labels(labels, name="cells")
    layer.metadata = {"napari_unet": {"unpainted": "background"}}
    return viewer


@pytest.fixture
def widget(qtbot, painted):
    return make(qtbot, painted)


def make(qtbot, viewer):
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.settings.setValue(FEW_STEPS)
    widget.form.network.setValue(TINY)
    # Else it goes on after its last step.
    widget.controls.keep_learning.setChecked(False)
    return widget


def train(qtbot, widget):
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)


def failure_of(widget):
    failure = widget.panel.state.failure
    return "" if failure is None else failure.summary


def fake_training(monkeypatch, events):
    """Let the widget run `events(mailbox)` in place of training."""
    calls = []

    def train(images, annotations, config, **kwargs):
        calls.append({"images": images, "annotations": annotations, **kwargs})
        yield from events(kwargs["mailbox"])

    monkeypatch.setattr("napari_unet.learning.training.train", train)
    return calls


# -- from layers ---------------------------------------------------------------


def test_layers_train_a_model_that_predict_then_offers(qtbot, widget):
    train(qtbot, widget)
    assert failure_of(widget) == ""
    assert widget.panel.state.phase == "done"
    assert widget.plot.curves.steps == [1, 2, 3, 4]
    assert widget.model.n_channels == 1
    assert list(TRAINED.models.values()) == [widget.model]
    assert widget.result.save.isEnabled()


def test_what_the_last_cells_bought_is_told(qtbot, widget, monkeypatch, tiny_model):
    rounds = (Round(40, 0.6, 500, "a"), Round(80, 0.7, 500, "a"))
    model = replace(tiny_model, rounds=rounds)
    fake_training(monkeypatch, lambda _: iter([ev.Finished(model, {}, "steps")]))
    train(qtbot, widget)
    assert widget.panel.state.notes[-1].startswith("The last 40 cells brought +0.10")


def test_other_docks_are_told_of_a_training_as_long_as_it_computes(
    qtbot, widget, monkeypatch
):
    heard = []

    def events(mailbox):
        yield ev.Paused(True)
        yield ev.Paused(False)
        yield ev.Finished(BEST, {}, "steps")

    fake_training(monkeypatch, events)
    AT_WORK.changed.connect(lambda: heard.append(bool(AT_WORK)))
    train(qtbot, widget)
    assert heard == [True, False, True, False]


def test_runs_are_kept_among_the_users_data(qtbot, widget, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "new_run_folder", lambda: tmp_path / "run")
    train(qtbot, widget)
    assert (tmp_path / "run" / "best.unet").is_file()


def test_a_run_folder_is_never_in_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    assert new_run_folder().is_absolute()
    assert "napari-unet" in new_run_folder().parts


def test_no_two_runs_get_one_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "runs_folder", lambda: tmp_path)
    folders = set()
    for _ in range(3):  # within a second or two
        folder = new_run_folder()
        folder.mkdir()
        time.strptime(folder.name, "%Y%m%d-%H%M%S")
        folders.add(folder)
    assert len(folders) == 3


def test_cells_without_known_background_are_refused(qtbot, widget, painted):
    painted.layers["cells"].metadata = {}
    train(qtbot, widget)
    assert failure_of(widget).startswith(
        'labels "cells" has cells but no known background: paint some background, '
        "draw a finished region, or choose 'unpainted is background'"
    )
    assert widget.plot.curves.steps == []
    assert widget.model is None


def test_nothing_painted_is_refused(qtbot, widget, painted):
    painted.layers["cells"].data = np.zeros((48, 48), np.int32)
    train(qtbot, widget)
    assert 'labels "cells" has no annotated cells' in failure_of(widget)


def test_labels_of_another_size_are_refused_at_once(qtbot, widget, painted):
    painted.layers["cells"].data = np.ones((10, 48), np.int32)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert 'labels "cells" is 10 x 48' in failure_of(widget)
    assert not widget.panel.state.is_running


def test_without_an_annotation_it_says_what_to_do(qtbot, viewer):
    viewer.add_image(np.zeros((48, 48)), name="nuclei")
    widget = make(qtbot, viewer)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert 'image "nuclei" has no annotation' in failure_of(widget)


def test_without_an_image_it_says_what_to_do(qtbot, viewer):
    widget = make(qtbot, viewer)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "no image layer is chosen" in failure_of(widget)


def test_layers_of_one_channel_train_as_the_channels_of_one_image(
    qtbot, widget, painted
):
    second = painted.add_image(np.ones((48, 48)), name="actin")
    widget.form.data.images.choose(painted.layers["nuclei"], second)
    train(qtbot, widget)
    assert failure_of(widget) == ""
    assert widget.model.n_channels == 2
    assert set(widget.model.channel_names) == {"nuclei", "actin"}


def test_a_stack_asks_for_its_axes_and_tells_how_many_slices_count(
    qtbot, viewer, drawn
):
    image, labels = drawn
    stack = np.zeros((3, *labels.shape), np.int32)
    stack[1] = labels
    viewer.add_image(np.stack([image] * 3), name="stack")
    viewer.add_labels(stack, name="cells").metadata = {
        "napari_unet": {"unpainted": "background"}
    }
    widget = make(qtbot, viewer)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "NU-I09" in failure_of(widget)
    widget.form.data.images.axes.setCurrentIndex(
        widget.form.data.images.axes.findData("ZYX")
    )
    text = widget.form.data.slices.text
    qtbot.waitUntil(lambda: text().startswith("1 of 3 slices count"), timeout=10_000)
    train(qtbot, widget)
    assert failure_of(widget) == ""
    assert any("1 of 3 slices count" in note for note in widget.panel.state.notes)


def test_the_dropped_alpha_channel_is_told(qtbot, viewer, drawn, monkeypatch):
    image, labels = drawn
    rgba = np.repeat((255 * image.clip(0, 1)).astype(np.uint8)[..., None], 4, axis=2)
    viewer.add_image(rgba, rgb=True, name="photo")
    viewer.add_labels(labels, name="cells").metadata = {
        "napari_unet": {"unpainted": "background"}
    }
    widget = make(qtbot, viewer)
    train(qtbot, widget)
    assert widget.model.n_channels == 3
    assert any("alpha" in note for note in widget.panel.state.notes)


def test_momentum_is_asked_for_with_the_optimiser_that_has_one(qtbot, widget):
    momentum = widget.form.settings.rows["momentum"]
    widget.form.settings.more.heading.setChecked(True)
    assert not momentum.isVisibleTo(widget)
    widget.form.settings.rows["optimizer"].editor.value = "sgd"
    assert momentum.isVisibleTo(widget)


# -- while it runs -------------------------------------------------------------


def test_painting_goes_on_and_training_keeps_what_it_began_with(
    qtbot, widget, painted, monkeypatch
):
    go_on = threading.Event()
    started = threading.Event()

    def events(mailbox):
        started.set()
        go_on.wait(10)
        yield ev.Note("done")

    calls = fake_training(monkeypatch, events)
    layer = painted.layers["cells"]
    before = layer.data.copy()
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(started.is_set, timeout=10_000)
        layer.data_setitem((np.arange(5), np.arange(5)), 77)
        assert layer.data[2, 2] == 77
        go_on.set()
    np.testing.assert_array_equal(calls[0]["annotations"][0].labels, before)


def test_stop_keeps_the_best_model(qtbot, widget):
    widget.form.settings.setValue(FEW_STEPS.model_copy(update={"max_steps": 100_000}))
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: widget.panel.state.n_done > 0, timeout=30_000)
        qtbot.mouseClick(widget.panel.pause, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: widget.panel.state.phase == "paused", timeout=30_000)
        qtbot.mouseClick(widget.panel.stop, Qt.MouseButton.LeftButton)
    assert "stopped by you" in widget.panel.state.message
    assert widget.model is not None


def test_a_runtime_error_of_torch_is_shown_and_the_next_training_works(
    qtbot, widget, monkeypatch
):
    def events(mailbox):
        yield ev.Note("first")
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with monkeypatch.context() as patch:
        fake_training(patch, events)
        train(qtbot, widget)
    assert "mat1 and mat2" in failure_of(widget)
    assert not widget.result.save.isEnabled()
    train(qtbot, widget)
    assert failure_of(widget) == ""
    assert widget.model is not None


def test_a_refused_or_failed_start_keeps_model_and_curve(
    qtbot, widget, painted, monkeypatch
):
    train(qtbot, widget)
    model = widget.model
    painted.layers["cells"].data = np.zeros((48, 48), np.int32)
    train(qtbot, widget)
    assert "has no annotated cells" in failure_of(widget)
    assert widget.model is model
    assert widget.result.save.isEnabled()
    assert widget.plot.curves.steps == [1, 2, 3, 4]


def test_the_curve_begins_anew_when_training_begins(qtbot, widget):
    train(qtbot, widget)
    train(qtbot, widget)
    assert widget.plot.curves.steps == [1, 2, 3, 4]


def test_the_best_model_so_far_can_be_saved_while_training_goes_on(
    qtbot, widget, monkeypatch
):
    go_on = threading.Event()

    def events(mailbox):
        yield ev.Improved(1, 0.5, "the best so far")
        go_on.wait(10)

    fake_training(monkeypatch, events)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(widget.result.save.isEnabled, timeout=10_000)
        assert widget.panel.state.is_running
        go_on.set()


def test_aborted_training_leaves_the_best_model_so_far(qtbot, widget, monkeypatch):
    def events(mailbox):
        yield ev.Improved(1, 0.5, "the best so far")
        raise MemoryError

    fake_training(monkeypatch, events)
    train(qtbot, widget)
    assert widget.model == "the best so far"
    assert widget.result.save.isEnabled()
    assert TRAINED.models == {}
    qtbot.mouseClick(widget.result.use, Qt.MouseButton.LeftButton)
    assert list(TRAINED.models.values()) == ["the best so far"]


def test_use_in_predict_opens_it_with_this_model(qtbot, widget, tiny_model):
    opened = []

    class Window:
        def add_plugin_dock_widget(self, plugin, name, **kwargs):
            opened.append((plugin, name))
            return self, None

        def raise_(self):
            opened.append("in front")

    widget.result._viewer = type("Viewer", (), {"window": Window()})()
    TRAINED.add("mine", tiny_model)
    widget.result.model = tiny_model
    with qtbot.waitSignal(TRAINED.offered) as offered:
        qtbot.mouseClick(widget.result.use, Qt.MouseButton.LeftButton)
    assert offered.args == ["mine"]
    assert opened == [("napari-unet-loop", "Predict"), "in front"]


def test_unsaved_annotations_are_written_when_training_starts(
    qtbot, widget, painted, monkeypatch
):
    saved = []
    monkeypatch.setattr(module, "autosave_all", saved.append)
    fake_training(monkeypatch, lambda mailbox: iter([ev.Note("done")]))
    train(qtbot, widget)
    assert saved == [painted]


def test_a_fault_while_looking_at_layers_is_shown(qtbot, widget, painted, monkeypatch):
    def fails(*_, **__):
        raise MemoryError("too large")

    target = "napari_unet.widgets._training_data.painted_of"
    monkeypatch.setattr(target, fails)
    stack = painted.add_labels(np.zeros((3, 48, 48), int))
    widget.form.data.labels.set_layer(stack)
    qtbot.waitUntil(lambda: "MemoryError" in failure_of(widget), timeout=10_000)


# -- models and files ----------------------------------------------------------


def test_training_goes_on_from_a_model(qtbot, widget, tiny_model):
    TRAINED.add("mine", tiny_model)
    widget.form.start_from.box.setCurrentText("mine")
    assert widget.form.network.isHidden()
    assert not widget.form.own_network.isHidden()
    train(qtbot, widget)
    assert failure_of(widget) == ""
    assert widget.model.network == tiny_model.network
    widget.form.start_from.box.setCurrentText("from scratch")
    assert not widget.form.network.isHidden()
    assert widget.form.own_network.isHidden()


def test_saved_models_load_again(qtbot, widget, tmp_path):
    from napari_unet.learning.checkpoint import load_model

    train(qtbot, widget)
    widget.result.save_to(tmp_path / "mine")
    assert load_model(tmp_path / "mine.unet").network == widget.model.network
    assert any("mine.unet" in note for note in widget.panel.state.notes)


def test_the_save_button_asks_where(qtbot, widget, tmp_path, monkeypatch, tiny_model):
    widget.result.model = tiny_model
    asked = lambda *_: (str(tmp_path / "a.unet"), "")  # noqa: E731
    monkeypatch.setattr(QFileDialog, "getSaveFileName", asked)
    qtbot.mouseClick(widget.result.save, Qt.MouseButton.LeftButton)
    assert (tmp_path / "a.unet").is_file()


@pytest.mark.parametrize("name", ["model_0.5", "cells.v2", "a.tif"])
def test_the_name_of_a_model_is_kept_whole(widget, tmp_path, tiny_model, name):
    widget.result.model = tiny_model
    widget.result.save_to(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.unet"]


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_model_that_the_dialogue_did_not_ask_about_is_asked_about(
    qtbot, widget, tmp_path, monkeypatch, tiny_model, answer
):
    widget.result.model = tiny_model
    (tmp_path / "a.unet").write_text("before")
    chosen = lambda *_: (str(tmp_path / "a"), "")  # noqa: E731
    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    asked = []

    def question(parent, title, text):
        asked.append(text)
        return QMessageBox.StandardButton[answer]

    monkeypatch.setattr(QMessageBox, "question", question)
    qtbot.mouseClick(widget.result.save, Qt.MouseButton.LeftButton)
    assert "a.unet is there already" in asked[0]
    assert ((tmp_path / "a.unet").read_bytes() == b"before") == (answer == "No")


def test_a_place_that_cannot_be_written_is_told(
    qtbot, widget, tmp_path, monkeypatch, tiny_model
):
    widget.result.model = tiny_model
    asked = lambda *_: (str(tmp_path / "none" / "a.unet"), "")  # noqa: E731
    monkeypatch.setattr(QFileDialog, "getSaveFileName", asked)
    qtbot.mouseClick(widget.result.save, Qt.MouseButton.LeftButton)
    assert "NU-S" in failure_of(widget)


# -- from folders --------------------------------------------------------------


def test_two_folders_train(qtbot, viewer, folders, monkeypatch):
    def events(mailbox):
        yield ev.Note("trained")

    calls = fake_training(monkeypatch, events)
    widget = make(qtbot, viewer)
    widget.form.data.source.setCurrentIndex(1)
    widget.form.data.image_folder.set_path(folders[0])
    widget.form.data.mask_folder.set_path(folders[1])
    widget.form.data.pattern.setText("train_*")
    train(qtbot, widget)
    assert failure_of(widget) == ""
    # Read when they are needed.
    names = ["train_a.tif", "train_b.tif"]
    assert calls[0]["images"] == [ImageFile(folders[0] / name) for name in names]
    assert calls[0]["annotations"] == [MaskFile(folders[1] / name) for name in names]


def test_folders_are_asked_for(qtbot, widget):
    widget.form.data.source.setCurrentIndex(1)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "choose a folder for each" in failure_of(widget)


# -- looks ---------------------------------------------------------------------


def test_every_control_has_a_name_and_a_tooltip(widget):
    kinds = (QAbstractButton, QComboBox, QLineEdit)
    controls = [c for kind in kinds for c in widget.findChildren(kind)]
    # Not those within the spin boxes, nor those of pyqtgraph's own menu.
    own = [c for c in controls if c.window() is widget.window()]
    named = [c for c in own if not c.objectName().startswith("qt_")]
    assert len(named) > 20
    assert [c for c in named if not (c.accessibleName() and c.toolTip())] == []


def test_the_time_is_not_limited_where_the_box_says_so(widget):
    box = widget.form.settings.rows["max_minutes"].open_box
    assert box.text() == "no limit"
    assert box.isChecked()
    assert widget.form.settings.value().max_minutes is None


def test_it_fits_a_narrow_dock_with_all_folds_open(qtbot, widget):
    for form in (widget.form.settings, widget.form.weights, widget.form.network):
        form.more.heading.click()
    widget.show()
    assert widget.minimumSizeHint().width() <= 400
    content = widget.layout().itemAt(0).widget()
    assert content.widget().minimumSizeHint().width() <= content.minimumWidth()


@pytest.mark.gui
def test_closing_the_viewer_ends_training(qtbot, window, drawn, monkeypatch):
    closed = threading.Event()

    def events(mailbox):
        try:
            for i in range(100_000):
                yield ev.StepDone(i + 1, 100_000, 1.0, 1.0)
                mailbox.wants_stop or threading.Event().wait(0.01)
        finally:
            closed.set()

    fake_training(monkeypatch, events)
    image, labels = drawn
    window.add_image(image, name="nuclei")
    window.add_labels(labels, name="cells")
    widget = TrainWidget(window)
    window.window.add_dock_widget(widget, name="Train")
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.panel.state.n_done > 2, timeout=20_000)
    window.close()
    qtbot.waitUntil(closed.is_set, timeout=10_000)


def endless(mailbox):
    yield ev.Improved(1, 0.5, "the best so far")
    step = 0
    while not mailbox.wants_stop:
        step += 1
        yield ev.StepDone(step, 100_000, 1.0, 1.0)
        threading.Event().wait(0.01)
    yield ev.Finished(BEST, {}, "stopped")


def docked(qtbot, window, drawn, monkeypatch, events):
    """Return a dock in which training goes on."""
    fake_training(monkeypatch, events)
    window.add_image(drawn[0], name="nuclei")
    window.add_labels(drawn[1], name="cells")
    widget = TrainWidget(window)
    dock = window.window.add_dock_widget(widget, name="Train")
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.panel.state.is_running, timeout=20_000)
    return widget, dock


@pytest.mark.gui
def test_closing_the_dock_ends_training_and_keeps_the_model(
    qtbot, window, drawn, monkeypatch
):
    told = []
    monkeypatch.setattr(module, "show_info", told.append)
    widget, dock = docked(qtbot, window, drawn, monkeypatch, endless)
    gone = weakref.ref(widget)
    dock.destroyOnClose()
    del widget, dock
    gc.collect()
    qtbot.waitUntil(lambda: bool(told), timeout=20_000)
    assert list(TRAINED.models.values()) == [BEST]
    assert "Predict offers its best model" in told[0]
    assert not module._ENDING
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None, timeout=20_000)


@pytest.mark.gui
def test_hiding_the_dock_or_another_tab_in_front_stops_nothing(
    qtbot, window, drawn, monkeypatch
):
    widget, dock = docked(qtbot, window, drawn, monkeypatch, endless)
    dock.hide()
    dock.show()
    dock.setFloating(True)
    dock.setFloating(False)
    window.window.add_dock_widget(QWidget(), name="other", tabify=True)
    qtbot.wait(50)
    assert widget.panel.state.phase == "running"
    with qtbot.waitSignal(widget.panel.ended, timeout=20_000):
        widget.panel.ask_stop()


@pytest.mark.gui
@pytest.mark.parametrize("has_model", [True, False])
def test_a_closed_dock_tells_of_training_that_fails(
    qtbot, window, drawn, monkeypatch, has_model
):
    def events(mailbox):
        if has_model:
            yield ev.Improved(1, 0.5, "the best so far")
        while not mailbox.wants_stop:
            yield ev.StepDone(1, 100_000, 1.0, 1.0)
            threading.Event().wait(0.01)
        raise MemoryError

    told = []
    monkeypatch.setattr(module, "show_info", told.append)
    _, dock = docked(qtbot, window, drawn, monkeypatch, events)
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: bool(told), timeout=20_000)
    assert list(TRAINED.models.values()) == ["the best so far"] * has_model
    assert ("before it had a model" in told[0]) == (not has_model)
