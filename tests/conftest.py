"""What all tests share: no network, no traces in the user's folders."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import Finished
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells

if TYPE_CHECKING:
    from collections.abc import Iterator


def _has_qt(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin("pytest-qt")


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    # `pytest -p no:pytest-qt` runs what needs no Qt, where Qt's libraries are missing;
    # its settings in pyproject.toml would be unknown then.
    if not pluginmanager.hasplugin("pytest-qt"):
        for name in ("qt_api", "qt_log_level_fail", "qt_log_ignore"):
            parser.addini(name, "of pytest-qt, which is off")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_widget = "widgets" in collection_path.parts
    return True if is_widget and not _has_qt(config) else None


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if _has_qt(config):
        for item in items:
            if "widgets" in item.path.parts or item.get_closest_marker("gui"):
                # One window at a time: two on a screen take the focus from each other.
                item.add_marker(pytest.mark.xdist_group("gui"))
        return
    gui = [item for item in items if item.get_closest_marker("gui")]
    config.hook.pytest_deselected(items=gui)
    items[:] = [item for item in items if item not in gui]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            connect(self, address)  # type: ignore[arg-type]
            return
        raise AssertionError(f"a test tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True, scope="session")
def _own_user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("user")
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(home / name))
        yield


@dataclass(frozen=True)
class Cells:
    """Folders of drawn cells: two to learn from, one to validate on."""

    images: Path
    masks: Path


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Return folders of three drawn images and their masks; nobody writes there."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(7)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for stem in ("train_a", "train_b", "val_a"):
        image, labels = draw_cells((64, 80), n_cells=9, rng=rng)
        tifffile.imwrite(folder / "images" / f"{stem}.tif", image)
        tifffile.imwrite(folder / "masks" / f"{stem}.tif", labels.astype(np.uint16))
    return Cells(folder / "images", folder / "masks")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a very small network that knows bright from dark."""
    from napari_unet.learning.checkpoint import save_model
    from napari_unet.learning.training import train

    rng = np.random.default_rng(3)
    image, labels = draw_cells((64, 64), n_cells=8, rng=rng)
    *_, last = train(
        [image],
        [Annotation.complete(labels)],
        TrainConfig(
            max_steps=200,
            validate_every=100,
            patch_size=32,
            batch_size=4,
            learning_rate=1e-2,
            device="cpu",
        ),
        network=NetworkConfig(base_width=4, depth=1),
    )
    assert isinstance(last, Finished)
    return save_model(tmp_path_factory.mktemp("model") / "tiny.unet", last.model)


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """Return the file of a model that learned real nuclei at one size.

    600 steps on the sample that comes with the package, base width 16, depth 3; in
    half precision. Unlike the model that comes along, it is never trained anew.
    """
    return Path(__file__).parent / "sample_nuclei.unet"
