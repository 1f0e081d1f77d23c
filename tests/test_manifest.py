"""The manifest: napari drops a plugin silently when it is wrong."""

from __future__ import annotations

from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_unet.files.formats import written_format_of

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
        "napari/layers/segment": ["train", "predict", "batch", "models"],
        "napari/layers/measure": ["measure"],
    }
    names = [widget.display_name for widget in manifest.contributions.widgets]
    docks = ["Annotate", "Weight map", "Train", "Predict", "Batch predict"]
    assert names == [*docks, "Measure", "Models"]


def test_every_contribution_names_a_command(manifest: PluginManifest) -> None:
    parts = manifest.contributions
    known = {command.id for command in parts.commands}
    files = [*parts.readers, *parts.writers]
    used = {item.command for item in [*parts.widgets, *parts.sample_data, *files]}
    assert used == known


def test_only_files_that_may_be_annotations_are_looked_at(
    manifest: PluginManifest,
) -> None:
    (reader,) = manifest.contributions.readers
    assert not reader.accepts_directories
    names = ["a_seg.npy", "a.zip", "a.roi", "a.geojson", "a.json"]
    others = ["a.npy", "a.tif", "a.png", "a.csv", "a.zarr", "a.py"]
    taken = [
        name
        for name in names + others
        if any(fnmatch(name, pattern) for pattern in reader.filename_patterns)
    ]
    assert taken == names


def test_each_writer_writes_one_labels_layer_in_one_format(
    manifest: PluginManifest,
) -> None:
    writers = manifest.contributions.writers
    kinds = [writer.layer_types for writer in writers]
    assert kinds == [["labels", "shapes?"], ["labels"], ["labels"], ["labels"]]
    endings = [writer.filename_extensions for writer in writers]
    assert endings == [[".tif"], [".json"], [".zip"], [".geojson"]]
    formats = [written_format_of(Path(f"a{ending}")) for (ending,) in endings]
    assert [one.name for one in formats if one] == ["tiff", "coco", "imagej", "geojson"]


@pytest.mark.gui
def test_napari_s_own_writer_keeps_plain_tiffs(manifest: PluginManifest) -> None:
    plugins = npe2.PluginManager()
    plugins.register(manifest)  # first: the order must not matter
    builtins = Path(import_module("napari_builtins").__file__ or "").parent
    plugins.register(npe2.PluginManifest.from_file(builtins / "builtins.yaml"))
    writer, _ = plugins.get_writer("a.tif", ["labels"])
    assert writer is not None
    assert writer.plugin_name == "napari"
    writer, _ = plugins.get_writer("a.tif", ["labels"], NAME)
    assert writer is not None
    assert writer.display_name == "Annotation (TIFF and JSON)"


@pytest.mark.gui
def test_every_command_can_be_imported(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name)), command.id


@pytest.mark.gui
def test_npe2_finds_nothing_wrong_with_the_manifest(manifest: PluginManifest) -> None:
    manifest.validate_imports()
