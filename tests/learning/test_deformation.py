"""The displacement, against scipy's cubic Hermite spline and the paper's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.learning.deformation import Deformation, draw_deformation, n_nodes
from napari_unet.learning.networks import build_network

STILL = TrainConfig(flip=False, rotation_deg=0, scale=0, elastic_px=0)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _displacement(drawn: Deformation, upscale: int = 1) -> torch.Tensor:
    """Return the elastic part alone."""
    rigid = Deformation(drawn.size, drawn.matrices, None, drawn.spacing_px)
    return drawn.offsets(upscale) - rigid.offsets(upscale)


def _along(nodes: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate with slopes of half the difference of the neighbours."""
    k = nodes.shape[axis]
    # A node more at each end, like the last one.
    padded = np.concatenate(
        [nodes.take([0], axis), nodes, nodes.take([k - 1], axis)], axis
    )
    slopes = (padded.take(range(2, k + 2), axis) - padded.take(range(k), axis)) / 2
    return CubicHermiteSpline(np.arange(k), nodes, slopes, axis=axis)(at)


@pytest.mark.parametrize(
    ("size", "spacing", "upscale"), [(65, 16.0, 1), (48, 20.0, 1), (40, 10.0, 2)]
)
def test_displacements_are_a_cubic_surface_through_their_nodes(size, spacing, upscale):
    config = STILL.model_copy(update={"elastic_px": 5.0, "elastic_grid_px": spacing})
    drawn = draw_deformation(3, size, config, _rng())
    centres = (np.arange(size * upscale) + 0.5) / upscale - size / 2
    k = drawn.nodes.shape[-1]
    at = np.clip(centres / spacing + k // 2, 0, k - 1)
    found = _displacement(drawn, upscale).numpy()
    nodes = drawn.nodes.double().numpy()
    for n in range(3):
        for i in range(2):
            expected = _along(_along(nodes[n, i], at, 0), at, 1)
            np.testing.assert_allclose(found[n, i], expected, atol=1e-4)


def test_a_node_lies_on_the_middle_and_moves_it_by_itself_alone():
    config = STILL.model_copy(update={"elastic_px": 5.0, "elastic_grid_px": 16.0})
    drawn = draw_deformation(4, 65, config, _rng())
    middle = drawn.nodes.shape[-1] // 2
    found = _displacement(drawn)
    for step in (-2, -1, 0, 1, 2):
        torch.testing.assert_close(
            found[:, :, 32 + 16 * step, 32],
            drawn.nodes[:, :, middle + step, middle],
            atol=1e-5,
            rtol=1e-5,
        )


def test_the_paper_has_three_by_three_nodes_of_ten_pixels():
    # Ronneberger et al. 2015, section 3.1.
    config = TrainConfig.ronneberger2015()
    net = build_network(NetworkConfig(base_width=1, depth=4, padding="valid"))
    size = net.input_size_for(config.patch_size)
    assert size == 572
    drawn = draw_deformation(2000, size, config, _rng())
    assert drawn.nodes.shape == (2000, 2, 3, 3)
    # All nodes, each one, and no two alike.
    assert drawn.nodes.std().item() == pytest.approx(10, rel=0.02)
    of_each = drawn.nodes.transpose(0, 1).reshape(2, 2000, 9)
    assert ((of_each.std(1) - 10).abs() < 0.8).all()
    for axis in of_each:
        correlation = np.corrcoef(axis.T.numpy())
        assert np.abs(correlation - np.eye(9)).max() < 0.1


def test_the_papers_displacement_has_that_deviation_where_it_is_drawn():
    config = TrainConfig.ronneberger2015()
    found = _displacement(draw_deformation(60, 572, config, _rng()))

    def deviation(rows: tuple[int, ...], columns: tuple[int, ...]) -> float:
        there = found[:, :, rows][..., columns]
        return float(there.square().mean().sqrt())

    # Next to the nodes: the middle and each end. Half way between them cubic weights
    # -1/16, 9/16, 9/16 and -1/16 (the outermost node counts for the one beyond it)
    # leave less of it.
    nodes, between = (0, 286, 571), (143, 428)
    less = math.sqrt((9 / 16) ** 2 + (1 / 2) ** 2 + (1 / 16) ** 2)
    assert deviation(nodes, nodes) == pytest.approx(10, rel=0.08)
    assert deviation(nodes, between) == pytest.approx(10 * less, rel=0.08)
    assert deviation(between, between) == pytest.approx(10 * less**2, rel=0.08)


def test_displacements_do_not_depend_on_reduced_precision_of_products():
    # With "medium" oneDNN may multiply in bf16: 3 digits, a pixel at 300 pixels.
    config = TrainConfig(elastic_px=0)
    before = torch.get_float32_matmul_precision()
    found = []
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        found.append(draw_deformation(2, 400, config, _rng()).offsets())
    torch.set_float32_matmul_precision(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("size", [1, 2, 31, 64, 129])
@pytest.mark.parametrize("spacing", [4.0, 31.5, 500.0])
def test_nodes_enclose_the_patch(size, spacing):
    half = n_nodes(size, spacing) // 2
    assert half * spacing >= (size - 1) / 2
    assert (half - 1) * spacing < (size - 1) / 2
    config = STILL.model_copy(update={"elastic_px": 5.0, "elastic_grid_px": spacing})
    assert draw_deformation(2, size, config, _rng()).offsets().isfinite().all()


def test_a_deformation_moves_between_devices():
    drawn = draw_deformation(2, 16, TrainConfig(), _rng()).to(torch.device("meta"))
    assert drawn.matrices.device.type == drawn.nodes.device.type == "meta"
    still = draw_deformation(2, 16, STILL, _rng()).to(torch.device("meta"))
    assert still.nodes is None
