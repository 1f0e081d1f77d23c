"""In which units images are made: brightness that the image tells is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError
from napari_unet.events import Finished, Planned
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.image_scores import psnr
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.augmentation import Batch, augment
from napari_unet.learning.data.value_units import likeness, span_of_values
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.model import Model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict
from napari_unet.learning.training import train

TINY = NetworkConfig(base_width=2, depth=1)


def _blobs(seed=0, shape=(64, 64), brightness=200.0):
    """A smooth image, and the same with the noise of few photons."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    clean = np.full(shape, 20.0)
    for cy, cx in rng.uniform(8, 56, (6, 2)):
        clean += brightness * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 40)
    return clean, rng.poisson(clean).astype(np.float32)


def _prepared(images, targets, **more):
    material = gather(images, targets, TrainConfig(task="regress"), network=TINY)
    return prepare(material, material.config, network=TINY, **more)


def _image(data):
    return Image(np.asarray(data)[None])


def test_an_image_is_like_itself_with_noise_and_unlike_another():
    clean, noisy = _blobs(0)
    assert likeness(_image(noisy), _image(clean)) > 0.95
    finer = np.kron(clean, np.ones((2, 2)))
    assert likeness(_image(noisy), _image(finer)) > 0.95
    assert likeness(_image(noisy), _image(_blobs(1)[0])) < 0.8
    assert likeness(_image(noisy), _image(-clean)) < -0.9


@pytest.mark.parametrize(
    "made", [np.zeros((2, 64, 64)), np.ones((1, 64, 64)), np.full((1, 64, 64), np.nan)]
)
def test_no_contrast_or_other_channels_are_unlike(made):
    assert likeness(_image(_blobs()[0]), Image(made)) == -1


def test_unknown_pixels_of_a_target_do_not_hide_the_likeness():
    clean, noisy = _blobs()
    clean[:32] = np.nan
    assert likeness(_image(noisy), _image(clean)) > 0.95


def test_a_denoised_image_is_in_the_units_of_its_noisy_one():
    pairs = [_blobs(seed, brightness=b) for seed, b in enumerate((50, 200, 800))]
    model, split, _ = _prepared([n for _, n in pairs], [c for c, _ in pairs])
    assert model.values_follow_image
    assert model.value_range == IntensityRange((0.0,), (1.0,))
    for each in (*split.train, *split.validation):
        plane = each.load()
        # Where there is no noise, what comes in is what has to come out.
        error = plane.target.values - plane.image
        assert abs(error.mean()) < 0.05


def test_another_stain_is_in_the_units_of_all_targets_together():
    images = [_blobs(seed)[1] for seed in (0, 1, 2)]
    targets = [100 * k + _blobs(9 + k)[0] for k in (1, 2, 3)]
    model, split, _ = _prepared(images, targets)
    assert not model.values_follow_image
    low, high = np.percentile(targets[1], (1, 99.8))
    assert model.value_range.low[0] == pytest.approx(low, rel=0.1)
    for each in (*split.train, *split.validation):
        k = each.view.image
        values = each.load().target.values[0]
        low, high = model.value_range.low[0], model.value_range.high[0]
        own = targets[k][each.view.slices]
        np.testing.assert_allclose(low + values * (high - low), own, rtol=1e-5)


def test_low_exposures_are_brightened_by_what_was_learned():
    pairs = [_blobs(seed) for seed in (0, 1, 2)]
    model, *_ = _prepared([n / 10 for _, n in pairs], [c for c, _ in pairs])
    assert model.values_follow_image
    assert 5 < model.value_range.high[0] < 12


def _identity(**more) -> Model:
    """A model that returns the normalised image."""
    network = TINY.model_copy(update={"out_channels": 1, "adds_image": True})
    state = {
        k: torch.zeros_like(v) for k, v in build_network(network).state_dict().items()
    }
    for name in state:
        if name.endswith("running_var"):
            state[name] += 1
    return Model(
        network, state, roles=("value:image",), class_names=("background",), **more
    )


@pytest.mark.parametrize("gain", [1.0, 2.0, 0.1])
def test_what_is_twice_as_bright_comes_out_twice_as_bright(gain):
    model = _identity(
        value_range=IntensityRange((0.0,), (1.0,)), values_follow_image=True
    )
    noisy = _blobs()[1] * gain + 7
    np.testing.assert_allclose(predict(model, _image(noisy))[0], noisy, rtol=1e-4)


def test_without_following_the_brightness_is_that_of_training():
    model = _identity(value_range=IntensityRange((0.0,), (1.0,)))
    noisy = _blobs()[1]
    once, twice = (predict(model, _image(noisy * k)) for k in (1, 2))
    np.testing.assert_allclose(once, twice, atol=1e-5)


def test_ends_are_shares_of_the_images_range():
    found = span_of_values(
        IntensityRange((0.5,), (2.0,)), True, IntensityRange((100.0,), (300.0,))
    )
    assert found == IntensityRange((200.0,), (500.0,))


def _batch(follows):
    image = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(image, None, torch.ones(4, 16, 16), image.clone(), follows)


def test_images_and_what_is_made_of_them_get_brighter_alike():
    config = TrainConfig(
        intensity=0.5, blur_px=1.0, rotation_deg=0, scale=0, elastic_px=0
    )
    batch = augment(_batch(True), 16, config, torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.image, batch.values)
    assert batch.image.amax() > 1.05 or batch.image.amax() < 0.95
    assert batch.values_follow_image


def test_another_stain_stays_as_it_is_whatever_the_image():
    config = TrainConfig(intensity=0.5, rotation_deg=0, scale=0, elastic_px=0)
    before = _batch(False)
    batch = augment(before, 16, config, torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.values.sum(), before.values.sum())
    assert (batch.image - batch.values).abs().max() > 0.05


def test_mirroring_and_quarter_turns_keep_every_pixel():
    config = TrainConfig(intensity=0, rotation_deg=0, scale=0, elastic_px=0, blur_px=0)
    before = _batch(True)
    batch = augment(before, 16, config, torch.Generator().manual_seed(0))
    for a, b in zip(before.image, batch.image, strict=True):
        torch.testing.assert_close(
            a.flatten().sort().values, b.flatten().sort().values, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(
    ("settings", "upscale", "lost"),
    [
        ({}, 1, 0),
        ({"architecture": "attention_unet"}, 2, 0),
        ({"padding": "valid"}, 2, 8),
        ({"n_dims": 3}, 2, 0),
    ],
)
def test_a_network_that_does_nothing_returns_the_image(settings, upscale, lost):
    given = {"base_width": 2, "depth": 1, "out_channels": 1, "upscale": upscale}
    network = NetworkConfig(**given | settings, adds_image=True)
    net = build_network(network).eval()
    for parameter in net.parameters():
        parameter.data.zero_()
    n, n_dims = 24, network.n_dims
    ramp = torch.arange(n, dtype=torch.float32).expand(1, 1, *[n] * n_dims)
    found = net(ramp.contiguous())
    lost = net.margin
    # As half-pixel centres have it: finer pixels lie a quarter to each side.
    at = torch.arange(upscale * n) / upscale - (upscale - 1) / (2 * upscale)
    expected = at.clamp(0, n - 1)[upscale * lost : upscale * (n - lost)]
    assert found.shape[-1] == upscale * (n - 2 * lost)
    torch.testing.assert_close(found[0, 0].reshape(-1, len(expected))[0], expected)


def test_cells_are_no_image_to_add_to():
    labels = np.zeros((64, 64), int)
    labels[10:20, 10:20] = 1
    network = NetworkConfig(base_width=2, depth=1, adds_image=True)
    material = gather([_blobs()[1]], [labels], TrainConfig(), network=network)
    with pytest.raises(ConfigError, match="set adds_image to false") as caught:
        prepare(material, material.config, network=network)
    assert caught.value.code == "NU-C05"


@pytest.mark.slow
def test_noise_is_removed_and_brightness_kept():
    pairs = [_blobs(seed, brightness=b) for seed, b in enumerate((80, 150, 300, 600))]
    held = [_blobs(seed, brightness=b) for seed, b in ((10, 100), (11, 400))]
    config = TrainConfig(
        task="regress", max_steps=120, patch_size=32, precision="fp32", device="cpu"
    )
    network = NetworkConfig(base_width=8, depth=2)
    events = list(
        train(
            [n for _, n in pairs], [c for c, _ in pairs], config, network=network,
            validation=([n for _, n in held], [c for c, _ in held]),
        )
    )  # fmt: skip
    (planned,) = [e for e in events if isinstance(e, Planned)]
    chosen = {choice.name: choice.value for choice in planned.choices}
    assert chosen["adds_image"] is True
    assert chosen["rotation_deg"] == chosen["elastic_px"] == chosen["scale"] == 0
    last = events[-1]
    assert isinstance(last, Finished)
    for clean, noisy in held:
        made = predict(last.model, _image(noisy))[0]
        assert psnr(clean, made) > psnr(clean, noisy) + 3
        assert made.max() == pytest.approx(clean.max(), rel=0.15)
    # Units of a model go on.
    fewer = config.model_copy(update={"max_steps": 1})
    *_, again = train(
        [10 * n for _, n in pairs], [10 * c for c, _ in pairs], fewer,
        start_from=replace(last.model, scores={}),
    )  # fmt: skip
    assert again.model.value_range == last.model.value_range


@pytest.mark.parametrize("upscale", [2, 4])
def test_how_much_finer_follows_from_the_targets(upscale):
    clean, noisy = _blobs()
    finer = np.kron(clean, np.ones((upscale, upscale)))
    assert _prepared([noisy], [finer]).model.network.upscale == upscale
    other = TINY.model_copy(update={"upscale": 1})
    with pytest.raises(ConfigError, match=f"set upscale to {upscale}") as caught:
        gather(
            [noisy], [finer], TrainConfig(task="regress"),
            network=NetworkConfig(**other.model_dump()),
        )  # fmt: skip
    assert caught.value.code == "NU-C05"
