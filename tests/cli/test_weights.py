from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.cli import run
from napari_unet.files.annotations import save_annotation
from napari_unet.files.images import read_image, write_labels
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_are_those_of_the_formula_in_32_bits(tmp_path: Path) -> None:
    labels = np.zeros((9, 21), np.uint8)
    labels[:, :8], labels[:, 13:] = 1, 2
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", labels)
    argv = [f"--masks={tmp_path / 'masks'}", f"--out={tmp_path / 'out'}"]
    assert run(["weights", *argv, "--w0=4", "--sigma=3"]) == 0
    values = tifffile.imread(tmp_path / "out" / "a_weights.tif")
    assert values.dtype == np.float32
    # In column x the cells are x - 7 and 13 - x pixels away: 6 together, everywhere.
    gap = 1 + 4 * np.exp(-(6**2) / (2 * 3**2))
    np.testing.assert_allclose(values[:, 8:13], gap, rtol=1e-6)
    assert (values[labels > 0] == 1).all()


def test_each_plane_of_a_stack_is_weighed_by_itself(tmp_path: Path) -> None:
    stack = np.zeros((2, 16, 16), np.uint8)
    stack[0, :, :5], stack[1, :, 9:] = 1, 2  # no plane has two cells
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(
        tmp_path / "masks" / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"}
    )
    argv = [f"--masks={tmp_path / 'masks'}", f"--out={tmp_path / 'out'}"]
    assert run(["weights", *argv]) == 0
    values = tifffile.imread(tmp_path / "out" / "a_weights.tif")
    assert values.shape == stack.shape
    assert (values == 1).all()


def test_a_missing_folder_is_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--masks={tmp_path / 'masks'}", f"--out={tmp_path / 'out'}"]
    assert run(["weights", *argv]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """One mask of two squares, which knows the size of its pixels."""
    labels = np.zeros((20, 30), np.int32)
    labels[2:9, 2:9], labels[2:9, 12:19] = 1, 2
    (tmp_path / "masks").mkdir()
    write_labels(tmp_path / "masks" / "a.tif", labels, pixel_size_um=(0.5, 0.25))
    return tmp_path / "masks"


def test_what_an_annotation_leaves_unknown_weighs_nothing(masks: Path) -> None:
    labels = tifffile.imread(masks / "a.tif").astype(np.int32)
    save_annotation(masks / "b.ome.tif", Annotation(labels))
    out = masks.with_name("out")
    assert run(["weights", f"--masks={masks}", f"--out={out}"]) == 0
    values = tifffile.imread(out / "b_weights.tif")
    np.testing.assert_array_equal(values > 0, labels > 0)
    assert (tifffile.imread(out / "a_weights.tif") > 0).all()


def test_a_bad_mask_is_named_and_the_others_are_weighed(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (masks / "0.tif").write_bytes(b"no picture")
    out = masks.with_name("out")
    assert run(["weights", f"--masks={masks}", f"--out={out}"]) == 3
    said, told = capsys.readouterr()
    assert f"failed: {masks / '0.tif'}: " in told
    assert f"1 weight map, 1 failed: {out}" in said
    assert [path.name for path in out.iterdir()] == ["a_weights.tif"]


def test_weights_keep_the_size_of_the_pixels(masks: Path) -> None:
    out = masks.with_name("out")
    assert run(["weights", f"--masks={masks}", f"--out={out}"]) == 0
    assert read_image(out / "a_weights.tif").pixel_size_um == (0.5, 0.25)


def test_the_folder_of_the_masks_is_no_place_for_weights(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["weights", f"--masks={masks}", f"--out={masks / '..' / 'masks'}"]) == 1
    assert "is the folder of the masks" in capsys.readouterr().err
    assert [path.name for path in masks.iterdir()] == ["a.tif"]
