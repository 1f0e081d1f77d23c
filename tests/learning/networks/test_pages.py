"""The numbers in docs/science/networks are those of the networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import build_network

DOCS = Path(__file__).parents[3] / "docs"
FOLDER = DOCS / "science" / "networks"
FAMILY = {
    "default": "unet",
    "residual_unet": "residual_unet",
    "attention_unet": "attention_unet",
}


def _rows(page: str) -> list[list[str]]:
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d.*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows]


def _n_parameters(**settings) -> str:
    with torch.device("meta"):
        network = build_network(NetworkConfig(**settings))
    return f"{sum(p.numel() for p in network.parameters()):,}"


@pytest.mark.slow
@pytest.mark.parametrize("page", FAMILY)
def test_the_table_of_a_page_is_right(page):
    rows = _rows(page)
    assert [row[:2] for row in rows] == [
        [depth, up] for depth in ("3", "4") for up in ("transposed", "linear")
    ]
    for depth, up, multiple, halo, *counts in rows:
        settings = {"architecture": FAMILY[page], "depth": int(depth), "up": up}
        network = build_network(NetworkConfig(**settings, base_width=1))
        assert (str(network.multiple), f"{network.halo} px") == (multiple, halo)
        bases = (16, 32, 64)
        assert counts == [_n_parameters(**settings, base_width=b) for b in bases]


def test_the_table_of_2015_is_right():
    settings = NetworkConfig.ronneberger2015().model_dump()
    for base, count in _rows("unet"):
        assert count == _n_parameters(**{**settings, "base_width": int(base)})


def test_the_table_of_upscaling_networks_is_right():
    for upscale, *counts in _rows("image_to_image"):
        settings = {"upscale": int(upscale), "out_channels": 1}
        expected = [_n_parameters(**settings, base_width=b) for b in (16, 32, 64)]
        assert counts == expected


@pytest.mark.parametrize("name", [*FAMILY, "unet", "image_to_image"])
def test_each_page_has_its_picture_and_is_linked(name):
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", text)
    file = (FOLDER / picture).resolve()
    assert file.stem == name
    assert file.stat().st_size < 150_000
    science = (DOCS / "science.md").read_text(encoding="utf-8")
    assert f"(science/networks/{name}.md)" in science
