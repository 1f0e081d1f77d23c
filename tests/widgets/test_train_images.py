"""Images that are made from images, in the Train dock."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt

import napari_unet as nu
from napari_unet import events as ev
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.images import write_image
from napari_unet.learning.loop import previews
from napari_unet.widgets import _interrupted, _live_training
from napari_unet.widgets import train as module
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._live_layer import Drawn
from napari_unet.widgets.train import TrainWidget

FEW_STEPS = TrainConfig(
    max_steps=4, batch_size=1, patch_size=16, validate_every=2, device="cpu"
)
PLACE = {"scale": (0.5, 0.5), "translate": (3.0, 4.0)}


@pytest.fixture(autouse=True)
def _apart(monkeypatch, tmp_path):
    monkeypatch.setattr(TRAINED, "models", {})
    monkeypatch.setattr(_live_training, "_TICK_MS", 10)
    monkeypatch.setattr(previews, "_LEAST_GAP_S", 0.0)
    monkeypatch.setattr(previews, "_LEAST_GAP_NEW_VIEW_S", 0.0)
    monkeypatch.setattr(previews, "_SHARE", 1.0)
    for each in (module, _interrupted):
        monkeypatch.setattr(each, "runs_folder", lambda: tmp_path / "runs")


def pair(seed=0, finer=1, shape=(48, 56)):
    """An image with noise, and what is behind it, with finer pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    clean = 200 + 100 * np.sin(y / 5) * np.cos(x / 4 + seed)
    noisy = rng.poisson(clean).astype(np.float32)
    return noisy, np.kron(clean, np.ones((finer, finer))).astype(np.float32)


def begin(qtbot, viewer, finer=1):
    noisy, clean = pair(finer=finer)
    place = PLACE | {"scale": tuple(0.5 / finer for _ in "YX")}
    viewer.add_image(clean, name="clean", **place)
    viewer.add_image(noisy, name="noisy", **PLACE)
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    widget.form.settings.setValue(FEW_STEPS)
    widget.form.network.setValue(NetworkConfig(base_width=2, depth=1))
    widget.form.data.choose_task(makes_images=True)
    widget.form.data.images.choose(viewer.layers["noisy"])
    return widget


def train(qtbot, widget):
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    failure = widget.panel.state.failure
    assert failure is None, failure.summary


@pytest.mark.parametrize("finer", [1, 2])
def test_two_layers_train_a_model_that_makes_images(qtbot, viewer, finer):
    widget = begin(qtbot, viewer, finer)
    # Those of cells are not asked for, and don't count.
    widget.form.settings.rows["working_scale"].set_value(2.0)
    widget.form.settings.rows["loss"].set_value("dice")
    train(qtbot, widget)
    assert widget.model.training.task == "regress"
    assert "loss" not in widget.model.training.model_fields_set
    assert widget.model.network.upscale == finer
    curves = widget.plot.curves
    assert curves.steps == [1, 2, 3, 4]
    assert (curves.unit, curves.words[:5]) == ("dB", "PSNR ")
    assert curves.words.endswith("on 1 image")
    notes = " ".join(widget.panel.state.notes)
    assert "held-back image" in notes
    assert "Tuning" not in notes
    held = viewer.layers["noisy held back"]
    assert held.visible
    assert len(held.data)
    np.testing.assert_allclose(held.scale, (0.5, 0.5))


def test_what_is_for_cells_is_not_shown(qtbot, viewer):
    widget = begin(qtbot, viewer)
    rows = widget.form.settings.rows
    for fold in (widget.form.settings, widget.form.weights):
        fold.more.heading.setChecked(True)
    of_cells = (
        widget.form.weights,
        widget.controls.keep_learning,
        *(rows[name] for name in ("target", "loss", "working_scale")),
    )
    common = (widget.controls.preview, widget.controls.split, rows["learning_rate"])
    for makes_images in (True, False):
        widget.form.data.choose_task(makes_images=makes_images)
        for control in of_cells:
            assert control.isVisibleTo(widget) != makes_images
        assert rows["regression_loss"].isVisibleTo(widget) == makes_images
        assert all(control.isVisibleTo(widget) for control in common)


@pytest.mark.gui
@pytest.mark.parametrize("finer", [1, 2])
def test_the_live_preview_is_the_image_in_the_units_of_its_target(
    qtbot, window, finer, monkeypatch
):
    made = []
    original = previews._predicted

    def kept(*given):
        made.append(original(*given))
        return made[-1]

    monkeypatch.setattr(previews, "_predicted", kept)
    widget = begin(qtbot, window, finer)
    widget.form.settings.setValue(FEW_STEPS.model_copy(update={"max_steps": 100_000}))
    window.reset_view()
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.live.n_shown > 1, timeout=180_000)
    layer = window.layers["noisy live"]
    assert layer.data.shape == (48 * finer, 56 * finer)
    assert layer.data.dtype == np.float32
    target = window.layers["clean"]
    np.testing.assert_allclose(layer.scale, target.scale)
    assert layer.contrast_limits == target.contrast_limits
    assert layer.colormap.name == "gray"
    order = [each.name for each in window.layers]
    assert order.index("noisy live") < order.index("noisy held back")
    assert window.layers.selection.active is not layer
    # 48 x 56 px at 0.5: the outer edges are those of the image.
    for at in (0, 1):
        corner, own = (
            each.data_to_world(at * np.array(each.data.shape) - 0.5)
            for each in (window.layers["noisy"], layer)
        )
        np.testing.assert_allclose(own, corner)
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        qtbot.mouseClick(widget.panel.stop, Qt.MouseButton.LeftButton)
    assert widget.panel.state.failure is None
    assert all(event.labels is None for event in made)
    assert layer not in window.layers


def test_the_live_layer_changes_between_outlines_and_images(qtbot, viewer):
    widget = begin(qtbot, viewer)
    region = ev.Region(0, (), (0, 0), (6, 8))
    target = viewer.layers["clean"]
    show = widget.live.live_layer.show
    outlines = Drawn(1, region, np.full((6, 8), 255, np.uint8))
    made = Drawn(1, region, np.full((6, 8), 300, np.float32))
    layer = show(outlines, target, "live")
    before = layer.colormap.name
    assert show(made, target, "live", like=target) is layer
    assert (layer.colormap.name, layer.contrast_limits) == (
        "gray",
        target.contrast_limits,
    )
    layer.contrast_limits = (250, 260)
    show(made, target, "live", like=target)
    assert layer.contrast_limits == [250, 260]
    show(outlines, target, "live")
    assert (layer.colormap.name, layer.contrast_limits) == (before, [0, 255])


def test_two_folders_of_pairs_train(qtbot, viewer, tmp_path):
    for k in range(3):
        for name, data in zip(("images", "targets"), pair(k), strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{k}.tif", data[None], axes="CYX")
    widget = begin(qtbot, viewer)
    data = widget.form.data
    data.source.setCurrentIndex(1)
    data.image_folder.set_path(tmp_path / "images")
    data.target_folder.set_path(tmp_path / "targets")
    train(qtbot, widget)
    assert widget.model.n_train_images == 3
    assert widget.model.roles == ("value:image",)


@pytest.mark.parametrize("is_folders", [False, True])
def test_an_interrupted_training_of_pairs_goes_on(qtbot, viewer, tmp_path, is_folders):
    widget = begin(qtbot, viewer)
    data = widget.form.data
    if is_folders:
        for name, image in zip(("images", "targets"), pair(), strict=True):
            (tmp_path / name).mkdir()
            write_image(tmp_path / name / "a.tif", image[None], axes="CYX")
        data.source.setCurrentIndex(1)
        data.image_folder.set_path(tmp_path / "images")
        data.target_folder.set_path(tmp_path / "targets")
    more = {"max_steps": 100_000, "checkpoint_every": 2}
    widget.form.settings.setValue(FEW_STEPS.model_copy(update=more))
    qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(widget.plot.curves.steps) > 4, timeout=30_000)
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        widget.panel.abort()
    data.choose_task(makes_images=False)
    data.source.setCurrentIndex(0)
    assert widget.interrupted.run is not None
    widget.interrupted.yes.click()
    qtbot.waitUntil(lambda: widget.plot.curves.steps[:1] > [4], timeout=30_000)
    with qtbot.waitSignal(widget.panel.ended, timeout=180_000):
        widget.panel.ask_stop()
    assert widget.panel.state.failure is None
    assert data.makes_images
    assert widget.model.training.task == "regress"


def test_unticking_keep_learning_lets_the_run_end_by_its_steps(qtbot, viewer):
    widget = begin(qtbot, viewer)
    asked = []
    widget._mailbox = SimpleNamespace(keep_learning=asked.append)
    widget.controls.keep_learning.setChecked(False)
    widget.controls.keep_learning.setChecked(True)
    assert asked == [False, True]
    widget._mailbox = None


def test_a_made_image_is_that_of_the_api(qtbot, viewer):
    from napari_unet.config import PredictConfig
    from napari_unet.widgets.predict import PredictWidget

    widget = begin(qtbot, viewer, finer=2)
    train(qtbot, widget)
    predict = PredictWidget(viewer)
    qtbot.addWidget(predict)
    predict.settings.setValue(PredictConfig(device="cpu"))
    predict.images.choose(viewer.layers["noisy"])
    with qtbot.waitSignal(predict.panel.ended, timeout=30_000):
        qtbot.mouseClick(predict.panel.start, Qt.MouseButton.LeftButton)
    assert predict.panel.state.failure is None
    layer = viewer.layers["noisy predicted"]
    expected = nu.predict(widget.model, pair()[0], PredictConfig(device="cpu"))
    np.testing.assert_allclose(layer.data, expected[0], rtol=1e-5)
    np.testing.assert_allclose(layer.scale, (0.25, 0.25))
    assert layer.contrast_limits == pytest.approx(np.percentile(layer.data, [1, 99.8]))
    assert "cells" not in predict.panel.state.message
