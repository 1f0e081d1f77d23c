"""The house rules that a machine can check."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import napari_unet

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src/napari_unet"
GUI = {
    "napari",
    "qtpy",
    "PyQt5",
    "PyQt6",
    "PySide2",
    "PySide6",
    "magicgui",
    "superqt",
    "pyqtgraph",
}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(
        napari_unet.__path__, "napari_unet.", onerror=lambda _: None
    )
]
HEADLESS = [name for name in MODULES if not name.startswith("napari_unet.widgets")]
WITHOUT_TORCH = [
    "napari_unet",
    "napari_unet.__main__",
    *(n for n in HEADLESS if re.match(r"napari_unet\.(imaging|files|cli)\b", n)),
    *(f"napari_unet.{n}" for n in ("config", "errors", "events", "mailbox")),
]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )


def loaded_by(imports: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded."""
    code = f"{imports}\nimport sys\nprint(*{{n.split('.')[0] for n in sys.modules}})"
    result = run(code)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_the_modules_were_found() -> None:
    assert {"napari_unet.config", "napari_unet.imaging.arrays"} <= set(HEADLESS)


def test_no_headless_module_loads_qt_or_napari() -> None:
    imports = "\n".join(f"import {name}" for name in HEADLESS)
    assert not loaded_by(imports) & GUI


def test_nothing_but_learning_and_batch_loads_torch() -> None:
    imports = "\n".join(f"import {name}" for name in WITHOUT_TORCH)
    assert "torch" not in loaded_by(imports)


def test_importing_the_package_loads_no_library() -> None:
    heavy = {"torch", "numpy", "scipy", "skimage", "pydantic", "matplotlib", "rich"}
    assert not loaded_by("import napari_unet") & heavy


def test_every_public_name_can_be_reached() -> None:
    for name in napari_unet.__all__:
        assert getattr(napari_unet, name) is not None
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = napari_unet.no_such_name


def test_imports_point_down_only() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run(
        [str(command), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


BLOCK_GUI = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {GUI!r}:
            raise ModuleNotFoundError('blocked: ' + name, name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_the_api_works_without_qt_and_napari(tmp_path: Path) -> None:
    result = run(f"""{BLOCK_GUI}
import numpy as np
import napari_unet as nu
labels = np.zeros((48, 48), np.int32)
labels[4:20, 4:20] = 1
labels[24:44, 24:44] = 2
image = labels.astype(np.float32)
annotation = nu.Annotation.complete(labels)
config = nu.TrainConfig(max_steps=2, validate_every=1, patch_size=16, batch_size=2,
                        device='cpu')
*_, last = nu.train([image], [annotation], config,
                    network=nu.NetworkConfig(base_width=2, depth=1))
nu.save_model({str(tmp_path / "a.unet")!r}, last.model)
model = nu.load_model({str(tmp_path / "a.unet")!r})
assert nu.segment(model, image).shape == labels.shape
assert nu.score(labels, labels).iou == 1
""")
    assert result.returncode == 0, result.stderr


def test_the_command_line_works_without_qt_and_napari() -> None:
    result = run(f"{BLOCK_GUI}\nfrom napari_unet.cli import main\nmain(['--help'])")
    assert result.returncode == 0, result.stderr
    assert "train" in result.stdout


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bassert\s",
        r"(?<![.\w])print\(",
        r"torch\.load\((?![^)]*weights_only=True)",
        r"\ballow_pickle=True",
        r"\bshell=True",
        r"(?<![.\w])(eval|exec)\(",
        r"^\s*(import|from) pickle\b",
        r"\bextractall\(",
        r"\byaml\.load\(",
    ],
)
def test_the_source_has_none_of(pattern: str) -> None:
    found = [
        f"{path.relative_to(SOURCE)}: {line}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
        and not line.lstrip().startswith(("#", ">>>", "..."))
    ]
    assert not found
