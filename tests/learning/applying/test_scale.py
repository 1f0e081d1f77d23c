from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from napari_unet.config import PredictConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.applying.scale import (
    factors_for,
    scale_for,
    scale_note,
    scale_warning,
)
from napari_unet.learning.attention import attention_maps
from napari_unet.learning.prediction import predict, predict_tiles

NETWORKS = [
    {},
    {"up": "linear", "depth": 1},
    {"padding": "valid", "norm": "none"},
    {"upscale": 2},
]
GLOBAL = [{"norm": "group"}, {"norm": "instance", "upscale": 2}]


def _config(**given: object) -> PredictConfig:
    return PredictConfig(device="cpu", precision="fp32", **given)


def _image(shape, um: float | None = None) -> Image:
    data = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    return Image(data[None], pixel_size_um=None if um is None else (um, um))


def _resampled(array: np.ndarray, shape) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(array))[None]
    kwargs = {"mode": "bilinear", "align_corners": False, "antialias": True}
    return interpolate(tensor, tuple(shape), **kwargs)[0].numpy()


def _direct(model, image: Image, factor: float) -> np.ndarray:
    """The reference, written apart: the whole image resampled there and back."""
    plane = np.asarray(image.data)[0]
    low, high = np.percentile(plane.astype(float), (1, 99.8))
    scaled = ((plane - low) / (high - low)).astype(np.float32)
    seen = [max(1, round(n * factor)) for n in plane.shape]
    finer = model.network.upscale
    outputs = predict(
        # What the network makes of its own grid is tested elsewhere.
        replace(
            model,
            scale=1.0,
            normalization=model.normalization.model_copy(update={"policy": "dataset"}),
            dataset_range=IntensityRange((0.0,), (1.0,)),
        ),
        Image(_resampled(scaled[None], seen)),
        _config(),
    )
    return _resampled(outputs, [n * finer for n in plane.shape])


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(8, 70), st.integers(8, 70)),  # torch errs where a side is 1
    st.sampled_from([0.3, 0.5, 0.77, 1.6, 2.0, 3.3]),
    st.sampled_from([16, 24, 64]),
)
def test_tiles_leave_no_trace_at_any_scale(
    random_model, network, shape, scale, tile_size
):
    model = replace(random_model(**network), scale=scale)
    image = _image(shape)
    outputs = predict(model, image, _config(tile_size=tile_size))
    finer = model.network.upscale
    assert outputs.shape == (2, *(n * finer for n in shape))
    np.testing.assert_allclose(outputs, _direct(model, image, scale), atol=2e-5)
    np.testing.assert_allclose(outputs.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (33, 17)])
@pytest.mark.parametrize("scale", [0.1, 0.5, 3.0])
def test_every_shape_comes_back(random_model, shape, scale):
    outputs = predict(replace(random_model(), scale=scale), _image(shape), _config())
    assert outputs.shape == (2, *shape)
    np.testing.assert_allclose(outputs.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("network", GLOBAL)
def test_a_network_that_sees_its_whole_input_is_rescaled_too(random_model, network):
    model = replace(random_model(**network), scale=0.6)
    image = _image((53, 70))
    outputs = predict(model, image, _config())
    np.testing.assert_allclose(outputs, _direct(model, image, 0.6), atol=1e-4)
    blended = predict(model, image, _config(tile_size=16))
    np.testing.assert_allclose(blended.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("network", [*NETWORKS, *GLOBAL])
@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_events_cover_each_pixel_once_and_tell_what_is_done(
    random_model, network, scale
):
    model = replace(random_model(**network), scale=scale)
    image = _image((70, 83))
    seen = []
    for event in predict_tiles(model, image, _config(tile_size=16)):
        here = (slice(None), *event.write)
        seen.append((event.write, event.outputs[here].copy()))
    assert len(seen) == event.n_tiles > 3
    counts = np.zeros(event.outputs.shape[1:], int)
    for write, outputs in seen:
        counts[write] += 1
        np.testing.assert_array_equal(outputs, event.outputs[(slice(None), *write)])
    assert (counts == 1).all()


def test_what_fits_is_not_touched(random_model):
    model = replace(random_model(), pixel_size_um=(0.5, 0.5))
    plain = predict(random_model(), _image((45, 38)), _config(tile_size=16))
    for um in (None, 0.5, 0.46, 0.54):
        outputs = predict(model, _image((45, 38), um), _config(tile_size=16))
        np.testing.assert_array_equal(outputs, plain)
    coarse = replace(model, scale=0.5)
    outputs = predict(coarse, _image((45, 38), 1.0), _config(tile_size=16))
    np.testing.assert_array_equal(outputs, plain)


def test_images_of_another_pixel_size_are_seen_as_large_as_in_training(random_model):
    model = replace(random_model(), pixel_size_um=(0.5, 0.5), scale=0.8)
    image = _image((45, 38), 0.25)
    outputs = predict(model, image, _config())
    np.testing.assert_allclose(outputs, _direct(model, image, 0.4), atol=2e-5)
    given = predict(model, image, _config(scale=0.4))
    np.testing.assert_array_equal(outputs, given)
    note = scale_note(model, image)
    assert "0.25 µm per pixel and the model was trained at 0.5 µm" in note
    assert "rescaled by 0.4 for the network" in note
    assert "a scale that was given" in scale_note(model, image, _config(scale=3))
    assert scale_note(model, image, _config(scale=1)) == ""


def test_each_axis_has_its_own_factor():
    assert scale_for((0.25, 1.0), (0.5, 0.5)) == (0.5, 2.0)
    assert scale_for((3.0, 0.25, 1.0), (0.5, 0.5)) == (0.5, 2.0)
    assert scale_for((1.0, 0.5, 0.5), (2.0, 0.5, 0.5), n_dims=3) == (0.5, 1.0, 1.0)
    # The depth of a slice is not known: nor is how large a volume is.
    assert scale_for((0.5, 0.5), (2.0, 0.5, 0.5), n_dims=3) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("own", "reference", "scale", "expected"),
    [
        (None, (1, 1), 0.5, 0.5),
        ((1, 1), None, 1.0, 1.0),
        ((1, 1), (1.09, 1.09), 1.0, 1.0),
        ((1, 1), (1.2, 1.2), 1.0, 1 / 1.2),
        ((2, 2), (1, 1), 0.5, 1.0),
        ((353, 353), (0.5, 0.5), 0.7, 0.7),
    ],
)
def test_the_factor_follows_from_both_pixel_sizes(own, reference, scale, expected):
    assert scale_for(own, reference, scale) == pytest.approx((expected, expected))


def test_pixel_sizes_that_cannot_be_are_told_and_not_followed(random_model):
    model = replace(random_model(), pixel_size_um=(0.5, 0.5))
    scanned = _image((20, 20), 353.0)
    assert "which is not believed" in scale_warning(model, scanned)
    assert factors_for(model, scanned) == (1.0, 1.0)
    assert factors_for(model, scanned, _config(scale=3)) == (3, 3)
    assert scale_warning(model, _image((20, 20), 0.25)) == ""
    assert scale_warning(model, _image((20, 20))) == ""


def test_a_model_that_makes_images_takes_pixels_as_they_are(random_model):
    model = replace(
        random_model(), roles=("value:a", "value:b"), pixel_size_um=(0.5, 0.5)
    )
    image = _image((20, 20), 0.25)
    assert factors_for(model, image) == (1.0, 1.0)
    assert "looks larger or smaller" in scale_warning(model, image)
    assert factors_for(replace(model, scale=0.5), image) == (0.5, 0.5)


def test_values_come_back_in_the_units_that_were_learned(random_model):
    model = replace(random_model(), roles=("sigmoid:edge", "value:a"))
    image = _image((20, 20))
    plain = predict(model, image, _config())
    model = replace(model, value_range=IntensityRange((100.0,), (350.0,)))
    outputs = predict(model, image, _config())
    np.testing.assert_array_equal(outputs[0], plain[0])
    np.testing.assert_allclose(outputs[1], 100 + 250 * plain[1], rtol=1e-5)


def test_attention_is_that_of_the_scale_that_was_predicted_at(random_model):
    model = random_model(architecture="attention_unet", up="linear")
    model = replace(model, pixel_size_um=(0.5, 0.5))
    image = _image((40, 50), 0.25)
    maps = attention_maps(model, image, _config())
    given = attention_maps(replace(model, scale=0.5), _image((40, 50)), _config())
    assert maps.shape[1:] == (40, 50)
    np.testing.assert_array_equal(maps, given)
    assert (
        np.abs(maps - attention_maps(model, _image((40, 50)), _config())).max() > 0.01
    )


def test_stacks_are_rescaled_plane_by_plane(random_model):
    model = replace(random_model(), pixel_size_um=(0.5, 0.5))
    data = np.random.default_rng(0).normal(100, 20, (1, 3, 30, 20))
    stack = Image(data, axes="CZYX", pixel_size_um=(2.0, 0.25, 0.25))
    outputs = predict(model, stack, _config())
    assert outputs.shape == (2, 3, 30, 20)
    np.testing.assert_allclose(outputs.sum(0), 1, atol=1e-5)


def test_a_model_of_volumes_is_rescaled_along_each_axis(random_model):
    model = replace(
        random_model(n_dims=3, depth=1), pixel_size_um=(1.0, 0.5, 0.5), scale=1.0
    )
    data = np.random.default_rng(0).normal(100, 20, (1, 6, 20, 24))
    image = Image(data, axes="CZYX", pixel_size_um=(2.0, 0.25, 0.5))
    assert factors_for(model, image) == (2.0, 0.5, 1.0)
    tiles = predict(model, image, _config(tile_size=16))
    assert tiles.shape == (2, 6, 20, 24)
    np.testing.assert_allclose(tiles, predict(model, image, _config()), atol=1e-5)
