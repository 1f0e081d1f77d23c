from __future__ import annotations

import numpy as np
import pytest

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.images import write_labels
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets._training_data import (
    TrainingData,
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
