from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.config import (
    NetworkConfig,
    NormalizationConfig,
    PredictConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError
from napari_unet.imaging.arrays import Annotation, Target
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.targets import make_target
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.model import Model
from napari_unet.learning.prediction import predict
from napari_unet.learning.quality import held_back
from napari_unet.learning.quality.held_back import (
    HeldBack,
    predictions,
    px_while_training,
    subset,
)

CPU = DeviceChoice("cpu", "CPU")


def _plane(image, labels, known=None) -> Plane:
    known = np.ones(labels.shape, bool) if known is None else known
    annotation = Annotation(labels, known=known)
    target = make_target(annotation, WeightConfig())
    return Plane(
        np.asarray(image, np.float32)[None], labels, annotation.is_known, target
    )


def _empty(shape) -> Plane:
    labels = np.zeros(shape, np.int32)
    labels[shape[0] // 2, shape[1] // 2] = 1
    return _plane(np.zeros(shape), labels)


def _sized(n: int) -> Plane:
    return Plane(None, np.zeros((n, 10)), None, None)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 4000)
)  # fmt: skip
def test_a_subset_fits_is_in_order_and_is_always_the_same(sizes, max_px):
    planes = [_sized(n) for n in sizes]
    chosen = subset(planes, max_px)
    assert chosen == [plane for plane in planes if plane in chosen]
    assert len(chosen) == 1 or sum(p.labels.size for p in chosen) <= max_px
    assert chosen == subset(planes, max_px)
    if 10 * sum(sizes) <= max_px:
        assert chosen == planes


@pytest.mark.parametrize("n", [2, 5, 10, 33])
def test_a_subset_is_spread_evenly(n):
    planes = [_sized(10) for _ in range(100)]
    chosen = [i for i, plane in enumerate(planes) if plane in subset(planes, 100 * n)]
    assert len(chosen) == n
    gaps = np.diff([-1, *chosen, 100])
    assert gaps.max() <= 2.7 * 100 / n


def test_what_is_validated_grows_with_what_is_trained_between():
    few = TrainConfig(validate_every=1, batch_size=1, patch_size=16)
    many = TrainConfig(validate_every=1000, batch_size=8, patch_size=256)
    some = TrainConfig(validate_every=20, batch_size=8, patch_size=128)
    assert px_while_training(few) == 2**16
    assert px_while_training(some) == round(0.15 * 20 * 8 * 128**2)
    assert px_while_training(many) == 2**19


@pytest.mark.parametrize("tile_px", [None, 16])
@pytest.mark.parametrize("norm", ["batch", "none", "group"])
def test_outputs_are_those_of_a_prediction(random_model, cells, norm, tile_px):
    padding = "valid" if norm == "none" else "same"
    model = random_model(padding=padding, norm=norm)
    image, labels = cells[0][:45, :50], cells[1][:45, :50]
    planes = [_plane(image, labels), _plane(image * 2, labels)]
    held = HeldBack(planes, model, tile_px=tile_px)
    # The same pixels, as the user's prediction gives them.
    as_is = replace(
        model,
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((0.0,), (1.0,)),
    )
    config = PredictConfig(
        device="cpu", precision="fp32", tile_size=tile_px if norm == "group" else None
    )
    network = for_inference(model.build(), CPU, "fp32")
    found = list(predictions(network, held, CPU))
    assert len(found) == 2
    for (piece, logits), factor in zip(found, (1, 2), strict=True):
        expected = predict(as_is, image * factor, config)
        np.testing.assert_array_equal(piece.plane.image[0], np.float32(image * factor))
        assert logits.shape == (2, 45, 50)
        own = activate(logits, model.roles).numpy()
        if norm == "group" and tile_px:  # logits are blended, not probabilities
            assert np.abs(own - expected).mean() < 0.1
        else:
            np.testing.assert_allclose(own, expected, atol=2e-5)


def test_planes_of_different_sizes_keep_their_own_outputs(random_model, cells):
    model = random_model()
    image, labels = cells
    shapes = [(64, 64), (33, 20), (64, 64), (20, 33)]
    planes = [
        _plane(image[:y, :x] + i, labels[:y, :x]) for i, (y, x) in enumerate(shapes)
    ]
    network = for_inference(model.build(), CPU, "fp32")
    found = list(predictions(network, HeldBack(planes, model), CPU))
    assert len(found) == 4
    for piece, logits in found:
        alone = next(predictions(network, HeldBack([piece.plane], model), CPU))[1]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)


def test_a_large_plane_goes_through_memory_in_tiles(random_model, monkeypatch):
    model = random_model()
    image = np.random.default_rng(0).random((70, 40))
    plane = _plane(image, np.ones(image.shape, np.int32))
    network = for_inference(model.build(), CPU, "fp32")
    held = HeldBack([plane], model)
    ((_, whole),) = predictions(network, held, CPU)
    sizes = []
    network.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[2:]))
    monkeypatch.setattr(held_back, "_MAX_SIDE_PX", 64)
    monkeypatch.setattr(held_back, "tile_size_for", lambda *_: 16)
    ((_, tiled),) = predictions(network, held, CPU)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-5)
    assert len(sizes) == 15


class _Field:
    """A plane on disk."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.n_loads = plane, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.plane.labels.shape

    def load(self) -> Plane:
        self.n_loads += 1
        return self.plane


def test_only_what_is_taken_is_read_and_once():
    fields = [_Field(_empty((64, 64))) for _ in range(10)]
    held = HeldBack(fields, Model(NetworkConfig(), {}), max_px=3 * 64 * 64)
    assert sorted(field.n_loads for field in fields) == [0] * 7 + [1] * 3
    assert held.n_cells == 3


def test_boundaries_are_of_the_class_of_their_cell():
    labels = np.zeros((5, 9), np.int32)
    labels[:, :4], labels[:, 5:] = 1, 2
    classes = np.where(labels == 1, 1, np.where(labels == 2, 2, 0)).astype(np.int16)
    expected = classes.copy()
    expected[0] = -1
    classes[:, 3] = classes[:, 5] = 3
    weights = np.ones(labels.shape, np.float32)
    weights[0] = 0
    plane = Plane(
        np.zeros((1, 5, 9), np.float32), labels, weights > 0, Target(classes, weights)
    )
    names = ("background", "a", "b")
    roles = ("softmax:background", "softmax:a", "softmax:b", "softmax-boundary")
    model = Model(NetworkConfig(out_channels=4), {}, roles=roles, class_names=names)
    (piece,) = HeldBack([plane], model).pieces
    np.testing.assert_array_equal(piece.classes, expected)
    assert classes[1, 3] == 3  # the target itself stays


@pytest.mark.parametrize(
    ("task", "by", "told"),
    [("segment", "psnr", "mean_ap, ap, f1, iou"), ("regress", "f1", "psnr, ssim")],
)
def test_a_score_that_the_task_does_not_have_is_refused(task, by, told):
    config = TrainConfig(task=task, choose_by=by)
    model = Model(NetworkConfig(), {}, training=config)
    with pytest.raises(ConfigError, match=f"scores {told} and loss"):
        HeldBack([_empty((16, 16))], model)
