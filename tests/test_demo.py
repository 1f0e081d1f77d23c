from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

import napari_unet as nu
from napari_unet.config import TrainConfig
from napari_unet.demo import DEMO_CONFIG, DemoFinished, run_demo
from napari_unet.events import Finished, Segmented, TileDone
from napari_unet.files.samples import sample_images

if TYPE_CHECKING:
    from pathlib import Path

FAST = TrainConfig(
    max_steps=2, validate_every=2, batch_size=1, patch_size=32, device="cpu"
)


def test_the_demo_learns_from_three_crops_and_is_scored_on_the_fourth(
    tmp_path: Path,
) -> None:
    events = list(run_demo(tmp_path, config=FAST))
    last = events[-1]
    assert isinstance(last, DemoFinished)
    _, image, truth = sample_images()[-1]
    assert last.scores.n_truth == np.unique(truth).size - 1
    kinds = [type(event) for event in events]
    assert kinds.index(Finished) < kinds.index(TileDone) < kinds.index(Segmented)

    labels = nu.read_labels(tmp_path / "labels.tif")
    assert nu.score(truth, labels) == last.scores
    model = nu.load_model(tmp_path / "model.unet")
    assert model.n_train_images == 3
    np.testing.assert_array_equal(labels, nu.segment(model, image))
    assert json.loads((tmp_path / "scores.json").read_text()) == last.scores.as_dict()
    weights = nu.read_image(tmp_path / "weights.tif").plane()[0]
    target = nu.make_target(nu.Annotation.complete(truth), nu.WeightConfig())
    np.testing.assert_array_equal(weights, target.weights)
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {"overlay.png", "curve.png", "weights.png"}
    files = {"labels.tif", "model.unet", "scores.json", "weights.tif"}
    assert names == pictures | files


def test_the_demo_trains_for_90_seconds_at_most() -> None:
    assert DEMO_CONFIG.max_minutes is not None
    assert DEMO_CONFIG.max_minutes <= 1.5
