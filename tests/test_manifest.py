"""The manifest: napari drops a plugin silently when it is wrong."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

npe2 = pytest.importorskip("npe2")

if TYPE_CHECKING:
    from npe2 import PluginManifest

REPOSITORY = Path(__file__).parents[1]
NAME = "napari-unet-loop"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return npe2.PluginManifest.from_distribution(NAME)


def test_top_level_and_package_manifest_read_the_same() -> None:
    top = (REPOSITORY / "napari.yaml").read_text(encoding="utf-8")
    package = (REPOSITORY / "src/napari_unet/napari.yaml").read_text(encoding="utf-8")
    # Where git checks links out as text, the top-level file holds the link's target.
    assert top in (package, "src/napari_unet/napari.yaml")


def test_the_distribution_points_to_the_manifest(manifest: PluginManifest) -> None:
    entries = distribution(NAME).entry_points.select(group="napari.manifest")
    assert [entry.value for entry in entries] == ["napari_unet:napari.yaml"]
    assert (manifest.name, manifest.display_name) == (NAME, "U-Net")


def test_the_widgets_are_in_the_menus(manifest: PluginManifest) -> None:
    menus = {
        menu: [item.command.removeprefix(f"{NAME}.") for item in items]
        for menu, items in manifest.contributions.menus.items()
    }
    assert menus == {
        "napari/layers/annotate": ["annotate", "weights"],
        "napari/layers/segment": ["train", "predict", "batch"],
    }
    names = [widget.display_name for widget in manifest.contributions.widgets]
    assert names == ["Annotate", "Weight map", "Train", "Predict", "Batch predict"]


def test_every_contribution_names_a_command(manifest: PluginManifest) -> None:
    parts = manifest.contributions
    known = {command.id for command in parts.commands}
    used = {item.command for item in [*parts.widgets, *parts.sample_data]}
    assert used == known


@pytest.mark.gui
def test_every_command_can_be_imported(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name)), command.id


@pytest.mark.gui
def test_npe2_finds_nothing_wrong_with_the_manifest(manifest: PluginManifest) -> None:
    manifest.validate_imports()
