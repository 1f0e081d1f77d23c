"""Large images in a folder run: block by block, whole or not at all, done once."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.batch import large, segment, segment_folder
from napari_unet.config import PredictConfig
from napari_unet.events import FileDone, FileProgress, FolderFinished, Mailbox
from napari_unet.files import lazy_tiff
from napari_unet.files.images import read_image, read_labels
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.ome_zarr import LabelStore, is_zarr
from napari_unet.imaging import blockwise
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import load_model

CONFIG = PredictConfig(device="cpu", precision="fp32")


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An OME-Zarr and a tiled TIFF, which are large, and a small TIFF."""
    monkeypatch.setitem(large.LARGEST_PX, 2, 90**2)
    monkeypatch.setitem(blockwise.BLOCK_PX, 2, 64)
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 90**2)
    images = tmp_path / "images"
    images.mkdir()
    for name, shape in (
        ("a.zarr", (100, 130)),
        ("b.tif", (120, 90)),
        ("c.tif", (50, 60)),
    ):
        drawn, _ = draw_cells(shape, n_cells=20, rng=np.random.default_rng(len(name)))
        pixels = (200 * drawn.clip(0, 1)).astype(np.uint8)
        if name.endswith("zarr"):
            store = LabelStore(images / name, shape, "YX", (0.5, 0.5), chunk_px=32)
            store.write((slice(None), slice(None)), pixels)
            store.finish()
        else:
            tifffile.imwrite(images / name, pixels, tile=(32, 32))
    return images


def _run(model, folder, out, **settings):
    *events, last = segment_folder(model, folder, out, config=CONFIG, **settings)
    return events, last


def _content(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "ledger.jsonl"
    }


def test_large_images_are_never_loaded_and_have_the_cells_of_the_whole(
    model, folder, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    expected = {
        name: segment(model, folder / name, CONFIG)
        for name in ("a.zarr", "b.tif", "c.tif")
    }

    def loaded(*_given, **_settings):
        raise AssertionError("loaded")

    with monkeypatch.context() as patch:
        patch.setattr(LazyArray, "__array__", loaded)
        events, last = _run(model, folder, out, measure=True, probabilities=True)
    assert last == FolderFinished(3, 0)
    done = [e for e in events if isinstance(e, FileDone)]
    assert [e.output.name for e in done] == [
        "a_labels.zarr", "b_labels.tif", "c_labels.tif",
    ]  # fmt: skip
    found = np.asarray(read_image(out / "a_labels.zarr").data)[0]
    np.testing.assert_array_equal(found, expected["a.zarr"])
    for name in ("b", "c"):
        labels = read_labels(out / f"{name}_labels.tif")
        np.testing.assert_array_equal(labels, expected[f"{name}.tif"])
    assert [e.n_cells for e in done] == [v.max() for v in expected.values()]
    progress = [(e.index, e.n_tiles) for e in events if isinstance(e, FileProgress)]
    assert progress == [*[(0, 6)] * 6, *[(1, 4)] * 4, (2, 1)]
    assert "left out of so large an image: probabilities" in done[0].message
    assert done[2].message == ""
    rows = (out / "measurements.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + sum(e.n_cells for e in done)


def test_what_is_done_is_known_by_the_content_of_folders(model, folder, tmp_path):
    out = tmp_path / "out"
    _run(model, folder, out, measure=True)
    before = _content(out)
    assert _run(model, folder, out, measure=True)[1] == FolderFinished(0, 0, 3)
    chunk = next(p for p in (out / "a_labels.zarr" / "0").rglob("*") if p.is_file())
    for harm in (
        chunk.unlink,
        lambda: chunk.write_bytes(b"x"),
        lambda: (chunk.parent / "y").touch(),
    ):
        harm()
        assert _run(model, folder, out, measure=True)[1] == FolderFinished(1, 0, 2)
        assert _content(out) == before
    other = tmp_path / "other"
    _run(model, folder, other, measure=True)
    assert _content(other) == before


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("tiff", ["a_labels.tif", "b_labels.tif", "c_labels.tif"]),
        ("zarr", ["a_labels.zarr", "b_labels.zarr", "c_labels.zarr"]),
    ],
)
def test_the_format_can_be_chosen(model, folder, tmp_path, to, names):
    out = tmp_path / "out"
    assert _run(model, folder, out, to=to)[1] == FolderFinished(3, 0)
    assert sorted(p.name for p in out.iterdir()) == [*names, "ledger.jsonl"]
    assert all(is_zarr(out / name) == (to == "zarr") for name in names)
    assert _run(model, folder, out, to=to)[1] == FolderFinished(0, 0, 3)
    found = np.asarray(read_image(out / names[2]).data)[0]
    np.testing.assert_array_equal(found, segment(model, folder / "c.tif", CONFIG))


def test_a_large_image_is_stopped_between_two_blocks(model, folder, tmp_path):
    out, box = tmp_path / "out", Mailbox()
    events = []
    for event in segment_folder(model, folder, out, config=CONFIG, mailbox=box):
        events.append(event)
        if isinstance(event, FileProgress):
            box.stop()
    assert events[-1] == FolderFinished(0, 0)
    assert [p.name for p in out.iterdir()] == ["ledger.jsonl"]


def test_damage_that_is_found_late_fails_one_file_alone(model, folder, tmp_path):
    path = folder / "b.tif"
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[-1]
    path.write_bytes(path.read_bytes()[: offset + 5])
    out = tmp_path / "out"
    _, last = _run(model, folder, out)
    assert last == FolderFinished(2, 1)
    assert not [p.name for p in out.iterdir() if p.name.startswith((".", "b"))]
