"""The picture on a cover: input beside outputs, twice as wide as high."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture

from napari_unet.learning.sharing.cover import cover_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.learning.model import Model


def _open(content: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(content)))


def test_the_sides_are_the_image_and_the_colours_of_the_classes(
    random_model: Callable[..., Model],
) -> None:
    model = replace(random_model(), class_colors=("#123456", "#ff8000"))
    image = np.zeros((1, 8, 8), np.float32)
    image[0, :, 4:] = 7
    outputs = np.stack([image[0] / 7, 1 - image[0] / 7])
    seen = _open(cover_picture(model, image, outputs))
    assert seen.shape == (256, 512, 3)
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert seen[0, 255].tolist() == [255, 255, 255]
    # Background is black, whatever its colour: cells stand out.
    assert seen[0, 256].tolist() == [255, 128, 0]
    assert seen[0, 511].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "image", "outputs"),
    [
        ({"n_dims": 3, "depth": 1}, (1, 4, 8, 8), (2, 4, 8, 8)),
        ({"upscale": 2}, (1, 8, 8), (2, 16, 16)),
        ({"padding": "valid", "depth": 1}, (3, 32, 40), (2, 16, 24)),
    ],
)
def test_volumes_finer_and_smaller_outputs_fit(
    random_model: Callable[..., Model],
    settings: dict[str, object],
    image: tuple[int, ...],
    outputs: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(0)
    content = cover_picture(
        random_model(**settings),
        rng.random(image, np.float32),
        rng.random(outputs, np.float32),
    )
    assert _open(content).shape == (256, 512, 3)
    assert len(content) < 500_000


def test_the_margin_of_a_valid_network_is_cut_off(
    random_model: Callable[..., Model],
) -> None:
    model = random_model(padding="valid", depth=1)
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 8:24, 8:24] = 1
    image[0, 8, 8] = 0
    seen = _open(cover_picture(model, image, np.zeros((2, 16, 16), np.float32)))
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert (seen[32:, 32:256] == 255).all()


def test_values_are_shown_in_grey(random_model: Callable[..., Model]) -> None:
    model = replace(random_model(out_channels=1), roles=("value:height",))
    ramp = np.arange(64, dtype=np.float32).reshape(1, 8, 8) - 20
    seen = _open(cover_picture(model, ramp, ramp))
    assert (seen[:, :256] == seen[:, 256:]).all()
