from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_unet.errors import ImageError, SaveError
from napari_unet.files.ome_zarr import LabelStore, is_zarr, read_ome_zarr


def _write(path, data, axes, *, unit="micrometer", scale=None, version=0.5, names=()):
    """As the specification has it, by hand."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == 0.5 else 2)
    group.create_array("s0", data=data)
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space")}
        | ({"unit": unit} if a in "zyx" and unit else {})
        for a in axes
    ]
    scale = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    content = {
        "multiscales": [
            {
                "axes": described,
                "datasets": [{"path": "s0", "coordinateTransformations": scale}],
            }
        ],
        "omero": {"channels": [{"label": name} for name in names]},
    }
    group.attrs.update({"ome": content} if version == 0.5 else content)


@pytest.mark.parametrize("version", [0.4, 0.5])
def test_an_image_is_read_with_axes_sizes_and_names(tmp_path, version):
    data = np.random.default_rng(0).integers(0, 9, (1, 2, 3, 20, 30)).astype(np.uint16)
    _write(
        tmp_path / "a.zarr",
        data,
        "tczyx",
        unit="nanometer",
        scale=[1, 1, 500, 100, 100],
        version=version,
        names=("DAPI", "actin"),
    )
    assert is_zarr(tmp_path / "a.zarr")
    image = read_ome_zarr(tmp_path / "a.zarr")
    assert (image.axes, image.shape) == ("CZYX", (3, 20, 30))
    assert image.pixel_size_um == pytest.approx((0.5, 0.1, 0.1))
    assert image.channel_names == ("DAPI", "actin")
    np.testing.assert_array_equal(np.asarray(image.data), data[0])
    np.testing.assert_array_equal(image.data[1, 2, 3:5, ::7], data[0, 1, 2, 3:5, ::7])


def test_without_a_unit_nobody_knows_the_pixel_size(tmp_path):
    _write(tmp_path / "a.zarr", np.ones((4, 5)), "yx", unit=None, scale=[0.5, 0.5])
    image = read_ome_zarr(tmp_path / "a.zarr")
    assert (image.axes, image.pixel_size_um) == ("CYX", None)


def test_a_folder_without_an_image_is_refused(tmp_path):
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(ImageError, match="without an OME-Zarr image") as caught:
        read_ome_zarr(tmp_path / "b.zarr")
    assert caught.value.code == "NU-I14"
    assert not is_zarr(tmp_path)


def test_labels_are_written_in_blocks_with_coarser_levels(tmp_path):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2**32, (1500, 1100), np.uint32)
    path = tmp_path / "c_labels.zarr"
    store = LabelStore(path, labels.shape, "YX", (0.25, 0.25))
    for where in store.chunks():
        store.write(where, labels[where])
    assert not path.exists()
    store.finish()
    image = read_ome_zarr(path)
    np.testing.assert_array_equal(np.asarray(image.data)[0], labels)
    assert image.data.dtype == np.uint32
    assert image.pixel_size_um == (0.25, 0.25)
    group = zarr.open_group(path, mode="r")
    assert group["1"].shape == (750, 550)
    np.testing.assert_array_equal(group["2"][:], labels[::4, ::4])
    scales = [
        d["coordinateTransformations"][0]["scale"]
        for d in group.attrs["multiscales"][0]["datasets"]
    ]
    assert scales == [[0.25, 0.25], [0.5, 0.5], [1.0, 1.0]]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_older_result_is_replaced_whole(tmp_path):
    path = tmp_path / "c.zarr"
    for value in (1, 2):
        store = LabelStore(path, (2, 9, 9), "TYX")
        store.write((slice(0, 2), slice(0, 9), slice(0, 9)), np.full((2, 9, 9), value))
        store.finish()
    assert (np.asarray(read_ome_zarr(path).data) == 2).all()
    assert read_ome_zarr(path).axes == "CTYX"


def test_what_is_given_up_leaves_nothing(tmp_path):
    store = LabelStore(tmp_path / "c.zarr", (9, 9), "YX")
    store.discard()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="was not saved"):
        LabelStore(tmp_path / "file" / "c.zarr", (9, 9), "YX")
