from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.config import PredictConfig
from napari_unet.events import Note, TileDone
from napari_unet.imaging.arrays import Image
from napari_unet.learning.applying import passes as passes_module
from napari_unet.learning.applying.passes import Passes
from napari_unet.learning.applying.predictor import Predictor
from napari_unet.learning.prediction import predict, predict_tiles

NETWORKS = {
    "transposed": {},
    "linear": {"up": "linear"},
    "valid": {"padding": "valid", "norm": "none"},
    "finer": {"upscale": 2},
    "global": {"norm": "group"},
    "residual": {"architecture": "residual_unet"},
}
FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _config(**given) -> PredictConfig:
    return PredictConfig(device="cpu", precision="fp32", **given)


def _noise(*shape) -> Image:
    return Image(np.random.default_rng(3).random((1, *shape), np.float32))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("factor", [1.0, 1.7, 0.6])
@FEW
@given(data=st.data())
def test_a_window_is_what_the_whole_image_gives_there(random_model, name, factor, data):
    model = random_model(**NETWORKS[name])
    image = _noise(data.draw(st.integers(9, 70)), data.draw(st.integers(9, 70)))
    config = _config(tile_size=data.draw(st.sampled_from([16, 32, 64])))
    predictor = Predictor(model, image, config, (factor, factor))
    *_, last = predictor.tiles()
    region = []
    for n in predictor.shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    expected = last.outputs[(slice(None), *region)]
    np.testing.assert_allclose(predictor.window(region), expected, atol=2e-5)


def test_a_window_of_a_movie_is_of_its_frame(random_model):
    image = Image(_noise(3, 20, 24).data, axes="CTYX")
    predictor = Predictor(random_model(), image, _config(tile_size=16), (1.0, 1.0))
    region = (slice(3, 17), slice(8, 24))
    expected = predict(random_model(), image, _config())[:, 2, 3:17, 8:24]
    np.testing.assert_allclose(predictor.window(region, (2,)), expected, atol=2e-5)


class _Recorder:
    """An array that is read in parts, and knows which."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data
        self.dtype, self.shape, self.ndim = data.dtype, data.shape, data.ndim
        self.largest = 0

    def __getitem__(self, key):
        part = self._data[key]
        self.largest = max(self.largest, part.size)
        return part


def test_no_more_is_read_at_once_than_a_tile_and_its_halo(random_model):
    model = random_model()
    data = _noise(400, 600).data
    lazy = _Recorder(data)
    predictor = Predictor(model, Image(lazy), _config(tile_size=32), (1.0, 1.0))
    lazy.largest = 0  # what was read to normalise it
    *_, last = predictor.tiles()
    side = 32 + 2 * model.build().halo
    assert lazy.largest <= side**2
    np.testing.assert_allclose(
        last.outputs, predict(model, Image(data), _config()), atol=2e-5
    )


@pytest.fixture(params=[0, 1], ids=["one_by_one", "one_ahead"])
def n_ahead(request, monkeypatch):
    """As on the CPU, and as on CUDA."""
    made = Passes.__init__

    def init(passes, *given, **named):
        made(passes, *given, **named)
        passes._n_ahead = request.param

    monkeypatch.setattr(Passes, "__init__", init)
    return request.param


@pytest.mark.parametrize("name", ["transposed", "global"])
def test_a_tile_is_begun_before_the_last_is_written(random_model, n_ahead, name):
    class Counting:
        def __init__(self, data):
            self.data, self.n_read = data, 0
            self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

        def __getitem__(self, where):
            self.n_read += 1
            return self.data[where]

    model, image = random_model(**NETWORKS[name]), _noise(64, 96)
    lazy = Counting(image.data)
    predictor = Predictor(model, Image(lazy), _config(tile_size=32), (1.0, 1.0))
    n_before = lazy.n_read
    tiles = predictor.tiles()
    first = next(tiles)
    assert lazy.n_read - n_before == 1 + n_ahead
    *_, last = tiles
    assert (first.n_done, last.n_done) == (1, last.n_tiles)
    expected = predict(model, image, _config(tile_size=32))
    np.testing.assert_array_equal(last.outputs, expected)


# Of a global network the whole tile counts, its overlap too.
@pytest.mark.parametrize(
    ("name", "size"), [("transposed", 128), ("valid", 128), ("global", 64)]
)
def test_a_lack_of_memory_makes_tiles_smaller(
    random_model, monkeypatch, n_ahead, name, size
):
    model, image = random_model(**NETWORKS[name]), _noise(150, 300)
    expected = predict(model, image, _config())
    activate = passes_module.activate

    def tight(logits, roles):
        if logits.shape[-1] > 130:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return activate(logits, roles)

    monkeypatch.setattr(passes_module, "activate", tight)
    events = list(predict_tiles(model, image, _config(tile_size=256)))
    notes = [event for event in events if isinstance(event, Note)]
    assert f"tiles of {size} px" in notes[-1].message
    done = [event for event in events if isinstance(event, TileDone)]
    assert [event.n_done for event in done][-1] == done[-1].n_tiles
    if name != "global":
        np.testing.assert_allclose(done[-1].outputs, expected, atol=2e-5)
    # A window steps down too, and stays there.
    predictor = Predictor(model, image, _config(tile_size=256), (1.0, 1.0))
    predictor.window((slice(0, 150), slice(0, 300)))
    assert predictor.tile_size == size


def test_what_is_seen_is_predicted_first(random_model):
    image = Image(_noise(3, 64, 96).data, axes="CTYX")
    views = iter([(2, 40.0, 90.0)] * 3 + [(2, 3.0, 3.0)] * 100)
    predictor = Predictor(random_model(), image, _config(tile_size=32), (1.0, 1.0))
    first, second, third, *rest = [
        [part.start for part in event.write]
        for event in predictor.tiles(lambda: next(views))
        if isinstance(event, TileDone)
    ]
    # One look to choose the frame, then one a tile: near the view, then where it went.
    assert first == [2, 32, 64]
    assert second in ([2, 0, 64], [2, 32, 32])
    assert third == [2, 0, 0]
    assert len(rest) == 3 * 6 - 3
    assert [r[0] for r in rest] == [2] * 3 + [1] * 6 + [0] * 6


@pytest.mark.parametrize(("name", "n"), [("flips", 4), ("all", 8)])
@pytest.mark.parametrize("network", ["transposed", "valid", "finer"])
def test_mirror_images_are_averaged_and_their_spread_is_told(
    random_model, network, name, n
):
    model, image = random_model(**NETWORKS[network]), _noise(64, 96)
    each = []
    for swaps in (False, True)[: n // 4]:
        for flips in ((), (-1,), (-2,), (-2, -1)):
            data = image.data.swapaxes(-1, -2) if swaps else image.data
            data = np.ascontiguousarray(np.flip(data, flips))
            found = np.flip(predict(model, Image(data), _config()), flips)
            each.append(found.swapaxes(-1, -2) if swaps else found)
    config = _config(tile_size=32, test_time_augmentation=name)
    predictor = Predictor(model, image, config, (1.0, 1.0))
    *_, last = predictor.tiles()
    np.testing.assert_allclose(last.outputs, np.mean(each, 0), atol=2e-5)
    np.testing.assert_allclose(predictor.spread, np.std(each, 0).max(0), atol=2e-5)
    region = (slice(5, 40), slice(30, 61))
    np.testing.assert_allclose(
        predictor.window(region), last.outputs[(slice(None), *region)], atol=2e-5
    )
    assert Predictor(model, image, _config(), (1.0, 1.0)).spread is None


def test_a_global_network_is_averaged_too(random_model):
    model, image = random_model(norm="group"), _noise(64, 64)
    config = _config(tile_size=32, test_time_augmentation="all")
    turned = Image(np.ascontiguousarray(np.rot90(image.data, axes=(1, 2))))
    found = predict(model, turned, config)
    expected = np.rot90(predict(model, image, config), axes=(1, 2))
    np.testing.assert_allclose(found, expected, atol=2e-5)
