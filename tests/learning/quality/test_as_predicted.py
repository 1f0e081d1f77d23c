from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import TrainConfig
from napari_unet.demo import sample_images
from napari_unet.events import StepDone, Validated
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.resampling import resample, resample_labels
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.quality import held_back
from napari_unet.learning.quality.as_predicted import scales_of_prediction, seen_at
from napari_unet.learning.quality.comparison import compare
from napari_unet.learning.quality.held_back import HeldBack
from napari_unet.learning.quality.validation import tune, validate
from napari_unet.learning.training import train

CPU = DeviceChoice("cpu", "CPU")
# The second validation image is at another magnification, and nobody says so.
ZOOM = 1.8


@pytest.fixture(scope="module")
def nuclei(sample_model):
    """A model of the sample that knows its cells as if each image had its own scale."""
    model = load_model(sample_model)
    training = TrainConfig(val_fraction=0.5, device="cpu")
    return replace(model, scales_by_cells=True, training=training)


@pytest.fixture(scope="module")
def pairs():
    """The quarters of the sample; the second is zoomed."""
    pairs = [(np.asarray(i.data, np.float32)[0], np.asarray(a, np.int32))
             for _, i, a in sample_images()]  # fmt: skip
    shape = tuple(round(n * ZOOM) for n in pairs[1][0].shape)
    pairs[1] = (resample(pairs[1][0][None], shape)[0],
                resample_labels(pairs[1][1], shape))  # fmt: skip
    return (
        [Image(image[None], source=f"{k}") for k, (image, _) in enumerate(pairs)],
        [Annotation.complete(labels) for _, labels in pairs],
    )


@pytest.fixture(scope="module")
def fields(nuclei, pairs):
    """What is held back: a quarter of the sample as it is, and the zoomed one."""
    images, given = pairs
    material = gather(
        images[2:], given[2:], nuclei.training,
        validation=(images[:2], given[:2]), start=nuclei,
    )  # fmt: skip
    return prepare(material, material.config).split.validation


def test_each_image_is_seen_as_large_as_prediction_makes_it(nuclei, fields):
    scales = scales_of_prediction(nuclei, fields, CPU)
    numbers = [field.region.image for field in fields]
    assert sorted(scales) == sorted(numbers)
    as_it_is, zoomed = (scales[n] for n in numbers)
    assert as_it_is == 1
    assert zoomed == pytest.approx(1 / ZOOM, rel=0.15)
    known = replace(nuclei, scales_by_cells=False)
    assert set(scales_of_prediction(known, fields, CPU).values()) == {1.0}
    seen = seen_at(scales, fields)
    assert [field.scale for field in seen] == [as_it_is, zoomed]
    assert seen[1].load().labels.shape == seen[1].shape
    plane = fields[0].load()
    assert seen_at(scales, [plane]) == [plane]
    assert scales_of_prediction(nuclei, [plane], CPU) == {}


def test_what_is_annotated_tells_nothing_about_the_scale(nuclei, fields):
    sources = fields[0].recipe.sources
    opened = sources.open

    def without_labels(index):
        return replace(opened(index), annotation=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open", without_labels)
        blind = scales_of_prediction(nuclei, fields, CPU)
    assert blind == scales_of_prediction(nuclei, fields, CPU)


def test_settings_are_tuned_and_scored_at_the_sizes_of_prediction(nuclei, fields):
    told = replace(nuclei, scales_by_cells=False)
    network = nuclei.build()
    _, as_told = tune(network, fields, told, CPU)
    _, as_measured = tune(network, fields, nuclei, CPU)
    assert as_measured.scores.f1["0.7"] > as_told.scores.f1["0.7"] + 0.05


def test_each_look_sees_images_at_better_sizes(nuclei, fields):
    network = nuclei.build()
    held = HeldBack(fields, nuclei)
    zoomed = fields[1].region.image
    first = validate(network, held, nuclei, CPU, "fp32")
    for _ in range(2):
        last = validate(network, held, nuclei, CPU, "fp32")
    assert held.scales[zoomed] == pytest.approx(1 / ZOOM, rel=0.15)
    assert last.score > first.score
    # Once it fits nothing is read again.
    pieces = held.pieces
    validate(network, held, nuclei, CPU, "fp32")
    assert held.pieces is pieces


def test_a_network_that_finds_no_cells_yet_changes_no_scale(nuclei, fields):
    held = HeldBack(fields, nuclei)
    before = held.scales
    weights = {name: 0 * tensor for name, tensor in nuclei.state.items()}
    validate(replace(nuclei, state=weights).build(), held, nuclei, CPU, "fp32")
    assert held.scales == before


def test_scales_come_back_from_a_checkpoint_with_the_same_pixels(nuclei, fields):
    held, again = HeldBack(fields, nuclei), HeldBack(fields, nuclei)
    large = np.full(5, 10**4)
    for _ in range(2):
        held.look_closer([large, np.full(5, 100)])
    again.load_state_dict(held.state_dict())
    assert again.scales == held.scales
    assert len(set(held.scales.values())) == 2
    for own, other in zip(held.pieces, again.pieces, strict=True):
        np.testing.assert_array_equal(own.plane.image, other.plane.image)
        np.testing.assert_array_equal(own.plane.labels, other.plane.labels)


@pytest.mark.parametrize(
    ("areas", "change"),
    [
        (np.full(2, 10**4), 1),  # too few cells
        (np.empty(0, int), 1),
        (np.full(9, 10**6), 1 / 2.5),  # no further at once
    ],
)
def test_a_scale_changes_within_bounds(nuclei, fields, areas, change):
    held = HeldBack(fields[:1], nuclei)
    (before,) = held.scales.values()
    held.look_closer([areas])
    (after,) = held.scales.values()
    assert after == pytest.approx(before * change, rel=1e-2)
    for _ in range(5):
        held.look_closer([areas])
    (after,) = held.scales.values()
    assert after >= before / 4 * 0.99


def test_a_model_without_own_scales_sees_what_it_is_told(nuclei, fields):
    held = HeldBack(fields, replace(nuclei, scales_by_cells=False))
    before = held.pieces
    held.look_closer([np.full(9, 10**4)] * len(before))
    assert held.pieces is before


def test_two_models_are_compared_each_at_its_own_sizes(nuclei, fields):
    told = replace(nuclei, scales_by_cells=False)
    gained = compare(told, nuclei, fields, CPU)
    assert gained.verdict == "better"
    lost = compare(nuclei, told, fields, CPU)
    assert lost.verdict == "worse"
    # Scores are on the pixels of the new one, so that they differ a little.
    assert lost.before.score == pytest.approx(gained.now.score, abs=0.05)


@pytest.mark.slow
def test_a_run_that_is_gone_on_with_sees_the_same_sizes(
    nuclei, pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr(held_back, "_LEAST_PX", 2**19)  # both images
    images, given = pairs
    config = TrainConfig(
        max_steps=4, validate_every=1, checkpoint_every=2, patch_size=32, batch_size=2,
        learning_rate=1e-6, device="cpu",
    )  # fmt: skip

    def events(folder, *, until=None, resume=False):
        running = train(
            images[2:], given[2:], config, validation=(images[:2], given[:2]),
            start_from=nuclei, run_dir=tmp_path / folder, resume=resume,
        )  # fmt: skip
        seen = []
        for event in running:
            seen.append(event)
            if isinstance(event, StepDone) and event.step == until:
                running.close()
        return seen

    whole = events("a")
    parts = [*events("b", until=3), *events("b", resume=True)]

    def scores(seen):
        return [e.scores for e in seen if isinstance(e, Validated)]

    assert scores(parts) == scores(whole)
    # The zoomed image was seen at a better size from the second look on.
    assert scores(whole)[1]["map"] > scores(whole)[0]["map"] + 0.05
    own, other = whole[-1].model, parts[-1].model
    assert (own.instances, own.scores) == (other.instances, other.scores)
    for name, tensor in own.state.items():
        assert torch.equal(tensor, other.state[name])
