from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.config import NormalizationConfig, PredictConfig
from napari_unet.errors import ImageError, ModelError, ResourceError
from napari_unet.events import TileDone
from napari_unet.files.images import write_image
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.applying import inference as inference_module
from napari_unet.learning.applying import passes as passes_module
from napari_unet.learning.applying.inference import resolved_precision
from napari_unet.learning.applying.ranges import image_range
from napari_unet.learning.checkpoint import save_model
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.prediction import predict, predict_tiles, resolved
from napari_unet.mailbox import Mailbox, Region

NETWORKS = [
    {"padding": padding, "up": up, "norm": "none" if padding == "valid" else "batch"}
    for padding in ("same", "valid")
    for up in ("transposed", "linear")
]


def _config(**settings: object) -> PredictConfig:
    return PredictConfig(device="cpu", precision="fp32", **settings)


def _image(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def _direct(model, image: np.ndarray) -> np.ndarray:
    """The reference, written apart: one pass over the whole mirrored image."""
    low, high = np.percentile(image.astype(float), (1, 99.8))
    scaled = ((image - low) / (high - low)).astype(np.float32)
    network = model.build()
    pads = []
    for n in image.shape:
        n_in = network.input_size_for(n)
        pads.append((network.margin, n_in - n - network.margin))
    padded = np.pad(scaled, pads, mode="reflect")
    with torch.no_grad():
        logits = network(torch.from_numpy(padded)[None, None])
    height, width = image.shape
    return torch.softmax(logits, 1)[0, :, :height, :width].numpy()


@pytest.mark.parametrize("network", NETWORKS)
def test_one_tile_is_one_pass_over_the_mirrored_image(random_model, network):
    model, image = random_model(**network), _image((45, 38))
    outputs = predict(model, image, _config(tile_size=64))
    np.testing.assert_allclose(outputs, _direct(model, image), atol=1e-5)
    assert outputs.dtype == np.float32
    assert outputs[1].std() > 0.01


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([16, 24, 33, 64]),
    st.sampled_from([1, 2, 3]),
)
def test_tiles_leave_no_trace(random_model, network, shape, tile_size, depth):
    model = random_model(**network, depth=depth)
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    outputs = predict(model, image, _config(tile_size=tile_size))
    whole = predict(model, image, _config(tile_size=256))
    np.testing.assert_allclose(outputs, whole, atol=1e-5)


def test_deep_networks_are_tiled_exactly_too(random_model):
    model, image = random_model(depth=3, base_width=2), _image((300, 200))
    tiles = list(predict_tiles(model, image, _config(tile_size=64)))
    assert len(tiles) == 5 * 4
    whole = predict(model, image, _config(tile_size=1024))
    np.testing.assert_allclose(tiles[-1].outputs, whole, atol=1e-5)


def test_valid_tiles_lie_on_one_pooling_grid(random_model):
    # At depth 3 the network puts out sizes that are no multiples of 8.
    model = random_model(padding="valid", norm="none", depth=3)
    net = model.build()
    assert net.output_size(net.input_size_for(16)) % net.multiple > 0
    image = _image((100, 70))
    whole = predict(model, image, _config(tile_size=128))
    outputs = predict(model, image, _config(tile_size=16))
    np.testing.assert_allclose(outputs, whole, atol=1e-5)


def test_without_a_halo_tiles_do_leave_a_trace_and_say_so(random_model):
    model, image = random_model(), _image((96, 96))
    whole = predict(model, image, _config(tile_size=96))
    note, *_, last = predict_tiles(model, image, _config(tile_size=32, halo=0))
    there = np.abs(last.outputs - whole)
    assert there.max() > 1e-3
    said = float(re.search(r"off by up to (\S+)$", note.message)[1])
    # The middle tile is the one with most around it.
    assert said == pytest.approx(there[:, 32:64, 32:64].max(), rel=0.1)


def test_nothing_is_said_of_a_halo_that_is_exact(random_model):
    model, image = random_model(), _image((96, 96))
    whole = predict(model, image, _config(tile_size=96))
    for config in (
        _config(tile_size=96, halo=0),
        _config(tile_size=32, halo=model.build().halo),
    ):
        assert isinstance(next(iter(predict_tiles(model, image, config))), TileDone)
    outputs = predict(model, image, _config(tile_size=32, halo=model.build().halo))
    np.testing.assert_allclose(outputs, whole, atol=1e-5)


def test_images_smaller_than_the_smallest_tile_can_be_predicted(random_model):
    # A valid network of depth 4 puts out 4, 20, 36 ... pixels.
    model = random_model(padding="valid", norm="none", depth=4, base_width=1)
    for shape in ((1, 1), (3, 3), (2, 17)):
        outputs = predict(model, _image(shape), _config(tile_size=16))
        np.testing.assert_allclose(outputs.sum(0), np.ones(shape), atol=1e-6)


@pytest.mark.parametrize("axes", ["CZYX", "CTYX", "CTZYX"])
def test_a_stack_is_predicted_plane_by_plane(random_model, axes):
    model = random_model(in_channels=2)
    shape = (2, 3, 40, 30) if len(axes) == 4 else (2, 2, 3, 40, 30)
    image = Image(_image(shape), axes=axes)
    events = list(predict_tiles(model, image, _config(tile_size=32)))
    outputs = events[-1].outputs
    assert outputs.shape == (2, *shape[1:])
    n_planes = int(np.prod(shape[1:-2]))
    assert len(events) == 2 * n_planes
    span = image_range(model, image)
    for index, plane in image.planes():
        # The same range for the plane alone as for the whole stack.
        alone = replace(
            model, normalization=NormalizationConfig(policy="dataset"),
            dataset_range=span,
        )  # fmt: skip
        expected = predict(alone, Image(plane), _config(tile_size=64))
        np.testing.assert_allclose(outputs[(slice(None), *index)], expected, atol=1e-5)


def test_events_cover_each_pixel_once_and_tell_what_is_done(random_model):
    image = Image(_image((1, 2, 50, 70)), axes="CZYX")
    written = np.zeros(image.shape, int)
    last = predict(random_model(), image, _config(tile_size=32))
    for i, event in enumerate(
        predict_tiles(random_model(), image, _config(tile_size=32)), start=1
    ):
        assert (event.n_done, event.n_tiles) == (i, 2 * 2 * 3)
        written[event.write] += 1
        done = (slice(None), *event.write)
        np.testing.assert_array_equal(event.outputs[done], last[done])
    assert (written == 1).all()
    assert i == 12


def test_outputs_sum_to_one(random_model):
    model = random_model(out_channels=4)
    outputs = predict(model, _image((37, 51)), _config(tile_size=16))
    assert outputs.shape == (4, 37, 51)
    np.testing.assert_allclose(outputs.sum(0), 1, atol=1e-6)
    assert outputs.min() >= 0


def test_an_image_is_normalised_as_a_whole_not_tile_by_tile(random_model):
    image = _image((96, 96))
    image[-20:, -20:] += 1000  # a bright corner; most tiles don't see it
    model = random_model()
    outputs = predict(model, image, _config(tile_size=16))
    np.testing.assert_allclose(outputs, _direct(model, image), atol=1e-5)


def test_the_dataset_policy_uses_the_numbers_of_the_training(random_model):
    low, high = 50.0, 150.0
    fixed = replace(
        random_model(),
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((low,), (high,)),
    )
    image = _image((40, 40))
    whole = predict(fixed, image, _config())
    # A part of the image is seen as in the whole: at the far corner nothing differs.
    part = predict(fixed, image[:24], _config())
    np.testing.assert_allclose(part[:, :1, :1], whole[:, :1, :1], atol=1e-4)
    network = fixed.build()
    scaled = torch.from_numpy((image - low) / (high - low))[None, None]
    with torch.no_grad():
        expected = torch.softmax(network(scaled), 1)[0].numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    assert np.abs(whole - predict(random_model(), image, _config())).max() > 1e-3


def test_brightness_and_contrast_of_the_camera_do_not_matter(random_model):
    image = _image((40, 40))
    outputs = [
        predict(random_model(), array, _config()) for array in (image, image * 37 + 500)
    ]
    np.testing.assert_allclose(*outputs, atol=1e-3)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_image_gives_finite_outputs(random_model, value):
    image = np.full((20, 20), value, np.uint8)
    assert np.isfinite(predict(random_model(), image, _config())).all()


def test_nan_pixels_do_not_spread(random_model):
    image = _image((40, 40))
    image[3, 3], image[30, 30] = np.nan, np.inf
    assert np.isfinite(predict(random_model(), image, _config())).all()


def test_the_image_is_left_as_it_is(random_model):
    image = _image((40, 40))
    image.flags.writeable = False
    before = image.copy()
    predict(random_model(), image, _config(tile_size=16))
    np.testing.assert_array_equal(image, before)


def test_files_stand_for_models_and_images(random_model, tmp_path):
    model, image = random_model(), _image((30, 30))
    write_image(tmp_path / "a.tif", image[None], axes="CYX")
    save_model(tmp_path / "m.unet", model)
    outputs = predict(str(tmp_path / "m.unet"), tmp_path / "a.tif", _config())
    np.testing.assert_array_equal(outputs, predict(model, image, _config()))


def test_an_image_with_other_channels_is_refused(random_model):
    with pytest.raises(
        ImageError, match=r"the model expects 1 channel, photo\.tif has 3: choose"
    ) as caught:
        predict(random_model(), Image(np.ones((3, 8, 8)), source="photo.tif"))
    assert caught.value.code == "NU-I10"


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is missing"):
        predict(tmp_path / "none.unet", np.ones((8, 8)))


def test_a_lack_of_memory_is_said(random_model, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(passes_module, "activate", fail)
    with pytest.raises(ResourceError, match="too little memory") as caught:
        predict(random_model(), _image((20, 20)), _config())
    assert caught.value.code == "NU-R02"


def test_predicting_leaves_the_random_state_alone(random_model):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    predict(random_model(), _image((20, 20)), _config())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", "fp32"),
        ("auto", "mps", "fp32"),
        ("auto", "cuda", "bf16"),
        ("fp32", "cuda", "fp32"),
        ("fast", "cpu", "bf16"),
    ],
)
def test_auto_is_fast_on_cuda_only(precision, device, expected, monkeypatch):
    monkeypatch.setattr(inference_module, "fastest_precision", lambda _: "bf16")
    config = PredictConfig(precision=precision)
    assert resolved_precision(config, DeviceChoice(device, device)) == expected


def test_fast_is_near_to_full_precision(random_model, monkeypatch):
    monkeypatch.setattr(inference_module, "fastest_precision", lambda _: "bf16")
    image = _image((40, 40))
    config = PredictConfig(device="cpu", precision="fast")
    fast = predict(random_model(), image, config)
    exact = predict(random_model(), image, _config())
    assert 0 < np.abs(fast - exact).max() < 0.1


LOCAL = [
    {"architecture": "residual_unet"},
    {"architecture": "attention_unet", "up": "linear"},
    {"architecture": "attention_unet", "padding": "valid", "norm": "none"},
    {"skips": "sum", "depth": 1},
    {"upscale": 2},
    {"upscale": 4, "padding": "valid", "norm": "none", "up": "linear"},
]


def _finer_direct(model, image: np.ndarray, finer: int) -> np.ndarray:
    """One pass over the whole mirrored image, on a finer grid."""
    low, high = np.percentile(image.astype(float), (1, 99.8))
    scaled = ((image - low) / (high - low)).astype(np.float32)
    network = model.build()
    pads = []
    for n in image.shape:
        n_in = network.input_size_for(n * finer)
        pads.append((network.margin, n_in - n - network.margin))
    with torch.no_grad():
        logits = network(
            torch.from_numpy(np.pad(scaled, pads, mode="reflect"))[None, None]
        )
    region = tuple(slice(0, n * finer) for n in image.shape)
    return torch.softmax(logits, 1)[(0, slice(None), *region)].numpy()


@pytest.mark.parametrize("network", LOCAL)
def test_tiles_of_every_local_network_leave_no_trace(random_model, network):
    model, image = random_model(**network), _image((45, 38))
    events = list(predict_tiles(model, image, _config(tile_size=16)))
    finer = network.get("upscale", 1)
    expected = _finer_direct(model, image, finer)
    assert len(events) > 4
    np.testing.assert_allclose(events[-1].outputs, expected, atol=1e-5)
    counts = np.zeros(expected.shape[1:], int)
    for event in events:
        counts[event.write] += 1
    assert (counts == 1).all()


GLOBAL = [
    {"norm": "group"},
    {"norm": "instance", "upscale": 2},
    {"norm": "group", "padding": "valid"},
    {"architecture": "trans_unet", "depth": 4, "transformer_layers": 1},
]


@pytest.mark.parametrize("network", GLOBAL)
def test_a_global_network_sees_the_whole_image_where_memory_allows(
    random_model, network
):
    model, image = random_model(**network), _image((70, 83))
    (event,) = predict_tiles(model, image, _config())
    expected = _finer_direct(model, image, network.get("upscale", 1))
    np.testing.assert_allclose(event.outputs, expected, atol=1e-4)


@pytest.mark.parametrize("network", GLOBAL)
def test_tiles_of_a_global_network_are_blended(random_model, network):
    model, image = random_model(**network), _image((70, 83))
    events = list(predict_tiles(model, image, _config(tile_size=32)))
    outputs = events[-1].outputs
    assert len(events) > 4
    np.testing.assert_allclose(outputs.sum(0), 1, atol=1e-5)
    counts = np.zeros(outputs.shape[1:], int)
    for event in events:
        counts[event.write] += 1
    assert (counts == 1).all()


def test_what_a_blended_tile_says_is_final_is_final(random_model):
    model, image = random_model(norm="group"), _image((50, 61))
    seen = [
        (event.write, event.outputs[(slice(None), *event.write)].copy())
        for event in predict_tiles(model, image, _config(tile_size=16))
    ]
    whole = predict(model, image, _config(tile_size=16))
    for write, outputs in seen:
        np.testing.assert_array_equal(outputs, whole[(slice(None), *write)])


@pytest.mark.parametrize(("halo", "steepest"), [(0, 1.0), (4, 0.2), (8, 0.1)])
def test_tiles_that_disagree_fade_into_each_other(
    random_model, monkeypatch, halo, steepest
):
    answers = iter([0.0, 1.0, 0.0, 1.0, 0.0])

    def disagree(_, tiles):
        for seen, _ in tiles:
            yield np.full((2, *seen.shape[1:]), next(answers), np.float32)

    monkeypatch.setattr(passes_module.Passes, "all", disagree)
    model, image = random_model(norm="group"), _image((32, 96))
    outputs = predict(model, image, _config(tile_size=32, halo=halo))
    steps = np.abs(np.diff(outputs[0], axis=1))
    assert outputs.min() == 0
    assert outputs.max() > 0.99
    assert steepest / 2 < steps.max() <= steepest


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (33, 17)])
@pytest.mark.parametrize("network", [NETWORKS[0], NETWORKS[2], *GLOBAL, LOCAL[4]])
def test_every_network_takes_every_shape(random_model, network, shape):
    finer = network.get("upscale", 1)
    outputs = predict(random_model(**network), _image(shape), _config(tile_size=16))
    assert outputs.shape == (2, *(n * finer for n in shape))
    assert np.isfinite(outputs).all()


def test_values_are_linear_and_each_sigmoid_has_its_own_channel(random_model):
    roles = ("value:denoised", "sigmoid:edge")
    model = replace(random_model(), roles=roles)
    image = _image((16, 16))
    low, high = np.percentile(image.astype(float), (1, 99.8))
    scaled = torch.from_numpy(((image - low) / (high - low)).astype(np.float32))
    with torch.no_grad():
        logits = model.build()(scaled[None, None])[0].numpy()
    outputs = predict(model, image, _config())
    np.testing.assert_allclose(outputs[0], logits[0], atol=1e-5)
    np.testing.assert_allclose(outputs[1], 1 / (1 + np.exp(-logits[1])), atol=1e-5)


def test_a_model_of_volumes_takes_volumes(random_model):
    model = random_model(n_dims=3, depth=1)
    data = _image((2, 6, 20, 24))
    movie = Image(data[None], axes="CTZYX")
    events = list(predict_tiles(model, movie, _config(tile_size=16)))
    whole = predict(model, movie, _config())
    assert whole.shape == (2, 2, 6, 20, 24)
    np.testing.assert_allclose(events[-1].outputs, whole, atol=1e-5)
    with pytest.raises(ImageError, match="the model takes volumes") as caught:
        predict(model, Image(data[:1], axes="CTYX"), _config())
    assert caught.value.code == "NU-I09"


def test_what_was_used_is_named(random_model, monkeypatch):
    monkeypatch.setattr(inference_module, "fastest_precision", lambda _: "bf16")
    fast = PredictConfig(device="cpu", precision="fast")
    used = resolved(random_model(), fast)
    halo = random_model().build().halo
    assert used == {"device": "cpu", "precision": "bf16", "halo": halo}
    assert resolved(random_model(norm="group"), _config())["halo"] == "blended"
    assert resolved(random_model(), _config(halo=8))["halo"] == 8


def test_what_the_user_looks_at_comes_first(random_model):
    mailbox = Mailbox()
    mailbox.look_at(Region(0, (), (40, 40), (8, 8)))
    image = _image((64, 64))
    events = predict_tiles(
        random_model(), image, _config(tile_size=16), mailbox=mailbox
    )
    first = next(events)
    assert [part.start for part in first.write] == [32, 32]
    mailbox.look_at(Region(0, (), (0, 0), (8, 8)))
    assert [part.start for part in next(events).write] == [0, 0]
