"""What all tests share: no network, no traces in the user's folders."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
