"""A network as one Python file that needs torch alone.

The file is put together from the sources of the network's own modules, so that what is
shared is what was trained.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from napari_unet.learning.applying import outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from napari_unet.learning.model import Model

CALLABLE = "build_network"
_PACKAGE = "napari_unet"
_NETWORKS = "napari_unet.learning.networks"
# The base class only adds geometry, which a forward pass doesn't need.
_REPLACED = {f"{_NETWORKS}.network"}

_START = '''"""A network of napari-unet as one file that needs torch alone.

`build_network` takes the settings of the network and what each of its outputs means; it
returns a `torch.nn.Module` from normalised images to probabilities (and values).

Copyright the napari-unet contributors. SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

{imports}


class Network(nn.Module):
    """What napari-unet calls a network; its geometry is left out here."""


class ModelError(ValueError):
    """Roles that don't fit the network."""

'''

_END = '''
class NetworkWithOutputs({network}):
    """The network, whose logits become what its outputs mean."""

    roles: tuple[str, ...] = ()

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (N, C, [Z,] Y, X) to outputs (N, K, [Z,] Y, X)."""
        return activate(super().forward(image), self.roles, dim=1)


def build_network(roles: Sequence[str], **config: Any) -> nn.Module:
    """Return the network, ready for its weights.

    Parameters
    ----------
    roles : sequence of str
        What each output means, such as "softmax:cell".
    config
        Settings of the network.
    """
    network = NetworkWithOutputs(SimpleNamespace(**config))
    network.roles = tuple(roles)
    return network
'''
_NEEDED_BY_END = """
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from torch import Tensor, nn
"""


def architecture_source(model: Model) -> str:
    """Return the source of a Python file that builds a model's network.

    Parameters
    ----------
    model : Model
        Any model with a network of this program.

    Returns
    -------
    str
        Source that imports torch and the standard library alone. Its function
        ``build_network`` takes `architecture_kwargs`; the network takes ``model.state``
        as it is, and has the activation inside.
    """
    network = type(model.build())
    imports: set[str] = set()
    bodies: list[str] = []
    for module in [*_with_siblings(inspect.getmodule(network), set()), outputs]:
        bodies.append(_body(module, imports))
    _split(_NEEDED_BY_END, imports)
    return "\n".join(
        [
            _START.format(imports="\n".join(sorted(imports))),
            *bodies,
            _END.format(network=network.__name__),
        ]
    )


def architecture_kwargs(model: Model) -> dict[str, Any]:
    """Return the keyword arguments of ``build_network``, as plain values."""
    return {"roles": list(model.roles), **model.network.model_dump(mode="json")}


def _with_siblings(module: ModuleType | None, seen: set[str]) -> Iterator[ModuleType]:
    """Yield the network modules that one imports, and then itself."""
    if module is None or module.__name__ in seen | _REPLACED:
        return
    seen.add(module.__name__)
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and _is_of(node.module, _NETWORKS):
            yield from _with_siblings(importlib.import_module(str(node.module)), seen)
    yield module


def _is_of(name: str | None, package: str) -> bool:
    return name is not None and f"{name}.".startswith(f"{package}.")


def _body(module: ModuleType, imports: set[str]) -> str:
    """Return what a module defines; add what it imports to `imports`."""
    return _split(inspect.getsource(module), imports)


def _split(source: str, imports: set[str]) -> str:
    lines = source.splitlines()
    for number, node in enumerate(ast.parse(source).body):
        if not _is_left_out(node, number):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(_imported(node))
        for i in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[i] = ""
    return "\n".join(lines).strip() + "\n\n"


def _is_left_out(node: ast.stmt, number: int) -> bool:
    """Tell imports, blocks for type checkers, and the module's docstring."""
    is_docstring = number == 0 and isinstance(node, ast.Expr)
    is_for_checkers = (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )
    is_import = isinstance(node, ast.Import | ast.ImportFrom)
    return is_docstring or is_for_checkers or is_import


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield an import's lines, one a name, but for this package and the future."""
    if isinstance(node, ast.Import):
        yield from (f"import {_spelled(alias)}" for alias in node.names)
    elif not _is_of(node.module, _PACKAGE) and node.module != "__future__":
        for alias in node.names:
            if alias.name != "TYPE_CHECKING":
                yield f"from {node.module} import {_spelled(alias)}"


def _spelled(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name
