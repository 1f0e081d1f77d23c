from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet.config import (
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.files.images import write_image, write_labels
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.instances import gap_is_from_cutting
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import Model, save_model
from napari_unet.learning.patches import Plane
from napari_unet.learning.preparation import (
    cell_areas,
    check_annotated,
    check_channels,
    pair_up,
    planes_of,
    pooled_range,
    prepare,
    size_warnings,
)

TINY = NetworkConfig(base_width=2, depth=1)


def _labels(shape=(64, 64)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    labels[..., 4:20, 4:20] = 1
    labels[..., 30:44, 10:30] = 2
    labels[..., 40:60, 40:60] = 3
    return labels


def _prepare(images, annotations, **settings):
    common = {"network": TINY, "weights": None, "validation": None, "start_from": None}
    config = settings.pop("config", TrainConfig())
    return prepare(images, annotations, config, **(common | settings))[:2]


def test_images_and_annotations_are_paired_from_arrays_and_files(tmp_path):
    image, labels = np.random.default_rng(0).random((8, 9)), np.ones((8, 9), int)
    write_image(tmp_path / "a.tif", image[None].astype("f4"), axes="CYX")
    write_labels(tmp_path / "a_mask.tif", labels)
    pairs = pair_up([image, str(tmp_path / "a.tif")], [labels, tmp_path / "a_mask.tif"])
    assert [p.image.shape for p in pairs] == [(8, 9)] * 2
    assert all(p.annotation.is_known.all() for p in pairs)


@pytest.mark.parametrize(("n_images", "n_annotations"), [(2, 1), (0, 0), (0, 1)])
def test_numbers_that_differ_are_refused(n_images, n_annotations):
    with pytest.raises(
        ConfigError, match=f"{n_images} images came with {n_annotations} annotations"
    ) as caught:
        pair_up([np.ones((8, 8))] * n_images, [np.ones((8, 8), int)] * n_annotations)
    assert caught.value.code == "NU-C03"


def test_shapes_that_differ_are_refused_with_both_shapes_and_names():
    image = Image(np.ones((1, 10, 12)), source="cells.tif")
    annotation = Annotation.complete(np.ones((5, 6), int), source="labels.tif")
    with pytest.raises(LabelError) as caught:
        pair_up([image], [annotation])
    assert caught.value.code == "NU-L02"
    assert caught.value.message == (
        "labels.tif is 5 x 6 but its image cells.tif is 10 x 12: annotate the full "
        "image, or crop both the same way"
    )


def test_images_with_other_channels_are_refused():
    images = [Image(np.ones((n, 8, 8)), source=f"{n}.tif") for n in (1, 3)]
    with pytest.raises(
        ImageError, match=r"3\.tif has 3 channels but 1\.tif has 1: train on images"
    ) as caught:
        pair_up(images, [np.ones((8, 8), int)] * 2)
    assert caught.value.code == "NU-I10"


def test_annotations_with_other_classes_are_refused():
    labels = np.ones((8, 8), int)
    two = Annotation(labels, class_names=("background", "red", "green"), source="b")
    with pytest.raises(
        LabelError, match=r"b has the classes .*'green'.* but a has .*: give all"
    ) as caught:
        pair_up([np.ones((8, 8))] * 2, [Annotation(labels, source="a"), two])
    assert caught.value.code == "NU-L06"


@pytest.mark.parametrize(
    "annotation",
    [
        Annotation.complete(np.zeros((8, 8), int), source='labels "cells"'),
        Annotation(np.ones((8, 8), int), {1: 0}, source='labels "cells"'),
    ],
    ids=["empty", "background only"],
)
def test_an_annotation_without_a_cell_is_refused(annotation):
    with pytest.raises(LabelError) as caught:
        check_annotated([annotation])
    assert caught.value.code == "NU-L04"
    assert caught.value.message == (
        'labels "cells" has no annotated cells: paint a few cells, each with its own '
        "label"
    )


def test_cells_without_any_known_background_are_refused():
    with pytest.raises(LabelError) as caught:
        check_annotated([Annotation(_labels(), source='labels "cells"')])
    assert caught.value.code == "NU-L08"
    assert caught.value.message == (
        'labels "cells" has cells but no known background: paint some background, '
        "draw a finished region, or choose 'unpainted is background'"
    )


def test_several_refused_annotations_are_counted():
    annotations = [Annotation(_labels(), source=name) for name in "abc"]
    with pytest.raises(LabelError, match=r"^a \(and 2 more\) has cells but no known"):
        check_annotated(annotations)


def test_painted_background_and_a_finished_region_are_known_background():
    painted = _labels()
    painted[0, :10] = 9
    known = np.zeros(painted.shape, bool)
    known[60:, :5] = True
    check_annotated([Annotation(painted, {9: 0})])
    check_annotated([Annotation(_labels(), known=known)])
    # The background may be known in another image than the cells.
    nothing = Annotation.complete(np.zeros((8, 8), int))
    check_annotated([Annotation(_labels()), nothing])


def test_only_annotated_planes_of_a_stack_count():
    rng = np.random.default_rng(0)
    image = Image(rng.random((1, 5, 64, 64)), axes="CZYX")
    labels = np.zeros((5, 64, 64), np.int32)
    labels[1] = _labels()
    known = np.zeros(labels.shape, bool)
    known[1] = True
    known[3, :10, :10] = True  # finished, and nothing there
    annotation = Annotation(labels, known=known)
    held = ([rng.random((64, 64))], [_labels()])
    _, split = _prepare([image], [annotation], validation=held)
    assert [p.labels.any() for p in split.train] == [True, False]
    np.testing.assert_array_equal(split.train[0].labels, labels[1])
    np.testing.assert_array_equal(split.train[1].known, known[3])
    assert np.count_nonzero(split.train[1].target.weights) == 100


def test_painted_background_is_no_cell_to_learn():
    labels = _labels()
    labels[0, :10] = 9
    _, split = _prepare(
        [np.random.default_rng(0).random((64, 64))],
        [Annotation(labels, {9: 0}, np.ones(labels.shape, bool))],
        validation=([np.random.default_rng(0).random((64, 64))], [_labels()]),
    )
    (plane,) = split.train
    assert set(np.unique(plane.labels)) == {0, 1, 2, 3}
    assert (plane.target.classes[0, :10] == 0).all()


def test_the_model_takes_its_channels_classes_and_measures_from_the_data():
    rng = np.random.default_rng(0)
    data = np.stack([rng.integers(0, 1000, (64, 64)), rng.integers(0, 100, (64, 64))])
    image = Image(
        data.astype(np.uint16), pixel_size_um=(0.5, 0.25), channel_names=("a", "b")
    )
    names = ("background", "round", "long")
    annotation = Annotation(_labels(), {3: 2}, np.ones((64, 64), bool), names)
    weights, config = WeightConfig(w0=3), TrainConfig(seed=4)
    model, split = _prepare([image], [annotation], weights=weights, config=config)
    assert model.network == TINY.model_copy(
        update={"in_channels": 2, "out_channels": 3}
    )
    assert model.roles == ("softmax:background", "softmax:round", "softmax:long")
    assert model.class_names == names
    assert (model.weights, model.training) == (weights, config)
    assert model.channel_names == ("a", "b")
    assert model.pixel_size_um == (0.5, 0.25)
    assert model.image_dtype == "uint16"
    assert model.typical_span == pytest.approx((988, 98.8), rel=0.01)
    assert model.dataset_range is None
    assert model.n_train_images == 1
    areas = cell_areas(split.train)
    assert model.cell_diameter_px == pytest.approx(
        2 * (np.median(areas) / np.pi) ** 0.5
    )


def test_fresh_weights_follow_the_seed_and_leave_torchs_random_state_alone():
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    before = torch.get_rng_state()
    states = [
        _prepare([image], [labels], config=TrainConfig(seed=seed))[0].state
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    name = "down.0.0.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_given_validation_images_are_all_that_is_validated_on():
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    _, split = _prepare([image], [labels], validation=([image] * 2, [labels] * 2))
    assert [p.labels.shape for p in split.validation] == [(64, 64)] * 2
    assert [p.labels.shape for p in split.train] == [(64, 64)]
    assert split.how == "2 validation images"


def test_validation_images_are_checked_as_well():
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    nothing = Annotation.complete(np.zeros((64, 64), int), source="val.tif")
    with pytest.raises(
        LabelError, match=r"val\.tif has no annotated cells to validate on"
    ) as caught:
        _prepare([image], [labels], validation=([image], [nothing]))
    assert caught.value.code == "NU-L04"
    two = Image(np.stack([image, image]), source="two")
    with pytest.raises(ImageError, match="2 channels but array has 1"):
        _prepare([image], [labels], validation=([two], [labels]))


def test_a_model_to_start_from_goes_on_with_its_network_and_settings(
    random_model, tmp_path
):
    start = random_model(base_width=3)
    path = save_model(tmp_path / "start.unet", start)
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    for given in (start, path, str(path)):
        model, _ = _prepare([image], [labels], network=None, start_from=given)
        assert model.network == start.network
        assert model.weights == start.weights
        for name, tensor in start.state.items():
            assert torch.equal(model.state[name], tensor)


def test_network_settings_that_agree_with_the_model_to_start_from_are_fine(
    random_model,
):
    start = random_model(base_width=3)
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    same = NetworkConfig(base_width=3)
    model, _ = _prepare([image], [labels], network=same, start_from=start)
    assert model.network == start.network


def test_other_network_settings_than_those_of_the_start_are_refused(random_model):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    with pytest.raises(ConfigError, match="other network settings: leave") as caught:
        _prepare([image], [labels], network=TINY, start_from=random_model())
    assert caught.value.code == "NU-C04"


def test_a_start_with_other_classes_or_channels_is_refused(random_model):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    start = random_model(out_channels=3)
    with pytest.raises(LabelError, match="start from scratch") as caught:
        _prepare([image], [labels], network=None, start_from=start)
    assert caught.value.code == "NU-L06"
    start = random_model(in_channels=2)
    with pytest.raises(ImageError, match="expects 2 channels, array has 1"):
        _prepare([image], [labels], network=None, start_from=start)


def test_networks_for_volumes_are_refused_for_now():
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    with pytest.raises(ConfigError, match="3 dimensions but training works") as caught:
        _prepare([image], [labels], network=NetworkConfig(n_dims=3))
    assert caught.value.code == "NU-C05"


def test_dataset_normalisation_uses_one_range_for_training_and_validation(random_model):
    policy = {"policy": "dataset", "low_percentile": 0, "high_percentile": 100}
    start = replace(random_model(), normalization=NormalizationConfig(**policy))
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    images, labels = [ramp * 100, ramp * 300], [_labels()] * 2
    held = ([ramp * 1000], [_labels()])
    model, split = _prepare(
        images, labels, network=None, start_from=start, validation=held
    )
    assert model.dataset_range == IntensityRange((0.0,), (200.0,))
    assert [p.image.max() for p in split.train] == pytest.approx([0.5, 1.5])
    assert split.validation[0].image.max() == pytest.approx(5)


def test_pooled_ranges_are_medians_by_channel():
    ranges = [IntensityRange((i, 10.0 * i), (2 * i, 100.0)) for i in (1, 5, 2)]
    assert pooled_range(ranges) == IntensityRange((2.0, 20.0), (4.0, 100.0))


def test_areas_are_counted_cell_by_cell():
    labels = np.zeros((8, 8), np.int32)
    labels[:2, :3], labels[4:, 4:] = 7, 2
    plane = Plane(None, labels, None, None)
    assert cell_areas([plane, plane]).tolist() == [16, 6, 16, 6]
    assert cell_areas([]).tolist() == []


@pytest.mark.parametrize(
    ("n_model", "n_image", "sentence"),
    [
        (1, 3, "the model expects 1 channel, photo.png has 3: choose the channels"),
        (2, 1, "the model expects 2 channels, photo.png has 1: choose the channels"),
    ],
)
def test_an_image_with_other_channels_than_the_model_is_refused(
    random_model, n_model, n_image, sentence
):
    image = Image(np.ones((n_image, 8, 8)), source="photo.png")
    with pytest.raises(ImageError) as caught:
        check_channels(random_model(in_channels=n_model), image)
    assert caught.value.message.startswith(sentence)
    assert caught.value.code == "NU-I10"


def test_an_image_whose_pixels_are_all_alike_is_refused():
    image = Image(np.full((1, 64, 64), 7, np.uint8), source="dark.tif")
    with pytest.raises(ImageError, match=r"dark\.tif has nothing to learn from") as e:
        _prepare([image], [_labels()])
    assert e.value.code == "NU-I12"


@pytest.mark.parametrize("images", [np.ones((2, 8, 8)), "a.tif", Path("a.tif")])
def test_one_image_where_several_are_wanted_is_refused(images):
    with pytest.raises(ConfigError, match="give two lists"):
        pair_up(images, images)


def _sized(*size: float) -> Image:
    data = np.random.default_rng(0).random((1, 64, 64))
    return Image(data, pixel_size_um=size or None, source=f"{size}.tif")


@pytest.mark.parametrize(
    ("sizes", "start", "expected"),
    [
        ([(0.5, 0.5), (0.5, 0.7)], None, r"0\.7 µm per pixel .*0\.5 µm"),
        ([(0.5, 0.5), (0.55, 0.5)], None, None),
        ([(0.5, 0.5), ()], (0.5, 0.5), None),
        ([(0.5, 0.5)], (1.0, 1.0), r"0\.5 µm .* model to start from .*at 1 µm"),
    ],
)
def test_pixel_sizes_that_differ_are_told_with_both_numbers(sizes, start, expected):
    pairs = pair_up([_sized(*s) for s in sizes], [_labels()] * len(sizes))
    model = Model(TINY, {}, pixel_size_um=start)
    found = size_warnings(pairs, model)
    assert len(found) == (expected is not None)
    assert expected is None or re.search(expected, found[0])


def test_instance_settings_follow_from_the_annotation(cells):
    image, labels = cells
    model, split, _ = prepare(
        [image], [labels], TrainConfig(), network=None, weights=None,
        validation=None, start_from=None,
    )  # fmt: skip
    areas = cell_areas(split.train)
    assert model.instances.min_size_px == int(np.percentile(areas, 5) / 2)
    planes = [plane.labels for plane in split.train]
    assert model.instances.give_back_gap == gap_is_from_cutting(planes)


def test_areas_have_a_role_of_their_own(cells):
    image, labels = cells
    names = ("background", "cell", "tissue")
    annotation = Annotation(
        labels, {1: 2}, np.ones(labels.shape, bool), names,
        area_classes=frozenset({2}),
    )  # fmt: skip
    model, split, _ = prepare(
        [image], [annotation], TrainConfig(), network=None, weights=None,
        validation=None, start_from=None,
    )  # fmt: skip
    assert model.roles[1:] == ("softmax:cell", "softmax-area:tissue")
    assert all(1 not in plane.labels for plane in [*split.train, *split.validation])
    other = Annotation(labels, {1: 2}, np.ones(labels.shape, bool), names)
    with pytest.raises(LabelError, match="areas"):
        pair_up([image, image], [annotation, other])


def test_weights_in_micrometres_take_the_pixel_size_of_the_image(cells):
    image, labels = cells
    weights = WeightConfig(sigma=2.5, unit="um")
    halves = Image(image[np.newaxis], pixel_size_um=(0.5, 0.5))
    pair = pair_up([halves], [labels])[0]
    span = IntensityRange((0.0,), (1.0,))
    in_um = planes_of(pair, span, weights)[0].target.weights
    in_px = planes_of(pair, span, WeightConfig())[0].target.weights
    np.testing.assert_allclose(in_um, in_px, rtol=1e-6)
    bare = pair_up([image], [labels])[0]
    with pytest.raises(ConfigError, match="no pixel size"):
        planes_of(bare, span, weights)
