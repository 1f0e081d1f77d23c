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
from napari_unet.imaging.arrays import Image
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.networks import build_network
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets.batch import BatchWidget, FileTable

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


def failure_of(widget):
    failure = widget.panel.state.failure
    return "" if failure is None else failure.summary


def test_one_bad_file_is_in_its_row_and_stops_no_other(
    qtbot, widget, folder, tiny_model, drawn
):
    run(qtbot, widget)
    expected = segment(tiny_model, Image(drawn[0][None]), config=ON_CPU)
    n = str(expected.max())
    assert row_of(widget.table, 0) == ["a.tif", "done", n]
    assert row_of(widget.table, 1)[:2] == ["b.tif", "failed"]
    assert row_of(widget.table, 2) == ["c.tif", "done", n]
    assert "b.tif is not a TIFF" in widget.table.item(1, 4).text()
    assert "1 failed" in widget.panel.state.message
    np.testing.assert_array_equal(
        read_labels(folder.parent / "out" / "a_labels.tif"), expected
    )
    assert not (folder.parent / "out" / "b_labels.tif").exists()


def test_the_message_of_the_chosen_file_is_shown_whole(qtbot, widget):
    run(qtbot, widget)
    assert "b.tif is not a TIFF" in widget.table.item(1, 0).toolTip()
    widget.table.setCurrentCell(1, 0)
    assert "b.tif is not a TIFF" in widget.message.text()
    widget.table.setCurrentCell(0, 0)
    assert widget.message.text() == ""


def test_only_files_that_fit_the_pattern(qtbot, widget):
    widget.pattern.setText("a*")
    run(qtbot, widget)
    assert widget.table.rowCount() == 1


def test_probabilities_are_written_on_request(qtbot, widget, folder):
    widget.pattern.setText("a*")
    widget.probabilities.setChecked(True)
    run(qtbot, widget)
    assert (folder.parent / "out" / "a_probabilities.tif").is_file()


def test_a_double_click_opens_image_and_cells_with_their_pixel_size(
    qtbot, widget, viewer
):
    run(qtbot, widget)
    widget.table.cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a.tif cells" in viewer.layers, timeout=10_000)
    for name in ("a.tif", "a.tif cells"):
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
        assert str(layer.units[0]) == "micrometer"
    widget.table.cellDoubleClicked.emit(0, 0)
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
    assert row_of(widget.table, 0) == ["a.tif", "done", ""]
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
    widget.table.cellDoubleClicked.emit(row, 0)
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
    widget.table.cellDoubleClicked.emit(1, 0)
    assert not widget._opener.is_running
    assert len(viewer.layers) == 0


def test_a_result_that_is_gone_is_told(qtbot, widget, folder):
    run(qtbot, widget)
    (folder.parent / "out" / "a_labels.tif").unlink()
    widget.table.cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a_labels.tif" in failure_of(widget), timeout=10_000)


def test_folders_are_asked_for(qtbot, widget):
    widget.output.set_path("")
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "choose a folder for each" in failure_of(widget)


def test_the_images_folder_is_refused_for_results(qtbot, widget, folder):
    widget.output.set_path(folder)
    run(qtbot, widget)
    assert "is the folder of the images" in failure_of(widget)
    assert widget.table.rowCount() == 0


def test_a_missing_folder_is_told(qtbot, widget, tmp_path):
    widget.input.set_path(tmp_path / "nowhere")
    run(qtbot, widget)
    assert "nowhere" in failure_of(widget)


def test_cancel_stops_between_files(qtbot, widget, monkeypatch):
    paths = tuple(Path(f"{name}.tif") for name in "abc")

    def endless(*_, **__):
        yield ev.FolderStarted(paths)
        yield ev.FileDone(0, paths[0], "done", paths[0], 3, 0.1)
        while True:
            yield ev.FileProgress(1, 4, 4)

    monkeypatch.setattr("napari_unet.batch.segment_folder", endless)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.table.rowCount() == 3, timeout=10_000)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        qtbot.mouseClick(widget.panel.stop, Qt.MouseButton.LeftButton)
    assert widget.panel.state.phase == "stopped"
    states = [row_of(widget.table, row)[1] for row in range(3)]
    assert states == ["done", "cancelled", "cancelled"]


def test_files_that_an_error_left_over_are_not_waiting_for_ever(
    qtbot, widget, monkeypatch
):
    def fails(*_, **__):
        yield ev.FolderStarted((Path("a.tif"),))
        raise MemoryError

    monkeypatch.setattr("napari_unet.batch.segment_folder", fails)
    run(qtbot, widget)
    assert row_of(widget.table, 0) == ["a.tif", "not done"]


def test_a_stack_needs_axes_and_takes_them_from_the_field(qtbot, widget, folder, drawn):
    import tifffile

    for path in folder.iterdir():
        path.unlink()
    stack = np.stack([drawn[0]] * 3)
    tifffile.imwrite(folder / "s.tif", stack, photometric="minisblack")
    run(qtbot, widget)
    assert row_of(widget.table, 0)[1] == "failed"
    assert "NU-I09" in widget.table.item(0, 4).text()
    widget.axes.setText("TYX")
    run(qtbot, widget)
    assert row_of(widget.table, 0)[1] == "done"
    assert read_labels(folder.parent / "out" / "s_labels.tif").shape == (3, 48, 48)


def test_a_stack_of_channels_opens_with_each_channel_as_a_layer(
    qtbot, widget, viewer, tmp_path
):
    from napari_unet.files.images import write_labels
    from napari_unet.widgets.batch import read_result

    data = np.zeros((2, 3, 8, 9), np.float32)
    write_image(tmp_path / "x.tif", data, axes="CZYX", pixel_size_um=(2, 0.5, 0.5))
    write_labels(tmp_path / "l.tif", np.ones((3, 8, 9), np.int32), axes="ZYX")
    widget._show_opened(list(read_result(tmp_path / "x.tif", tmp_path / "l.tif", None)))
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
    table.clear_files()
    assert table.rowCount() == 0


def test_all_columns_fit_a_narrow_dock(qtbot, widget):
    run(qtbot, widget)
    widget.resize(360, 800)
    widget.show()
    table = widget.table
    shown = [c for c in range(5) if not table.isColumnHidden(c)]
    assert shown == [0, 1, 2, 3]
    assert sum(map(table.columnWidth, shown)) <= table.viewport().width()
    assert table.columnWidth(0) >= 80


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
    widget.table.cellDoubleClicked.emit(0, 0)
    qtbot.waitUntil(lambda: "a.tif cells" in window.layers, timeout=10_000)
