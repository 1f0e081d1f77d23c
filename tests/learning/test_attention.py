from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import NormalizationConfig, PredictConfig
from napari_unet.errors import ModelError
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.attention import attention_maps
from napari_unet.learning.model import Model
from napari_unet.learning.networks.attention_unet import AttentionUNet

# Wide enough for its halo to be smaller than the image.
_IMAGE = np.random.default_rng(0).random((96, 72), np.float32)
_AS_IT_IS = {
    "normalization": NormalizationConfig(policy="dataset"),
    "dataset_range": IntensityRange((0.0,), (1.0,)),
}
_CPU = PredictConfig(device="cpu")


@pytest.fixture
def gated(random_model):
    def make(**settings) -> Model:
        model = random_model(architecture="attention_unet", **settings)
        return Model(model.network, model.state, **_AS_IT_IS)

    return make


def _coefficients(model: Model, image: np.ndarray) -> list[np.ndarray]:
    network = model.build()
    assert isinstance(network, AttentionUNet)
    with torch.no_grad():
        maps = network.attention(torch.from_numpy(image)[None, None])
    return [each[0, 0].numpy() for each in maps]


@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("upscale", [1, 2])
def test_maps_are_the_coefficients_on_the_images_grid(gated, up, upscale):
    model = gated(depth=3, up=up, upscale=upscale)
    maps = attention_maps(model, _IMAGE, _CPU)
    assert maps.dtype == np.float32
    assert maps.shape == (2, 96, 72)
    for i, coarse in enumerate(_coefficients(model, _IMAGE), start=1):
        fine = np.kron(coarse, np.ones((2**i, 2**i), np.float32))
        np.testing.assert_allclose(maps[i - 1], fine, atol=1e-6)
        assert np.ptp(coarse) > 0


def test_tiles_leave_no_trace(gated):
    model = gated(depth=2)
    whole = attention_maps(model, _IMAGE, _CPU)
    tiled = attention_maps(model, _IMAGE, PredictConfig(device="cpu", tile_size=16))
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_maps_of_a_valid_network_lie_where_the_image_does(gated, up):
    model = gated(depth=2, up=up, padding="valid")
    network = model.build()
    maps = attention_maps(model, _IMAGE, _CPU)
    assert maps.shape == (1, 96, 72)
    # A part of the image that the network takes, on the pooling grid of the image as
    # mirrored by the margin; its coefficients are those of its middle.
    n = network.input_size_for(8)
    start = -network.margin % network.multiple
    (coarse,) = _coefficients(model, _IMAGE[start : start + n, start : start + n])
    fine = np.kron(coarse, np.ones((2, 2), np.float32))
    lost = (n - fine.shape[0]) // 2
    inside = slice(start + lost, start + lost + fine.shape[0])
    np.testing.assert_allclose(maps[0, inside, inside], fine, atol=1e-6)


def test_a_movie_has_maps_of_each_frame(gated):
    movie = Image(np.stack([_IMAGE, _IMAGE[::-1]])[None], axes="CTYX")
    model = gated(depth=2)
    maps = attention_maps(model, movie, _CPU)
    assert maps.shape == (1, 2, 96, 72)
    alone = attention_maps(model, np.ascontiguousarray(_IMAGE[::-1]), _CPU)
    np.testing.assert_allclose(maps[:, 1], alone, atol=1e-6)


def test_a_model_file_will_do(gated, tmp_path):
    from napari_unet.learning.checkpoint import save_model

    model = gated(depth=2)
    save_model(tmp_path / "gated.unet", model)
    maps = attention_maps(tmp_path / "gated.unet", _IMAGE, _CPU)
    np.testing.assert_allclose(maps, attention_maps(model, _IMAGE, _CPU), atol=1e-6)


@pytest.mark.parametrize("architecture", ["unet", "residual_unet"])
def test_a_network_without_gates_is_refused(random_model, architecture):
    with pytest.raises(ModelError, match=f"is {architecture}, which has no") as caught:
        attention_maps(random_model(architecture=architecture), _IMAGE)
    assert caught.value.code == "NU-M30"
