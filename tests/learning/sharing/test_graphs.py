"""Sizes and drawn inputs of graphs, and the check that finds a wrong one."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest

from napari_unet.config import TrainConfig
from napari_unet.errors import ModelError
from napari_unet.learning.sharing.graphs import (
    OutputNetwork,
    Sizes,
    check_graph,
    drawn_image,
    input_sizes,
    quiet,
)

Make = "Callable[..., Model]"


def test_a_local_network_takes_every_multiple(random_model: Make) -> None:
    assert input_sizes(random_model(depth=3)) == Sizes(8, 8)


def test_the_network_of_2015_takes_16_k_plus_12(random_model: Make) -> None:
    sizes = input_sizes(random_model(depth=4, base_width=1, padding="valid"))
    assert sizes == Sizes(188, 16)
    assert 572 in range(sizes.smallest, 1000, sizes.step)


def test_a_network_that_sees_all_gets_the_size_of_its_patches(
    random_model: Make,
) -> None:
    from dataclasses import replace

    model = replace(random_model(norm="group"), training=TrainConfig(patch_size=48))
    assert input_sizes(model) == Sizes(48, 0)
    assert input_sizes(model, 61) == Sizes(64, 0)
    assert input_sizes(model).is_fixed


@pytest.mark.parametrize(
    ("wanted", "size"), [(1, 12), (12, 12), (13, 28), (28, 28), (29, 44)]
)
def test_the_next_size_is_on_the_grid(wanted: int, size: int) -> None:
    assert Sizes(12, 16).at_least(wanted) == size
    assert Sizes(12, 0).at_least(wanted) == 12


@pytest.mark.parametrize("sides", [(40,), (8, 40, 20), (5, 6, 7)])
def test_drawn_volumes_have_the_size_that_was_asked(
    random_model: Make, sides: tuple[int, ...]
) -> None:
    image = drawn_image(random_model(n_dims=3, depth=1, in_channels=2), *sides)
    expected = sides * 3 if len(sides) == 1 else sides
    assert image.shape == (1, 2, *expected)
    assert image.dtype == np.float32
    assert image.std() > 0.1


def test_a_graph_that_computes_the_same_passes(random_model: Make) -> None:
    model = random_model()
    check_graph(model, input_sizes(model), OutputNetwork(model).run, "graph")


@pytest.mark.parametrize("change", [1e-4, np.nan])
def test_a_graph_that_computes_something_else_is_refused(
    random_model: Make, change: float
) -> None:
    model = random_model()
    network = OutputNetwork(model)
    with pytest.raises(ModelError, match="exported graph computes something else"):
        check_graph(
            model, input_sizes(model), lambda x: network.run(x) + change, "graph"
        )


def test_a_graph_of_another_shape_is_refused(random_model: Make) -> None:
    model = random_model()
    network = OutputNetwork(model)
    with pytest.raises(ModelError, match="NU-M40"):
        check_graph(model, input_sizes(model), lambda x: network.run(x)[..., 1:], "it")


def test_values_are_compared_by_their_size(random_model: Make) -> None:
    from dataclasses import replace

    model = replace(random_model(out_channels=1), roles=("value:height",))
    state = {k: v * 1e4 if k.startswith("head") else v for k, v in model.state.items()}
    model = replace(model, state=state)
    network = OutputNetwork(model)
    check_graph(model, input_sizes(model), lambda x: network.run(x) * (1 + 1e-6), "it")


def test_quiet_brings_back_what_it_silenced() -> None:
    before = logging.root.manager.disable
    with quiet():
        warnings.warn("of an exporter", UserWarning, stacklevel=1)
        assert logging.root.manager.disable == logging.ERROR
    assert logging.root.manager.disable == before
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)
