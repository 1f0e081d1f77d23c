"""bioimage.io packages: bioimageio.core itself runs them, offline."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from napari_unet.config import NormalizationConfig
from napari_unet.errors import ModelError
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange, intensity_range, normalize
from napari_unet.learning.model_file.description import Description
from napari_unet.learning.sharing import zoo_export
from napari_unet.learning.sharing.graphs import OutputNetwork, drawn_image
from napari_unet.learning.sharing.onnx import onnx_runner
from napari_unet.learning.sharing.zoo_description import (
    Publication,
    input_tensor,
    output_tensor,
    preprocessing,
    sizes_with_halo,
)
from napari_unet.learning.sharing.zoo_export import package_events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.learning.model import Model

pytestmark = pytest.mark.filterwarnings(
    # Of bioimageio, which leaves files open and warns of its own dependencies.
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
_FACTS = Publication("Drawn cells", "CC-BY-4.0", ("A. Author",))
_NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"depth": 1, "in_channels": 2},
    "volumes": {"depth": 1, "n_dims": 3, "up": "linear"},
    "valid": {"depth": 4, "padding": "valid", "norm": "none"},
    "finer": {"depth": 1, "upscale": 2},
    "instance": {"depth": 1, "norm": "instance", "n_dims": 3},
    "attention": {"depth": 2, "architecture": "attention_unet"},
    "trans": {"architecture": "trans_unet", "transformer_layers": 1},
}
_FIXED = {"instance", "trans"}


def _package(model: Model, path: Path, **options: Any) -> dict[str, Any]:
    for event in package_events(model, path, _FACTS, **options):
        assert not event.is_warning
    with ZipFile(path) as zipped:
        described: dict[str, Any] = json.loads(zipped.read("rdf.yaml"))
    return described


@pytest.mark.slow
@pytest.mark.parametrize("name", _NETWORKS)
def test_bioimageio_core_gets_the_same_from_every_format(
    name: str,
    random_model: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bioimageio.core import test_model

    # What export does itself is done here, to look at all that it says.
    monkeypatch.setattr(zoo_export, "_test", lambda zipped: None)
    model = random_model(**{"base_width": 2} | _NETWORKS[name])
    path = tmp_path / "model.zip"
    described = _package(model, path, size=32 if name in _FIXED else None)
    summary = test_model(path)
    errors = [entry.msg for detail in summary.details for entry in detail.errors]
    assert (summary.status, errors) == ("passed", [])
    ran = {detail.loc[-1] for detail in summary.details if "weights" in detail.loc}
    assert ran == {"pytorch_state_dict", "torchscript", "onnx"}
    size = described["inputs"][0]["axes"][-1]["size"]
    assert isinstance(size, int) == (name in _FIXED)
    _check_onnx(model, path, size)


def _check_onnx(model: Model, path: Path, size: Any) -> None:
    """Compare with onnxruntime at another size and another number of images."""
    n_dims = model.network.n_dims
    sides = [size] * n_dims
    if isinstance(size, dict):
        sides = [size["min"] + i * size["step"] for i in range(n_dims)]
    image = np.repeat(drawn_image(model, *sides), 3, axis=0)
    with ZipFile(path) as zipped:
        found = onnx_runner(zipped.read("model.onnx"))(image)
    assert np.abs(found - OutputNetwork(model).run(image)).max() <= 1e-5


def test_a_package_holds_all_that_the_model_knows(
    random_model: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zoo_export, "_test", lambda zipped: None)
    monkeypatch.setattr(zoo_export, "onnx_bytes", _no_onnx)
    model = replace(
        random_model(depth=1),
        class_colors=("#000000", "#ff8000"),
        scores={"f1": 0.5},
        fingerprint="ab" * 32,
        versions={"torch": "1"},
    )
    path = tmp_path / "model.zip"
    described = _package(model, path)
    text = json.loads(described["config"]["napari_unet"]["description"])
    text.pop("description_sha256")
    with ZipFile(path) as zipped:
        weights = io.BytesIO(zipped.read("weights.pt"))
        assert "## Validation" in zipped.read("README.md").decode()
        names = set(zipped.namelist())
    state = torch.load(weights, weights_only=True)
    back = Description.model_validate(text).to_model(state)
    assert all(torch.equal(state[k], v) for k, v in model.state.items())
    expected = replace(model, license="CC-BY-4.0", authors=("A. Author",))
    for field in Description.model_fields.keys() & vars(expected).keys():
        assert getattr(back, field) == getattr(expected, field), field
    assert names == {
        "rdf.yaml", "README.md", "cover.png", "architecture.py", "weights.pt",
        "torchscript.pt", "model.onnx", "test_input.npy", "test_output.npy",
    }  # fmt: skip


def _no_onnx(*_: object, **__: object) -> bytes:
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    content: bytes = onnx.helper.make_model(graph).SerializeToString()
    return content


def test_what_fails_the_test_is_not_written(
    random_model: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(zipped: Path) -> None:
        assert zipped.is_file()
        raise ModelError("NU-M40", "it gave something else")

    monkeypatch.setattr(zoo_export, "_test", fail)
    monkeypatch.setattr(zoo_export, "onnx_bytes", _no_onnx)
    path = tmp_path / "model.zip"
    path.write_text("old")
    with pytest.raises(ModelError, match="something else"):
        list(package_events(random_model(depth=1), path, _FACTS))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_cannot_be_traced_goes_without_torchscript(
    random_model: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no trace")

    monkeypatch.setattr(zoo_export, "_test", lambda zipped: None)
    monkeypatch.setattr(zoo_export, "onnx_bytes", _no_onnx)
    monkeypatch.setattr(torch.jit, "trace", fail)
    path = tmp_path / "model.zip"
    events = list(package_events(random_model(depth=1), path, _FACTS))
    assert [e.message for e in events if e.is_warning] == [
        "TorchScript is left out of the package: no trace"
    ]
    with ZipFile(path) as zipped:
        assert "torchscript.pt" not in zipped.namelist()


def test_a_valid_network_declares_what_it_loses(
    random_model: Callable[..., Model],
) -> None:
    model = random_model(base_width=1, depth=4, padding="valid")
    axis = input_tensor(model, sizes_with_halo(model), "x.npy")["axes"][-1]
    assert axis["size"] == {"min": 188, "step": 16}
    axis = output_tensor(model, "x.npy")["axes"][-1]
    assert axis["size"]["offset"] == -184
    assert "halo" not in axis


def test_the_smallest_input_leaves_something_without_its_halo(
    random_model: Callable[..., Model],
) -> None:
    model = random_model(depth=2, upscale=2)
    halo = model.build().halo
    assert sizes_with_halo(model).smallest == 2 * halo + 4
    axis = output_tensor(model, "x.npy")["axes"][-1]
    assert axis["halo"] == 2 * halo
    assert axis["scale"] == 0.5


def test_no_pixel_is_lost_to_rounding_of_the_pixel_size(
    random_model: Callable[..., Model],
) -> None:
    for um in (0.1, 0.3, 0.65, 0.1083, 1 / 3, 1 / 49):
        model = replace(random_model(upscale=2), pixel_size_um=(um, um))
        coarse = input_tensor(model, sizes_with_halo(model), "x")["axes"][-1]["scale"]
        fine = output_tensor(model, "x")["axes"][-1]["scale"]
        n = np.arange(1, 20_000)
        # As bioimageio.spec computes it.
        assert ((n * coarse / fine).astype(int) == 2 * n).all()


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        (NormalizationConfig(), None),
        (NormalizationConfig(low_percentile=5, high_percentile=95), None),
        (NormalizationConfig(policy="standardize"), None),
        (
            NormalizationConfig(policy="dataset"),
            IntensityRange((100.0, 5.0), (4000.0, 9.0)),
        ),
    ],
)
def test_bioimageio_core_normalises_as_we_do(
    config: NormalizationConfig,
    limits: IntensityRange | None,
    random_model: Callable[..., Model],
) -> None:
    from bioimageio.core import Sample, Stat, Tensor
    from bioimageio.core.proc_ops import get_proc
    from bioimageio.spec.model.v0_5 import InputTensorDescr

    model = replace(
        random_model(depth=1, in_channels=2),
        normalization=config,
        dataset_range=limits,
    )
    rng = np.random.default_rng(0)
    scale = np.array([1000, 1], np.float32).reshape(2, 1, 1)
    image = (rng.gamma(2, 1, (2, 60, 70)) * scale).astype(np.float32)
    described = input_tensor(model, sizes_with_halo(model), "x.npy")
    del described["test_tensor"]
    tensor = InputTensorDescr.model_validate(described)
    sample = Sample(
        members={tensor.id: Tensor.from_numpy(image[None], dims=tensor.axes)},
        stat={},
        id="one",
    )
    stat: Stat = {}
    for descr in tensor.preprocessing:
        operation = get_proc(descr, tensor)
        stat.update({m: m.compute(sample) for m in operation.required_measures})
        sample.stat = stat
        operation(sample)
    found = sample.members[tensor.id].data.to_numpy()[0]
    used = limits or intensity_range(Image(image), config)
    assert np.abs(found - normalize(image, used)).max() < 2e-5


def test_a_scaling_that_does_nothing_is_not_declared(
    random_model: Callable[..., Model],
) -> None:
    model = replace(
        random_model(),
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((0.0,), (1.0,)),
    )
    assert preprocessing(model) == []


def test_a_constant_channel_of_the_training_images_becomes_0(
    random_model: Callable[..., Model],
) -> None:
    model = replace(
        random_model(in_channels=2),
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((7.0, 10.0), (7.0, 20.0)),
    )
    (step,) = preprocessing(model)
    assert step["kwargs"]["gain"] == [0, 0.1]
    assert step["kwargs"]["offset"] == [0, -1]


def test_names_become_identifiers_each_once(
    random_model: Callable[..., Model],
) -> None:
    model = replace(
        random_model(in_channels=4), channel_names=("DAPI", "488 nm", "DAPI", "µ!")
    )
    axis = input_tensor(model, sizes_with_halo(model), "x")["axes"][1]
    assert axis["channel_names"] == ["DAPI", "_488_nm", "DAPI_2", "µ"]
