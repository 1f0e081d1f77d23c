from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers._source import layer_source
from qtpy.QtCore import Qt

from napari_unet import events as ev
from napari_unet.batch import segment
from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.files.images import read_labels, write_image
from napari_unet.files.ome_zarr import LabelStore
from napari_unet.imaging.arrays import Image
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.networks import build_network
from napari_unet.widgets._batch_open import is_of_values, read_result
from napari_unet.widgets._batch_progress import Progress, with_progress
from napari_unet.widgets._batch_table import FileTable
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets.batch import BatchWidget

ON_CPU = PredictConfig(device="cpu", precision="fp32")


@pytest.fixture
def folder(tmp_path, drawn):
    """Two images of two channels and one, and a file that is none."""
    place = tmp_path / "images"
    place.mkdir()
    image = drawn[0][None]
    write_image(place / "a.tif", image, axes="CYX", pixel_size_um=(0.5, 0.5))
    write_image(place / "c.tif", image, axes="CYX")
    (place / "b.tif").write_text("no TIFF")
    return place


@pytest.fixture
def widget(qtbot, viewer, folder, tiny_model, monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {"trained just now": tiny_model})
    widget = BatchWidget(viewer)
    qtbot.addWidget(widget)
    widget.settings.setValue(ON_CPU)
    widget.input.set_path(folder)
    widget.output.set_path(folder.parent / "out")
    return widget


def run(qtbot, widget):
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)


def row_of(table, row):
    return [table.item(row, c).text() for c in (0, 1, 2) if table.item(row, c)]


def table_of(widget):
    return widget.files.table


def failure_of(widget):
    failure = widget.panel.state.failure
    return "" if failure is None else failure.summary


def test_one_bad_file_is_in_its_row_and_stops_no_other(
    qtbot, widget, folder, tiny_model, drawn
):
    run(qtbot, widget)
    expected = segment(tiny_model, Image(drawn[0][None]), config=ON_CPU)
    n = str(expected.max())
    assert row_of(table_of(widget), 0) == ["a.tif", "done", n]
    assert row_of(table_of(widget), 1)[:2] == ["b.tif", "failed"]
    assert row_of(table_of(widget), 2) == ["c.tif", "done", n]
    assert "b.tif is not a TIFF" in table_of(widget).messages[1]
    assert "1 failed" in widget.panel.state.message
    np.testing.assert_array_equal(
        read_labels(folder.parent / "out" / "a_labels.tif"), expected
    )
    assert not (folder.parent / "out" / "b_labels.tif").exists()


def test_the_message_of_the_chosen_file_is_shown_whole(qtbot, widget):
    run(qtbot, widget)
    assert "b.tif is not a TIFF" in table_of(widget).item(1, 1).toolTip()
    table_of(widget).setCurrentCell(1, 0)
    assert "b.tif is not a TIFF" in widget.files.message.text()
    table_of(widget).setCurrentCell(0, 0)
    assert widget.files.message.text() == ""


def test_only_files_that_fit_the_pattern(qtbot, widget):
    widget.pattern.setText("a*")
    run(qtbot, widget)
    assert table_of(widget).rowCount() == 1


def test_what_is_ticked_is_written_and_the_sheet_can_be_opened(
    qtbot, widget, folder, monkeypatch
):
    assert not widget.files.sheet.isEnabled()
    widget.pattern.setText("a*")
    for name in ("probabilities", "preview", "measure"):
        widget.options.boxes[name].setChecked(True)
    run(qtbot, widget)
    out = folder.parent / "out"
    for name in ("a_probabilities.tif", "measurements.csv", "preview.html"):
        assert (out / name).is_file()
    opened = []
    monkeypatch.setattr(
        "napari_unet.widgets.batch.QDesktopServices.openUrl", opened.append
    )
    qtbot.mouseClick(widget.files.sheet, Qt.MouseButton.LeftButton)
    assert [url.toLocalFile() for url in opened] == [str(out / "preview.html")]


def test_a_double_click_opens_image_and_cells_with_their_pixel_size(
    qtbot, widget, viewer
):
    run(qtbot, widget)
    table_of(widget).cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a.tif cells" in viewer.layers, timeout=10_000)
    for name in ("a.tif", "a.tif cells"):
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
        assert str(layer.units[0]) == "micrometer"
    table_of(widget).cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: not widget._opener.is_running, timeout=10_000)
    assert len(viewer.layers) == 2


def offer(widget, *roles, **network):
    config = NetworkConfig(base_width=2, depth=1, out_channels=len(roles), **network)
    model = Model(config, build_network(config).state_dict(), roles=roles)
    TRAINED.add("other", model)
    widget.model.box.setCurrentText("other")


def test_values_have_no_cells_and_open_as_images(qtbot, widget, viewer):
    offer(widget, "value:denoised", "value:depth", upscale=2)
    run(qtbot, widget)
    assert row_of(table_of(widget), 0) == ["a.tif", "done", ""]
    names = ["a.tif", "a.tif predicted denoised", "a.tif predicted depth"]
    assert opened(qtbot, widget) == names
    assert failure_of(widget) == ""
    image, *values = [viewer.layers[name] for name in names]
    assert [layer.visible for layer in values] == [True, False]
    for layer in values:
        assert layer.data.shape == (96, 96)
        np.testing.assert_allclose(layer.scale, image.scale / 2)


def test_finer_cells_open_on_the_image(qtbot, widget, viewer):
    offer(widget, "softmax:background", "softmax:cell", upscale=2)
    run(qtbot, widget)
    assert opened(qtbot, widget) == ["a.tif", "a.tif cells"]
    assert viewer.layers["a.tif cells"].data.shape == (96, 96)
    np.testing.assert_allclose(viewer.layers["a.tif cells"].scale, (0.25, 0.25))


def opened(qtbot, widget, row=0):
    """Double click a row and return the new layers' names."""
    before = list(widget._viewer.layers)
    table_of(widget).cellDoubleClicked.emit(row, 0)
    qtbot.waitUntil(lambda: not widget._opener.is_running, timeout=10_000)
    return [layer.name for layer in widget._viewer.layers if layer not in before]


def test_a_layer_of_the_same_name_is_not_taken_for_the_file(
    qtbot, widget, viewer, folder
):
    run(qtbot, widget)
    viewer.add_labels(np.zeros((5, 5), int), name="a.tif")
    viewer.add_image(np.zeros((48, 48)), name="a.tif")
    with layer_source(path=str(folder.parent / "elsewhere" / "a.tif")):
        viewer.add_image(np.zeros((48, 48)), name="a.tif")
    (image, cells) = opened(qtbot, widget)
    assert image.startswith("a.tif [")
    assert cells == f"{image} cells"
    np.testing.assert_array_equal(viewer.layers[cells].scale, (0.5, 0.5))


def test_files_of_one_name_in_two_folders_are_opened_beside_each_other(
    qtbot, widget, viewer, folder
):
    run(qtbot, widget)
    assert opened(qtbot, widget) == ["a.tif", "a.tif cells"]
    folder.rename(folder.parent / "more")
    widget.input.set_path(folder.parent / "more")
    widget.output.set_path(folder.parent / "out2")
    run(qtbot, widget)
    assert opened(qtbot, widget) == ["a.tif [1]", "a.tif [1] cells"]


def test_the_layer_that_napari_opened_from_the_file_is_taken(
    qtbot, widget, viewer, folder
):
    run(qtbot, widget)
    with layer_source(path=str(folder / "a.tif")):
        viewer.add_image(np.zeros((48, 48)), name="mine")
    assert opened(qtbot, widget) == ["mine cells"]


def test_a_double_click_on_a_failed_file_opens_nothing(qtbot, widget, viewer):
    run(qtbot, widget)
    table_of(widget).cellDoubleClicked.emit(1, 0)
    assert not widget._opener.is_running
    assert len(viewer.layers) == 0


def test_a_result_that_is_gone_is_told(qtbot, widget, folder):
    run(qtbot, widget)
    (folder.parent / "out" / "a_labels.tif").unlink()
    table_of(widget).cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a_labels.tif" in failure_of(widget), timeout=10_000)


def test_folders_are_asked_for(qtbot, widget):
    widget.output.set_path("")
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "an output folder is needed" in failure_of(widget)
    widget.input.set_path("")
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "an input folder is needed" in failure_of(widget)


def test_the_images_folder_is_refused_for_results(qtbot, widget, folder):
    widget.output.set_path(folder)
    run(qtbot, widget)
    assert "is the folder of the images" in failure_of(widget)
    assert table_of(widget).rowCount() == 0


def test_a_missing_folder_is_told(qtbot, widget, tmp_path):
    widget.input.set_path(tmp_path / "nowhere")
    run(qtbot, widget)
    assert "nowhere" in failure_of(widget)


def waiting_run(paths):
    """A folder run that does one file, and waits with the next until it is stopped."""

    def run(*_, mailbox, **__):
        yield ev.FolderStarted(paths)
        yield ev.FileDone(0, paths[0], "done", paths[0], 3, 0.1)
        is_paused = False
        while not mailbox.wants_stop:
            if mailbox.wants_pause != is_paused:
                is_paused = mailbox.wants_pause
                yield ev.Paused(is_paused=is_paused)
            yield ev.FileProgress(1, 1, 4)
        yield ev.FolderFinished(1, 0, 0)

    return run


def test_pause_waits_and_stop_ends_in_order(qtbot, widget, monkeypatch):
    paths = tuple(Path(f"{name}.tif") for name in "abc")
    monkeypatch.setattr("napari_unet.batch.segment_folder", waiting_run(paths))
    panel = widget.panel
    qtbot.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.state.message == "1 of 3 files", timeout=10_000)
    assert not widget.preview.isEnabled()
    qtbot.mouseClick(panel.pause, Qt.MouseButton.LeftButton)
    paused = "Paused: 1 of 3 files"
    qtbot.waitUntil(lambda: panel.state.message == paused, timeout=10_000)
    assert panel.pause.text() == "Resume"
    qtbot.mouseClick(panel.pause, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.state.phase == "running", timeout=10_000)
    with qtbot.waitSignal(panel.ended, timeout=10_000):
        qtbot.mouseClick(panel.stop, Qt.MouseButton.LeftButton)
    assert panel.state.message.startswith("Stopped after 1 of 3: 1 file done")
    states = [row_of(table_of(widget), row)[1] for row in range(3)]
    assert states == ["done", "not done", "not done"]
    assert widget.preview.isEnabled()


def test_files_that_an_error_left_over_are_not_waiting_for_ever(
    qtbot, widget, monkeypatch
):
    def fails(*_, **__):
        yield ev.FolderStarted((Path("a.tif"),))
        raise MemoryError

    monkeypatch.setattr("napari_unet.batch.segment_folder", fails)
    run(qtbot, widget)
    assert row_of(table_of(widget), 0) == ["a.tif", "not done"]


def test_a_stack_needs_axes_and_takes_them_from_the_field(qtbot, widget, folder, drawn):
    import tifffile

    for path in folder.iterdir():
        path.unlink()
    stack = np.stack([drawn[0]] * 3)
    tifffile.imwrite(folder / "s.tif", stack, photometric="minisblack")
    run(qtbot, widget)
    assert row_of(table_of(widget), 0)[1] == "failed"
    assert "NU-I09" in table_of(widget).messages[0]
    widget.axes.setText("TYX")
    run(qtbot, widget)
    assert row_of(table_of(widget), 0)[1] == "done"
    assert read_labels(folder.parent / "out" / "s_labels.tif").shape == (3, 48, 48)


def test_a_stack_of_channels_opens_with_each_channel_as_a_layer(
    qtbot, widget, viewer, tmp_path
):
    from napari_unet.files.images import write_labels

    data = np.zeros((2, 3, 8, 9), np.float32)
    write_image(tmp_path / "x.tif", data, axes="CZYX", pixel_size_um=(2, 0.5, 0.5))
    write_labels(tmp_path / "l.tif", np.ones((3, 8, 9), np.int32), axes="ZYX")
    (event,) = read_result(tmp_path / "x.tif", tmp_path / "l.tif", None)
    widget._show_opened([event])
    assert [x.name for x in viewer.layers] == ["x.tif", "x.tif 2", "x.tif cells"]
    assert viewer.layers["x.tif"].axis_labels == ("z", "y", "x")
    np.testing.assert_array_equal(viewer.layers["x.tif cells"].scale, (2, 0.5, 0.5))


def test_rows_follow_the_events(qtbot):
    table = FileTable()
    qtbot.addWidget(table)
    paths = (Path("a.tif"), Path("b.tif"))
    table.add([ev.FolderStarted(paths), ev.FileStarted(1, paths[1])])
    assert row_of(table, 0) == ["a.tif", "waiting"]
    assert row_of(table, 1) == ["b.tif", "working"]
    table.add([ev.FileDone(1, paths[1], "skipped", None, 0, 0.0, "done before")])
    assert row_of(table, 1) == ["b.tif", "skipped", ""]
    table.add([ev.FileDone(0, paths[0], "skipped", paths[0], 4, 0.0, "done before")])
    assert row_of(table, 0) == ["a.tif", "done before", "4"]
    table.clear_files()
    assert table.rowCount() == 0


def test_all_columns_fit_a_narrow_dock(qtbot, widget):
    run(qtbot, widget)
    widget.resize(360, 800)
    widget.show()
    table = table_of(widget)
    widths = [table.columnWidth(c) for c in range(table.columnCount())]
    assert sum(widths) <= table.viewport().width()
    assert widths[0] >= 80


# -- going on, problems, preview -----------------------------------------------


def test_problems_are_listed_with_the_reason_and_failed_files_run_again(
    qtbot, widget, folder
):
    (folder / "notes.txt").write_text("mine")
    run(qtbot, widget)
    files = widget.files
    assert files.tabs.tabText(1) == "⚠ Problems (2)"
    failed, stray = files.problems.texts()
    assert failed.startswith("b.tif: failed\n")
    assert "is not a TIFF" in failed
    assert stray.startswith("notes.txt: skipped\n")
    assert "is no image by its name" in stray
    assert files.again.text() == "Run 1 failed file again"

    (folder / "b.tif").write_bytes((folder / "a.tif").read_bytes())
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(files.again, Qt.MouseButton.LeftButton)
    message = widget.panel.state.message
    assert message == "1 file done, 2 done before, 1 skipped"
    states = [row_of(table_of(widget), row)[1] for row in range(4)]
    assert states == ["done before", "done", "done before", "skipped"]
    assert files.tabs.tabText(1) == "⚠ Problems (1)"
    assert not files.again.isEnabled()


def test_a_preview_shows_the_chosen_file_and_writes_nothing(
    qtbot, widget, viewer, folder, tiny_model, drawn
):
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(widget.preview, Qt.MouseButton.LeftButton)
    assert [layer.name for layer in viewer.layers] == ["a.tif", "a.tif cells"]
    expected = segment(tiny_model, Image(drawn[0][None]), config=ON_CPU)
    np.testing.assert_array_equal(viewer.layers["a.tif cells"].data, expected)
    assert table_of(widget).currentRow() == 0
    assert not (folder.parent / "out").exists()

    table_of(widget).selectRow(2)
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(widget.preview, Qt.MouseButton.LeftButton)
    visible = [layer.name for layer in viewer.layers if layer.visible]
    assert visible == ["c.tif", "c.tif cells"]


def test_of_a_large_image_the_middle_is_previewed_in_its_place(
    qtbot, widget, viewer, monkeypatch
):
    monkeypatch.setattr("napari_unet.widgets._batch_open._LARGE_PX", 40**2)
    monkeypatch.setattr("napari_unet.widgets._batch_work._PREVIEW_PX", 32)
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(widget.preview, Qt.MouseButton.LeftButton)
    for layer in viewer.layers:
        assert layer.data.shape == (32, 32)
        np.testing.assert_array_equal(layer.translate, (4.0, 4.0))
    assert viewer.layers[0].name == "a.tif (part)"
    assert any("middle 32 x 32" in note for note in widget.panel.state.notes)


def test_images_that_were_made_are_known_by_their_names():
    assert is_of_values(Path("field 1.5_predicted.tif"))
    assert not is_of_values(Path("x_predicted_labels.zarr"))
    assert not is_of_values(None)


def test_labels_with_levels_are_opened_without_reading_them(
    qtbot, widget, viewer, tmp_path
):
    labels = np.arange(700 * 600, dtype=np.uint32).reshape(700, 600)
    data = np.zeros((1, 700, 600), np.uint8)
    write_image(tmp_path / "x.tif", data, axes="CYX", pixel_size_um=(0.5, 0.5))
    store = LabelStore(tmp_path / "x_labels.zarr", labels.shape, "YX", (0.5, 0.5))
    store.write((slice(None), slice(None)), labels)
    store.finish()
    for _ in range(2):
        (event,) = read_result(tmp_path / "x.tif", tmp_path / "x_labels.zarr", None)
        widget._show_opened([event])
    assert [layer.name for layer in viewer.layers] == ["x.tif", "x.tif cells"]
    layer = viewer.layers["x.tif cells"]
    assert layer.multiscale
    assert not any(isinstance(level, np.ndarray) for level in layer.data)
    np.testing.assert_array_equal(layer.data[0], labels)
    np.testing.assert_array_equal(layer.data[1], labels[::2, ::2])
    np.testing.assert_array_equal(layer.scale, (0.5, 0.5))


# -- progress ------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def told(progress, clock, *timed):
    """Give events at their seconds, and return what is shown after the last."""
    for clock.now, event in timed:
        shown = progress.after(event)
    return shown


FOUR = ev.FolderStarted(tuple(Path(f"{i}.tif") for i in range(4)))


def done(index, state="done", output=Path("x"), n_cells=3):
    return ev.FileDone(index, FOUR.paths[index], state, output, n_cells, 0.1)


def test_the_time_left_follows_from_the_files_that_were_computed():
    clock = Clock()
    progress = Progress(clock)
    # The first was done before, and tells nothing of how long others take.
    first = (done(0, "skipped"), ev.FileStarted(1, FOUR.paths[1]))
    shown = told(progress, clock, (0, FOUR), *((5, event) for event in first))
    assert shown.message == "1 of 4 files (1 done before)"
    shown = told(progress, clock, (25, ev.FileProgress(1, 1, 2)))
    # Half a file took 20 s, and two and a half are left.
    assert shown.message == "1 of 4 files (1 done before), about 2 min left"
    assert shown.n_done / shown.n_total == pytest.approx(1.5 / 4, abs=0.01)
    shown = told(progress, clock, (45, done(1)))
    assert shown.message == "2 of 4 files (1 done before), about 1 min left"


def test_a_pause_takes_no_time():
    clock = Clock()
    pause, go_on = ev.Paused(is_paused=True), ev.Paused(is_paused=False)
    shown = told(
        progress := Progress(clock),
        clock,
        *((0, FOUR), (0, ev.FileStarted(0, FOUR.paths[0]))),
        *((10, done(0)), (10, pause), (500, done(1))),
    )
    assert shown.message == "Paused: 2 of 4 files"
    shown = told(progress, clock, (1000, go_on), (1010, done(2)))
    # Three files in 20 s.
    assert shown.message == "3 of 4 files, about 5 s left"


def test_the_end_tells_what_became_of_all_files():
    progress, clock = Progress(Clock()), Clock()
    events = (done(0, "skipped"), done(1), done(2, "failed", None))
    stray = done(3, "skipped", None)
    end = ev.FolderFinished(1, 1, 2)
    shown = told(progress, clock, *((0, e) for e in (FOUR, *events, stray, end)))
    assert shown.message == "1 file done, 1 done before, 1 failed, 1 skipped"


def test_closing_the_progress_closes_the_run():
    closed = []

    def endless():
        try:
            while True:
                yield FOUR
        finally:
            closed.append(True)

    events = with_progress(endless())
    assert next(events) is FOUR
    events.close()
    assert closed == [True]


def test_it_fits_a_narrow_dock(widget):
    assert widget.minimumSizeHint().width() <= 400


@pytest.mark.gui
def test_runs_in_a_real_window(qtbot, window, folder, tiny_model, monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {"trained just now": tiny_model})
    widget = BatchWidget(window)
    window.window.add_dock_widget(widget, name="Batch predict")
    widget.input.set_path(folder)
    widget.output.set_path(folder.parent / "out")
    run(qtbot, widget)
    table_of(widget).cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a.tif cells" in window.layers, timeout=10_000)
