from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_unet.config import TrainConfig
from napari_unet.learning.augmentation import (
    Batch,
    augment,
    blur,
    change_intensity,
    deform,
    window_size,
)
from napari_unet.learning.deformation import draw_deformation

NOTHING = TrainConfig(
    flip=False, rotation_deg=0, scale=0, elastic_px=0, intensity=0, blur_px=0
)
STRONG = TrainConfig(rotation_deg=180, scale=0.4, elastic_px=6, elastic_grid_px=16)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(size: int, n: int = 2, n_channels: int = 1) -> Batch:
    rng = _rng(9)
    return Batch(
        torch.rand(n, n_channels, size, size, generator=rng),
        torch.randint(0, 4, (n, size, size), generator=rng),
        torch.randint(0, 3, (n, size, size), generator=rng) * 5.25,
    )


def _assert_same(a: Batch, b: Batch) -> None:
    torch.testing.assert_close(a.image, b.image)
    assert torch.equal(a.classes, b.classes)
    assert torch.equal(a.weights, b.weights)


def test_settings_that_do_nothing_give_the_middle_of_the_window():
    batch = _batch(24, n_channels=2)
    _assert_same(deform(batch, 16, NOTHING, _rng()), batch.middle(16))
    _assert_same(deform(batch, 24, NOTHING, _rng()), batch)


def test_the_middle_is_the_middle():
    middle = _batch(7).middle(3)
    assert torch.equal(middle.image, _batch(7).image[:, :, 2:5, 2:5])
    assert torch.equal(middle.classes, _batch(7).classes[:, 2:5, 2:5])
    assert torch.equal(middle.weights, _batch(7).weights[:, 2:5, 2:5])


def test_one_seed_gives_one_batch():
    batch = _batch(48)
    _assert_same(deform(batch, 16, STRONG, _rng(1)), deform(batch, 16, STRONG, _rng(1)))
    other = deform(batch, 16, STRONG, _rng(2))
    assert not torch.equal(deform(batch, 16, STRONG, _rng(1)).image, other.image)


def test_each_patch_of_a_batch_is_deformed_by_itself():
    window = _batch(48, n=1)
    twice = Batch(
        *(torch.cat([t, t]) for t in (window.image, window.classes, window.weights))
    )
    patches = deform(twice, 16, STRONG, _rng()).image
    assert not torch.equal(patches[0], patches[1])


def test_classes_and_weights_keep_their_values():
    batch = _batch(48)
    patch = deform(batch, 32, STRONG, _rng())
    assert patch.classes.dtype == torch.int64
    assert set(patch.classes.unique().tolist()) <= {0, 1, 2, 3}
    assert set(patch.weights.unique().tolist()) <= {0, 5.25, 10.5}


@pytest.mark.parametrize("config", [STRONG, STRONG.model_copy(update={"scale": 0.0})])
def test_image_classes_and_weights_move_together(config):
    # One picture in all three: a disc of 1 on 0.
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = ((y - 28) ** 2 + (x - 37) ** 2 < 12**2).long()[None].repeat(8, 1, 1)
    batch = Batch(disc[:, None].float(), disc, disc.float())
    patch = deform(batch, 32, config, _rng())
    assert 0.05 < patch.classes.float().mean() < 0.95
    assert torch.equal(patch.classes.float(), patch.weights)
    # Where linear sampling sees one value only, so does the nearest pixel.
    image = patch.image[:, 0]
    for value in (0, 1):
        is_pure = (image - value).abs() < 1e-4
        assert is_pure.float().mean() > 0.05
        assert (patch.classes[is_pure] == value).all()
    assert ((image > 1e-4) & (image < 1 - 1e-4)).float().mean() < 0.15


def test_without_rotation_and_deformation_only_mirrored_and_turned_patches_come():
    config = NOTHING.model_copy(update={"flip": True})
    batch = _batch(9, n=64)
    patches = deform(batch, 9, config, _rng())
    seen = set()
    for i in range(64):
        matches = [
            (turns, mirrored)
            for turns, mirrored in itertools.product(range(4), (False, True))
            if torch.equal(
                patches.classes[i],
                _dihedral(batch.classes[i], turns, mirrored),
            )
            and torch.allclose(
                patches.image[i, 0],
                _dihedral(batch.image[i, 0], turns, mirrored),
                atol=1e-4,
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 8


def _dihedral(plane: torch.Tensor, turns: int, mirrored: bool) -> torch.Tensor:
    return torch.rot90(plane.flip(1) if mirrored else plane, turns)


def test_a_scale_alone_zooms_about_the_middle():
    config = NOTHING.model_copy(update={"scale": 0.5})
    size = window_size(32, config)
    x = torch.arange(size).expand(size, size)
    middle = (size - 1) / 2
    # Distance from the middle along x: linear sampling keeps it straight.
    image = (x - middle).float().expand(40, 1, size, size)
    classes = torch.zeros(40, size, size, dtype=torch.long)
    patch = deform(Batch(image, classes, classes.float()), 32, config, _rng()).image
    factors = patch[:, 0, 16, 17] - patch[:, 0, 16, 16]
    assert (factors.min() >= 1 / 1.5) & (factors.max() <= 1.5)
    assert factors.max() / factors.min() > 1.5
    expected = factors[:, None] * (torch.arange(32) - 15.5)
    torch.testing.assert_close(patch[:, 0, 16], expected, atol=1e-3, rtol=0)


def test_the_elastic_displacement_has_about_the_size_that_was_asked_for():
    config = NOTHING.model_copy(update={"elastic_px": 3.0, "elastic_grid_px": 16.0})
    size = 64
    image = torch.arange(size).float().expand(32, 1, size, size)
    classes = torch.zeros(32, size, size, dtype=torch.long)
    moved = deform(Batch(image, classes, classes.float()), 32, config, _rng()).image
    displacement = moved[:, 0] - torch.arange(16, 48)
    # Interpolation between the nodes loses some of it.
    assert 1.5 < displacement.std() < 3.5
    assert displacement.mean().abs() < 0.5


def _moved(planes: torch.Tensor, config: TrainConfig, size: int, *, order: int):
    """Deform planes (N, Y, X) with scipy, at the same places."""
    offsets = draw_deformation(len(planes), size, config, _rng(5)).offsets().double()
    middle = (planes.shape[-1] - 1) / 2
    return np.stack(
        [
            # "reflect" is scipy's name for a mirror on the pixels' outer edge.
            ndimage.map_coordinates(
                plane.double(), (y + middle, x + middle), order=order, mode="reflect"
            )
            for plane, (x, y) in zip(planes, offsets.numpy(), strict=True)
        ]
    )


@pytest.mark.parametrize("window", [80, 30])
def test_patches_are_what_scipy_samples_at_the_same_places(window):
    # The smaller windows are left again and again: mirrored there.
    rng = _rng(2)
    image, values = torch.rand(2, 4, 2, window, window, generator=rng)
    classes = torch.randint(0, 9, (4, window, window), generator=rng)
    weights = torch.rand(4, window, window, generator=rng)
    found = deform(Batch(image, classes, weights, values), 32, STRONG, _rng(5))
    for i in range(2):
        for ours, given in ((found.image, image), (found.values, values)):
            expected = _moved(given[:, i], STRONG, 32, order=1)
            np.testing.assert_allclose(ours[:, i], expected, atol=2e-4)
    # At the very border between two pixels either is as near.
    same = found.classes.numpy() == _moved(classes, STRONG, 32, order=0)
    assert same.mean() > 0.999
    near = np.isclose(found.weights, _moved(weights, STRONG, 32, order=0))
    assert near.mean() > 0.999


def test_a_constant_stays_the_constant():
    full = torch.full((3, 1, 48, 48), 0.37)
    batch = Batch(full, full[:, 0].mul(100).long(), full[:, 0], full)
    found = deform(batch, 32, STRONG, _rng())
    for tensor in (found.image, found.values):
        torch.testing.assert_close(tensor, full[..., :32, :32], atol=1e-6, rtol=0)
    assert (found.classes == 37).all()
    assert (found.weights == full[0, 0, 0, 0]).all()


def test_weights_are_exactly_zero_where_they_were_and_nowhere_else():
    batch = _batch(48)
    weights = torch.where(batch.classes == 2, 0.0, 1e-30)
    found = deform(Batch(batch.image, batch.classes, weights), 32, STRONG, _rng())
    assert torch.equal(found.weights == 0, found.classes == 2)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.float32])
def test_windows_may_hold_classes_in_any_type(dtype):
    batch = _batch(48)
    found = deform(
        Batch(batch.image, batch.classes.to(dtype), batch.weights), 32, STRONG, _rng()
    )
    _assert_same(found, deform(batch, 32, STRONG, _rng()))


def test_nothing_but_values_is_deformed_too():
    batch = _batch(48)
    image = Batch(batch.image, None, batch.weights, batch.image)
    found = deform(image, 32, STRONG, _rng())
    assert found.classes is None
    assert torch.equal(found.image, found.values)


@pytest.mark.parametrize("upscale", [2, 4])
def test_a_finer_target_moves_with_its_image(upscale):
    # One linear picture on both grids: linear sampling gives it exactly, so the mean of
    # the finer pixels of a pixel is that pixel's value, to the curvature of the
    # deformation.
    size, n = 24, 6
    window = window_size(size, STRONG)

    def picture(side: int) -> torch.Tensor:
        at = (torch.arange(side, dtype=torch.float64) + 0.5) / side * window
        return (2 * at[:, None] - at).float().expand(n, 1, -1, -1)

    fine = picture(window * upscale)
    batch = Batch(picture(window), None, torch.ones_like(fine[:, 0]), fine)
    assert batch.upscale == upscale
    found = augment(batch, size, STRONG, _rng())
    plain = deform(batch, size, STRONG, _rng())
    assert found.values.shape[-2:] == found.weights.shape[-2:] == (upscale * size,) * 2
    # Intensity changes never touch what is to be learned.
    assert torch.equal(found.values, plain.values)
    assert not torch.equal(found.image, plain.image)
    inside = _never_mirrored(STRONG, size, window, n)
    means = torch.nn.functional.avg_pool2d(plain.values, upscale)
    assert inside.float().mean() > 0.8
    difference = (means - plain.image)[:, 0][inside].abs()
    assert difference.max() < 0.15  # of a pixel, where the picture falls by 2 a pixel
    assert difference.mean() < 0.02


def _never_mirrored(config: TrainConfig, size: int, window: int, n: int):
    offsets = draw_deformation(n, size, config, _rng()).offsets()
    return (offsets.abs() < window / 2 - 1.5).all(1)


def test_the_middle_of_a_finer_target_has_the_middle_of_the_image():
    batch = Batch(
        torch.arange(36.0).view(1, 1, 6, 6), None, torch.arange(144.0).view(1, 12, 12)
    )
    middle = batch.middle(4)
    assert middle.image.flatten().tolist() == [14, 15, 20, 21]
    assert torch.equal(middle.weights, batch.weights[:, 4:8, 4:8])


@pytest.mark.parametrize(("n", "sizes"), [(1, [5]), (2, [2, 3]), (9, [1] * 5)])
def test_parts_make_up_the_batch(n, sizes):
    batch = _batch(4, n=5)
    parts = batch.parts(n)
    assert [len(part.image) for part in parts] == sizes
    assert torch.equal(torch.cat([part.image for part in parts]), batch.image)
    assert torch.equal(torch.cat([part.weights for part in parts]), batch.weights)


def test_the_number_of_threads_changes_nothing():
    config = TrainConfig(blur_px=2)
    batch, found = _batch(300, n=3), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        found.append(augment(batch, 200, config, _rng(4)))
    torch.set_num_threads(1)
    for other in found[1:]:
        assert torch.equal(other.image, found[0].image)
        assert torch.equal(other.classes, found[0].classes)
        assert torch.equal(other.weights, found[0].weights)


def test_windows_are_as_large_as_what_a_patch_may_reach():
    assert window_size(64, NOTHING) == 64
    assert window_size(64, NOTHING.model_copy(update={"rotation_deg": 5.0})) == 92
    assert window_size(64, NOTHING.model_copy(update={"scale": 0.5})) == 96
    assert window_size(64, NOTHING.model_copy(update={"elastic_px": 4.0})) == 80


def _changing(amount: float, blur_px: float = 0.0) -> TrainConfig:
    return TrainConfig(intensity=amount, blur_px=blur_px)


def test_no_intensity_change_gives_the_very_image():
    image = _batch(8).image
    assert change_intensity(image, _changing(0), _rng()) is image


def test_intensity_changes_follow_the_seed_and_differ_by_image_and_channel():
    image = torch.full((3, 2, 32, 32), 0.5)
    changed = change_intensity(image, _changing(0.5, 1), _rng(3))
    assert torch.equal(changed, change_intensity(image, _changing(0.5, 1), _rng(3)))
    assert changed.mean((2, 3)).unique().numel() == 6
    assert image.unique().tolist() == [0.5]


def test_intensity_changes_grow_with_the_amount_and_stay_finite():
    image = torch.linspace(-3, 8, 4096).view(1, 1, 64, 64).repeat(16, 1, 1, 1)
    sizes = []
    for amount in (0.05, 0.2, 1.0):
        changed = change_intensity(image, _changing(amount), _rng())
        assert changed.isfinite().all()
        sizes.append((changed - image).abs().mean().item())
    assert 0 < sizes[0] < sizes[1] < sizes[2]


def test_brighter_stays_brighter_without_noise(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    image = torch.linspace(-1, 3, 1024).view(1, 1, 32, 32)
    for seed in range(5):
        changed = change_intensity(image, _changing(0.8), _rng(seed))
        assert (changed.flatten().diff() > 0).all()


def test_gamma_contrast_and_brightness_are_what_the_formula_says(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    image = torch.rand(2, 3, 4, 5, generator=_rng(1)) * 1.4 - 0.2
    changed = change_intensity(image, _changing(0.6), _rng(7))
    drawn = 2 * torch.rand(4, 2, 3, generator=_rng(7)) - 1
    for n, c, y, x in np.ndindex(image.shape):
        value = image[n, c, y, x].item()
        inside = min(max(value, 1e-4), 1.0)
        gamma, contrast, brightness = (drawn[i, n, c].item() * 0.6 for i in range(3))
        bent = value - inside + inside ** math.exp(gamma)
        expected = bent * math.exp(contrast) + brightness / 3
        assert changed[n, c, y, x].item() == pytest.approx(expected, abs=2e-6)


def test_noise_is_normal_and_at_most_a_fifth_of_the_amount():
    image = torch.zeros(200, 1, 32, 32)
    changed = change_intensity(image, _changing(0.5), _rng())
    sd = changed.std((1, 2, 3))
    assert 0.09 < sd.max() < 0.105
    assert sd.min() < 0.01
    loudest = changed[sd.argmax()].flatten()
    standard = (loudest - loudest.mean()) / sd.max()
    assert (standard.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.05)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7])
def test_blur_is_a_gaussian(sigma):
    image = torch.rand(2, 2, 40, 50, generator=_rng(1))
    before = image.clone()
    sigmas = torch.tensor([[sigma, 0.0], [-1.0, sigma]])
    blurred = blur(image, sigmas)
    assert torch.equal(image, before)
    assert torch.equal(blurred[0, 1], image[0, 1])
    assert torch.equal(blurred[1, 0], image[1, 0])
    for plane in ((0, 0), (1, 1)):
        expected = ndimage.gaussian_filter(
            image[plane].double().numpy(),
            sigma,
            mode="mirror",
            radius=math.ceil(3 * sigma),
        )
        np.testing.assert_allclose(blurred[plane], expected, atol=1e-6)


def test_blur_takes_images_smaller_than_its_reach():
    image = torch.full((1, 1, 3, 4), 2.0)
    blurred = blur(image, torch.tensor([[5.0]]))
    torch.testing.assert_close(blurred, image)


def test_every_other_channel_is_blurred():
    image = torch.rand(200, 1, 16, 16, generator=_rng(1))
    changed = change_intensity(image, _changing(0, 2), _rng())
    is_same = (changed == image).all(3).all(2).all(1).float().mean()
    assert is_same.item() == pytest.approx(0.5, abs=0.1)


def test_a_batch_moves_between_devices():
    moved = _batch(4).to(torch.device("meta"))
    assert {moved.image.device.type, moved.classes.device.type} == {"meta"}
    assert moved.weights.device.type == "meta"
