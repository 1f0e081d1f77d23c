from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from skimage.transform import resize

from napari_unet import batch
from napari_unet.batch import fit_warnings, segment, segment_events, segment_folder
from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    PredictConfig,
    TrainConfig,
)
from napari_unet.errors import FolderError, ImageError, ModelError, SaveError
from napari_unet.events import (
    FileDone,
    FileProgress,
    FileStarted,
    FolderFinished,
    FolderStarted,
    Note,
    Segmented,
    TileDone,
)
from napari_unet.files.images import read_image, read_labels, write_image
from napari_unet.files.samples import sample_images
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.resampling import resample_labels
from napari_unet.imaging.scores import score
from napari_unet.learning.checkpoint import Model, load_model, save_model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict
from napari_unet.learning.training import train

CONFIG = PredictConfig(device="cpu", tile_size=32)
ON_CPU = PredictConfig(device="cpu", precision="fp32")


def _cells(seed: int, shape=(64, 64)) -> tuple[np.ndarray, np.ndarray]:
    return draw_cells(shape, n_cells=6, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def model():
    """A model that finds drawn cells."""
    images, labels = zip(*(_cells(seed) for seed in (1, 2)), strict=True)
    config = TrainConfig(
        max_steps=200, validate_every=50, patch_size=32, batch_size=4, device="cpu",
        precision="fp32", learning_rate=1e-2,
    )  # fmt: skip
    network = NetworkConfig(base_width=4, depth=2)
    *_, finished = train(images, labels, config, network=network)
    return finished.model


@pytest.fixture
def folder(tmp_path):
    """Three images of cells."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        data = _cells(10 + i)[0][None]
        write_image(
            images / f"cells_{i}.tif", data, axes="CYX", pixel_size_um=(0.5, 0.5)
        )
    return images


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def _ledger(output: Path) -> list[dict]:
    text = (output / "ledger.jsonl").read_text("utf-8")
    return [json.loads(row) for row in text.splitlines()]


def test_cells_of_a_new_image_are_found(model):
    image, truth = _cells(5)
    labels = segment(model, image, config=CONFIG)
    assert labels.dtype == np.int32
    assert score(truth, labels).f1["0.5"] > 0.7


def test_segment_gives_the_labels_of_the_last_event(model):
    image = _cells(5)[0]
    events = list(segment_events(model, image, config=CONFIG))
    assert [type(event) for event in events] == [TileDone] * 4 + [Segmented]
    labels = segment(model, image, config=CONFIG)
    np.testing.assert_array_equal(events[-1].labels, labels)
    np.testing.assert_array_equal(events[-1].outputs, predict(model, image, CONFIG))


def test_files_stand_for_model_and_image(model, folder, tmp_path):
    path = save_model(tmp_path / "m.unet", model)
    labels = segment(str(path), folder / "cells_0.tif", config=CONFIG)
    np.testing.assert_array_equal(labels, segment(model, _cells(10)[0], config=CONFIG))


def test_tiles_change_no_label(model):
    image = _cells(5, (100, 130))[0]
    whole = PredictConfig(device="cpu", tile_size=256)
    np.testing.assert_array_equal(
        segment(model, image, config=CONFIG), segment(model, image, config=whole)
    )


def test_ids_are_unique_over_a_stack(model):
    planes = [_cells(seed)[0] for seed in (5, 6, 7)]
    labels = segment(model, Image(np.stack(planes)[None]), config=CONFIG)
    assert labels.shape == (3, 64, 64)
    ids = [set(np.unique(plane)) - {0} for plane in labels]
    assert all(ids)
    assert sorted(set.union(*ids)) == list(range(1, sum(map(len, ids)) + 1))


def test_given_instance_settings_replace_the_tuned_ones(model):
    image = _cells(5)[0]
    strict = InstanceConfig(min_size_px=10_000)
    assert not segment(model, image, config=CONFIG, instances=strict).any()
    lenient = replace(model, instances=strict)
    assert not segment(lenient, image, config=CONFIG).any()
    again = segment(lenient, image, config=CONFIG, instances=model.instances)
    np.testing.assert_array_equal(again, segment(model, image, config=CONFIG))


def test_another_pixel_size_is_told_with_both_numbers(model):
    known = replace(model, pixel_size_um=(0.5, 0.5))
    image = Image(_cells(5)[0][None], pixel_size_um=(0.7, 0.7), source="a.tif")
    first, *_ = segment_events(known, image, config=CONFIG)
    assert isinstance(first, Note)
    assert not first.is_warning
    assert "a.tif has 0.7 µm per pixel" in first.message
    assert "trained at 0.5 µm: it was rescaled by 1.4" in first.message


@pytest.mark.parametrize(
    ("theirs", "own", "n_notes"),
    [
        ((0.5, 0.5), (0.54, 0.54), 0),
        ((0.5, 0.5), (0.46, 0.46), 0),
        ((0.5, 0.5), (0.56, 0.56), 1),
        ((0.5, 0.5), (0.44, 0.44), 1),
        ((2.0, 0.5, 0.5), (0.5, 0.5), 0),
        (None, (9.0, 9.0), 0),
        ((0.5, 0.5), None, 0),
    ],
)
def test_pixel_sizes_may_differ_by_a_tenth(model, theirs, own, n_notes):
    image = Image(_cells(5)[0][None], pixel_size_um=own)
    events = segment_events(replace(model, pixel_size_um=theirs), image, config=CONFIG)
    assert len(_of(Note, events)) == n_notes


def _zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    size = tuple(round(n * factor) for n in image.shape)
    return resize(image, size, order=1, anti_aliasing=factor < 1, preserve_range=True)


def _nuclei_at(file, factor: float, um=None, config=ON_CPU, **changes) -> float:
    """F1 at IoU 0.7 of nuclei found in zoomed images with those in the images."""
    model = replace(load_model(file), pixel_size_um=(0.5, 0.5))
    n_same = n_found = 0
    for _, image, _ in sample_images():
        plane = np.asarray(image.data, np.float32)[0]
        size = None if um is None else (um, um)
        zoomed = Image(_zoomed(plane, factor)[None], pixel_size_um=size)
        expected = segment(model, plane, config=ON_CPU)
        found = segment(replace(model, **changes), zoomed, config=config)
        assert found.shape == zoomed.shape
        scores = score(expected, resample_labels(found, plane.shape))
        n_same += scores.f1["0.7"] * (scores.n_truth + scores.n_pred) / 2
        n_found += (scores.n_truth + scores.n_pred) / 2
    assert n_found > 50
    return n_same / n_found


# A coarser image has lost some of what tells its cells apart.
@pytest.mark.parametrize(("factor", "least"), [(2.0, 0.95), (0.6, 0.9)])
def test_real_nuclei_are_found_at_another_magnification(sample_model, factor, least):
    known = _nuclei_at(sample_model, factor, um=0.5 / factor)
    assert known >= least
    assert _nuclei_at(sample_model, factor) < known - 0.05
    # Where pixel sizes are not known the size of the cells does as well.
    given = PredictConfig(device="cpu", cell_diameter_px=22.9 * factor)
    assert _nuclei_at(sample_model, factor, config=given) >= least - 0.01


def test_a_first_look_finds_how_large_cells_are(sample_model):
    # This model did not learn at one size: this is what a first look is worth.
    assert (
        _nuclei_at(sample_model, 1.7, scales_by_cells=True)
        > _nuclei_at(sample_model, 1.7) + 0.1
    )
    # What is as it should be is not touched.
    assert _nuclei_at(sample_model, 1.0, scales_by_cells=True) == 1.0


def test_a_first_look_is_told(model):
    known = replace(model, scales_by_cells=True, cell_diameter_px=100.0)
    image = Image(_cells(5)[0][None], source="a.tif")
    notes = _of(Note, segment_events(known, image, config=CONFIG))
    assert "a.tif shows cells that were measured in a first look" in notes[0].message
    given = PredictConfig(device="cpu", cell_diameter_px=100)
    assert _of(Note, segment_events(known, image, config=given)) == []
    unknown = replace(model, cell_diameter_px=None)
    (note,) = _of(Note, segment_events(unknown, image, config=given))
    assert "the model does not know how large its cells are" in note.message


def test_an_image_of_few_cells_is_taken_as_it_is(model):
    known = replace(model, scales_by_cells=True, cell_diameter_px=100.0)
    empty = Image(np.random.default_rng(0).random((1, 40, 40)))
    strict = replace(known, instances=InstanceConfig(min_size_px=10**6))
    assert _of(Note, segment_events(strict, empty, config=CONFIG)) == []


def test_sizes_of_cells_follow_the_image(model):
    image, labels = _cells(5)
    areas = np.bincount(labels.ravel())[1:]
    # All cells are larger than that where they were learned, and not half as wide.
    least = InstanceConfig(**model.instances.model_dump() | {"min_size_px": 30})
    known = replace(model, instances=least, scale=2.0)
    assert areas.min() > 30 > areas.max() / 16
    tiny = _zoomed(image, 0.5)
    assert segment(known, tiny, config=CONFIG).max() >= len(areas) - 1
    assert segment(known, tiny, config=CONFIG, instances=least).max() < len(areas) - 1


@pytest.mark.parametrize("shape", [(63, 65), (64, 64), (31, 97), (5, 64)])
@pytest.mark.parametrize("scale", [0.37, 1.9])
def test_labels_have_the_shape_of_the_image(model, shape, scale):
    image = _cells(5, (100, 100))[0][: shape[0], : shape[1]]
    assert segment(replace(model, scale=scale), image, config=CONFIG).shape == shape


@pytest.mark.parametrize("policy", ["image", "dataset"])
def test_an_image_of_little_contrast_may_be_empty(model, policy):
    known = replace(
        model,
        normalization=NormalizationConfig(policy=policy),
        dataset_range=IntensityRange((0.0,), (1.0,)),
    )
    image = _cells(5)[0]
    (warning,) = fit_warnings(known, Image(image[None] * 0.15, source="field 3"))
    assert warning.startswith("field 3 may be empty: its contrast is under a fifth")
    assert fit_warnings(known, Image(image[None] * 0.5)) == []


def test_contrast_is_not_compared_between_dtypes(model):
    image = Image((_cells(5)[0][None] * 0.1).astype(np.float64))
    assert model.image_dtype == "float32"
    assert fit_warnings(model, image) == []


def test_another_number_of_channels_is_refused(model):
    with pytest.raises(ImageError, match="the model expects 1 channel, rgb has 3"):
        segment(model, Image(np.ones((3, 8, 8)), source="rgb"))


def test_a_folder_is_segmented_file_by_file(model, folder, tmp_path):
    out = tmp_path / "deep" / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    paths = sorted(folder.iterdir())
    assert events[0] == FolderStarted(tuple(paths))
    assert events[-1] == FolderFinished(3, 0)
    assert [type(e) for e in events[1:-1]] == (
        [FileStarted, *[FileProgress] * 4, FileDone] * 3
    )
    assert [e.path for e in _of(FileStarted, events)] == paths
    progress = _of(FileProgress, events)
    assert [(e.index, e.n_done, e.n_tiles) for e in progress] == [
        (i, n, 4) for i in range(3) for n in (1, 2, 3, 4)
    ]
    for path, done in zip(paths, _of(FileDone, events), strict=True):
        assert (done.state, done.path) == ("done", path)
        assert done.output == out / f"{path.stem}_labels.tif"
        labels = read_labels(done.output)
        np.testing.assert_array_equal(labels, segment(model, path, config=CONFIG))
        assert done.n_cells == labels.max()
        assert read_image(done.output).pixel_size_um == pytest.approx((0.5, 0.5))
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"cells_{i}_labels.tif" for i in range(3)), "ledger.jsonl",
    ]  # fmt: skip


def test_the_ledger_has_a_row_for_each_file(model, folder, tmp_path):
    events = list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    rows = _ledger(tmp_path / "out")
    for row, done in zip(rows, _of(FileDone, events), strict=True):
        assert row["input"] == str(done.path)
        assert row["output"] == str(done.output)
        assert (row["state"], row["n_cells"]) == ("done", done.n_cells)
        assert row["message"] == ""
        assert row["elapsed_s"] >= 0
        resolved = (row["device"], row["precision"], row["halo"])
        assert resolved == ("cpu", "fp32", model.build().halo)
    list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    assert len(_ledger(tmp_path / "out")) == 6


def test_one_bad_file_stops_no_other(model, folder, tmp_path):
    bad = folder / "cells_1.tif"
    bad.write_bytes(b"this is no TIFF")
    out = tmp_path / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    done = _of(FileDone, events)
    assert [d.state for d in done] == ["done", "failed", "done"]
    assert done[1].output is None
    assert "cells_1.tif" in done[1].message
    assert "NU-I" in done[1].message
    assert events[-1] == FolderFinished(2, 1)
    assert [row["state"] for row in _ledger(out)] == ["done", "failed", "done"]
    assert _ledger(out)[1]["output"] is None
    assert not (out / "cells_1_labels.tif").exists()


def test_even_an_unforeseen_error_stops_no_other_file(
    model, folder, tmp_path, monkeypatch
):
    original = batch.read_image

    def read(path: Path, **settings: object) -> Image:
        if path.name == "cells_0.tif":
            raise RuntimeError("mat1 and mat2")
        return original(path, **settings)

    monkeypatch.setattr(batch, "read_image", read)
    events = list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    first, *others = _of(FileDone, events)
    assert (first.state, first.message) == ("failed", "RuntimeError('mat1 and mat2')")
    assert [d.state for d in others] == ["done", "done"]


def test_a_file_that_vanishes_fails_alone(model, folder, tmp_path):
    events = []
    for event in segment_folder(model, folder, tmp_path / "out", config=CONFIG):
        events.append(event)
        if isinstance(event, FolderStarted):
            (folder / "cells_2.tif").unlink()
    assert [d.state for d in _of(FileDone, events)] == ["done", "done", "failed"]


def test_warnings_stand_in_the_row_of_their_file(model, folder, tmp_path):
    known = replace(model, pixel_size_um=(5.0, 5.0))
    out = tmp_path / "out"
    events = list(segment_folder(known, folder, out, config=CONFIG))
    for done, row in zip(_of(FileDone, events), _ledger(out), strict=True):
        assert "0.5 µm per pixel" in done.message
        assert "not believed" in done.message
        assert row["message"] == done.message
        assert done.state == "done"


def test_a_pattern_chooses_files(model, folder, tmp_path):
    events = list(
        segment_folder(
            model, folder, tmp_path / "out", config=CONFIG, pattern="*_1.tif"
        )
    )
    assert [d.path.name for d in _of(FileDone, events)] == ["cells_1.tif"]


def test_a_single_file_can_be_given(model, folder, tmp_path):
    path = folder / "cells_2.tif"
    events = list(segment_folder(model, str(path), str(tmp_path / "out")))
    assert events[0] == FolderStarted((path,))
    assert events[-1] == FolderFinished(1, 0)


def test_probabilities_are_written_on_request(model, folder, tmp_path):
    out = tmp_path / "out"
    run = segment_folder(
        model, folder, out, config=CONFIG, pattern="*_0.tif", probabilities=True
    )
    assert list(run)[-1].n_done == 1
    written = read_image(out / "cells_0_probabilities.tif")
    assert written.channel_names == ("background", "cell")
    assert written.pixel_size_um == pytest.approx((0.5, 0.5))
    expected = predict(model, folder / "cells_0.tif", CONFIG)
    np.testing.assert_array_equal(written.plane(), expected)


def test_stacks_keep_their_axes(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    stack = np.stack([_cells(seed)[0] for seed in (5, 6)])[None]
    write_image(images / "movie.tif", stack, axes="CTYX")
    list(
        segment_folder(
            model, images, tmp_path / "out", config=CONFIG, probabilities=True
        )
    )
    labels = read_image(tmp_path / "out" / "movie_labels.tif")
    assert (labels.axes, labels.shape) == ("CTYX", (2, 64, 64))
    probabilities = read_image(tmp_path / "out" / "movie_probabilities.tif")
    assert (probabilities.axes, probabilities.n_channels) == ("CTYX", 2)


def test_axes_and_channels_are_passed_on(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    image = _cells(5)[0]
    planes = np.stack([image * 0, image, image])
    tifffile.imwrite(images / "plain.tif", planes, photometric="minisblack")
    run = segment_folder(
        model, images, tmp_path / "out", config=CONFIG, axes="CYX", channels=["1"]
    )
    assert _of(FileDone, list(run))[0].state == "done"
    labels = read_labels(tmp_path / "out" / "plain_labels.tif")
    np.testing.assert_array_equal(labels, segment(model, image, config=CONFIG))


@pytest.mark.parametrize("names", [("a.tif", "a.tiff"), ("a.ome.tif", "a.tif")])
def test_two_files_of_one_stem_never_overwrite_each_other(model, tmp_path, names):
    images = tmp_path / "images"
    images.mkdir()
    for seed, name in enumerate(names):
        write_image(images / name, _cells(seed)[0][None], axes="CYX")
    events = list(segment_folder(model, images, tmp_path / "out", config=CONFIG))
    first, second = _of(FileDone, events)
    assert [first.state, second.state] == ["done", "failed"]
    assert f"{second.path.name} would overwrite the result of {first.path.name}" in (
        second.message
    )
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out" / "a_labels.tif"),
        segment(model, first.path, config=CONFIG),
    )


@pytest.mark.parametrize("of", ["folder", "file"])
def test_the_folder_of_the_images_is_no_output_folder(model, folder, of):
    source = folder if of == "folder" else folder / "cells_0.tif"
    before = sorted(folder.iterdir())
    run = segment_folder(model, source, folder / ".." / folder.name)
    with pytest.raises(FolderError, match="is the folder of the images") as caught:
        next(run)
    assert caught.value.code == "NU-F09"
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["below a file", "a file", "a folder as ledger"])
def test_an_output_folder_that_cannot_be_written_is_refused(
    model, folder, tmp_path, kind
):
    out = tmp_path / "out"
    if kind == "a folder as ledger":
        (out / "ledger.jsonl").mkdir(parents=True)
    else:
        out.touch()
        out = out / "below" if kind == "below a file" else out
    with pytest.raises(SaveError, match=r"can't be written .* choose another") as e:
        next(segment_folder(model, folder, out))
    assert e.value.code == "NU-S02"


def test_what_is_missing_is_refused_before_anything_is_made(model, folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FolderError, match="none"):
        next(segment_folder(model, tmp_path / "none", out))
    with pytest.raises(FolderError, match="none like 'x'"):
        next(segment_folder(model, folder, out, pattern="x"))
    with pytest.raises(ModelError, match="is missing"):
        next(segment_folder(tmp_path / "none.unet", folder, out))
    assert not out.exists()


def test_results_that_cannot_be_written_fail_alone(
    model, folder, tmp_path, monkeypatch
):
    def fail(path: Path, *_: object, **__: object) -> None:
        if path.name == "cells_1_labels.tif":
            raise SaveError("NU-S01", "the disk is full")
        original(path, *_, **__)

    original = batch.write_labels
    monkeypatch.setattr(batch, "write_labels", fail)
    events = list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    assert [d.state for d in _of(FileDone, events)] == ["done", "failed", "done"]


def test_a_ledger_that_cannot_be_written_is_an_error_of_ours(
    model, folder, tmp_path, monkeypatch
):
    run = segment_folder(model, folder, tmp_path / "out", config=CONFIG)
    next(run)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch, "_one_file", lambda *_: _done(folder))
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(SaveError, match=r"ledger\.jsonl can't be written: No space"):
        list(run)


def _done(folder: Path):
    yield FileProgress(0, 1, 1)
    return FileDone(0, folder / "a.tif", "done", None, 0, 0.1)


def test_a_run_can_be_closed_between_files(model, folder, tmp_path):
    run = segment_folder(model, folder, tmp_path / "out", config=CONFIG)
    for event in run:
        if isinstance(event, FileDone):
            break
    run.close()
    assert len(_ledger(tmp_path / "out")) == 1


def test_segmenting_leaves_the_random_state_alone(model):
    before = torch.get_rng_state()
    segment(model, _cells(5)[0], config=CONFIG)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_killed_run_left_half_written_is_swept(model, folder, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    out = tmp_path / "out"
    out.mkdir()
    stray = out / f".cells_0_labels.tif.{child.pid}.0123abcd.unettmp"
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    list(segment_folder(model, folder, out, config=CONFIG))
    assert not stray.exists()
    assert (out / "cells_0_labels.tif").exists()


def test_a_finer_grid_gives_finer_labels_and_smaller_pixels(folder, tmp_path):
    config = NetworkConfig(base_width=2, depth=1, upscale=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        finer = Model(config, build_network(config).state_dict())
    settings = PredictConfig(device="cpu")
    image = read_image(folder / "cells_0.tif")
    assert segment(finer, image, config=settings).shape == (128, 128)
    list(segment_folder(finer, folder, tmp_path / "out", config=settings))
    with tifffile.TiffFile(tmp_path / "out" / "cells_0_labels.tif") as file:
        assert file.pages[0].shape == (128, 128)
    labels = read_image(tmp_path / "out" / "cells_0_labels.tif")
    assert labels.pixel_size_um == pytest.approx((0.25, 0.25))


def _untrained(roles: tuple[str, ...], **shape) -> Model:
    torch.manual_seed(0)
    network = NetworkConfig(base_width=2, depth=1, out_channels=len(roles), **shape)
    return Model(network, build_network(network).state_dict(), roles=roles)


def _folder_of_one(folder: Path, **given) -> Path:
    folder.mkdir()
    write_image(folder / "a.tif", np.random.default_rng(0).random((1, 20, 24)), **given)
    return folder


def test_a_model_of_values_writes_what_it_makes_of_an_image(tmp_path):
    images = _folder_of_one(tmp_path / "images", pixel_size_um=(0.5, 0.5))
    model = _untrained(("value:red", "value:green"), upscale=2)
    *_, done, finished = segment_folder(model, images, tmp_path / "out", config=CONFIG)
    assert finished == FolderFinished(1, 0)
    assert done.output == tmp_path / "out/a_predicted.tif"
    assert done.n_cells is None
    written = read_image(done.output)
    assert written.channel_names == ("red", "green")
    # Twice as fine as the image.
    assert written.pixel_size_um == (0.25, 0.25)
    np.testing.assert_array_equal(
        written.data, predict(model, images / "a.tif", CONFIG)
    )
    assert not (tmp_path / "out/a_labels.tif").exists()


def test_cells_of_an_upscaling_model_lie_on_the_finer_grid(tmp_path):
    images = _folder_of_one(tmp_path / "images", pixel_size_um=(0.5, 0.5))
    model = _untrained(("softmax:background", "softmax:cell"), upscale=2)
    *_, done, _ = segment_folder(model, images, tmp_path / "out", config=CONFIG)
    assert read_image(done.output).pixel_size_um == (0.25, 0.25)
    labels = segment(model, images / "a.tif", CONFIG)
    assert labels.shape == (40, 48)
    np.testing.assert_array_equal(read_labels(done.output).data, labels)


def test_attention_is_written_on_the_grid_of_the_image(tmp_path):
    images = _folder_of_one(tmp_path / "images")
    model = _untrained(
        ("softmax:background", "softmax:cell"), architecture="attention_unet"
    )
    *_, finished = segment_folder(
        model, images, tmp_path / "out", config=CONFIG, attention=True
    )
    assert finished.n_failed == 0
    maps = read_image(tmp_path / "out/a_attention.tif")
    assert maps.shape == (20, 24)
    assert maps.channel_names == ("gate 1",)


def test_attention_of_a_network_without_gates_is_refused_at_once(tmp_path, model):
    images = _folder_of_one(tmp_path / "images")
    with pytest.raises(ModelError, match="which has no attention gates"):
        next(segment_folder(model, images, tmp_path / "out", attention=True))


def test_what_reduced_precision_changes_by_much_is_told(model, monkeypatch):
    monkeypatch.setattr(batch, "resolved", lambda *_: {"precision": "bf16"})
    monkeypatch.setattr(batch, "reduced_precision_difference", lambda *_: 0.06)
    first = next(segment_events(model, _cells(1)[0], CONFIG))
    assert isinstance(first, Note)
    assert "outputs change by up to 0.06" in first.message
    monkeypatch.setattr(batch, "reduced_precision_difference", lambda *_: 0.04)
    assert batch.precision_warnings(model, CONFIG) == []


def test_a_model_of_volumes_finds_cells_in_volumes():
    network = NetworkConfig(base_width=2, depth=1, n_dims=3)
    torch.manual_seed(0)
    model = Model(network, build_network(network).state_dict())
    stack = np.zeros((1, 4, 16, 16), np.float32)
    outputs = np.stack([np.ones(stack.shape[1:]), np.zeros(stack.shape[1:])])
    outputs = outputs.astype(np.float32)
    outputs[:, 1:3, 4:8, 4:8] = np.array([0, 1])[:, None, None, None]
    labels = batch._labels(model, outputs, InstanceConfig(smoothing_px=0))
    # One cell over two planes, not one in each.
    assert labels.max() == 1
    assert np.count_nonzero(labels) == 2 * 4 * 4
