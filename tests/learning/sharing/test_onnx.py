"""ONNX files: what they say of themselves, and when they are not written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from napari_unet.errors import ModelError, ResourceError
from napari_unet.learning.sharing import onnx as module
from napari_unet.learning.sharing.graphs import OutputNetwork, drawn_image
from napari_unet.learning.sharing.onnx import onnx_bytes, onnx_runner, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.learning.model import Model


@pytest.mark.slow
def test_any_batch_and_size_gives_the_same_probabilities_and_values(
    random_model: Callable[..., Model], capfd: pytest.CaptureFixture[str]
) -> None:
    roles = ("softmax:background", "value:height", "softmax:cell", "sigmoid:rim")
    model = replace(random_model(depth=1, out_channels=4), roles=roles)
    content = onnx_bytes(model, name="drawn cells")
    assert capfd.readouterr() == ("", "")
    run, network = onnx_runner(content), OutputNetwork(model)
    for n, *sides in [(1, 2, 2), (2, 64, 32), (5, 6, 130)]:
        image = np.repeat(drawn_image(model, *sides), n, axis=0)
        assert np.abs(run(image) - network.run(image)).max() <= 1e-5
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph)
    told = {p.key: json.loads(p.value) for p in graph.metadata_props}
    assert told["napari_unet.name"] == "drawn cells"
    assert told["napari_unet.roles"] == list(roles)
    assert told["napari_unet.normalization"]["policy"] == "image"
    assert [i.name for i in graph.graph.input] == ["image"]
    assert [i.name for i in graph.graph.output] == ["outputs"]


@pytest.mark.slow
def test_a_graph_that_differs_is_not_returned(
    random_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(depth=1)
    run = OutputNetwork(model).run
    monkeypatch.setattr(module, "onnx_runner", lambda content: lambda x: run(x) + 1e-3)
    with pytest.raises(ModelError, match="NU-M40"):
        onnx_bytes(model)


def test_a_network_too_large_for_one_file_is_refused(
    random_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST_BYTES", 1000)
    with pytest.raises(ModelError, match="an ONNX file holds 2 GB"):
        onnx_bytes(random_model(depth=1))


def test_what_is_missing_is_said_with_the_line_that_installs_it(
    random_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name == "onnx" else 1
    )
    with pytest.raises(
        ResourceError,
        match=r"onnx can't be found.*pip install 'napari-unet-loop\[onnx\]'",
    ):
        onnx_bytes(random_model(depth=1))
    require("onnx", *sys.stdlib_module_names)
