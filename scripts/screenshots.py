"""Take the pictures of the docs: the real napari, driven by mouse and keys.

Run it with ``make screenshots``. Steps and their order are those of a user: paint,
look at the weights, train, correct, predict, measure, segment a folder. It is a check
as well: it stops where a step does not do what it should.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

FOLDER = Path(__file__).parent.parent / "docs" / "images"
WINDOW = (1560, 940)
DOCK_PX = 440
MAX_BYTES = 400_000
# napari, and what we save, must not find or leave traces of other sessions.
HOME = Path(tempfile.gettempdir()) / "napari-unet-screenshots"
shutil.rmtree(HOME, ignore_errors=True)
for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
    os.environ[name] = str(HOME / name)

import napari  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image as PILImage  # noqa: E402
from qtpy.QtCore import QPoint, Qt  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402
from qtpy.QtWidgets import (  # noqa: E402
    QApplication,
    QComboBox,
    QListWidget,
    QScrollArea,
    QWidget,
)

from napari_unet.files.images import write_image  # noqa: E402
from napari_unet.files.samples import sample_images  # noqa: E402
from napari_unet.widgets.window import open_docks  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari.layers import Labels

PLUGIN = "napari-unet-loop"
IMAGE = "nuclei_y256x0"
OTHER = "nuclei_y256x256"
CROWD = "nuclei_y0x0"
# Two cells of CROWD that touch.
JOINED = (4, 12)
# In pixels of IMAGE: cells that touch each other, and some to be held back.
AREA = (20, 98, 236, 250)
LEFT = Qt.MouseButton.LeftButton
NO_KEY = Qt.KeyboardModifier.NoModifier


class User:
    """Eyes and hands on one napari window."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.camera = viewer.scene.camera
        open_docks(viewer)
        dock, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Annotate")
        # As wide as its tabs want, as by dragging its border.
        self.window.resizeDocks([dock], [DOCK_PX], Qt.Orientation.Horizontal)

    def look_at(self, top: float, left: float, size: float) -> None:
        """Zoom until a square of the world fills the canvas."""
        self.camera.center = (top + size / 2, left + size / 2)
        side = min(self.canvas.width(), self.canvas.height())
        self.camera.zoom = 0.95 * side / size
        self.wait(0.2)

    def find(self, dock: QWidget, name: str) -> QWidget:
        """Return what is on screen in a dock under its accessible name."""
        found = [
            widget
            for widget in dock.findChildren(QWidget)
            if widget.accessibleName() == name and widget.isVisible()
        ]
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} controls are called {name!r}")
        return found[0]

    def click(self, widget: QWidget) -> None:
        """Click a button."""
        if not (widget.isVisible() and widget.isEnabled()):
            raise RuntimeError(f"{widget.accessibleName()!r} can't be clicked")
        QTest.mouseClick(widget, LEFT)
        self.wait(0.1)

    def type_into(self, widget: QWidget, text: str) -> None:
        """Replace a text or number by typing."""
        widget.setFocus()
        QTest.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(widget, text)
        QTest.keyClick(widget, Qt.Key.Key_Return)
        self.wait(0.05)

    def choose(self, box: QComboBox, text: str) -> None:
        """Choose an entry with the arrow keys."""
        box.setFocus()
        wanted = [i for i in range(box.count()) if box.itemText(i).startswith(text)]
        if not wanted:
            raise RuntimeError(f"{box.accessibleName()!r} does not offer {text!r}")
        for _ in range(box.count()):
            if box.currentIndex() == wanted[0]:
                break
            is_below = box.currentIndex() < wanted[0]
            QTest.keyClick(box, Qt.Key.Key_Down if is_below else Qt.Key.Key_Up)
        self.wait(0.1)

    def choose_in_list(self, box: QListWidget, text: str) -> None:
        """Click the entry of a list."""
        item = box.findItems(text, Qt.MatchFlag.MatchExactly)[0]
        box.scrollToItem(item)
        point = box.visualItemRect(item).center()
        QTest.mouseClick(box.viewport(), LEFT, NO_KEY, point)
        self.wait(0.1)

    def key(self, key: Qt.Key) -> None:
        """Press a key while the mouse is over the canvas."""
        QTest.keyClick(self.canvas, key)
        self.wait(0.05)

    def stroke(self, layer: str, points: Iterable[Sequence[float]]) -> None:
        """Drag the mouse along pixels (y, x) of a layer."""
        origin = self.viewer.layers[layer].translate
        self.drag([np.add(origin, point) for point in points])

    def drag(self, points: Iterable[Sequence[float]]) -> None:
        """Press the mouse at the first (y, x) of the world, drag, and release."""
        pixels = [self._pixel(point) for point in points]
        QTest.mousePress(self.canvas, LEFT, NO_KEY, pixels[0])
        for pixel in pixels[1:]:
            QTest.mouseMove(self.canvas, pixel)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, LEFT, NO_KEY, pixels[-1])
        QApplication.processEvents()

    def _pixel(self, point: Sequence[float]) -> QPoint:
        centre = self.camera.center[-2:]
        y, x = (np.subtract(point, centre)) * self.camera.zoom
        middle = self.canvas.rect().center()
        return QPoint(round(middle.x() + x), round(middle.y() + y))

    def wait(self, seconds: float) -> None:
        """Look on for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)

    def wait_until(
        self, is_so: Callable[[], bool], what: str, *, at_most_s: float = 900
    ) -> None:
        """Look on until something is so."""
        end = time.monotonic() + at_most_s
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {at_most_s:.0f} s for: {what}")
            self.wait(0.05)

    def open_dock(self, title: str) -> QWidget:
        """Bring a dock widget to the front and return the widget."""
        dock, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, title)
        dock.raise_()
        self.wait(0.3)
        return widget

    def take(self, name: str) -> None:
        """Save what is on screen as a PNG."""
        for pixel in (QPoint(40, 40), QPoint(2, 2)):
            QTest.mouseMove(self.canvas, pixel)
            self.wait(0.3)
        self.save(name)

    def save(self, name: str) -> None:
        """Save what is on screen as a PNG, the mouse where it is."""
        picture = self.viewer.screenshot(canvas_only=False, flash=False)
        path = FOLDER / f"{name}.png"
        whole = PILImage.fromarray(picture).convert("RGB")
        whole.save(path, optimize=True)
        if path.stat().st_size > MAX_BYTES:
            whole.quantize(256).save(path, optimize=True)
        print(
            f"{path} {picture.shape[1]} x {picture.shape[0]}, "
            f"{path.stat().st_size // 1024} KB"
        )


def inside(mask: np.ndarray, radius: float) -> list[tuple[float, float]]:
    """Return a path to and fro over a mask that a brush of this radius fills."""
    points: list[tuple[float, float]] = []
    rows = np.flatnonzero(mask.any(axis=1))
    step = max(1, int(radius))
    for i, y in enumerate(range(rows[0] + step // 2, rows[-1] + 1, step)):
        columns = np.flatnonzero(mask[y])
        ends = [columns[0] + radius / 2, columns[-1] - radius / 2]
        if ends[0] <= ends[1]:
            points += [(y, x) for x in (ends if i % 2 == 0 else reversed(ends))]
    return points or [tuple(np.argwhere(mask).mean(axis=0))]


def paint(user: User) -> Labels:
    """Paint the cells of an area and some background; draw the area as finished."""
    truth = user.viewer.layers[f"{IMAGE} truth"].data
    annotate = user.open_dock("Annotate")
    user.choose(user.find(annotate, "Image"), IMAGE)
    user.click(user.find(annotate, "New annotation"))
    labels = annotate.annotation()
    top, left, bottom, right = AREA
    cells = np.unique(truth[top:bottom, left:right])[1:]
    for n_painted, i in enumerate(cells):
        mask = truth == i
        radius = min(4.0, max(1.5, float(np.sqrt(mask.sum() / np.pi)) / 3))
        labels.brush_size = round(2 * radius)
        if n_painted:
            user.key(Qt.Key.Key_N)
        user.stroke(IMAGE, inside(mask, radius))
    user.key(Qt.Key.Key_G)
    labels.brush_size = 8
    for y, x in places_without_cells(truth)[:6]:
        user.stroke(IMAGE, [(y, x), (y, x + 8), (y + 1, x + 16)])
    user.click(user.find(annotate, "Finished region: rectangle"))
    user.stroke(IMAGE, [(top, left), (bottom - 9, right - 9), (bottom, right)])
    user.key(Qt.Key.Key_N)
    expected = f"{len(cells)} cells, 1 finished region"
    told = user.find(annotate, "What is annotated")
    user.wait_until(lambda: told.text().startswith(expected), expected)
    return labels


def places_without_cells(truth: np.ndarray) -> list[tuple[int, int]]:
    """Return where a stroke of 16 pixels to the right hits no cell, left of `AREA`."""
    is_free = truth == 0
    return [
        (y, x)
        for y in range(12, 244, 16)
        for x in range(12, AREA[1] - 24, 22)
        if is_free[y - 7 : y + 8, x - 7 : x + 24].all()
    ]


def show_weights(user: User) -> None:
    """Show the weight map, with the widest borders that the eye still tells apart."""
    weights = user.open_dock("Weight map")
    user.click(user.find(weights, "Show weight map"))
    user.wait_until(
        lambda: weights.shown_layer() is not None and not weights.is_busy, "weight map"
    )
    shown = np.asarray(weights.shown_layer().data)
    if shown.max() < 2:
        raise RuntimeError("no border weight between cells that touch")
    # A gap wide enough for the eye, within the finished region.
    top, left, bottom, right = AREA
    gap = np.abs(shown[top:bottom, left:right] - 5)
    y, x = np.add((top, left), np.unravel_index(np.argmin(gap), gap.shape))
    user.viewer.layers.selection.active = user.viewer.layers[IMAGE]
    user.stroke(IMAGE, [(y, x)])
    explained = user.find(weights, "Explained pixel")
    user.wait_until(explained.isVisible, "the pixel's explanation")
    origin = user.viewer.layers[IMAGE].translate
    user.look_at(origin[0] + y - 60, origin[1] + x - 60, 120)


def train(user: User, labels: Labels, n_steps: int) -> None:
    """Train, paint meanwhile, and stop."""
    dock = user.open_dock("Train")
    user.choose_in_list(user.find(dock, "Image layers"), IMAGE)
    user.choose(user.find(dock, "Annotation"), labels.name)
    user.click(user.find(dock, "Steps: auto"))
    user.type_into(user.find(dock, "Steps"), str(2 * n_steps))
    user.click(user.find(dock, "Training"))
    user.type_into(user.find(dock, "Validate every (steps)"), "25")
    user.click(user.find(dock, "Training"))
    user.click(user.find(dock, "Train"))
    state = lambda: dock.panel.state  # noqa: E731
    user.wait_until(lambda: state().n_done >= n_steps // 2, "half of the training")
    user.viewer.layers.selection.active = labels
    user.wait_until(lambda: dock.live.n_shown > 0, "a preview")
    user.wait_until(lambda: len(dock.plot.curves.scores) > 2, "three validations")
    paint_meanwhile(user, dock, labels)
    user.wait_until(lambda: state().n_done >= n_steps, "most of the training")
    user.take("train")
    user.click(user.find(dock, "Stop"))
    user.wait_until(lambda: not state().is_running, "the end of training")
    if dock.model is None:
        raise RuntimeError("stopping has lost the model")


def paint_meanwhile(user: User, dock: QWidget, labels: Labels) -> None:
    """Paint while training runs: what is learned at once, and a picture of it."""
    truth = user.viewer.layers[f"{IMAGE} truth"].data
    n_before = np.count_nonzero(labels.data)
    # A cell that is not painted yet, half of it for the picture.
    user.key(Qt.Key.Key_N)
    labels.brush_size = 5
    dashes = dock.live.held_back_layer.layer().data[:, 0]
    cell = next_cell(truth, labels.data, dashes.min(axis=0), dashes.max(axis=0))
    origin = user.viewer.layers[IMAGE].translate
    path = [user._pixel(origin + point) for point in inside(cell, 2.5)]
    # Down to the curve.
    bar = dock.findChild(QScrollArea).verticalScrollBar()
    bar.setValue(bar.maximum())
    QTest.mousePress(user.canvas, LEFT, NO_KEY, path[0])
    for pixel in path[1 : max(2, len(path) // 2)]:
        QTest.mouseMove(user.canvas, pixel)
        user.wait(0.02)
    user.wait(0.3)
    bar.setValue(bar.maximum())  # there is more beneath since it learns from strokes
    user.wait(0.3)
    user.save("train_live")
    for pixel in path[max(2, len(path) // 2) :]:
        QTest.mouseMove(user.canvas, pixel)
        user.wait(0.02)
    QTest.mouseRelease(user.canvas, LEFT, NO_KEY, path[-1])
    if np.count_nonzero(labels.data) <= n_before or not dock.panel.state.is_running:
        raise RuntimeError("painting does not work while training runs")
    told = dock.controls.strokes
    user.wait_until(told.isVisible, "fresh strokes to be learned from")


def next_cell(
    truth: np.ndarray, painted: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the largest cell that nobody has painted in, and that is not held back.

    What is held back lies between two corners (y, x).
    """
    truth = truth.copy()
    top, left, bottom, right = np.clip([*(low - 2), *(high + 2)], 0, 256).astype(int)
    held_back = np.unique(truth[top:bottom, left:right])
    border = np.unique([truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    truth[np.isin(truth, [*held_back, *border, *np.unique(truth[painted > 0])])] = 0
    return truth == 1 + np.bincount(truth.ravel())[1:].argmax()


def predict(user: User) -> None:
    """Apply the model to an image that it has not seen."""
    user.click(user.find(user.open_dock("Train"), "Use in Predict"))
    dock = user.open_dock("Predict")
    user.choose_in_list(user.find(dock, "Image layers"), OTHER)
    user.click(user.find(dock, "Predict"))
    user.wait_until(lambda: dock.panel.state.phase == "done", "prediction")


def measure(user: User) -> None:
    """Measure predicted cells, choose some in the plot, and look at one of them."""
    dock = user.open_dock("Measure")
    cells = user.viewer.layers[f"{OTHER} prediction"]
    user.choose(user.find(dock, "Labels"), cells.name)
    user.click(user.find(dock, "Measure"))
    user.wait_until(lambda: not dock.is_busy, "the measurements")
    cells.contour = 1
    plot = user.find(dock, "Plot of the cells")
    view = plot.getPlotItem().getViewBox()
    area = view.mapRectToScene(view.rect())
    start, end = (
        plot.mapFromScene(
            area.left() + share[0] * area.width(), area.top() + share[1] * area.height()
        )
        for share in ((0.35, 0.95), (0.75, 0.3))
    )
    screen = plot.viewport()
    QTest.mousePress(screen, LEFT, NO_KEY, start)
    for share in (0.3, 0.6, 1.0):
        QTest.mouseMove(screen, start + (end - start) * share)
        user.wait(0.05)
    QTest.mouseRelease(screen, LEFT, NO_KEY, end)
    user.wait(0.3)
    if not 0 < len(dock.table.chosen_cells()) < dock.table.rows.n_cells:
        raise RuntimeError("the rectangle in the plot chooses no cells, or all")
    row = dock.table.visualRect(dock.table.rows.index(1, 0)).center()
    QTest.mouseClick(dock.table.viewport(), LEFT, NO_KEY, row)
    user.wait(0.3)


def browse(user: User) -> None:
    """Look at the models there are, and verify the one just trained."""
    dock = user.open_dock("Models")
    user.wait_until(lambda: len(dock.list.listed) > 0, "the list of models")
    trained = [one for one in dock.list.listed if one.kind == "trained"]
    dock.list.choose(trained[0].path)
    user.click(user.find(dock, "Verify"))
    user.wait_until(lambda: dock.panel.state.phase == "done", "verification")


def segment_folder(user: User) -> None:
    """Segment a folder in which one file is cut short, and another is none."""
    source, output = HOME / "images", HOME / "cells"
    source.mkdir()
    for name, image, _ in sample_images():
        for top, left in ((0, 0), (0, 128), (128, 0), (128, 128)):
            part = np.asarray(image.data)[:, top : top + 128, left : left + 128]
            path = source / f"{name}_{top}_{left}.tif"
            write_image(path, part, axes=image.axes)
    whole = path.read_bytes()
    (source / "nuclei_broken.tif").write_bytes(whole[: len(whole) // 3])
    (source / "nuclei_notes.tif").write_text("These are my notes, not an image.")
    dock = user.open_dock("Batch predict")
    user.type_into(user.find(dock, "Input folder"), str(source))
    user.type_into(user.find(dock, "Output folder"), str(output))
    user.click(user.find(dock, "Run"))
    user.wait_until(lambda: dock.panel.state.phase == "done", "the folder")
    if len(list(output.glob("*_labels.tif"))) != 4 * len(sample_images()):
        raise RuntimeError("a bad file has stopped the others")


def open_result(user: User) -> None:
    """Look at one of the results, and at what went wrong."""
    dock = user.open_dock("Batch predict")
    shown = [layer for layer in user.viewer.layers if layer.visible]
    for layer in shown:
        layer.visible = False
    user.viewer.reset_view()
    dock.files.table.selectRow(min(dock.files.table.outputs))
    user.click(user.find(dock, "Open image and result"))
    cells = lambda: str(user.viewer.layers[-1].name).endswith(".tif cells")  # noqa: E731
    user.wait_until(cells, "the result")
    user.look_at(0, 0, 128)
    dock.files.tabs.setCurrentIndex(1)
    user.take("batch")
    for layer in user.viewer.layers:
        layer.visible = layer in shown


def correct(user: User) -> None:
    """Paint two classes with some slips, look at the list of them, and cut a cell."""
    truth = user.viewer.layers[f"{CROWD} truth"].data
    annotate = user.open_dock("Annotate")
    user.choose(user.find(annotate, "Image"), CROWD)
    user.click(user.find(annotate, "New annotation"))
    labels = annotate.annotation()
    user.click(user.find(annotate, "Add class"))
    ids, sizes = np.unique(truth[truth > 0], return_counts=True)
    for i, size in zip(ids, sizes, strict=True):
        user.key(Qt.Key.Key_2 if size < np.median(sizes) else Qt.Key.Key_1)
        mask = truth == i
        if i == JOINED[1]:
            labels.selected_label = mostly(labels.data[truth == JOINED[0]])
        radius = min(4.0, max(1.5, float(np.sqrt(mask.sum() / np.pi)) / 3))
        labels.brush_size = round(2 * radius)
        user.stroke(CROWD, inside(mask, radius))
    labels.brush_size = 2
    user.stroke(CROWD, [places_without_cells(truth)[0]])
    user.click(user.find(annotate, "Correct cells"))
    user.click(user.find(annotate, "Check before training"))
    user.wait(2)
    user.click(user.find(annotate, "Split by a line"))
    line = cut_between(truth, *JOINED)
    origin = user.viewer.layers[CROWD].translate
    middle = origin + np.mean(line, axis=0)
    user.look_at(middle[0] - 60, middle[1] - 60, 120)
    pixels = [user._pixel(origin + point) for point in line]
    QTest.mousePress(user.canvas, LEFT, NO_KEY, pixels[0])
    for pixel in pixels[1:]:
        QTest.mouseMove(user.canvas, pixel)
        user.wait(0.05)
    user.save("correct")
    QTest.mouseRelease(user.canvas, LEFT, NO_KEY, pixels[-1])
    user.wait(0.5)
    if len({mostly(labels.data[truth == i]) for i in JOINED}) != 2:
        raise RuntimeError("the line has not cut the cell in two")


def mostly(ids: np.ndarray) -> int:
    """Return the id that most of the pixels have."""
    return int(np.bincount(ids).argmax())


def cut_between(truth: np.ndarray, one: int, other: int) -> np.ndarray:
    """Return a line (y, x) across the border of two cells, a bit longer than it."""
    centres = [np.argwhere(truth == i).mean(axis=0) for i in (one, other)]
    middle, along = np.mean(centres, axis=0), np.subtract(*centres)
    across = np.array([-along[1], along[0]]) / np.hypot(*along)
    return np.array([middle + t * across for t in np.linspace(-22, 22, 12)])


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="steps to train")
    n_steps = parser.parse_args().steps
    FOLDER.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(title="napari", show=True)
    viewer.window.resize(*WINDOW)
    viewer.open_sample(PLUGIN, "nuclei")
    user = User(viewer)
    user.look_at(*viewer.layers[IMAGE].translate, 256)
    labels = paint(user)
    # The docks have their widths by now.
    user.look_at(*viewer.layers[IMAGE].translate, 256)
    user.take("annotate")
    show_weights(user)
    user.take("weight_map")
    user.click(user.find(user.open_dock("Weight map"), "Show weight map"))
    user.look_at(*viewer.layers[IMAGE].translate, 256)
    train(user, labels, n_steps)
    user.look_at(*viewer.layers[OTHER].translate, 256)
    predict(user)
    user.take("predict")
    measure(user)
    user.take("measure")
    user.viewer.layers[f"{OTHER} prediction"].contour = 0
    dock = user.open_dock("Measure")
    user.click(user.find(dock, "Clear region"))
    user.look_at(*user.viewer.layers[OTHER].translate, 256)
    browse(user)
    user.take("models")
    user.open_dock("Train")
    user.look_at(0, 0, 512)
    user.take("overview")
    correct(user)
    segment_folder(user)
    open_result(user)


if __name__ == "__main__":
    main()
    # Windows and threads need no tidying up.
    sys.stdout.flush()
    os._exit(0)
