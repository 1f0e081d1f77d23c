from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import ForeignConfig, NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError
from napari_unet.events import (
    Compared,
    Finished,
    LearningRateChanged,
    Note,
    StepDone,
)
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.loop import finishing
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.snapshots import read_newest
from napari_unet.learning.loop.transfer import are_comparable
from napari_unet.learning.model import Model, Origin, weights_sha256
from napari_unet.learning.training import train

NETWORKS = [
    {},
    {"up": "linear", "norm": "group", "skips": "sum"},
    {"norm": "none"},
    {"padding": "valid", "depth": 1},
    {"architecture": "residual_unet"},
    {"architecture": "attention_unet"},
    {"architecture": "trans_unet", "base_width": 8, "transformer_layers": 1},
]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    found = np.zeros((48, 48), np.int32)
    found[4:16, 4:16], found[24:36, 8:24], found[30:44, 30:44] = 1, 2, 3
    return found


def _image(n_channels: int = 1) -> Image:
    rng = np.random.default_rng(0)
    return Image(rng.random((n_channels, 48, 48)).astype(np.float32))


def _annotated(labels: np.ndarray, n_classes: int, *, areas=()) -> Annotation:
    """Cells whose classes go round."""
    names = ("background", *"abcdef"[:n_classes])
    classes = {i: 1 + (i - 1) % n_classes for i in (1, 2, 3)}
    known = np.ones(labels.shape, bool)
    return Annotation(labels, classes, known, names, area_classes=frozenset(areas))


def _begun(start, image, wanted, **settings):
    config = TrainConfig(**settings)
    material = gather([image], [wanted], config, start=start)
    return material.start, material.told


def _outputs(model: Model, image: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model.build()(torch.from_numpy(image)[None])[0]


def _same(model: Model, start: Model) -> set[str]:
    """Return the names of the weights that two models share."""
    return {
        name
        for name, kept in start.state.items()
        if name in model.state and torch.equal(model.state[name], kept)
    }


def _drawn(model: Model) -> set[str]:
    """Return the names of the weights that are no constants when drawn."""
    return {n for n in model.state if n.endswith("weight") and model.state[n].ndim > 1}


# The filters of a TransU-Net are brought to variance 1, so that two are not enough.
@pytest.mark.parametrize(
    ("settings", "n"), [*((s, 3) for s in NETWORKS), *((s, 2) for s in NETWORKS[:-1])]
)
def test_a_grey_image_in_equal_channels_gives_what_the_image_gave(
    random_model, labels, settings, n
):
    start = random_model(**settings)
    begin, told = _begun(start, _image(n), labels)
    size = start.build().input_size_for(16)
    grey = np.random.default_rng(1).random((1, size, size)).astype(np.float32)
    expected = _outputs(start, grey)
    found = _outputs(begin, np.repeat(grey, n, axis=0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01
    assert begin.n_channels == n
    assert f"{n} channels instead of 1: the first layer begins with" in told


def test_fewer_channels_get_what_all_had(random_model, labels):
    start = random_model(in_channels=3)
    begin, told = _begun(start, _image(1), labels)
    assert "1 channel instead of 3" in told
    grey = np.random.default_rng(1).random((1, 16, 16)).astype(np.float32)
    expected = _outputs(start, np.repeat(grey, 3, axis=0))
    torch.testing.assert_close(_outputs(begin, grey), expected, rtol=1e-4, atol=1e-5)


def test_only_the_first_layer_changes_with_the_channels(random_model, labels):
    start = random_model()
    begin, _ = _begun(start, _image(3), labels)
    assert set(start.state) - _same(begin, start) == {"down.0.0.weight"}
    kernel, old = begin.state["down.0.0.weight"], start.state["down.0.0.weight"]
    for channel in range(3):
        torch.testing.assert_close(kernel[:, channel], old[:, 0] / 3)
    assert (begin.roles, begin.class_names) == (start.roles, start.class_names)


@pytest.mark.parametrize("settings", NETWORKS)
def test_other_classes_begin_with_a_new_last_layer_alone(
    random_model, labels, settings
):
    start = random_model(**settings)
    begin, told = _begun(start, _image(), _annotated(labels, 2))
    changed = set(start.state) - _same(begin, start)
    assert changed == {"head.weight", "head.bias"}
    assert begin.class_names == ("background", "a", "b")
    assert begin.roles == tuple(f"softmax:{name}" for name in begin.class_names)
    assert begin.network.out_channels == 3
    assert told == (
        "The model to start from is fitted to the images; a, b instead of class 1: "
        "the last layer begins anew"
    )
    network = begin.build()
    size = network.input_size_for(16)
    assert network(torch.zeros(1, 1, size, size)).shape[1] == 3


def test_one_class_of_another_name_goes_on_and_several_do_not(random_model, labels):
    start = random_model()
    begin, told = _begun(start, _image(), _annotated(labels, 1))
    assert told == ""
    assert begin.class_names == start.class_names
    assert _same(begin, start) == set(start.state)
    several = random_model(out_channels=3)
    begin, told = _begun(several, _image(), _annotated(labels, 2))
    assert begin.class_names == ("background", "a", "b")
    assert "a, b instead of class 1, class 2: the last layer" in told


def test_another_target_begins_with_a_new_last_layer(random_model, labels):
    start = random_model()
    begin, told = _begun(start, _image(), labels, target="boundary")
    assert begin.roles[-1] == "softmax-boundary"
    assert "softmax-boundary instead of" in told
    assert "up.0.weight" in _same(begin, start)
    # Unless another one is asked for, it is the model's.
    again, told = _begun(begin, _image(), labels)
    assert (again.roles, told) == (begin.roles, "")


@pytest.mark.parametrize("settings", NETWORKS)
def test_the_encoder_alone_is_kept_if_asked_for(random_model, labels, settings):
    start = random_model(**settings)
    begin, told = _begun(start, _image(), labels, start_with="encoder", seed=9)
    same, drawn = _same(begin, start), _drawn(start)
    is_trans = settings.get("architecture") == "trans_unet"
    paths = ("stem", "stages", "embed", "transformer") if is_trans else ("down",)
    assert {n for n in start.state if n.startswith(paths)} <= same
    assert same & drawn == {n for n in drawn if n.startswith((*paths, "position"))}
    assert "the encoder alone is kept" in told
    assert begin.roles == start.roles
    assert are_comparable(start, begin)


def test_between_segmenting_and_making_images_the_encoder_is_kept(random_model, labels):
    start = replace(random_model(), scale=0.5, cell_diameter_px=20.0)
    begin, told = _begun(start, _image(), _image(), task="regress", seed=9)
    drawn = _drawn(start)
    assert begin.roles == ("value:image",)
    assert _same(begin, start) & drawn == {n for n in drawn if n.startswith("down")}
    assert "values instead of class 1: all but the encoder begins anew" in told
    # Images are made at their own scale.
    assert (begin.scale, begin.cell_diameter_px) == (1.0, None)
    values = replace(begin, value_range=IntensityRange((0.0,), (1.0,)))
    back, told = _begun(values, _image(), labels, seed=8)
    assert _same(back, begin) & drawn == {n for n in drawn if n.startswith("down")}
    assert back.value_range is None
    assert "cell instead of values" in told


def test_finer_images_begin_with_a_new_last_layer(random_model):
    start = replace(random_model(out_channels=1), roles=("value:image",))
    start = replace(start, class_names=("background",))
    finer = Image(np.kron(_image().data, np.ones((1, 2, 2), np.float32)))
    begin, told = _begun(start, _image(), finer, task="regress")
    assert begin.network.upscale == 2
    assert "outputs 2 times as fine instead of 1 times: the last layer" in told
    assert "merge.0.0.weight" in _same(begin, start)


def test_a_network_that_adds_the_image_does_so_only_to_an_image(random_model, labels):
    start = random_model(out_channels=1, adds_image=True)
    start = replace(start, roles=("value:image",), class_names=("background",))
    cells, _ = _begun(start, _image(), labels)
    grey_of_two, _ = _begun(start, _image(2), _image(), task="regress")
    two, _ = _begun(start, _image(2), _image(2), task="regress")
    assert not cells.network.adds_image
    assert not grey_of_two.network.adds_image
    assert two.network.adds_image
    assert two.roles == ("value:1", "value:2")


def test_what_is_anew_depends_on_the_seed_alone(random_model, labels):
    start, wanted = random_model(), _annotated(labels, 2)
    torch.manual_seed(5)
    first, _ = _begun(start, _image(), wanted, seed=1)
    torch.manual_seed(6)
    second, _ = _begun(start, _image(), wanted, seed=1)
    other, _ = _begun(start, _image(), wanted, seed=2)
    assert weights_sha256(first.state) == weights_sha256(second.state)
    assert not torch.equal(first.state["head.weight"], other.state["head.weight"])


def test_what_a_model_says_of_its_own_training_does_not_go_on(random_model, labels):
    start = replace(
        random_model(), step=70, scores={"f1": 0.9}, authors=("Jane",), license="MIT",
        scale=0.5, cell_diameter_px=20.0,
    )  # fmt: skip
    begin, _ = _begun(start, _image(2), labels)
    assert (begin.step, begin.scores, begin.authors) == (0, {}, ())
    parent = Origin(weights_sha256(start.state), ("Jane",), "MIT")
    assert begin.derived_from == (parent,)
    assert (begin.scale, begin.cell_diameter_px) == (0.5, 20.0)


@pytest.mark.parametrize("start_with", ["auto", "encoder"])
def test_the_graph_of_another_program_is_refused(labels, start_with):
    foreign = Model(ForeignConfig(format="onnx", n_bytes=1, in_channels=3), {})
    with pytest.raises(ConfigError, match="another program's onnx graph"):
        _begun(foreign, _image(), labels, start_with=start_with)


def _config(**settings) -> TrainConfig:
    quick = {
        "max_steps": 4, "validate_every": 2, "patch_size": 16, "batch_size": 2,
        "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return TrainConfig(**(quick | settings))


def test_training_from_a_model_of_other_channels_and_classes(
    random_model, labels, tmp_path
):
    start, wanted = random_model(), _annotated(labels, 2)
    events = list(
        train([_image(3)], [wanted], _config(), start_from=start, run_dir=tmp_path)
    )
    notes = [e.message for e in events if isinstance(e, Note)]
    assert sum("3 channels instead of 1" in note for note in notes) == 1
    # Its images and classes are others: there is nothing to compare.
    assert not any(isinstance(e, Compared) for e in events)
    finished = events[-1]
    assert isinstance(finished, Finished)
    model = load_model(save_model(tmp_path / "new.unet", finished.model))
    assert (model.n_channels, model.class_names) == (3, ("background", "a", "b"))
    assert model.derived_from[0].sha256 == weights_sha256(start.state)


def test_a_model_of_which_the_encoder_was_kept_is_compared(
    random_model, labels, monkeypatch
):
    class Reached(Exception):
        pass

    def compare(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr(finishing, "compare", compare)
    config = _config(start_with="encoder")
    with pytest.raises(Reached):
        list(train([_image()], [labels], config, start_from=random_model()))


def test_a_run_that_began_with_other_channels_goes_on(random_model, labels, tmp_path):
    start = random_model()
    given = {"start_from": start, "run_dir": tmp_path}
    events = train([_image(3)], [labels], _config(checkpoint_every=1), **given)
    for event in events:
        if type(event).__name__ == "CheckpointSaved":
            break
    events.close()
    whole = list(train([_image(3)], [labels], _config(), start_from=start))[-1]
    again = train(
        [_image(3)], [labels], _config(checkpoint_every=1), resume=True, **given
    )
    *_, last = again
    assert weights_sha256(last.model.state) == weights_sha256(whole.model.state)


def test_settings_that_follow_from_the_images_may_be_given(random_model, labels):
    network = NetworkConfig(base_width=4, in_channels=3)
    material = gather(
        [_image(3)], [labels], TrainConfig(), network=network, start=random_model()
    )
    assert material.start.n_channels == 3


# -- a model that knows nothing of the images -----------------------------------------


def _bright_cells(labels: np.ndarray) -> Image:
    noise = np.random.default_rng(0).normal(0, 0.05, labels.shape)
    return Image(((labels > 0) + noise).astype(np.float32)[None])


def _taught(labels: np.ndarray) -> Model:
    config = TrainConfig(max_steps=60, batch_size=4, patch_size=32)
    network = NetworkConfig(base_width=4, depth=1)
    *_, done = train([_bright_cells(labels)], [labels], config, network=network)
    return done.model


@pytest.mark.parametrize("start_with", ["auto", "all"])
@pytest.mark.parametrize("is_inverted", [False, True])
def test_of_a_model_that_takes_background_for_cells_the_encoder_alone_is_kept(
    labels, tmp_path, start_with, is_inverted
):
    start, image = _taught(labels), _bright_cells(labels)
    if is_inverted:
        image = replace(image, data=-image.data)
    config = TrainConfig(
        max_steps=1, batch_size=1, patch_size=32, ema_decay=0,
        learning_rate=1e-12, start_with=start_with,
    )  # fmt: skip
    events = list(train([image], [labels], config, start_from=start, run_dir=tmp_path))
    snapshot, _ = read_newest(tmp_path / "checkpoints")
    same = {
        name
        for name, kept in snapshot.state["net"].items()
        if torch.allclose(kept, start.state[name], atol=1e-6)
    }
    notes = [e.message for e in events if isinstance(e, Note)]
    is_told = any("its encoder alone is kept" in note for note in notes)
    forgets = is_inverted and start_with == "auto"
    assert is_told == forgets
    drawn = _drawn(start)
    kept = {name for name in drawn if name.startswith("down.")}
    assert drawn & same == (kept if forgets else drawn)
    assert kept < drawn


@pytest.mark.parametrize("n_channels", [1, 3])
def test_what_begins_anew_counts_from_there_and_can_be_gone_on_with(
    labels, tmp_path, n_channels
):
    start, image = _taught(labels), _bright_cells(labels)
    image = replace(image, data=-image.data.repeat(n_channels, axis=0))
    config = TrainConfig(max_steps=4, patch_size=32, batch_size=1)

    def events(name, *, resume=False):
        return train(
            [image], [labels], config, start_from=start, run_dir=tmp_path / name,
            resume=resume,
        )  # fmt: skip

    (changed,) = (e for e in events("a") if isinstance(e, LearningRateChanged))
    assert changed.learning_rate == pytest.approx(3e-3)
    settings = json.loads((tmp_path / "a" / "config.json").read_text())
    assert settings["train"]["learning_rate"] == changed.learning_rate

    # Closed and gone on with, it ends as if it had not been.
    broken = events("b")
    for event in broken:
        if isinstance(event, StepDone) and event.step == 2:
            break
    broken.close()
    list(events("b", resume=True))
    one, other = (read_newest(tmp_path / name / "checkpoints")[0] for name in "ab")
    assert one.state["history"] == other.state["history"]
    assert [look[0] for look in one.state["history"]["looks"]] == [4]
    assert one.decided["config"] == other.decided["config"]
    for name, tensor in one.state["net"].items():
        assert torch.equal(tensor, other.state["net"][name])
