from __future__ import annotations

import weakref

import numpy as np
import pytest

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.images import write_labels
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets._training_data import (
    TrainingData,
    annotated_image,
    count_slices,
    read_folders,
)


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
    _, ((_, annotation),) = run_out(reading)
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
    reading = data.reader()
    layer.data[:] = 0
    _, ((image, annotation),) = run_out(reading())
    assert image.source == 'image "nuclei"'
    assert annotation.labels.any()


def test_an_image_without_annotation_says_what_to_do(data, viewer, drawn):
    viewer.add_image(drawn[0], name="nuclei")
    with pytest.raises(LabelError, match='image "nuclei" has no annotation'):
        data.reader()


def test_folders_are_asked_for(data):
    data.source.setCurrentIndex(1)
    with pytest.raises(FolderError, match="choose a folder for each"):
        data.reader()


def test_a_note_about_a_file_is_told_once(folders):
    (folders[1] / "val_c.tif").unlink()
    notes, _ = run_out(read_folders(*folders, None, None))
    assert [note.is_warning for note in notes] == [True, False, False]


def test_only_a_few_of_many_names_are_told(folders):
    for i in range(5):
        image = folders[0] / "val_c.tif"
        (folders[0] / f"more_{i}.tif").write_bytes(image.read_bytes())
    (warning, *_), _ = run_out(read_folders(*folders, None, None))
    assert warning.message.endswith("and 2 more: left out")


def test_the_count_of_slices_is_shown_for_layers_only(data, viewer, drawn):
    stack = viewer.add_image(np.stack([drawn[0]] * 3), name="stack")
    stack.axis_labels = ("z", "y", "x")
    labels = np.zeros((3, 48, 48), np.int32)
    labels[0, 0, 0] = 1
    viewer.add_labels(labels, name="cells")
    assert data.slices.text().startswith("1 of 3 slices count")
    data.source.setCurrentIndex(1)
    assert data.slices.isHidden()


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
