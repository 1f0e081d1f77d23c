from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import InstanceConfig
from napari_unet.errors import ModelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.instances import find_instances, foreground, seed_map
from napari_unet.imaging.targets import TARGETS, make_target
from napari_unet.learning.applying.outputs import activate, roles_for

MIXED = (
    "sigmoid:edge", "softmax:background", "value:dapi", "softmax-area:tissue",
    "distance", "softmax:cell", "sigmoid:hole",
)  # fmt: skip


def _oracle(logits: np.ndarray, roles) -> np.ndarray:
    """One pixel after the other, channels first."""
    logits = logits.astype(float)
    out = np.empty_like(logits)
    for at in np.ndindex(logits.shape[1:]):
        total = sum(
            np.exp(logits[(k, *at)])
            for k, role in enumerate(roles)
            if role.startswith("softmax")
        )
        for k, role in enumerate(roles):
            x = logits[(k, *at)]
            if role.startswith("softmax"):
                out[(k, *at)] = np.exp(x) / total
            elif role.startswith("sigmoid"):
                out[(k, *at)] = 1 / (1 + np.exp(-x))
            else:
                out[(k, *at)] = x
    return out


@pytest.mark.parametrize(
    "roles",
    [
        ("softmax:background", "softmax:cell"),
        ("softmax:background", "softmax:cell", "softmax-area:tissue"),
        ("softmax:background", "softmax:cell", "softmax-boundary"),
        ("softmax:background", "softmax:cell", "distance"),
        ("sigmoid:a", "sigmoid:b"),
        ("value:red",),
        MIXED,
        MIXED[::-1],
    ],
)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_each_channel_becomes_what_its_role_says(roles, shape):
    logits = np.random.default_rng(2).normal(0, 3, (len(roles), *shape))
    logits = logits.astype(np.float32)
    expected = _oracle(logits, roles)
    given = torch.from_numpy(logits)
    np.testing.assert_allclose(activate(given, roles), expected, atol=1e-6)
    batch = torch.stack([given, 2 * given])
    found = activate(batch, roles, dim=1)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], _oracle(2 * logits, roles), atol=1e-6)
    np.testing.assert_array_equal(given, logits)


def test_reduced_precision_comes_out_in_full():
    logits = torch.randn(len(MIXED), 4, 5).bfloat16()
    outputs = activate(logits, MIXED)
    assert outputs.dtype == torch.float32
    np.testing.assert_allclose(
        outputs, _oracle(logits.float().numpy(), MIXED), atol=1e-6
    )


def test_large_logits_do_not_overflow():
    logits = torch.tensor([1e4, -1e4, 0.0])[:, None, None]
    roles = ("softmax:background", "softmax:cell", "sigmoid:x")
    assert activate(logits, roles).flatten().tolist() == [1, 0, 0.5]


def test_one_role_a_channel_is_needed():
    with pytest.raises(ModelError, match="names 1 outputs but its network has 2"):
        activate(torch.zeros(2, 3, 3), ["softmax:cell"])


def test_an_unknown_role_is_refused():
    with pytest.raises(ModelError, match=r"'flow:y' of an unknown kind, not one of"):
        activate(torch.zeros(2, 3, 3), ["softmax:cell", "flow:y"])


NAMES = ("background", "round", "tissue", "long")


def _perfect_logits(target) -> np.ndarray:
    """Return the logits of a network that learned everything."""
    n_classes = len(NAMES) + int(target.classes.max() == len(NAMES))
    one_hot = np.eye(n_classes)[target.classes]
    logits = 20 * np.moveaxis(one_hot, -1, 0)
    return logits if target.values is None else np.concatenate([logits, target.values])


@pytest.mark.parametrize("kind", TARGETS)
def test_what_is_learned_perfectly_gives_the_annotated_cells_back(kind):
    labels = np.zeros((40, 60), np.int32)
    labels[2:20, 2:20], labels[2:20, 20:40], labels[2:20, 40:58] = 1, 2, 3
    labels[24:38, 2:30], labels[24:38, 30:58] = 4, 5
    annotation = Annotation(
        labels,
        label_class={1: 1, 2: 3, 3: 1, 4: 3, 5: 2},
        known=np.ones(labels.shape, bool),
        class_names=NAMES,
        area_classes=frozenset({2}),
    )
    logits = _perfect_logits(make_target(annotation, target=kind))
    roles = roles_for(kind, NAMES, {2})
    assert roles[:4] == (
        "softmax:background", "softmax:round", "softmax-area:tissue", "softmax:long",
    )  # fmt: skip
    outputs = activate(torch.from_numpy(logits).float(), roles).numpy()
    config = InstanceConfig(
        seed_threshold=0.4, smoothing_px=0.5, min_size_px=5,
        give_back_gap=kind != "boundary",
    )  # fmt: skip
    found = find_instances(outputs, roles, config)
    np.testing.assert_array_equal(found, annotation.cells())


def test_boundaries_belong_to_the_cells_but_lower_their_middle():
    roles = roles_for("boundary", ("background", "cell"))
    outputs = np.array([0.1, 0.6, 0.3], np.float32)[:, None, None]
    assert foreground(outputs, roles) == pytest.approx(0.9)
    assert seed_map(outputs, roles) == pytest.approx(0.6)


def test_areas_alone_need_nothing_to_keep_them_apart():
    expected = ("softmax:background", "softmax-area:tissue")
    for kind in TARGETS:
        assert roles_for(kind, ("background", "tissue"), {1}) == expected
