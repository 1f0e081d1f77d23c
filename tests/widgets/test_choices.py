from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

from napari_unet.errors import ImageError, ModelError
from napari_unet.files.model_places import shipped_models
from napari_unet.widgets._choices import (
    TRAINED,
    ImageChoice,
    ModelChoice,
    TrainedModels,
)


@pytest.fixture(autouse=True)
def _nothing_trained(monkeypatch):
    monkeypatch.setattr(TRAINED, "models", {})


@pytest.fixture
def images(qtbot, viewer):
    viewer.add_image(np.zeros((8, 9)), name="dapi")
    viewer.add_image(np.ones((8, 9)), name="actin")
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    return choice


def shown(choice):
    return [choice.list.item(row).text() for row in range(choice.list.count())]


# -- images --------------------------------------------------------------------


def test_the_topmost_image_is_chosen_at_first(images):
    assert shown(images) == ["actin", "dapi"]
    assert images.image().source == 'image "actin"'


def test_several_layers_become_channels_the_lowest_first(images, viewer):
    images.choose(*viewer.layers)
    image = images.image()
    assert image.channel_names == ("dapi", "actin")
    assert image.data[1].all()


def test_the_choice_survives_new_renamed_and_moved_layers(images, viewer):
    dapi = viewer.layers["dapi"]
    images.choose(dapi)
    viewer.add_image(np.zeros((8, 9)), name="third")
    dapi.name = "renamed"
    viewer.layers.move(0, 3)
    assert "renamed" in shown(images)
    assert images.layers() == [dapi]


def test_a_removed_layer_gives_way(images, viewer):
    del viewer.layers["actin"]
    assert [layer.name for layer in images.layers()] == ["dapi"]
    viewer.layers.clear()
    assert images.layers() == []


def test_the_active_image_is_chosen_until_the_user_chooses(images, viewer):
    dapi, actin = viewer.layers
    viewer.layers.selection.active = dapi
    assert images.layers() == [dapi]
    third = viewer.add_image(np.zeros((8, 9)), name="third")
    assert images.layers() == [third]
    painted = viewer.add_labels(np.zeros((8, 9), int))
    viewer.layers.selection.active = painted
    assert images.layers() == [third]
    images.list.clearSelection()
    images.list.item(1).setSelected(True)
    assert images.layers() == [actin]
    viewer.layers.selection.active = dapi
    viewer.add_image(np.zeros((8, 9)), name="fourth")
    assert images.layers() == [actin]


def test_the_preferred_image_goes_before_the_active_one(images, viewer):
    dapi, actin = viewer.layers
    images.prefer(dapi)
    viewer.layers.selection.active = actin
    viewer.add_image(np.zeros((8, 9)), name="third")
    assert images.layers() == [dapi]
    images.prefer(None)
    assert [layer.name for layer in images.layers()] == ["third"]


def test_a_preferred_image_among_the_chosen_ones_changes_nothing(images, viewer):
    images.choose(*viewer.layers)
    images.prefer(viewer.layers["dapi"])
    assert images.layers() == list(viewer.layers)


def test_a_preferred_image_replaces_others(images, viewer):
    images.choose(viewer.layers["actin"])
    images.prefer(viewer.layers["dapi"])
    assert images.layers() == [viewer.layers["dapi"]]


def test_several_channels_are_hinted_at_where_there_are_several_layers(images, viewer):
    assert "Ctrl+click" in images.hint.text()
    assert not images.hint.isHidden()
    del viewer.layers["dapi"]
    assert images.hint.isHidden()


def test_rows_are_high_enough_to_click_and_the_chosen_one_is_seen(images, viewer):
    images.resize(300, 200)
    images.show()
    assert images.list.sizeHintForRow(0) >= images.fontMetrics().height() + 4
    for theme in ("light", "dark"):
        viewer.theme = theme
        picture = images.list.viewport().grab().toImage()
        rows = [images.list.visualItemRect(images.list.item(i)) for i in (0, 1)]
        colours = [picture.pixelColor(r.right() - 3, r.center().y()) for r in rows]
        assert colours[0] == QColor(get_theme(theme).current.as_hex())
        assert colours[1] != colours[0]


def test_no_image_is_told_in_a_sentence(qtbot, viewer):
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    assert choice.axes.isHidden()
    with pytest.raises(ImageError, match="no image layer is chosen"):
        choice.image()


def test_axes_are_asked_for_where_nothing_names_them(qtbot, viewer):
    viewer.add_image(np.zeros((3, 8, 9)), name="stack")
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    assert not choice.axes.isHidden()
    with pytest.raises(ImageError, match="NU-I09"):
        choice.image()
    choice.axes.setCurrentIndex(choice.axes.findData("TYX"))
    assert choice.image().axes == "CTYX"
    choice.axes.setCurrentIndex(choice.axes.findData("CYX"))
    assert choice.image().n_channels == 3


def test_axes_are_not_asked_for_where_the_layer_names_them(qtbot, viewer):
    layer = viewer.add_image(np.zeros((3, 8, 9)), name="stack")
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    layer.axis_labels = ("z", "y", "x")
    assert choice.axes.isHidden()
    assert choice.image().axes == "CZYX"


def test_rgb_is_three_channels_and_the_dropped_alpha_is_told(qtbot, viewer):
    viewer.add_image(np.zeros((8, 9, 4), np.uint8), rgb=True, name="photo")
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    assert choice.image().n_channels == 3
    assert "alpha" in choice.notes()[0]


def test_a_multiscale_layer_gives_its_full_resolution(qtbot, viewer):
    viewer.add_image([np.zeros((16, 18)), np.zeros((8, 9))], multiscale=True)
    choice = ImageChoice(viewer)
    qtbot.addWidget(choice)
    assert choice.image().shape == (16, 18)


# -- models --------------------------------------------------------------------


@pytest.fixture
def models(qtbot):
    choice = ModelChoice()
    qtbot.addWidget(choice)
    return choice


def test_a_model_file_is_asked_for_at_first(models):
    assert not models.file.isHidden()
    with pytest.raises(ModelError, match="no model file is given"):
        models.model()


def test_a_model_file_is_its_path(models):
    models.choose_file("/data/cells.unet")
    assert models.model() == Path("/data/cells.unet")


def test_what_was_trained_just_now_is_chosen(models):
    TRAINED.add("trained just now", "a model")
    assert models.model() == "a model"
    assert models.file.isHidden()


def test_a_file_that_was_named_stays_chosen(models):
    models.choose_file("/data/cells.unet")
    TRAINED.add("trained just now", "a model")
    assert models.model() == Path("/data/cells.unet")


def test_a_model_that_is_offered_goes_before_a_file(models):
    models.choose_file("/data/cells.unet")
    TRAINED.add("trained just now", "a model")
    TRAINED.offered.emit("trained just now")
    assert models.model() == "a model"


def test_from_scratch_stays_chosen(qtbot):
    choice = ModelChoice(nothing="from scratch")
    qtbot.addWidget(choice)
    assert choice.is_nothing
    TRAINED.add("trained just now", "a model")
    assert choice.is_nothing


def test_models_that_come_along_are_offered_by_name_and_stay_chosen(models):
    (path,) = [p for p in shipped_models() if p.stem == "nuclei"]
    models.box.setCurrentText("nuclei (comes along)")
    assert models.model() == path
    assert models.file.isHidden()
    TRAINED.add("trained just now", "a model")
    assert models.model() == path


def test_only_the_newest_models_are_kept():
    trained = TrainedModels()
    for i in range(10):
        trained.add(str(i), i)
    assert list(trained.models) == ["9", "8", "7"]


def test_a_model_of_the_same_name_becomes_the_newest():
    trained = TrainedModels()
    for name in ("a", "b", "a"):
        trained.add(name, name)
    assert list(trained.models) == ["a", "b"]
