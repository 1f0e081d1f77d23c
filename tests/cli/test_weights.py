from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_unet.cli import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
