from __future__ import annotations

import itertools

import pytest
import torch

from napari_unet.config import TrainConfig
from napari_unet.learning.augmentation import (
    Batch,
    change_intensity,
    deform,
    window_size,
)

NOTHING = TrainConfig(flip=False, rotation_deg=0, scale=0, elastic_px=0, intensity=0)
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


def test_windows_are_as_large_as_what_a_patch_may_reach():
    assert window_size(64, NOTHING) == 64
    assert window_size(64, NOTHING.model_copy(update={"rotation_deg": 5.0})) == 92
    assert window_size(64, NOTHING.model_copy(update={"scale": 0.5})) == 96
    assert window_size(64, NOTHING.model_copy(update={"elastic_px": 4.0})) == 80


def test_no_intensity_change_gives_the_very_image():
    image = _batch(8).image
    assert torch.equal(change_intensity(image, 0, _rng()), image)


def test_intensity_changes_follow_the_seed_and_differ_by_image_and_channel():
    image = torch.full((3, 2, 32, 32), 0.5)
    changed = change_intensity(image, 0.5, _rng(3))
    assert torch.equal(changed, change_intensity(image, 0.5, _rng(3)))
    assert changed.mean((2, 3)).unique().numel() == 6
    assert image.unique().tolist() == [0.5]


def test_intensity_changes_grow_with_the_amount_and_stay_finite():
    image = torch.linspace(-3, 8, 4096).view(1, 1, 64, 64).repeat(16, 1, 1, 1)
    sizes = []
    for amount in (0.05, 0.2, 1.0):
        changed = change_intensity(image, amount, _rng())
        assert changed.isfinite().all()
        sizes.append((changed - image).abs().mean().item())
    assert 0 < sizes[0] < sizes[1] < sizes[2]


def test_brighter_stays_brighter_without_noise(monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    image = torch.linspace(-1, 3, 1024).view(1, 1, 32, 32)
    for seed in range(5):
        changed = change_intensity(image, 0.8, _rng(seed))
        assert (changed.flatten().diff() > 0).all()


def test_a_batch_moves_between_devices():
    moved = _batch(4).to(torch.device("meta"))
    assert {moved.image.device.type, moved.classes.device.type} == {"meta"}
    assert moved.weights.device.type == "meta"
