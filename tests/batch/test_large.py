"""Images of any size: the same cells as at once, in bounded memory, whole or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tifffile

from napari_unet.batch.large import segment_large
from napari_unet.batch.one import segment
from napari_unet.config import InstanceConfig, PredictConfig
from napari_unet.errors import FolderError
from napari_unet.events import BlockDone, LabelsWritten, Note
from napari_unet.files.images import read_image, read_labels
from napari_unet.files.samples import sample_images
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.blockwise import Cutting
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.instances import find_instances
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.prediction import predict

PLAIN = PredictConfig(device="cpu", precision="fp32")
SMALL = Cutting(64, 40)


def _drawn(shape: tuple[int, int] = (150, 170), seed: int = 0) -> np.ndarray:
    image, _ = draw_cells(shape, n_cells=40, rng=np.random.default_rng(seed))
    return image


def _same_objects(a: np.ndarray, b: np.ndarray, iou: float = 0.99) -> bool:
    """Whether each object of the one has its equal in the other, and the reverse."""
    if len(np.unique(a)) != len(np.unique(b)):
        return False
    pairs, common = np.unique(
        np.stack([a.ravel(), b.ravel()], 1), axis=0, return_counts=True
    )
    n_a, n_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    is_cell = (pairs > 0).all(1)
    either = n_a[pairs[:, 0]] + n_b[pairs[:, 1]] - common
    is_same = is_cell & (common >= iou * either)
    return int(is_same.sum()) == len(np.unique(a[a > 0]))


def _segmented(model, image, output, **options):
    events = list(segment_large(model, image, output, PLAIN, **options))
    assert isinstance(events[-1], LabelsWritten)
    return events


@pytest.mark.parametrize("name", ["cells.zarr", "cells.tif"])
def test_blocks_on_the_disk_are_the_cells_of_the_whole(tmp_path, tiny_model, name):
    model, image = load_model(tiny_model), Image(_drawn()[None], pixel_size_um=(0.5, 1))
    events = _segmented(model, image, tmp_path / name, cutting=SMALL)
    whole = find_instances(predict(model, image, PLAIN), model.roles, model.instances)
    assert whole.max() > 20
    written = read_image(tmp_path / name)
    found = np.asarray(written.data)[0]
    assert _same_objects(whole, found)
    assert sorted(np.unique(found)) == list(range(whole.max() + 1))
    assert written.pixel_size_um == pytest.approx((0.5, 1))
    assert found.dtype == (np.uint32 if name.endswith("zarr") else np.uint16)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    done = [e for e in events if isinstance(e, BlockDone)]
    assert [e.n_done for e in done] == [*range(1, done[0].n_blocks + 1)]
    assert (events[-1].n_cells, events[-1].block_px) == (whole.max(), 64)


def test_planes_and_frames_have_ids_of_their_own(tmp_path, tiny_model):
    model = load_model(tiny_model)
    stack = np.stack([_drawn((90, 80), seed) for seed in range(4)]).reshape(
        2, 2, 90, 80
    )
    image = Image(stack[None], "CTZYX", pixel_size_um=(2, 0.5, 0.5))
    _segmented(model, image, tmp_path / "a.zarr", cutting=SMALL)
    _segmented(model, image, tmp_path / "a.tif", cutting=SMALL)
    labels = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        np.asarray(read_image(tmp_path / "a.zarr").data)[0], labels
    )
    assert read_image(tmp_path / "a.tif").pixel_size_um == (2, 0.5, 0.5)
    ids = [set(np.unique(p[p > 0])) for p in labels.reshape(4, 90, 80)]
    assert sum(map(len, ids)) == len(set.union(*ids)) == labels.max()
    assert _same_objects(segment(model, image, PLAIN), labels)


def test_settings_of_size_and_border_count_in_the_whole_image(tmp_path, tiny_model):
    model, image = load_model(tiny_model), Image(_drawn()[None])
    settings = InstanceConfig(min_size_px=80, clear_border=True, fill_holes=True)
    _segmented(model, image, tmp_path / "a.tif", cutting=SMALL, instances=settings)
    whole = find_instances(predict(model, image, PLAIN), model.roles, settings)
    assert _same_objects(whole, read_labels(tmp_path / "a.tif"))


def test_the_same_labels_give_the_same_bytes(tmp_path, tiny_model):
    model, image = load_model(tiny_model), Image(_drawn()[None])
    for name in ("a.tif", "b.tif"):
        _segmented(model, image, tmp_path / name, cutting=SMALL)
    content = (tmp_path / "a.tif").read_bytes()
    assert content == (tmp_path / "b.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages.first.is_tiled
        assert not tif.is_bigtiff


def test_cells_wider_than_half_the_halo_are_said(tmp_path, tiny_model):
    model, image = load_model(tiny_model), Image(_drawn()[None])
    events = _segmented(model, image, tmp_path / "a.tif", cutting=Cutting(64, 8))
    said = [e.message for e in events if isinstance(e, Note)]
    assert len(said) == 1
    assert "cells wider than 4 px" in said[0]
    assert int(said[0].split()[0]) > 10
    # In one block nothing meets.
    events = _segmented(model, image, tmp_path / "a.tif", cutting=Cutting(256, 8))
    assert not [e for e in events if isinstance(e, Note)]


def test_the_image_is_never_replaced(tmp_path, tiny_model):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _drawn())
    before = path.read_bytes()
    with pytest.raises(FolderError, match="would replace the image itself") as caught:
        list(segment_large(load_model(tiny_model), read_image(path), path, PLAIN))
    assert caught.value.code == "NU-F09"
    assert path.read_bytes() == before


class _Failing:
    """An image whose lower part can't be read."""

    def __init__(self, data: np.ndarray) -> None:
        self._data, self.dtype, self.shape = data, data.dtype, data.shape

    def __getitem__(self, key):
        if isinstance(key[1], slice) and key[1].step is None and key[1].stop > 130:
            raise OSError("gone")
        return self._data[key]


@pytest.mark.parametrize("name", ["cells.zarr", "cells.tif"])
def test_an_error_or_a_stop_leaves_what_was_there(tmp_path, tiny_model, name):
    model, image = load_model(tiny_model), Image(_drawn()[None])
    events = segment_large(model, image, tmp_path / name, PLAIN, cutting=SMALL)
    assert isinstance(next(events), BlockDone)
    events.close()
    assert not list(tmp_path.iterdir())
    _segmented(model, image, tmp_path / name, cutting=SMALL)
    before = np.asarray(read_image(tmp_path / name).data)
    broken = Image(_Failing(image.data))
    with pytest.raises(OSError, match="gone"):
        list(segment_large(model, broken, tmp_path / name, PLAIN, cutting=SMALL))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / name).data), before)


KILLED = """
import sys
import numpy as np
from napari_unet.batch.large import segment_large
from napari_unet.config import PredictConfig
from napari_unet.files.images import read_image
from napari_unet.imaging.blockwise import Cutting
from napari_unet.learning.checkpoint import load_model
model, image, output = sys.argv[1:]
events = segment_large(
    load_model(model), read_image(image), output, PredictConfig(device="cpu"),
    cutting=Cutting(64, 40),
)
for event in events:
    print(type(event).__name__, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes end otherwise there")
def test_a_kill_leaves_no_half_result_and_what_it_leaves_is_swept(tmp_path, tiny_model):
    tifffile.imwrite(tmp_path / "a.tif", _drawn())
    out = tmp_path / "out"
    out.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, tiny_model, tmp_path / "a.tif", out / "a.zarr"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        for _ in range(3):
            assert child.stdout.readline() == "BlockDone\n"
            child.stdin.write("\n")
            child.stdin.flush()
        assert child.stdout.readline() == "BlockDone\n"
        child.send_signal(signal.SIGKILL)
    (stray,) = out.iterdir()
    assert stray.name.startswith(".a.zarr.")
    long_ago = time.time() - 7200
    os.utime(stray, (long_ago, long_ago))
    model, image = load_model(tiny_model), read_image(tmp_path / "a.tif")
    _segmented(model, image, out / "a.zarr", cutting=SMALL)
    assert [p.name for p in out.iterdir()] == ["a.zarr"]


MEASURED = """
import resource, sys
import numpy as np
from napari_unet.batch.large import segment_large
from napari_unet.config import PredictConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.blockwise import Cutting
from napari_unet.learning.checkpoint import load_model

class Endless:
    dtype = np.dtype(np.uint8)
    def __init__(self, n):
        self.shape = (1, n, n)
    def __getitem__(self, key):
        at = [np.arange(n)[k] for n, k in zip(self.shape, key)]
        y, x = at[1][:, None], at[2][None]
        cells = ((y % 24 - 12) ** 2 + (x % 24 - 12) ** 2 < 60) * np.uint8(200)
        return cells[None].repeat(len(np.atleast_1d(at[0])), 0)

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def run(n):
    events = segment_large(
        load_model(sys.argv[1]), Image(Endless(n)), sys.argv[2],
        PredictConfig(device="cpu", tile_size=256), cutting=Cutting(256, 48),
    )
    *_, last = events
    return last.n_cells

run(512)
before = peak_mb()
n_cells = run(3072)
print(n_cells, peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in KiB there")
@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_memory_does_not_grow_with_the_image(tmp_path, tiny_model, name):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURED), tiny_model, tmp_path / name],
        check=True,
        capture_output=True,
        text=True,
    )
    n_cells, grown_mb = map(float, done.stdout.split())
    assert n_cells == 128**2
    # All its outputs in memory would be 72 MB, its labels 36 MB, and more to find them.
    assert grown_mb < 60


@pytest.mark.slow
def test_a_mosaic_of_a_thousand_nuclei_has_the_cells_of_the_whole(
    tmp_path, sample_model
):
    fields = [np.asarray(image.data)[0] for _, image, _ in sample_images()]
    rng = np.random.default_rng(0)

    def turned():
        field = fields[int(rng.integers(len(fields)))]
        return np.rot90(field, int(rng.integers(4)))

    tiles = [[turned() for _ in range(6)] for _ in range(5)]
    mosaic = Image(np.block(tiles)[None])
    model = load_model(sample_model)
    _segmented(model, mosaic, tmp_path / "a.zarr", cutting=Cutting(384, 138))
    whole = find_instances(predict(model, mosaic, PLAIN), model.roles, model.instances)
    assert whole.max() > 900
    found = np.asarray(read_image(tmp_path / "a.zarr").data)[0]
    assert _same_objects(whole, found)
