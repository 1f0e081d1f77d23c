"""Cells followed over time, and how unsure the network is, in folder runs."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.batch import segment, segment_folder
from napari_unet.batch.ledger import read_lines
from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.errors import ImageError, ModelError
from napari_unet.events import FileDone, FileProgress, TileDone
from napari_unet.files.images import read_image, read_labels, write_image
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict_tiles, uncertainty_maps

CONFIG = PredictConfig(device="cpu")
MIRRORED = CONFIG.model_copy(update={"test_time_augmentation": "flips"})


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A movie in which cells move by a pixel a frame, and a single image."""
    folder = tmp_path_factory.mktemp("movies") / "images"
    folder.mkdir()
    plane = draw_cells((64, 64), n_cells=6, rng=np.random.default_rng(10))[0]
    movie = np.stack([np.roll(plane, t, axis=1) for t in range(3)])[None]
    write_image(folder / "a_movie.tif", movie, axes="CTYX", pixel_size_um=(0.5, 0.5))
    write_image(folder / "b_single.tif", plane[None], axes="CYX")
    return folder


@pytest.fixture(scope="module")
def out(model, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("movies") / "out"
    run = segment_folder(model, images, out, config=CONFIG, ctc=True, measure=True)
    return out, [e for e in run if isinstance(e, FileDone)]


def test_a_cell_has_the_same_id_in_all_frames(out, model, images):
    labels = read_labels(out[0] / "a_movie_labels.tif")
    largest = int(np.bincount(labels[labels > 0]).argmax())
    inner = labels[
        :, :, 8:-8
    ]  # what leaves the image on one side comes in on the other
    assert {int(i) for i in np.unique(inner[0])} == {
        int(i) for i in np.unique(inner[2])
    }
    for frame in labels:
        assert (frame == largest).any()
    np.testing.assert_array_equal(
        labels, segment(model, images / "a_movie.tif", CONFIG, link=True)
    )
    assert out[1][0].n_cells == labels.max()
    unlinked = segment(model, images / "a_movie.tif", CONFIG)
    np.testing.assert_array_equal(labels > 0, unlinked > 0)
    assert unlinked.max() > 2 * labels.max()


def test_the_movie_is_a_result_of_the_cell_tracking_challenge(out):
    folder, labels = out[0] / "a_movie_RES", read_labels(out[0] / "a_movie_labels.tif")
    assert sorted(path.name for path in folder.iterdir()) == [
        "mask000.tif", "mask001.tif", "mask002.tif", "res_track.txt",
    ]  # fmt: skip
    frames = [tifffile.imread(folder / f"mask00{t}.tif") for t in range(3)]
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint16)}
    np.testing.assert_array_equal(np.stack(frames), labels)
    tracks = np.loadtxt(folder / "res_track.txt", int, ndmin=2)
    expected = []
    for i in range(1, labels.max() + 1):
        there = np.flatnonzero((labels == i).any((1, 2)))
        expected.append([i, there[0], there[-1], 0])
    assert tracks.tolist() == expected


def test_an_image_without_time_fails_alone_in_one_sentence(out):
    movie, single = out[1]
    assert (movie.state, single.state) == ("done", "failed")
    assert single.message.endswith(
        "has the axes CYX and no time to link its cells over: say which axis is T, "
        "such as TYX, or predict without linking [NU-I15]"
    )


def test_linked_cells_are_measured_frame_by_frame(out):
    labels = read_labels(out[0] / "a_movie_labels.tif")
    lines = (out[0] / "a_movie_measurements.csv").read_text("utf-8").splitlines()
    rows = [line.split(",") for line in lines]
    found = {(int(row[0]), int(row[rows[0].index("frame")])) for row in rows[1:]}
    assert found == {
        (int(i), t) for t, frame in enumerate(labels) for i in np.unique(frame) if i
    }


def test_a_result_that_was_changed_is_done_again_and_one_that_was_not_is_not(
    out, model, images
):
    settings = {"config": CONFIG, "ctc": True, "measure": True}
    mask = out[0] / "a_movie_RES" / "mask001.tif"
    before = mask.read_bytes()
    for is_changed in (False, True):
        if is_changed:
            mask.write_bytes(b"")
        events = list(segment_folder(model, images, out[0], **settings))
        assert any(isinstance(e, FileProgress) for e in events) == is_changed
    assert mask.read_bytes() == before


def test_a_folder_that_is_no_such_result_is_never_replaced(model, images, tmp_path):
    other = tmp_path / "a_movie_RES" / "notes.txt"
    other.parent.mkdir()
    other.write_text("mine")
    run = segment_folder(model, images, tmp_path, config=CONFIG, ctc=True)
    done = [e for e in run if isinstance(e, FileDone)]
    assert done[0].state == "failed"
    assert "NU-S03" in done[0].message
    assert other.read_text() == "mine"
    assert not (tmp_path / "a_movie_labels.tif").exists()


def test_an_image_without_time_is_not_linked(model):
    with pytest.raises(ImageError, match="has the axes CYX and no time") as caught:
        segment(model, np.zeros((32, 32)), CONFIG, link=True)
    assert caught.value.code == "NU-I15"


def test_areas_are_not_linked(images, tmp_path):
    network = NetworkConfig(base_width=2, depth=1)
    roles = ("softmax:background", "softmax-area:tissue")
    areas = Model(network, build_network(network).state_dict(), roles=roles)
    with pytest.raises(ModelError, match="no single cells") as caught:
        next(segment_folder(areas, images, tmp_path, link=True))
    assert caught.value.code == "NU-M14"
    movie = Image(np.zeros((1, 2, 32, 32)), axes="CTYX")
    with pytest.raises(ModelError, match="no single cells"):
        segment(areas, movie, CONFIG, link=True)


def test_uncertainty_is_written_with_its_channels(model, images, tmp_path):
    settings = {"pattern": "b_*", "uncertainty": True}
    list(segment_folder(model, images, tmp_path, config=MIRRORED, **settings))
    written = read_image(tmp_path / "b_single_uncertainty.tif")
    assert written.channel_names == ("entropy", "spread")
    assert written.data.dtype == np.float32
    *_, last = predict_tiles(model, images / "b_single.tif", MIRRORED)
    assert isinstance(last, TileDone)
    cell = np.clip(last.outputs[1], 1e-30, 1 - 1e-7).astype(float)
    expected = -(cell * np.log2(cell) + (1 - cell) * np.log2(1 - cell))
    np.testing.assert_allclose(written.data[0], expected, atol=1e-4)
    np.testing.assert_array_equal(written.data[1], last.spread)
    maps = uncertainty_maps(model, images / "b_single.tif", MIRRORED)
    np.testing.assert_array_equal(np.stack(list(maps.values())), written.data)
    list(segment_folder(model, images, tmp_path, config=CONFIG, **settings))
    written = read_image(tmp_path / "b_single_uncertainty.tif")
    assert written.channel_names == ("entropy",)


def test_values_have_no_uncertainty_of_their_own(images, tmp_path):
    network = NetworkConfig(base_width=2, depth=1, out_channels=1)
    made = Model(network, build_network(network).state_dict(), roles=("value:image",))
    with pytest.raises(ModelError, match="turn test-time augmentation on"):
        next(segment_folder(made, images, tmp_path / "a", uncertainty=True))
    with pytest.raises(ModelError, match="turn test-time augmentation on"):
        uncertainty_maps(made, images / "b_single.tif", CONFIG)
    assert not (tmp_path / "a").exists()
    settings = {"config": MIRRORED, "pattern": "b_*", "uncertainty": True}
    list(segment_folder(made, images, tmp_path / "a", **settings))
    assert read_image(tmp_path / "a" / "b_single_uncertainty.tif").data.any()


def test_without_being_asked_for_no_ledger_names_them(model, images, tmp_path):
    list(segment_folder(model, images, tmp_path, config=CONFIG, pattern="b_*"))
    assert "uncertainty" not in read_lines(tmp_path)["b_single.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b_single_labels.tif", "ledger.jsonl",
    ]  # fmt: skip
