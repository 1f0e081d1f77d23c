from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.files.images import write_labels
from napari_unet.files.lazy import ImageFile
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets import _training_data as module
from napari_unet.widgets._painted import annotated_image, link_regions
from napari_unet.widgets._taken import count_slices, counting, read_folders
from napari_unet.widgets._training_data import TrainingData


def run_out(reading):
    """Return what a generator yields, and what it returns."""
    returned = []

    def outer():
        returned.append((yield from reading))

    return list(outer()), *returned


def test_images_without_a_mask_are_told_and_left_out(folders):
    (folders[1] / "val_c.tif").unlink()
    reading = read_folders(*folders, None, None)
    notes, pairs = run_out(reading)
    assert len(pairs) == 2
    assert notes[0].is_warning
    assert "for val_c.tif: left out" in notes[0].message


def test_folders_that_do_not_fit_are_refused(folders, tmp_path, drawn):
    (tmp_path / "other").mkdir()
    write_labels(tmp_path / "other" / "x.tif", drawn[1])
    with pytest.raises(FolderError, match="none of the 3 images"):
        list(read_folders(folders[0], tmp_path / "other", None, None))


def test_annotation_pairs_keep_what_is_unknown(folders, drawn):
    from napari_unet.files.annotations import save_annotation

    for mask in folders[1].iterdir():
        save_annotation(mask, Annotation(drawn[1]))
    reading = read_folders(*folders, "train_a*", None)
    _, ((image, mask),) = run_out(reading)
    annotation = mask.read(image.read())
    assert not annotation.is_known.all()


def test_a_plane_has_no_slices_to_count():
    assert count_slices(Annotation.complete(np.ones((4, 4), int))) == ""


@pytest.fixture
def data(qtbot, viewer):
    data = TrainingData(viewer)
    qtbot.addWidget(data)
    return data


def test_layers_are_copied_when_they_are_asked_for(data, viewer, drawn):
    viewer.add_image(drawn[0], name="nuclei")
    layer = viewer.add_labels(drawn[1], name="cells")
    reading = data.take().read
    layer.data[:] = 0
    _, ((image, annotation),) = run_out(reading())
    assert image.source == 'image "nuclei"'
    assert annotation.labels.any()


def test_an_image_without_annotation_says_what_to_do(data, viewer, drawn):
    viewer.add_image(drawn[0], name="nuclei")
    with pytest.raises(LabelError, match='image "nuclei" has no annotation'):
        data.take()


def test_folders_are_asked_for(data):
    data.source.setCurrentIndex(1)
    with pytest.raises(FolderError, match="choose a folder for each"):
        data.take()


def test_files_of_images_and_targets_are_named_and_not_read(folders, tmp_path):
    for folder in folders:
        for path in folder.iterdir():
            path.write_bytes(b"no image")
    notes, pairs = run_out(read_folders(*folders, "t*", "YX", are_targets=True))
    assert [note.message for note in notes] == ["2 images with targets"]
    names = ["train_a.tif", "train_b.tif"]
    expected = [tuple(ImageFile(f / name, "YX") for f in folders) for name in names]
    assert pairs == expected
    (tmp_path / "other").mkdir()
    write_labels(tmp_path / "other" / "x.tif", np.ones((4, 4), np.int32))
    with pytest.raises(FolderError, match="name each target as its image"):
        list(read_folders(folders[0], tmp_path / "other", None, None, are_targets=True))


def shown(data, control):
    return control.isVisibleTo(data)


def test_each_task_asks_for_what_it_learns_from(data, viewer):
    viewer.add_image(np.zeros((8, 8)), name="noisy")
    clean = viewer.add_image(np.ones((16, 16)), name="clean")
    of_cells = (data.labels, data.mask_folder)
    of_images = (data.target, data.target_folder)
    for makes_images in (True, False):
        data.choose_task(makes_images=makes_images)
        for is_folders in (False, True):
            data.source.setCurrentIndex(int(is_folders))
            for controls, is_asked in (
                (of_cells, not makes_images),
                (of_images, makes_images),
            ):
                expected = [is_asked and not is_folders, is_asked and is_folders]
                assert [shown(data, c) for c in controls] == expected
    data.source.setCurrentIndex(0)
    data.choose_task(makes_images=True)
    data.images.choose(viewer.layers["noisy"])
    # An image is never offered as its own target.
    assert data.target.count() == 1
    assert data.target.layer() is clean
    taken = data.take()
    assert (taken.target, taken.layers.name) == ("clean", "noisy")
    _, ((image, target),) = run_out(taken.read())
    assert (image.shape, target.shape) == ((8, 8), (16, 16))
    data.images.choose(clean)
    assert data.target.layer() is viewer.layers["noisy"]


def test_a_target_takes_the_axes_of_its_image(data, viewer):
    viewer.add_image(np.zeros((3, 8, 8)), name="noisy")
    viewer.add_image(np.ones((3, 16, 16)), name="clean")
    data.choose_task(makes_images=True)
    data.images.choose(viewer.layers["noisy"])
    data.images.axes.setCurrentIndex(data.images.axes.findData("TYX"))
    _, ((image, target),) = run_out(data.take().read())
    assert (image.axes, target.axes) == ("CTYX", "CTYX")
    data.images.axes.setCurrentIndex(data.images.axes.findData("CYX"))
    _, ((image, target),) = run_out(data.take().read())
    assert (image.axes, target.axes) == ("CYX", "CYX")
    # It has no layer of its own pixels to draw on.
    assert data.take().layers.grid() is None


def test_without_a_target_it_says_what_to_do(data, viewer):
    viewer.add_image(np.zeros((8, 8)), name="noisy")
    data.choose_task(makes_images=True)
    with pytest.raises(ImageError, match='"noisy" has no target'):
        data.take()
    data.source.setCurrentIndex(1)
    with pytest.raises(FolderError, match="images and targets are needed"):
        data.take()


def test_only_a_few_of_many_names_are_told(folders):
    for i in range(5):
        image = folders[0] / "val_c.tif"
        (folders[0] / f"more_{i}.tif").write_bytes(image.read_bytes())
    (warning, *_), _ = run_out(read_folders(*folders, None, None))
    assert warning.message.endswith("and 2 more: left out")


@pytest.fixture
def stack(viewer):
    """An annotation of three slices, one of which has a painted pixel."""
    labels = np.zeros((3, 48, 48), np.int32)
    labels[0, 0, 0] = 1
    return viewer.add_labels(labels, name="cells")


def wait_for_count(qtbot, data, n):
    begin = f"{n} of 3 slices count"
    text = data.slices.text
    qtbot.waitUntil(lambda: text().startswith(begin), timeout=10_000)


def test_the_count_of_slices_is_shown_for_layers_only(qtbot, stack, data):
    wait_for_count(qtbot, data, 1)
    data.source.setCurrentIndex(1)
    assert data.slices.isHidden()


def test_the_count_of_slices_follows_painting(qtbot, stack, data):
    wait_for_count(qtbot, data, 1)
    stack.data_setitem((np.array([1]), np.array([3]), np.array([3])), 2)
    wait_for_count(qtbot, data, 2)
    stack.undo()
    wait_for_count(qtbot, data, 1)
    stack.data = np.ones((3, 48, 48), np.int32)
    wait_for_count(qtbot, data, 3)


def test_the_count_of_slices_follows_finished_regions(qtbot, viewer, stack, data):
    wait_for_count(qtbot, data, 1)
    shapes = viewer.add_shapes(ndim=3)
    link_regions(viewer, stack, shapes)
    shapes.add_rectangles([[2, 0, 0], [2, 0, 9], [2, 9, 9], [2, 9, 0]])
    wait_for_count(qtbot, data, 2)
    shapes.add_rectangles([[1, 0, 0], [1, 0, 9], [1, 9, 9], [1, 9, 0]])
    wait_for_count(qtbot, data, 3)


def test_another_layer_is_no_longer_counted(qtbot, viewer, stack, data):
    viewer.add_labels(np.zeros((48, 48), int), name="plane")
    data.labels.set_layer(viewer.layers["plane"])
    assert data.slices.isHidden()
    stack.data_setitem((np.array([1]), np.array([3]), np.array([3])), 2)
    assert not data._rest.isActive()


def test_counting_that_is_not_done_yet_is_done_again(qtbot, stack, data, monkeypatch):
    go_on = threading.Event()

    def slow(painted):
        go_on.wait(10)
        yield from counting(painted)

    monkeypatch.setattr(module, "counting", slow)
    qtbot.waitUntil(lambda: data._counter.is_running, timeout=10_000)
    stack.data_setitem((np.array([1]), np.array([3]), np.array([3])), 2)
    qtbot.wait(2 * module._REST_MS)
    monkeypatch.setattr(module, "counting", counting)
    go_on.set()
    wait_for_count(qtbot, data, 2)


def test_a_region_across_slices_is_refused_at_once(viewer, drawn, stack, data):
    viewer.add_image(np.stack([drawn[0]] * 3), name="image")
    viewer.layers["image"].axis_labels = ("z", "y", "x")
    corners = [[0, 0, 0], [0, 0, 9], [2, 9, 9], [2, 9, 0]]
    shapes = viewer.add_shapes([corners], shape_type="polygon", ndim=3)
    link_regions(viewer, stack, shapes)
    with pytest.raises(LabelError, match="is not on one slice"):
        data.take()


# -- which image an annotation belongs to --------------------------------------


@pytest.fixture
def three(viewer):
    """Images "cells 1", "cells 10" and "wide", the last one of another shape."""
    shapes = {"cells 1": (48, 48), "cells 10": (48, 48), "wide": (48, 60)}
    return {n: viewer.add_image(np.zeros(s), name=n) for n, s in shapes.items()}


def labels_like(viewer, name, shape=(48, 48), **kwargs):
    return viewer.add_labels(np.zeros(shape, np.int32), name=name, **kwargs)


def test_the_image_that_was_noted_goes_first(viewer, three):
    labels = labels_like(viewer, "cells 1 annotation")
    labels.metadata = {"napari_unet": {"image": weakref.ref(three["cells 10"])}}
    assert annotated_image(labels, list(three.values())) is three["cells 10"]


def test_without_a_note_the_longest_name_that_fits_counts(viewer, three):
    labels = labels_like(viewer, "cells 10 annotation")
    assert annotated_image(labels, list(three.values())) is three["cells 10"]


def test_without_a_name_the_place_counts(viewer, three):
    labels = labels_like(viewer, "mine", (48, 60))
    assert annotated_image(labels, list(three.values())) is three["wide"]
    moved = labels_like(viewer, "other", (48, 60), translate=(5, 5))
    assert annotated_image(moved, list(three.values())) is None
    scaled = labels_like(viewer, "another", (48, 60), scale=(2, 2))
    assert annotated_image(scaled, list(three.values())) is None


def test_colours_and_stacks_are_compared_by_their_pixels(viewer):
    photo = viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True)
    channels = viewer.add_image(np.zeros((2, 8, 9)))
    assert annotated_image(labels_like(viewer, "a", (20, 30)), [photo]) is photo
    assert annotated_image(labels_like(viewer, "b", (8, 9)), [channels]) is channels


def test_the_annotated_image_is_chosen_whatever_came_first(data, viewer, three):
    labels = labels_like(viewer, "cells 1 annotation")
    viewer.layers.selection.active = three["wide"]
    assert data.images.layers() == [three["cells 1"]]
    other = labels_like(viewer, "wide annotation", (48, 60))
    data.labels.set_layer(other)
    assert data.images.layers() == [three["wide"]]
    data.labels.set_layer(labels)
    assert data.images.layers() == [three["cells 1"]]


def test_labels_that_lie_elsewhere_than_the_image_are_refused(qtbot):
    viewer = ViewerModel()
    viewer.add_image(np.random.default_rng(0).random((32, 32)), name="a")
    viewer.add_labels(np.eye(32, dtype=np.int32), name="b", translate=(100, 0))
    data = TrainingData(viewer)
    qtbot.addWidget(data)
    with pytest.raises(LabelError, match='labels "b" lie elsewhere than image "a"'):
        data.take()
