from __future__ import annotations

import numpy as np
import pytest

from napari_unet.batch import segment
from napari_unet.config import PredictConfig
from napari_unet.errors import ModelError
from napari_unet.files.model_places import shipped_models
from napari_unet.files.samples import sample_images
from napari_unet.imaging.scores import score
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.sharing.card_text import card_text
from napari_unet.learning.sharing.verification import verify_model


@pytest.fixture(params=shipped_models(), ids=lambda path: path.stem)
def path(request):
    return request.param


def test_it_is_small_and_computes_what_it_did(path):
    assert path.stat().st_size <= 5e6
    assert verify_model(path, device="cpu").is_ok


def test_its_card_says_whom_it_is_owed_to_and_what_it_learned_from(path):
    model = load_model(path)
    assert model.authors
    assert model.license
    card = card_text(model, name=path.stem)
    assert "Trained on" in model.about
    assert model.about.split()[0] in card


def test_it_finds_nuclei(path):
    model, (_, image, truth) = load_model(path), sample_images()[0]
    found = segment(model, image, config=PredictConfig(device="cpu"))
    assert score(np.asarray(truth), found).f1["0.5"] > 0.7


def test_it_is_known_by_its_name_unless_a_file_has_it(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_model(path.stem).about == load_model(path).about
    (tmp_path / path.stem).write_text("mine")
    with pytest.raises(ModelError, match="NU-M01"):
        load_model(path.stem)
