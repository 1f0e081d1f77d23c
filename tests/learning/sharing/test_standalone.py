"""The stand-alone file of a network computes what the network does, by torch alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from napari_unet.config import NetworkConfig
from napari_unet.learning.model import Model
from napari_unet.learning.networks import ARCHITECTURES, build_network
from napari_unet.learning.sharing.graphs import OutputNetwork, drawn_image, input_sizes
from napari_unet.learning.sharing.standalone import (
    architecture_kwargs,
    architecture_source,
)

if TYPE_CHECKING:
    from pathlib import Path

_CONFIGS = {
    "unet": NetworkConfig(base_width=2, depth=1, out_channels=3),
    "finer": NetworkConfig(base_width=2, depth=1, out_channels=3, upscale=2, n_dims=3),
    "sum": NetworkConfig(
        base_width=2, depth=1, in_channels=3, out_channels=3, upscale=2, adds_image=True
    ),
    "valid": NetworkConfig(base_width=2, depth=1, out_channels=3, padding="valid"),
    "residual": NetworkConfig(
        architecture="residual_unet",
        base_width=4,
        depth=1,
        out_channels=3,
        norm="group",
    ),
    "attention": NetworkConfig(
        architecture="attention_unet", base_width=2, depth=2, out_channels=3, n_dims=3
    ),
    "trans": NetworkConfig(
        architecture="trans_unet", base_width=4, transformer_layers=1, out_channels=3
    ),
}
_ROLES = ("softmax:background", "value:height", "softmax:cell")
# Run where the package is nowhere to be found.
_PROGRAM = """
import importlib.util, json, pathlib, sys
sys.modules["napari_unet"] = None
import torch
torch.set_num_threads(1)
for folder in map(pathlib.Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location("model", folder / "architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kwargs = json.loads((folder / "kwargs.json").read_text())
    network = module.build_network(**kwargs)
    given = torch.load(folder / "given.pt", weights_only=True)
    network.load_state_dict(given["state"])
    with torch.no_grad():
        difference = (network.eval()(given["image"]) - given["outputs"]).abs().max()
    print(folder.name, float(difference))
"""


def _model(config: NetworkConfig) -> Model:
    torch.manual_seed(0)
    return Model(config, build_network(config).state_dict(), roles=_ROLES)


def test_all_architectures_are_tried() -> None:
    assert {c.architecture for c in _CONFIGS.values()} == set(ARCHITECTURES) - {
        "foreign"
    }


def test_outputs_are_the_same_to_the_bit_without_the_package(tmp_path: Path) -> None:
    for name, config in _CONFIGS.items():
        model, folder = _model(config), tmp_path / name
        folder.mkdir()
        (folder / "architecture.py").write_text(architecture_source(model))
        (folder / "kwargs.json").write_text(json.dumps(architecture_kwargs(model)))
        image = torch.from_numpy(
            drawn_image(model, input_sizes(model, 32).at_least(32))
        )
        with torch.no_grad():
            outputs = OutputNetwork(model)(image)
        given = {"state": dict(model.state), "image": image, "outputs": outputs}
        torch.save(given, folder / "given.pt")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *(str(tmp_path / name) for name in _CONFIGS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == [f"{name} 0.0" for name in _CONFIGS]


@pytest.mark.parametrize("name", _CONFIGS)
def test_only_torch_and_the_standard_library_are_imported(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(architecture_source(_model(_CONFIGS[name])))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    roots = {module.partition(".")[0] for module in imported}
    assert "torch" in roots
    assert roots - {"torch"} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", _CONFIGS)
def test_no_name_is_defined_twice(name: str) -> None:
    names: list[str] = []
    for node in ast.parse(architecture_source(_model(_CONFIGS[name]))).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    assert len(names) == len(set(names))


def test_kwargs_are_plain_values() -> None:
    kwargs = architecture_kwargs(_model(_CONFIGS["unet"]))
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert kwargs["roles"] == list(_ROLES)
    assert kwargs["base_width"] == 2
