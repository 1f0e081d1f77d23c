from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import resize

from napari_unet.batch import fit_warnings, one, segment, segment_events
from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    PredictConfig,
)
from napari_unet.errors import ImageError
from napari_unet.events import Note, Segmented, TileDone
from napari_unet.files.samples import sample_images
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.resampling import resample_labels
from napari_unet.imaging.scores import score
from napari_unet.learning.checkpoint import Model, load_model, save_model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict

CONFIG = PredictConfig(device="cpu", tile_size=32)
ON_CPU = PredictConfig(device="cpu", precision="fp32")


def _cells(seed: int, shape=(64, 64)) -> tuple[np.ndarray, np.ndarray]:
    return draw_cells(shape, n_cells=6, rng=np.random.default_rng(seed))


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_cells_of_a_new_image_are_found(model):
    image, truth = _cells(5)
    labels = segment(model, image, config=CONFIG)
    assert labels.dtype == np.int32
    assert score(truth, labels).f1["0.5"] > 0.7


def test_segment_gives_the_labels_of_the_last_event(model):
    image = _cells(5)[0]
    events = list(segment_events(model, image, config=CONFIG))
    assert [type(event) for event in events] == [TileDone] * 4 + [Segmented]
    labels = segment(model, image, config=CONFIG)
    np.testing.assert_array_equal(events[-1].labels, labels)
    np.testing.assert_array_equal(events[-1].outputs, predict(model, image, CONFIG))


def test_files_stand_for_model_and_image(model, folder, tmp_path):
    path = save_model(tmp_path / "m.unet", model)
    labels = segment(str(path), folder / "cells_0.tif", config=CONFIG)
    np.testing.assert_array_equal(labels, segment(model, _cells(10)[0], config=CONFIG))


def test_tiles_change_no_label(model):
    image = _cells(5, (100, 130))[0]
    whole = PredictConfig(device="cpu", tile_size=256)
    np.testing.assert_array_equal(
        segment(model, image, config=CONFIG), segment(model, image, config=whole)
    )


def test_ids_are_unique_over_a_stack(model):
    planes = [_cells(seed)[0] for seed in (5, 6, 7)]
    labels = segment(model, Image(np.stack(planes)[None]), config=CONFIG)
    assert labels.shape == (3, 64, 64)
    ids = [set(np.unique(plane)) - {0} for plane in labels]
    assert all(ids)
    assert sorted(set.union(*ids)) == list(range(1, sum(map(len, ids)) + 1))


def test_given_instance_settings_replace_the_tuned_ones(model):
    image = _cells(5)[0]
    strict = InstanceConfig(min_size_px=10_000)
    assert not segment(model, image, config=CONFIG, instances=strict).any()
    lenient = replace(model, instances=strict)
    assert not segment(lenient, image, config=CONFIG).any()
    again = segment(lenient, image, config=CONFIG, instances=model.instances)
    np.testing.assert_array_equal(again, segment(model, image, config=CONFIG))


def test_another_pixel_size_is_told_with_both_numbers(model):
    known = replace(model, pixel_size_um=(0.5, 0.5))
    image = Image(_cells(5)[0][None], pixel_size_um=(0.7, 0.7), source="a.tif")
    first, *_ = segment_events(known, image, config=CONFIG)
    assert isinstance(first, Note)
    assert not first.is_warning
    assert "a.tif has 0.7 µm per pixel" in first.message
    assert "trained at 0.5 µm: it was rescaled by 1.4" in first.message


@pytest.mark.parametrize(
    ("theirs", "own", "n_notes"),
    [
        ((0.5, 0.5), (0.54, 0.54), 0),
        ((0.5, 0.5), (0.46, 0.46), 0),
        ((0.5, 0.5), (0.56, 0.56), 1),
        ((0.5, 0.5), (0.44, 0.44), 1),
        ((2.0, 0.5, 0.5), (0.5, 0.5), 0),
        (None, (9.0, 9.0), 0),
        ((0.5, 0.5), None, 0),
    ],
)
def test_pixel_sizes_may_differ_by_a_tenth(model, theirs, own, n_notes):
    image = Image(_cells(5)[0][None], pixel_size_um=own)
    events = segment_events(replace(model, pixel_size_um=theirs), image, config=CONFIG)
    assert len(_of(Note, events)) == n_notes


def _zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    size = tuple(round(n * factor) for n in image.shape)
    return resize(image, size, order=1, anti_aliasing=factor < 1, preserve_range=True)


def _nuclei_at(file, factor: float, um=None, config=ON_CPU, **changes) -> float:
    """F1 at IoU 0.7 of nuclei found in zoomed images with those in the images."""
    model = replace(load_model(file), pixel_size_um=(0.5, 0.5))
    n_same = n_found = 0
    for _, image, _ in sample_images():
        plane = np.asarray(image.data, np.float32)[0]
        size = None if um is None else (um, um)
        zoomed = Image(_zoomed(plane, factor)[None], pixel_size_um=size)
        expected = segment(model, plane, config=ON_CPU)
        found = segment(replace(model, **changes), zoomed, config=config)
        assert found.shape == zoomed.shape
        scores = score(expected, resample_labels(found, plane.shape))
        n_same += scores.f1["0.7"] * (scores.n_truth + scores.n_pred) / 2
        n_found += (scores.n_truth + scores.n_pred) / 2
    assert n_found > 50
    return n_same / n_found


# A coarser image has lost some of what tells its cells apart.
@pytest.mark.parametrize(("factor", "least"), [(2.0, 0.95), (0.6, 0.9)])
def test_real_nuclei_are_found_at_another_magnification(sample_model, factor, least):
    known = _nuclei_at(sample_model, factor, um=0.5 / factor)
    assert known >= least
    assert _nuclei_at(sample_model, factor) < known - 0.05
    # Where pixel sizes are not known the size of the cells does as well.
    given = PredictConfig(device="cpu", cell_diameter_px=22.9 * factor)
    assert _nuclei_at(sample_model, factor, config=given) >= least - 0.01


def test_a_first_look_finds_how_large_cells_are(sample_model):
    # This model did not learn at one size: this is what a first look is worth.
    assert (
        _nuclei_at(sample_model, 1.7, scales_by_cells=True)
        > _nuclei_at(sample_model, 1.7) + 0.1
    )
    # What is as it should be is not touched.
    assert _nuclei_at(sample_model, 1.0, scales_by_cells=True) == 1.0


def test_a_first_look_is_told(model):
    known = replace(model, scales_by_cells=True, cell_diameter_px=100.0)
    image = Image(_cells(5)[0][None], source="a.tif")
    notes = _of(Note, segment_events(known, image, config=CONFIG))
    assert "a.tif shows cells that were measured in a first look" in notes[0].message
    given = PredictConfig(device="cpu", cell_diameter_px=100)
    assert _of(Note, segment_events(known, image, config=given)) == []
    unknown = replace(model, cell_diameter_px=None)
    (note,) = _of(Note, segment_events(unknown, image, config=given))
    assert "the model does not know how large its cells are" in note.message


def test_an_image_of_few_cells_is_taken_as_it_is(model):
    known = replace(model, scales_by_cells=True, cell_diameter_px=100.0)
    empty = Image(np.random.default_rng(0).random((1, 40, 40)))
    strict = replace(known, instances=InstanceConfig(min_size_px=10**6))
    assert _of(Note, segment_events(strict, empty, config=CONFIG)) == []


def test_sizes_of_cells_follow_the_image(model):
    image, labels = _cells(5)
    areas = np.bincount(labels.ravel())[1:]
    # All cells are larger than that where they were learned, and not half as wide.
    least = InstanceConfig(**model.instances.model_dump() | {"min_size_px": 30})
    known = replace(model, instances=least, scale=2.0)
    assert areas.min() > 30 > areas.max() / 16
    tiny = _zoomed(image, 0.5)
    assert segment(known, tiny, config=CONFIG).max() >= len(areas) - 1
    assert segment(known, tiny, config=CONFIG, instances=least).max() < len(areas) - 1


@pytest.mark.parametrize("shape", [(63, 65), (64, 64), (31, 97), (5, 64)])
@pytest.mark.parametrize("scale", [0.37, 1.9])
def test_labels_have_the_shape_of_the_image(model, shape, scale):
    image = _cells(5, (100, 100))[0][: shape[0], : shape[1]]
    assert segment(replace(model, scale=scale), image, config=CONFIG).shape == shape


@pytest.mark.parametrize("policy", ["image", "dataset"])
def test_an_image_of_little_contrast_may_be_empty(model, policy):
    known = replace(
        model,
        normalization=NormalizationConfig(policy=policy),
        dataset_range=IntensityRange((0.0,), (1.0,)),
    )
    image = _cells(5)[0]
    (warning,) = fit_warnings(known, Image(image[None] * 0.15, source="field 3"))
    assert warning.startswith("field 3 may be empty: its contrast is under a fifth")
    assert fit_warnings(known, Image(image[None] * 0.5)) == []


def test_contrast_is_not_compared_between_dtypes(model):
    image = Image((_cells(5)[0][None] * 0.1).astype(np.float64))
    assert model.image_dtype == "float32"
    assert fit_warnings(model, image) == []


def test_another_number_of_channels_is_refused(model):
    with pytest.raises(ImageError, match="the model expects 1 channel, rgb has 3"):
        segment(model, Image(np.ones((3, 8, 8)), source="rgb"))


def test_segmenting_leaves_the_random_state_alone(model):
    before = torch.get_rng_state()
    segment(model, _cells(5)[0], config=CONFIG)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_reduced_precision_changes_by_much_is_told(model, monkeypatch):
    monkeypatch.setattr(one, "resolved", lambda *_: {"precision": "bf16"})
    monkeypatch.setattr(one, "reduced_precision_difference", lambda *_: 0.06)
    first = next(segment_events(model, _cells(1)[0], CONFIG))
    assert isinstance(first, Note)
    assert "outputs change by up to 0.06" in first.message
    monkeypatch.setattr(one, "reduced_precision_difference", lambda *_: 0.04)
    assert one.precision_warnings(model, CONFIG) == []


def test_a_model_of_volumes_finds_cells_in_volumes():
    network = NetworkConfig(base_width=2, depth=1, n_dims=3)
    torch.manual_seed(0)
    model = Model(network, build_network(network).state_dict())
    stack = np.zeros((1, 4, 16, 16), np.float32)
    outputs = np.stack([np.ones(stack.shape[1:]), np.zeros(stack.shape[1:])])
    outputs = outputs.astype(np.float32)
    outputs[:, 1:3, 4:8, 4:8] = np.array([0, 1])[:, None, None, None]
    labels = one.cells_of(model, outputs, (1, 1, 1), InstanceConfig(smoothing_px=0))
    # One cell over two planes, not one in each.
    assert labels.max() == 1
    assert np.count_nonzero(labels) == 2 * 4 * 4
