"""From an image to a saved annotation that trains, by mouse and keys only."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit

import napari_unet as nu
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.annotations import load_annotation
from napari_unet.files.samples import sample_images
from napari_unet.widgets._classes import classes_of
from napari_unet.widgets.annotate import AnnotateWidget

pytestmark = [pytest.mark.gui, pytest.mark.slow]

LEFT = Qt.MouseButton.LeftButton
AREA = (118, 98, 212, 236)
MITOTIC = 2


@pytest.fixture
def window(make_napari_viewer):
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    native = viewer.window._qt_viewer.canvas.native
    viewer.layers.events.removing.connect(lambda _: native.makeCurrent())
    viewer.window.resize(1400, 900)
    return viewer


class Hand:
    """A hand that clicks, types, and drags the mouse over an image."""

    def __init__(self, viewer, layer) -> None:
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.camera = viewer.scene.camera
        self.camera.center = tuple(np.array(layer.data.shape) / 2)
        side = min(self.canvas.width(), self.canvas.height())
        self.camera.zoom = 0.95 * side / max(layer.data.shape)
        QTest.qWait(100)

    def key(self, key: Qt.Key) -> None:
        QTest.keyClick(self.canvas, key)

    def drag(self, *points) -> None:
        pixels = [self._pixel(point) for point in points]
        QTest.mousePress(self.canvas, LEFT, pos=pixels[0])
        for pixel in pixels[1:]:
            QTest.mouseMove(self.canvas, pixel)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, LEFT, pos=pixels[-1])
        QApplication.processEvents()

    def _pixel(self, point) -> QPoint:
        y, x = np.subtract(point, self.camera.center[-2:]) * self.camera.zoom
        middle = self.canvas.rect().center()
        return QPoint(round(middle.x() + x), round(middle.y() + y))


def fill(hand: Hand, mask, radius: float) -> None:
    """Paint a mask to and fro."""
    points = []
    rows = np.flatnonzero(mask.any(axis=1))
    for y in range(rows[0] + 1, rows[-1] + 1, max(1, int(radius))):
        columns = np.flatnonzero(mask[y])
        ends = [columns[0] + radius / 2, columns[-1] - radius / 2]
        if ends[0] <= ends[1]:
            points += [(y, x) for x in ends]
    hand.drag(*(points or [np.argwhere(mask).mean(axis=0)] * 2))


def name_new_class(widget: AnnotateWidget, name: str) -> None:
    classes = widget.paint_tools.class_list
    QTest.mouseClick(classes.add_button, LEFT)
    (editor,) = (e for e in classes.table.findChildren(QLineEdit) if e.isVisible())
    QTest.keyClicks(editor, name)
    QTest.keyClick(editor, Qt.Key.Key_Return)


def test_sample_is_annotated_by_mouse_saved_and_trained_on(
    qtbot, window, tmp_path
) -> None:
    name, image, truth = next(s for s in sample_images() if s[0] == "nuclei_y256x0")
    layer = window.add_image(np.asarray(image.data[0]), name=name)
    widget = AnnotateWidget(window, folder=tmp_path / "autosave", delay_s=1000)
    window.window.add_dock_widget(widget, name="Annotate")
    hand = Hand(window, layer)
    QTest.mouseClick(widget.new_button, LEFT)
    labels = widget.annotation()
    name_new_class(widget, "mitotic")
    qtbot.waitUntil(lambda: classes_of(labels).names[MITOTIC] == "mitotic")
    # Two classes of cells, by their keys.
    top, left, bottom, right = AREA
    cells = np.unique(truth[top:bottom, left:right])[1:]
    labels.brush_size = 4
    for n, i in enumerate(cells):
        hand.key(Qt.Key.Key_2 if n % 3 == 0 else Qt.Key.Key_1)
        fill(hand, truth == i, 2.0)
    # A scribble of background where no cell is, and the finished rectangle.
    hand.key(Qt.Key.Key_G)
    empty = next(
        (y, x)
        for y in range(8, top - 8, 4)
        for x in range(8, 200, 4)
        if not truth[y - 5 : y + 6, x - 5 : x + 25].any()
    )
    hand.drag(empty, (empty[0], empty[1] + 10), (empty[0], empty[1] + 20))
    QTest.mouseClick(widget.paint_tools.rectangle_button, LEFT)
    hand.drag((top, left), (bottom - 9, right - 9), (bottom, right))
    expected = f"{len(cells)} cells, 1 finished region"
    qtbot.waitUntil(lambda: widget.count_label.text().startswith(expected))
    widget.files.save_to(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    assert widget.files.failure.isHidden()

    annotation = load_annotation(tmp_path / "mine.tif").annotation
    assert annotation.class_names == ("background", "cell", "mitotic")
    classes = annotation.class_map()
    for n, i in enumerate(cells):
        inside = classes[(truth == i) & (classes > 0)]
        most = np.bincount(inside).argmax()
        assert most == (MITOTIC if n % 3 == 0 else 1)
    assert annotation.is_known[empty]
    assert classes[empty] == 0
    assert annotation.is_known[top + 2 : bottom - 2, left + 2 : right - 2].all()

    tiny = NetworkConfig(base_width=4, depth=2)
    config = TrainConfig(max_steps=3, validate_every=3)
    events = nu.train(
        [image], [annotation], config, network=tiny, run_dir=tmp_path / "run"
    )
    *_, done = events
    assert done.model.class_names == ("background", "cell", "mitotic")
