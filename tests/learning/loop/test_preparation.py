from __future__ import annotations

from dataclasses import replace

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
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.tuning import gap_is_from_cutting
from napari_unet.learning.data.pairs import pair_up
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import pooled_range, prepare
from napari_unet.learning.model import Model, Origin, weights_sha256

TINY = NetworkConfig(base_width=2, depth=1)


def _labels(shape=(64, 64)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    labels[..., 4:20, 4:20] = 1
    labels[..., 30:44, 10:30] = 2
    labels[..., 40:60, 40:60] = 3
    return labels


def _loaded(fields) -> list:
    return [field.load() for field in fields]


def _areas(fields) -> np.ndarray:
    """The areas of all cells, counted pixel by pixel."""
    counts = [np.bincount(plane.labels.ravel())[1:] for plane in _loaded(fields)]
    every = np.concatenate(counts)
    return every[every > 0]


def _prepare(images, annotations, **settings):
    own = {k: settings.pop(k) for k in ("weights", "scales") if k in settings}
    given = {"config": TrainConfig(), "network": TINY} | settings
    material = gather(images, annotations, **given)
    prepared = prepare(material, material.config, network=given["network"], **own)
    return prepared.model, prepared.split


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
    planes = _loaded(split.train)
    assert [p.labels.any() for p in planes] == [True, False]
    np.testing.assert_array_equal(planes[0].labels, labels[1])
    np.testing.assert_array_equal(planes[1].known, known[3])
    assert np.count_nonzero(planes[1].target.weights) == 100
    # What may still be painted while training runs.
    assert [field.region.plane for field in split.spare] == [(0,), (2,), (4,)]


@pytest.mark.parametrize(
    ("n_planes", "n_with", "is_doubted"),
    [(6, 1, True), (6, 2, True), (6, 3, False), (3, 3, False), (1, 1, False)],
)
@pytest.mark.parametrize("is_finished_by_hand", [False, True])
def test_a_stack_most_of_which_looks_forgotten_is_doubted(
    n_planes, n_with, is_doubted, is_finished_by_hand
):
    rng = np.random.default_rng(0)
    image = Image(rng.random((1, n_planes, 64, 64)), axes="CZYX")
    labels = np.zeros((n_planes, 64, 64), np.int32)
    labels[:n_with] = _labels()
    known = np.ones(labels.shape, bool)
    known[n_with:, :4] = not is_finished_by_hand
    annotation = Annotation(labels, known=known, source="masks/stack.tif")
    material = gather([image], [annotation], TrainConfig(), network=TINY)
    warnings = prepare(material, material.config, network=TINY).warnings
    found = [warning for warning in warnings if "not annotated yet" in warning]
    assert len(found) == (is_doubted and not is_finished_by_hand)
    if found:
        named = f"{n_planes - n_with} of {n_planes} planes of masks/stack.tif hold no"
        assert found[0].startswith(named)


def test_painted_background_is_no_cell_to_learn():
    labels = _labels()
    labels[0, :10] = 9
    _, split = _prepare(
        [np.random.default_rng(0).random((64, 64))],
        [Annotation(labels, {9: 0}, np.ones(labels.shape, bool))],
        validation=([np.random.default_rng(0).random((64, 64))], [_labels()]),
    )
    (plane,) = _loaded(split.train)
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
    held = ([image], [annotation])
    model, split = _prepare(
        [image], [annotation], weights=weights, config=config, validation=held
    )
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
    areas = _areas(split.train)
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
    assert [field.shape for field in split.validation] == [(64, 64)] * 2
    assert [field.shape for field in split.train] == [(64, 64)]
    assert [region.image for region in split.held_back] == [1, 2]
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


def test_a_model_to_start_from_goes_on_with_its_network_and_settings(random_model):
    start = random_model(base_width=3)
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    model, _ = _prepare([image], [labels], network=None, start=start)
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
    model, _ = _prepare([image], [labels], network=same, start=start)
    assert model.network == start.network


def test_other_network_settings_than_those_of_the_start_are_refused(random_model):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    with pytest.raises(ConfigError, match="other network settings: leave") as caught:
        _prepare([image], [labels], network=TINY, start=random_model())
    assert caught.value.code == "NU-C04"


def test_a_start_with_other_classes_or_channels_is_refused_if_all_is_wanted(
    random_model,
):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    given = {"network": None, "config": TrainConfig(start_with="all")}
    start = random_model(out_channels=3)
    with pytest.raises(LabelError, match="begin with what fits of it") as caught:
        _prepare([image], [labels], start=start, **given)
    assert caught.value.code == "NU-L06"
    start = random_model(in_channels=2)
    with pytest.raises(ImageError, match="expects 2 channels, array has 1"):
        _prepare([image], [labels], start=start, **given)


def test_networks_for_volumes_are_refused_for_now():
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    with pytest.raises(ConfigError, match="3 dimensions but training works") as caught:
        _prepare([image], [labels], network=NetworkConfig(n_dims=3))
    assert caught.value.code == "NU-C05"


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"n_dims": 3}, "has 3 dimensions", "n_dims to 2"),
        ({"upscale": 2}, "2 times finer", "upscale to 1"),
    ],
)
def test_only_a_new_network_is_to_be_set_otherwise(change, what, remedy):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    network = TINY.model_copy(update=change)
    with pytest.raises(ConfigError, match=f"the network .*{what}") as caught:
        _prepare([image], [labels], network=network)
    assert f"set {remedy}" in str(caught.value)
    start = Model(network, {})
    whole = TrainConfig(start_with="all")
    with pytest.raises(ConfigError, match=f"model to start from .*{what}") as caught:
        _prepare([image], [labels], network=None, start=start, config=whole)
    assert "start from scratch" in str(caught.value)
    assert "set " not in str(caught.value)


def test_dataset_normalisation_uses_one_range_for_training_and_validation(random_model):
    policy = {"policy": "dataset", "low_percentile": 0, "high_percentile": 100}
    start = replace(random_model(), normalization=NormalizationConfig(**policy))
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    images, labels = [ramp * 100, ramp * 300], [_labels()] * 2
    held = ([ramp * 1000], [_labels()])
    model, split = _prepare(images, labels, network=None, start=start, validation=held)
    assert model.dataset_range == IntensityRange((0.0,), (200.0,))
    assert [p.image.max() for p in _loaded(split.train)] == pytest.approx([0.5, 1.5])
    assert split.validation[0].load().image.max() == pytest.approx(5)


def test_pooled_ranges_are_medians_by_channel():
    ranges = [IntensityRange((i, 10.0 * i), (2 * i, 100.0)) for i in (1, 5, 2)]
    assert pooled_range(ranges) == IntensityRange((2.0, 20.0), (4.0, 100.0))


def test_an_image_whose_pixels_are_all_alike_is_refused():
    image = Image(np.full((1, 64, 64), 7, np.uint8), source="dark.tif")
    with pytest.raises(ImageError, match=r"dark\.tif has nothing to learn from") as e:
        _prepare([image], [_labels()])
    assert e.value.code == "NU-I12"


def test_instance_settings_follow_from_the_annotation(cells):
    image, labels = cells
    model, split = _prepare(
        [image], [labels], network=None, validation=([image], [labels])
    )
    areas = _areas(split.train)
    assert model.instances.min_size_px == int(np.percentile(areas, 5) / 2)
    planes = [plane.labels for plane in _loaded(split.train)]
    assert model.instances.give_back_gap == gap_is_from_cutting(planes)


def test_areas_have_a_role_of_their_own(cells):
    image, labels = cells
    names = ("background", "cell", "tissue")
    annotation = Annotation(
        labels, {1: 2}, np.ones(labels.shape, bool), names,
        area_classes=frozenset({2}),
    )  # fmt: skip
    model, split = _prepare([image], [annotation], network=None)
    assert model.roles[1:] == ("softmax:cell", "softmax-area:tissue")
    assert all(
        1 not in plane.labels for plane in _loaded((*split.train, *split.validation))
    )
    other = Annotation(labels, {1: 2}, np.ones(labels.shape, bool), names)
    with pytest.raises(LabelError, match="areas"):
        pair_up([image, image], [annotation, other])


def test_weights_in_micrometres_take_the_pixel_size_of_the_image(cells):
    image, labels = cells
    weights = WeightConfig(sigma=2.5, unit="um")
    halves = Image(image[np.newaxis], pixel_size_um=(0.5, 0.5))
    held = ([halves], [labels])
    in_um, in_px = (
        _prepare([halves], [labels], weights=given, validation=held)[1].train[0].load()
        for given in (weights, WeightConfig())
    )
    np.testing.assert_allclose(in_um.target.weights, in_px.target.weights, rtol=1e-6)
    with pytest.raises(ConfigError, match="no pixel size"):
        _prepare([image], [labels], weights=weights)


def test_the_model_knows_colours_and_fingerprint_of_what_it_learns_from(random_model):
    image, labels = np.random.default_rng(0).random((64, 64)), _labels()
    known = np.ones(labels.shape, bool)
    plain = Annotation(labels, known=known)
    colored = replace(plain, class_colors=("#000000", "#ff0000"))
    model, _ = _prepare([image], [colored])
    assert model.class_colors == ("#000000", "#ff0000")
    assert model.axes == "CYX"
    # Colours are no training data.
    assert _prepare([image], [plain])[0].fingerprint == model.fingerprint
    assert _prepare([image + 1], [plain])[0].fingerprint != model.fingerprint
    start = replace(random_model(), class_colors=("#111111", "#222222"))
    fine = {"network": None, "start": start}
    assert _prepare([image], [plain], **fine)[0].class_colors == start.class_colors
    assert _prepare([image], [colored], **fine)[0].class_colors == model.class_colors


def test_a_fine_tuned_model_states_anew_whose_it_is_and_names_its_origins(
    random_model,
):
    owed = Origin("a" * 64, ("Ann Other",), "CC-BY-4.0")
    start = replace(
        random_model(),
        authors=("Jane Doe",),
        license="MIT",
        about="Nuclei.",
        # To the first nothing is owed: it is forgotten, or each round would add one.
        derived_from=(Origin("b" * 64), owed),
    )
    image = np.random.default_rng(0).random((64, 64))
    again, _ = _prepare([image], [_labels()], network=None, start=start)
    assert (again.authors, again.license, again.about) == ((), "", "")
    parent = Origin(weights_sha256(start.state), ("Jane Doe",), "MIT")
    assert again.derived_from == (parent, owed)
    twice, _ = _prepare([image], [_labels()], network=None, start=again)
    assert [o.authors for o in twice.derived_from] == [
        (), ("Jane Doe",), ("Ann Other",),
    ]  # fmt: skip
    fresh, _ = _prepare([image], [_labels()])
    assert fresh.derived_from == ()


@pytest.mark.parametrize(
    ("norm", "policy"), [("none", "standardize"), ("batch", "image")]
)
def test_a_network_without_normalisation_layers_gets_standardised_images(
    cells, random_model, norm, policy
):
    network = TINY.model_copy(update={"norm": norm})
    model, split = _prepare([cells[0]], [cells[1]], network=network)
    assert model.normalization.policy == policy
    whole = (cells[0] - cells[0].mean()) / cells[0].std()
    pixels = np.concatenate(
        [p.image.ravel() for p in _loaded((*split.train, *split.validation))]
    )
    is_standard = np.isclose(np.sort(pixels)[[0, -1]], [whole.min(), whole.max()])
    assert is_standard.all() == (norm == "none")
    # What a model was trained with goes on, whatever its network.
    start = random_model(norm=norm, base_width=2, depth=1)
    goes_on, _ = _prepare([cells[0]], [cells[1]], network=None, start=start)
    assert goes_on.normalization == start.normalization


@pytest.mark.parametrize("scales", [None, (1.0, 1.0), (1.0, 2.0)])
def test_the_model_knows_how_large_cells_are_for_the_network(scales):
    image = np.random.default_rng(0).random((64, 64))
    labels = [_labels(), np.where(_labels() == 2, 2, 0)]
    held = ([image], [_labels()])
    model, split = _prepare([image] * 2, labels, scales=scales, validation=held)
    assert model.scales_by_cells == (scales == (1.0, 2.0))
    areas = np.sort(_areas(split.train))
    # The cell that half of all cell pixels are in cells no larger than.
    middle = areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]
    assert model.working_cell_px == pytest.approx(2 * (middle / np.pi) ** 0.5)
