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


def weights_of(masks: Path, *flags: str) -> np.ndarray:
    out = masks.with_name("out")
    assert run(["weights", f"--masks={masks}", f"--out={out}", *flags]) == 0
    return tifffile.imread(out / "a_weights.tif")


def test_a_sigma_in_micrometres_takes_the_size_of_the_masks_pixels(masks: Path) -> None:
    values = weights_of(masks, "--unit=um", "--sigma=0.5")
    # In row 5 the gap is 3 px of 0.25 um: 4 steps from cell to cell.
    gap = 1 + 10 * np.exp(-(1**2) / (2 * 0.5**2))
    np.testing.assert_allclose(values[5, 9:12], gap, rtol=1e-6)
    # In column 10, one row of 0.5 um above the cells, the distances are diagonal.
    to_left, to_right = np.hypot(0.5, [0.5, 0.5])
    beside = 1 + 10 * np.exp(-((to_left + to_right) ** 2) / (2 * 0.5**2))
    np.testing.assert_allclose(values[1, 10], beside, rtol=1e-6)


def test_micrometres_without_a_pixel_size_are_refused(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tifffile.imread(masks / "a.tif")
    tifffile.imwrite(masks / "b.tif", labels)
    out = masks.with_name("out")
    argv = [f"--masks={masks}", f"--out={out}", "--unit=um"]
    assert run(["weights", *argv]) == 3
    told = capsys.readouterr().err
    assert f"sigma is in micrometres but {masks / 'b.tif'} has no pixel size" in told
    assert [path.name for path in out.iterdir()] == ["a_weights.tif"]


def test_falk2019_brings_its_own_numbers(masks: Path) -> None:
    values = weights_of(masks, "--formula=falk2019")
    labels = tifffile.imread(masks / "a.tif")
    assert (values[labels > 0] == 1).all()
    # In the middle of the gap: d1 = d2 = 2.
    expected = 0.1 + 0.9 * np.exp(-4 / 200) + 50 * np.exp(-16 / 72)
    np.testing.assert_allclose(values[5, 10], expected, rtol=1e-6)


def test_falk2019_takes_numbers_that_are_given(masks: Path) -> None:
    flags = ("--w0=3", "--sigma=2", "--v-bal=0.5", "--sigma1=4")
    values = weights_of(masks, "--formula=falk2019", *flags)
    expected = 0.5 + 0.5 * np.exp(-4 / 32) + 3 * np.exp(-16 / 8)
    np.testing.assert_allclose(values[5, 10], expected, rtol=1e-6)


def test_the_factors_of_balanced_classes_are_told(
    masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = weights_of(masks, "--balance-classes")
    # 2 cells of 7 x 7 on 20 x 30: 600 / (2 * 502) and 600 / (2 * 98).
    said = capsys.readouterr().out
    assert "a.tif: class weights: background 0.598, cell 3.06" in said
    np.testing.assert_allclose(values[5, 5], 600 / 196, rtol=1e-6)
    weights_of(masks)
    assert "class weights" not in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--cut"]])
def test_cut_weighs_the_gap_between_touching_cells(
    tmp_path: Path, flags: list[str]
) -> None:
    labels = np.repeat(np.array([[1, 1, 1, 2, 2, 2]], np.uint8), 4, axis=0)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", labels)
    argv = [f"--masks={tmp_path / 'masks'}", f"--out={tmp_path / 'out'}", *flags]
    assert run(["weights", *argv]) == 0
    values = tifffile.imread(tmp_path / "out" / "a_weights.tif")
    # One pixel to the one, two to the other.
    gap = 1 + 10 * np.exp(-(3**2) / (2 * 5**2)) if flags else 1
    np.testing.assert_allclose(values[:, 2:4], gap, rtol=1e-6)
    assert (values[:, [0, 1, 4, 5]] == 1).all()
