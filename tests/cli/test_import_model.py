from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.cli import run
from napari_unet.config import NetworkConfig
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.networks import build_network


@pytest.fixture
def weights(tmp_path):
    network = build_network(NetworkConfig(base_width=2, depth=1, out_channels=3))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_weights_become_a_model_file(weights, tmp_path, capsys):
    out = tmp_path / "other.unet"
    argv = ["import", "--model", str(weights), "--out", str(out)]
    assert run([*argv, "--classes", "background, nucleus,membrane"]) == 0
    model = load_model(out)
    assert model.class_names == ("background", "nucleus", "membrane")
    said = capsys.readouterr().out
    assert "Network: unet, 2D, 1 channels in, 3 out" in said
    assert "Intensities: by percentiles of each image" in said
    assert "names as in napari-unet" in said


def test_a_file_that_is_no_model_is_one_error(tmp_path, capsys):
    path = tmp_path / "no.pt"
    path.write_bytes(np.random.default_rng(0).bytes(100))
    assert run(["import", "--model", str(path), "--out", str(tmp_path / "x.unet")]) == 1
    assert "NU-M20" in capsys.readouterr().err
    assert not (tmp_path / "x.unet").exists()
