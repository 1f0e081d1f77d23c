"""What passes between a training and the viewer, held against scripted events."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_unet import events as ev
from napari_unet.widgets import _live_training as module
from napari_unet.widgets._finished import add_regions
from napari_unet.widgets._layers import about, note_about
from napari_unet.widgets._live_layer import Drawn, drawn, outline_picture
from napari_unet.widgets._live_training import LiveTraining
from napari_unet.widgets._live_view import visible_region
from napari_unet.widgets._training_data import TrainingData

PLACE = {"scale": (0.5, 0.25), "translate": (10.0, 20.0)}


@pytest.fixture
def parent(qtbot):
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(module, "_TICK_MS", 10)


class Session:
    """A viewer with an image, an annotation and a training that follows it."""

    def __init__(self, qtbot, viewer, parent, shape=(60, 80), **place) -> None:
        self.qtbot, self.viewer, self.mailbox = qtbot, viewer, ev.Mailbox()
        rng = np.random.default_rng(0)
        self.image = viewer.add_image(rng.random(shape), name="nuclei", **place)
        self.labels = viewer.add_labels(np.zeros(shape, np.int32), **place)
        if len(shape) == 3:
            self.image.axis_labels = ("z", "y", "x")
        self.data = TrainingData(viewer)
        self.data.setParent(parent)
        self.live = LiveTraining(viewer, parent)
        self.told, self.failed = [], []
        self.live.told.connect(self.told.append)
        self.live.failed.connect(self.failed.append)
        self.sent: list[ev.Stroke] = []
        self.begin()

    def begin(self) -> None:
        self.live.begin(self.data.take().layers, self.mailbox)

    def strokes(self) -> list[ev.Stroke]:
        self.sent += self.mailbox.take_strokes()
        assert self.failed == []
        return self.sent

    def wait_for(self, n_strokes: int) -> list[ev.Stroke]:
        self.qtbot.waitUntil(lambda: len(self.strokes()) >= n_strokes, timeout=5000)
        return self.sent

    def rest(self, seconds: float = 0.3) -> None:
        self.qtbot.wait(round(1000 * seconds))

    def started(self, *held_back: ev.Region) -> ev.TrainingStarted:
        return ev.TrainingStarted(9, 1, 1, "cpu", "a block", held_back)

    def preview(self, start=(0, 0), shape=(20, 30), plane=()) -> Drawn:
        region = ev.Region(0, plane, start, shape, "nuclei")
        labels = np.zeros(shape, np.int32)
        labels[5:15, 5:15] = 1
        outputs = np.zeros((2, *shape), np.float32)
        (event,) = drawn([ev.Previewed(3, region, labels, outputs)])
        return event


@pytest.fixture
def session(qtbot, viewer, parent):
    made = Session(qtbot, viewer, parent)
    yield made
    made.live.end()


# -- strokes -------------------------------------------------------------------


def test_what_is_painted_arrives_once(session) -> None:
    session.labels.data_setitem((np.array([3, 3]), np.array([4, 5])), 7)
    (stroke,) = session.wait_for(1)
    assert (stroke.region.start, stroke.region.shape) == ((3, 4), (1, 2))
    assert stroke.labels.tolist() == [[7, 7]]
    assert stroke.region.source == 'image "nuclei"'
    session.rest()
    assert len(session.strokes()) == 1


def test_undo_and_redo_arrive(session) -> None:
    session.labels.data_setitem((np.array([3]), np.array([4])), 7)
    session.wait_for(1)
    session.labels.undo()
    assert session.wait_for(2)[-1].labels.tolist() == [[0]]
    assert not session.sent[-1].known.any()
    session.labels.redo()
    assert session.wait_for(3)[-1].labels.tolist() == [[7]]


def test_fill_and_another_array_arrive(session) -> None:
    session.labels.fill((0, 0), 2)
    assert session.wait_for(1)[0].region.shape == (60, 80)
    session.labels.data = np.full((60, 80), 5, np.int32)
    assert (session.wait_for(2)[-1].labels == 5).all()


def test_finished_regions_and_what_unpainted_means_arrive(session) -> None:
    corners = np.array([(9.5, 9.5), (9.5, 29.5), (19.5, 29.5), (19.5, 9.5)])
    shapes = add_regions(session.viewer, session.labels, [((), corners)])
    (stroke,) = session.wait_for(1)
    assert stroke.region.shape == (10, 20)
    assert stroke.known.all()
    shapes.data = []
    assert not session.wait_for(2)[-1].known.any()
    note_about(session.labels, unpainted="background")
    assert session.wait_for(3)[-1].known.shape == (60, 80)


def test_strokes_that_are_not_wanted_come_when_they_are(session) -> None:
    session.live.set_learning(False)
    session.labels.data_setitem((np.array([3]), np.array([4])), 7)
    session.rest()
    assert session.strokes() == []
    session.live.set_learning(True)
    session.wait_for(1)


def test_on_a_stack_all_planes_are_looked_at(qtbot, viewer, parent, monkeypatch):
    monkeypatch.setattr(module, "_PX_AT_ONCE", 1)
    session = Session(qtbot, viewer, parent, (4, 20, 30))
    session.labels.data_setitem((np.array([3]), np.array([4]), np.array([5])), 7)
    (stroke,) = session.wait_for(1)
    assert (stroke.region.plane, stroke.region.start) == ((3,), (4, 5))
    session.live.end()


def test_nothing_is_sent_after_the_end(session) -> None:
    session.live.end()
    session.labels.data_setitem((np.array([3]), np.array([4])), 7)
    session.rest()
    assert session.strokes() == []


def test_an_annotation_that_goes_ends_it_without_a_fault(session) -> None:
    session.viewer.layers.remove(session.labels)
    session.qtbot.waitUntil(lambda: bool(session.told), timeout=5000)
    assert "training goes on" in session.told[0]
    session.live.take([session.preview()])
    assert session.live.live_layer.layer() is None


def test_another_shape_ends_it_without_a_fault(session) -> None:
    session.labels.data = np.zeros((5, 5), np.int32)
    session.qtbot.waitUntil(lambda: bool(session.told), timeout=5000)
    assert session.strokes() == []


def test_a_stroke_costs_the_gui_next_to_nothing(qtbot, viewer, parent) -> None:
    """At most 5 ms a stroke on 2048 x 2048 with 1,000 cells; 0.1 ms seen."""
    session = Session(qtbot, viewer, parent, (2048, 2048))
    emit = session.labels.events.paint
    start = time.perf_counter()
    for _ in range(100):
        emit(value=[])
    assert time.perf_counter() - start < 0.5
    session.live.end()


# -- preview -------------------------------------------------------------------


def test_outlines_are_the_edge_pixels_of_cells() -> None:
    labels = np.zeros((7, 9), int)
    labels[1:6, 1:4], labels[1:6, 4:8] = 1, 2
    picture = outline_picture(labels) > 0
    inside = np.zeros_like(picture)
    inside[2:5, 2:3] = inside[2:5, 5:7] = True
    np.testing.assert_array_equal(picture, (labels > 0) & ~inside)


def test_a_preview_lies_where_its_region_does(qtbot, viewer, parent) -> None:
    session = Session(qtbot, viewer, parent, **PLACE)
    session.live.take([session.preview(start=(30, 40))])
    layer = session.live.live_layer.layer()
    assert layer.name == "nuclei live"
    assert layer.data.shape == (20, 30)
    expected = session.labels.data_to_world((30, 40))
    np.testing.assert_allclose(layer.data_to_world((0, 0)), expected)
    expected = session.labels.data_to_world((49, 69))
    np.testing.assert_allclose(layer.data_to_world((19, 29)), expected)
    session.live.end()


def test_a_turned_image_turns_its_preview(qtbot, viewer, parent) -> None:
    session = Session(qtbot, viewer, parent, rotate=30, **PLACE)
    session.live.take([session.preview(start=(7, 9))])
    layer = session.live.live_layer.layer()
    for index in ((0, 0), (3, 8)):
        expected = session.labels.data_to_world(np.add(index, (7, 9)))
        np.testing.assert_allclose(layer.data_to_world(index), expected)
    session.live.end()


def test_a_preview_of_a_stack_lies_on_its_slice(qtbot, viewer, parent) -> None:
    session = Session(qtbot, viewer, parent, (4, 40, 50))
    session.live.take([session.preview(start=(3, 4), plane=(2,))])
    layer = session.live.live_layer.layer()
    assert layer.data.shape == (1, 20, 30)
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), (2, 3, 4))
    session.live.end()


def test_previews_update_one_layer_and_leave_the_selection(session) -> None:
    session.viewer.layers.selection.active = session.labels
    session.labels.mode = "paint"
    for start in ((0, 0), (10, 20), (10, 20)):
        session.live.take([session.preview(start=start)])
        assert session.viewer.layers.selection.active is session.labels
        assert session.labels.mode == "paint"
    layers = [x for x in session.viewer.layers if "shown_as" in about(x)]
    assert layers == [session.live.live_layer.layer()]
    assert tuple(layers[0].translate) == (10, 20)


def test_a_finer_preview_covers_the_same_place(session) -> None:
    region = ev.Region(0, (), (4, 6), (10, 10))
    picture = np.zeros((20, 20), np.uint8)
    session.live.take([Drawn(1, region, picture)])
    layer = session.live.live_layer.layer()
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), (3.5, 5.5))
    np.testing.assert_allclose(layer.data_to_world((19.5, 19.5)), (13.5, 15.5))


def test_no_preview_is_shown_where_it_is_switched_off(session) -> None:
    session.live.take([session.preview()])
    layer = session.live.live_layer.layer()
    session.live.set_previewing(False)
    assert not layer.visible
    assert session.mailbox.view is None
    before = layer.data
    session.live.take([session.preview(start=(9, 9))])
    assert layer.data is before
    session.live.set_previewing(True)
    assert layer.visible


def test_after_the_end_nothing_live_is_on_screen(session) -> None:
    session.live.take([session.preview()])
    session.viewer.layers.selection.active = session.labels
    session.live.end()
    assert session.live.live_layer.layer() is None
    assert session.viewer.layers.selection.active is session.labels
    session.live.take([session.preview(start=(9, 9))])
    assert session.live.live_layer.layer() is None
    removed = []
    session.live.preview_removed.connect(lambda: removed.append(1))
    session.begin()
    session.rest()
    assert removed == []  # not by the user
    session.live.take([session.preview()])
    assert session.live.live_layer.layer().visible


def test_a_live_layer_that_the_user_removes_does_not_come_back(session) -> None:
    heard = []
    session.live.preview_removed.connect(lambda: heard.append(1))
    session.live.preview_removed.connect(lambda: session.live.set_previewing(False))
    session.live.take([session.preview()])
    session.viewer.layers.remove(session.live.live_layer.layer())
    session.qtbot.waitUntil(lambda: bool(heard), timeout=5000)
    session.live.take([session.preview()])
    assert session.live.live_layer.layer() is None


# -- what is held back ---------------------------------------------------------


def test_what_is_held_back_is_outlined_where_it_lies(qtbot, viewer, parent) -> None:
    session = Session(qtbot, viewer, parent, (4, 40, 50))
    session.labels.translate = (0, 5, 7)
    regions = ev.Region(0, (1,), (10, 20), (8, 6)), ev.Region(0, (3,), (0, 0), (40, 50))
    viewer.layers.selection.active = session.labels
    session.live.take([session.started(*regions)])
    layer = session.live.held_back_layer.layer()
    ends = np.stack([layer.data[:, 0], layer.data.sum(axis=1)], axis=1)
    world = np.array([layer.data_to_world(p) for p in ends.reshape(-1, 3)])
    np.testing.assert_allclose(world[world[:, 0] == 1].min(axis=0), (1, 14.5, 26.5))
    np.testing.assert_allclose(world[world[:, 0] == 1].max(axis=0), (1, 22.5, 32.5))
    np.testing.assert_allclose(world[world[:, 0] == 3].max(axis=0), (3, 44.5, 56.5))
    assert set(world[:, 0]) == {1, 3}
    # On the outline, all of them.
    inner = world[world[:, 0] == 1][:, 1:] - (14.5, 26.5)
    on_edge = np.isclose(inner, 0) | np.isclose(inner, (8, 6))
    assert on_edge.any(axis=1).all()
    assert viewer.layers.selection.active is session.labels
    session.live.show_split(False)
    assert not layer.visible
    session.live.take([session.started()])
    assert session.live.held_back_layer.layer() is layer
    assert len(layer.data) == 0
    session.live.end()


# -- on a real canvas ----------------------------------------------------------


def drag(window, points, release=True):
    canvas = window.window._qt_viewer.canvas.native
    middle, camera = canvas.rect().center(), window.scene.camera
    pixels = [
        QPoint(*(round(middle.x() + x), round(middle.y() + y)))
        for y, x in (np.subtract(points, camera.center[-2:]) * camera.zoom)
    ]
    left = Qt.MouseButton.LeftButton
    QTest.mousePress(canvas, left, Qt.KeyboardModifier.NoModifier, pixels[0])
    for pixel in pixels[1:]:
        QTest.mouseMove(canvas, pixel)
        QApplication.processEvents()
    if not release:
        return lambda: QTest.mouseRelease(
            canvas, left, Qt.KeyboardModifier.NoModifier, pixels[-1]
        )
    QTest.mouseRelease(canvas, left, Qt.KeyboardModifier.NoModifier, pixels[-1])
    return None


@pytest.mark.gui
def test_real_strokes_arrive_and_previews_wait_for_their_end(qtbot, window):
    session = Session(qtbot, window, window.window._qt_window)
    session.live.take([session.preview()])
    layer = session.live.live_layer.layer()
    session.labels.mode, session.labels.selected_label = "paint", 3
    window.layers.selection.active = session.labels
    release = drag(window, [(10, 10), (10, 14), (10, 18)], release=False)
    before = layer.data
    session.live.take([session.preview(start=(9, 9))])
    assert layer.data is before
    release()
    qtbot.waitUntil(lambda: layer.data is not before, timeout=5000)
    assert any((stroke.labels == 3).any() for stroke in session.wait_for(1))
    session.live.end()


@pytest.mark.gui
def test_a_live_layer_goes_with_its_training(qtbot, make_napari_viewer) -> None:
    # Without the fixture `window`, which makes removing safe by itself.
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    session = Session(qtbot, viewer, viewer.window._qt_window)
    for _ in range(3):
        session.live.take([session.preview()])
        viewer.screenshot(canvas_only=True, flash=False)
        session.live.end()
        viewer.screenshot(canvas_only=True, flash=False)
        assert session.live.live_layer.layer() is None
        session.begin()
    session.live.end()


@pytest.mark.gui
def test_what_is_on_screen_is_asked_for(qtbot, window) -> None:
    session = Session(qtbot, window, window.window._qt_window, (3000, 2000))
    mailbox = session.mailbox
    qtbot.waitUntil(lambda: mailbox.view is not None, timeout=5000)
    whole = mailbox.view
    # In the middle, and not more than can be predicted at once.
    assert whole.shape == (1024, 1024)
    assert whole.start == pytest.approx((988, 488), abs=3)
    window.scene.camera.center, window.scene.camera.zoom = (500, 700), 10
    qtbot.waitUntil(lambda: mailbox.view != whole, timeout=5000)
    qtbot.waitUntil(
        lambda: (
            visible_region(window, session.labels, 'image "nuclei"') == mailbox.view
        ),
        timeout=5000,
    )
    (top, left), (height, width) = mailbox.view.start, mailbox.view.shape
    canvas = window.window._qt_viewer.canvas.native
    assert (height, width) == pytest.approx(
        (canvas.height() / 10, canvas.width() / 10), abs=3
    )
    assert (top + height / 2, left + width / 2) == pytest.approx((500, 700), abs=3)
    window.scene.camera.center = (-5000, -5000)
    qtbot.waitUntil(lambda: mailbox.view is None, timeout=5000)
    session.live.end()
