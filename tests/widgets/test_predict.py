from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt

from napari_unet import events as ev
from napari_unet.batch import segment
from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.errors import ResourceError
from napari_unet.events import counted
from napari_unet.imaging.arrays import Image
from napari_unet.learning import attention as attention_module
from napari_unet.learning.attention import attention_maps
from napari_unet.learning.checkpoint import Model, save_model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict as api_predict
from napari_unet.widgets import _predicted_layers as drawing
from napari_unet.widgets import predict as module
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._prediction import Predicted, TilesFollow, segmentation
from napari_unet.widgets.predict import PredictWidget

# napari silences it, but not while another thread changes what is silenced.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")

PREVIEW = "nuclei probability (preview)"
ON_CPU = PredictConfig(device="cpu", precision="fp32")


@pytest.fixture
def nuclei(viewer, drawn):
    return viewer.add_image(
        drawn[0], name="nuclei", scale=(0.5, 0.5), units=("um", "um")
    )


@pytest.fixture
def widget(qtbot, viewer, nuclei, tiny_model, monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {"trained just now": tiny_model})
    widget = PredictWidget(viewer)
    qtbot.addWidget(widget)
    widget.settings.setValue(ON_CPU)
    return widget


def predict(qtbot, widget):
    with qtbot.waitSignal(widget.panel.ended, timeout=30_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)


def failure_of(widget):
    failure = widget.panel.state.failure
    return "" if failure is None else failure.summary


def test_cells_are_what_the_api_finds_and_lie_on_the_image(
    qtbot, widget, viewer, nuclei, tiny_model, drawn
):
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    cells = viewer.layers["nuclei prediction"]
    expected = segment(tiny_model, Image(drawn[0][None]), config=ON_CPU)
    np.testing.assert_array_equal(cells.data, expected)
    np.testing.assert_array_equal(cells.scale, nuclei.scale)
    assert cells.units == nuclei.units
    assert f"{counted(expected.max(), 'cell')} found" in widget.panel.state.message


def test_a_model_file_works_as_well(qtbot, widget, viewer, tiny_model, tmp_path):
    path = save_model(tmp_path / "mine.unet", tiny_model)
    widget.model.choose_file(path)
    predict(qtbot, widget)
    assert "nuclei prediction" in viewer.layers


def test_a_second_prediction_updates_the_same_layers(qtbot, widget, viewer):
    predict(qtbot, widget)
    before = list(viewer.layers)
    predict(qtbot, widget)
    assert [layer for layer in viewer.layers if layer not in before] == []


def test_probabilities_are_kept_on_request(qtbot, widget, viewer):
    widget.probabilities.setChecked(True)
    predict(qtbot, widget)
    layer = viewer.layers["nuclei probability"]
    assert layer.visible
    assert layer.data.dtype == np.float32
    assert 0 <= layer.data.min() <= layer.data.max() <= 1
    assert viewer.layers.index(layer) < viewer.layers.index("nuclei prediction")


@pytest.fixture
def attentive():
    config = NetworkConfig(architecture="attention_unet", base_width=2, depth=2)
    with torch.random.fork_rng():  # the same maps each time
        torch.manual_seed(0)
        return Model(config, build_network(config).state_dict())


def test_attention_is_offered_for_networks_with_gates_only(
    qtbot, widget, attentive, tmp_path, monkeypatch
):
    assert not widget.attention.isEnabled()
    TRAINED.add("attentive", attentive)
    widget.model.box.setCurrentText("attentive")
    assert widget.attention.isEnabled()
    widget.model.choose_file(tmp_path / "missing.unet")
    assert not widget.attention.isEnabled()
    widget.model.choose_file(save_model(tmp_path / "a.unet", attentive))
    assert widget.attention.isEnabled()


def test_attention_maps_lie_on_the_image_beside_the_cells(
    qtbot, widget, viewer, nuclei, attentive, drawn
):
    TRAINED.add("attentive", attentive)
    widget.model.box.setCurrentText("attentive")
    widget.attention.setChecked(True)
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    expected = attention_maps(attentive, Image(drawn[0][None]), ON_CPU)
    for i, each in enumerate(expected, 1):
        layer = viewer.layers[f"nuclei attention {i}"]
        np.testing.assert_array_equal(layer.data, each)
        np.testing.assert_array_equal(layer.scale, nuclei.scale)
        assert layer.visible == (i == 1)
    assert "nuclei prediction" in viewer.layers
    assert " found" in widget.panel.state.message


def test_cells_stay_where_attention_fails(
    qtbot, widget, viewer, attentive, monkeypatch
):
    def fails(*_, **__):
        yield ev.TileDone(1, 2, (), np.ones((1, 48, 48), np.float32))
        raise ResourceError("NU-R03", "no memory is left: close something")

    monkeypatch.setattr(attention_module, "attention_tiles", fails)
    TRAINED.add("attentive", attentive)
    widget.model.box.setCurrentText("attentive")
    widget.attention.setChecked(True)
    predict(qtbot, widget)
    assert "no memory is left" in failure_of(widget)
    assert [layer.name for layer in viewer.layers] == [
        "nuclei",
        PREVIEW,
        "nuclei prediction",
    ]


# -- other outputs than classes, and finer ones --------------------------------


def offer(widget, *roles, **network):
    config = NetworkConfig(base_width=2, depth=1, out_channels=len(roles), **network)
    model = Model(config, build_network(config).state_dict(), roles=roles)
    TRAINED.add("other", model)
    widget.model.box.setCurrentText("other")
    return model


def test_values_come_as_images_named_by_their_roles(qtbot, widget, viewer, drawn):
    model = offer(widget, "value:denoised", "value:1")
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    assert [layer.name for layer in viewer.layers] == [
        "nuclei",
        "nuclei predicted denoised",
        "nuclei predicted 1",
    ]
    expected = api_predict(model, Image(drawn[0][None]), ON_CPU)
    for layer, values in zip(viewer.layers[1:], expected, strict=True):
        np.testing.assert_array_equal(layer.data, values)
    assert [layer.visible for layer in viewer.layers[1:]] == [True, False]
    assert widget.panel.state.phase == "done"
    assert widget.panel.state.message == "Shown: predicted denoised, predicted 1"


def test_values_of_another_range_are_seen(qtbot, widget, viewer):
    offer(widget, "value:denoised")
    predict(qtbot, widget)
    layer = viewer.layers["nuclei predicted"]
    layer.contrast_limits = (1000, 2000)
    predict(qtbot, widget)
    expected = np.percentile(layer.data, [1, 99.8])
    assert layer.contrast_limits == pytest.approx(expected)
    low, high = layer.contrast_limits_range
    assert low <= expected[0] < expected[1] <= high


def test_values_are_warned_of_where_the_image_is_not_what_the_model_knows(
    qtbot, widget
):
    model = offer(widget, "value:denoised")
    TRAINED.add("other", replace(model, pixel_size_um=(0.25, 0.25)))
    widget.model.box.setCurrentText("other")
    predict(qtbot, widget)
    assert any("0.25" in note for note in widget.panel.state.notes)


def assert_covers(layer, image):
    for part in (0, 1):
        corners = [part * np.array(each.data.shape) - 0.5 for each in (layer, image)]
        np.testing.assert_allclose(
            layer.data_to_world(corners[0]), image.data_to_world(corners[1])
        )


def test_finer_outputs_cover_the_image(qtbot, widget, viewer, nuclei):
    offer(widget, "softmax:background", "softmax:cell", upscale=2)
    widget.probabilities.setChecked(True)
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    for name in ("nuclei probability", "nuclei prediction"):
        layer = viewer.layers[name]
        assert layer.data.shape == (96, 96)
        np.testing.assert_allclose(layer.scale, nuclei.scale / 2)
        assert_covers(layer, nuclei)


def test_finer_values_cover_the_image(qtbot, widget, viewer, nuclei):
    offer(widget, "value:sharp", upscale=4)
    predict(qtbot, widget)
    layer = viewer.layers["nuclei predicted"]
    assert layer.data.shape == (192, 192)
    assert_covers(layer, nuclei)


def test_a_model_without_background_shows_all_it_gives(qtbot, widget, viewer):
    offer(widget, "sigmoid:cell")
    widget.probabilities.setChecked(True)
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    assert [layer.name for layer in viewer.layers] == [
        "nuclei",
        "nuclei probability",
        "nuclei prediction",
    ]


def test_no_attention_is_computed_unasked(qtbot, widget, viewer, attentive):
    TRAINED.add("attentive", attentive)
    widget.model.box.setCurrentText("attentive")
    predict(qtbot, widget)
    assert not [layer for layer in viewer.layers if "attention" in layer.name]


def test_an_image_of_other_channels_is_refused_in_a_sentence(qtbot, widget, viewer):
    second = viewer.add_image(np.ones((48, 48)), name="actin")
    widget.images.choose(second, viewer.layers["nuclei"])
    predict(qtbot, widget)
    assert "expects 1 channel" in failure_of(widget)
    assert "has 2" in failure_of(widget)


def test_an_image_of_another_pixel_size_is_rescaled_and_that_is_told(
    qtbot, widget, viewer, tiny_model
):
    TRAINED.add("small pixels", replace(tiny_model, pixel_size_um=(0.25, 0.25)))
    widget.model.box.setCurrentText("small pixels")
    predict(qtbot, widget)
    (note,) = [n for n in widget.panel.state.notes if "rescaled by 2" in n]
    assert "results are on its own grid" in note


def test_the_scale_of_a_made_image_is_told(qtbot, widget, viewer):
    model = offer(widget, "value:image")
    TRAINED.add("other", replace(model, pixel_size_um=(0.25, 0.25)))
    widget.settings.setValue(ON_CPU.model_copy(update={"scale": 0.5}))
    predict(qtbot, widget)
    notes = widget.panel.state.notes
    assert [n for n in notes if "rescaled by 0.5" in n]
    # It was given: nobody needs to be warned of the pixel sizes.
    assert not [n for n in notes if n.startswith("⚠") and "µm" in n]
    assert viewer.layers["nuclei predicted"].data.shape == (48, 48)
    assert widget.panel.state.message == "Shown: predicted"


def test_a_file_that_is_no_model_is_told(qtbot, widget, tmp_path):
    path = tmp_path / "no.unet"
    path.write_text("no model")
    widget.model.choose_file(path)
    predict(qtbot, widget)
    assert "no.unet" in failure_of(widget)
    assert "NU-M" in failure_of(widget)


def test_no_model_is_told_at_once(qtbot, viewer, nuclei, monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {})
    widget = PredictWidget(viewer)
    qtbot.addWidget(widget)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    assert "no model file is given" in failure_of(widget)


def test_a_stack_is_segmented_slice_by_slice(qtbot, widget, viewer, drawn):
    stack = viewer.add_image(np.stack([drawn[0]] * 3), name="stack")
    widget.images.choose(stack)
    predict_without_axes = widget.panel.start
    qtbot.mouseClick(predict_without_axes, Qt.MouseButton.LeftButton)
    assert "NU-I09" in failure_of(widget)
    widget.images.axes.setCurrentIndex(widget.images.axes.findData("TYX"))
    predict(qtbot, widget)
    assert viewer.layers["stack prediction"].data.shape == (3, 48, 48)


def test_rgb_of_the_right_channels_works(qtbot, widget, viewer, tiny_model):
    from napari_unet.learning.networks import build_network

    network = tiny_model.network.model_copy(update={"in_channels": 3})
    state = build_network(network).state_dict()
    TRAINED.add("colours", replace(tiny_model, network=network, state=state))
    widget.model.box.setCurrentText("colours")
    photo = viewer.add_image(np.zeros((32, 40, 4), np.uint8), rgb=True, name="photo")
    widget.images.choose(photo)
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    assert viewer.layers["photo prediction"].data.shape == (32, 40)
    assert any("alpha" in note for note in widget.panel.state.notes)


# -- what is on screen first, and how sure it is -------------------------------


def view_at(top, left, side=16):
    return ev.Region(0, (), (top, left), (side, side))


def gap_to(tile, point):
    """Return how far a tile is from a point, along Y or X."""
    write = zip(tile.write, point, strict=True)
    return max(max(w.start - p, p - w.stop, 0) for w, p in write)


def test_tiles_on_screen_come_first_again_after_a_pan_and_cells_are_the_same(
    tiny_model, drawn
):
    pixels = np.tile(drawn[0], (1, 2, 2)).astype(np.float32)
    # The other way round its random weights find some.
    model = replace(tiny_model, roles=tiny_model.roles[::-1])
    config = ON_CPU.model_copy(update={"tile_size": 16})
    mailbox = ev.Mailbox()
    mailbox.look_at(view_at(72, 72))
    tiles = []
    for event in segmentation(model, Image(pixels), config, mailbox=mailbox):
        if isinstance(event, ev.TileDone):
            tiles.append(event)
            if len(tiles) == 4:
                mailbox.look_at(view_at(8, 40))
        elif isinstance(event, ev.Segmented):
            labels = event.labels
    assert len(tiles) == 36
    # Around each middle four tiles meet.
    assert [gap_to(tile, (80, 80)) for tile in tiles[:4]] == [0] * 4
    assert [gap_to(tile, (16, 48)) for tile in tiles[4:8]] == [0] * 4
    # Then outward.
    gaps = [gap_to(tile, (16, 48)) for tile in tiles[8:]]
    assert gaps == sorted(gaps)
    assert labels.max() > 0
    expected = segment(model, Image(pixels), config=config)
    np.testing.assert_array_equal(labels, expected)


def test_prediction_is_told_what_is_on_screen_from_the_start_on(
    qtbot, widget, viewer, nuclei, monkeypatch
):
    slow = Slow(monkeypatch)
    nuclei.corner_pixels = np.array([[8, 16], [23, 47]])
    start_slow(qtbot, widget, viewer)
    seen = ev.Region(0, (), (8, 16), (16, 32), "nuclei")
    assert slow.mailbox.view == seen
    nuclei.corner_pixels = np.array([[0, 0], [15, 31]])
    qtbot.waitUntil(lambda: slow.mailbox.view.start == (0, 0), timeout=10_000)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert not widget._timer.isActive()


def test_channels_are_no_planes_of_what_is_on_screen(
    qtbot, widget, viewer, monkeypatch
):
    slow = Slow(monkeypatch)
    layer = viewer.add_image(
        np.zeros((2, 3, 48, 48)), name="stack", axis_labels=("c", "z", "y", "x")
    )
    layer.corner_pixels = np.array([[0, 0, 8, 8], [0, 0, 23, 23]])
    viewer.dims.current_step = (1, 2, 0, 0)
    widget.images.choose(layer)
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: hasattr(slow, "mailbox"), timeout=10_000)
    assert slow.mailbox.view.plane == (2,)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()


def test_uncertainty_is_shown_on_request(qtbot, widget, viewer, nuclei):
    widget.uncertainty.setChecked(True)
    config = ON_CPU.model_copy(update={"test_time_augmentation": "flips"})
    widget.settings.setValue(config)
    predict(qtbot, widget)
    assert failure_of(widget) == ""
    entropy = viewer.layers["nuclei uncertainty (entropy)"]
    spread = viewer.layers["nuclei uncertainty (spread)"]
    p = api_predict(widget.model.model(), Image(nuclei.data[None]), config)
    expected = -(p * np.log2(p)).sum(0)
    np.testing.assert_allclose(entropy.data, expected, atol=1e-5)
    assert entropy.visible
    assert not spread.visible
    assert spread.data.max() > 0
    np.testing.assert_array_equal(entropy.scale, nuclei.scale)


def test_values_alone_say_nothing_of_how_sure_they_are(qtbot, widget, viewer):
    offer(widget, "value:image")
    widget.uncertainty.setChecked(True)
    predict(qtbot, widget)
    assert "NU-M13" in failure_of(widget)
    assert len(viewer.layers) == 1


# -- tiles, cancel, faults -----------------------------------------------------


class Slow:
    """A segmentation that waits after its first tile."""

    def __init__(self, monkeypatch, shape=(48, 48), n_classes=2):
        self.go_on = threading.Event()
        self.closed = threading.Event()
        self.outputs = np.full((n_classes, *shape), 0.25, np.float32)
        monkeypatch.setattr(module, "segmentation", self)

    def __call__(self, *_, mailbox=None, **__):
        self.mailbox = mailbox
        try:
            roles = ("softmax:background", "softmax:a", "softmax:b")[
                : len(self.outputs)
            ]
            yield TilesFollow(roles)
            yield ev.TileDone(1, 2, (), self.outputs)
            while not self.go_on.wait(0.01):
                yield ev.Note("waiting")
            yield ev.TileDone(2, 2, (), self.outputs)
            labels = np.ones(self.outputs.shape[1:], np.int32)
            yield Predicted(self.outputs, roles, labels)
            yield ev.Segmented(labels, self.outputs)
        finally:
            self.closed.set()


def start_slow(qtbot, widget, viewer):
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: PREVIEW in viewer.layers, timeout=10_000)


def test_tiles_show_while_the_rest_is_computed(qtbot, widget, viewer, monkeypatch):
    slow = Slow(monkeypatch)
    start_slow(qtbot, widget, viewer)
    preview = viewer.layers[PREVIEW]
    assert preview.visible
    np.testing.assert_array_equal(preview.data, slow.outputs[1])
    assert "nuclei prediction" not in viewer.layers
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert "nuclei prediction" in viewer.layers
    assert not preview.visible


def test_the_layer_that_is_painted_in_stays_active(qtbot, widget, viewer, monkeypatch):
    slow = Slow(monkeypatch)
    painted = viewer.add_labels(np.zeros((48, 48), int), name="mine")
    start_slow(qtbot, widget, viewer)
    assert viewer.layers.selection.active is painted
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert viewer.layers.selection.active is painted


def test_further_classes_have_layers_of_their_own(qtbot, widget, viewer, monkeypatch):
    Slow(monkeypatch, n_classes=3).go_on.set()
    widget.probabilities.setChecked(True)
    predict(qtbot, widget)
    assert "nuclei probability" in viewer.layers
    assert "nuclei probability 2" in viewer.layers


def test_cancel_ends_the_work_without_a_result(qtbot, widget, viewer, monkeypatch):
    slow = Slow(monkeypatch)
    start_slow(qtbot, widget, viewer)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        qtbot.mouseClick(widget.panel.stop, Qt.MouseButton.LeftButton)
    assert slow.closed.is_set()
    assert widget.panel.state.phase == "stopped"
    assert "nuclei prediction" not in viewer.layers
    assert not viewer.layers[PREVIEW].visible


def test_removing_the_image_ends_the_work(qtbot, widget, viewer, monkeypatch):
    slow = Slow(monkeypatch)
    start_slow(qtbot, widget, viewer)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        viewer.layers.remove("nuclei")
    assert slow.closed.is_set()
    assert failure_of(widget) == ""


def test_cells_are_not_laid_on_an_image_that_was_replaced_by_another(
    qtbot, widget, viewer, nuclei, monkeypatch
):
    slow = Slow(monkeypatch)
    start_slow(qtbot, widget, viewer)
    nuclei.data = np.zeros((30, 20))
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert 'image "nuclei" was 48 x 48 when prediction began' in failure_of(widget)
    assert "is 30 x 20 now" in failure_of(widget)
    assert "nuclei prediction" not in viewer.layers


def test_a_preview_that_the_user_deleted_does_not_come_back(
    qtbot, widget, viewer, monkeypatch
):
    monkeypatch.setattr(drawing, "_DRAW_EVERY_S", 0)
    slow = Slow(monkeypatch)
    start_slow(qtbot, widget, viewer)
    viewer.layers.remove(PREVIEW)
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert failure_of(widget) == ""
    assert [layer.name for layer in viewer.layers] == ["nuclei", "nuclei prediction"]


def test_the_preview_becomes_the_probabilities_that_are_asked_for(
    qtbot, widget, viewer, monkeypatch
):
    Slow(monkeypatch).go_on.set()
    widget.probabilities.setChecked(True)
    predict(qtbot, widget)
    names = [layer.name for layer in viewer.layers]
    assert names == ["nuclei", "nuclei probability", "nuclei prediction"]


def test_removing_another_layer_ends_nothing(qtbot, widget, viewer, monkeypatch):
    slow = Slow(monkeypatch)
    other = viewer.add_labels(np.zeros((4, 4), int))
    start_slow(qtbot, widget, viewer)
    viewer.layers.remove(other)
    assert widget.panel.state.phase == "running"
    with qtbot.waitSignal(widget.panel.ended, timeout=10_000):
        slow.go_on.set()
    assert "nuclei prediction" in viewer.layers


def test_a_runtime_error_is_shown_and_the_next_prediction_works(
    qtbot, widget, viewer, monkeypatch
):
    def fails(*_, **__):
        raise RuntimeError("Expected all tensors on one device")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(module, "segmentation", fails)
        predict(qtbot, widget)
    assert "one device" in failure_of(widget)
    predict(qtbot, widget)
    assert failure_of(widget) == ""


def test_a_fault_while_drawing_is_shown_and_not_raised(
    qtbot, widget, viewer, monkeypatch
):
    def fails(*_, **__):
        raise KeyError("nuclei prediction")

    monkeypatch.setattr(drawing, "show_labels", fails)
    predict(qtbot, widget)
    assert "KeyError" in failure_of(widget)


def test_it_fits_a_narrow_dock(widget):
    assert widget.minimumSizeHint().width() <= 400


@pytest.mark.gui
def test_predicts_in_a_real_window(qtbot, window, drawn, tiny_model, monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {"trained just now": tiny_model})
    window.add_image(drawn[0], name="nuclei")
    widget = PredictWidget(window)
    window.window.add_dock_widget(widget, name="Predict")
    qtbot.waitUntil(lambda: "…" not in widget.device.label.text(), timeout=20_000)
    assert widget.device.label.text().startswith("Device: ")
    predict(qtbot, widget)
    assert "nuclei prediction" in window.layers
