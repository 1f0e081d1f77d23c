from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.errors import ModelError
from napari_unet.learning.outputs import activate

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
