"""The models that there are: shipped, trained in napari, and opened, as one list."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from napari_unet.errors import UNetError
from napari_unet.events import Event, Note
from napari_unet.files import model_places
from napari_unet.files.model_summaries import ModelSummary, summarise
from napari_unet.widgets._controls import describe
from napari_unet.widgets._model_limits import Limits, limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from qtpy.QtWidgets import QWidget

Kind = Literal["shipped", "trained", "opened"]
_GROUPS: dict[Kind, str] = {
    "shipped": "Come with napari-unet",
    "trained": "Trained in napari",
    "opened": "Opened files",
}
_NAME, _F1, _DATE = range(3)
_HEIGHT_PX = 160
_MOST_LETTERS = 300
_MIDDLE = Qt.AlignmentFlag.AlignVCenter
_NETWORKS = {
    "unet": "U-Net",
    "residual_unet": "U-Net with residual blocks",
    "attention_unet": "Attention U-Net",
    "trans_unet": "TransU-Net",
    "foreign": "another program's network",
}


@dataclass(frozen=True)
class Listed(Event):
    """A model file of the list, and what it says of itself, or what is wrong with it.

    Parameters
    ----------
    kind : str
        Where it comes from.
    path : Path
        The file.
    summary : ModelSummary, optional
        None where the file is missing or no model.
    problem : str
        One sentence; empty where there is none.
    is_file : bool
        Whether it is a file that can be looked at: neither gone nor a folder.
    limits : Limits
        What can't be done with it.
    """

    kind: Kind
    path: Path
    summary: ModelSummary | None = None
    problem: str = ""
    is_file: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def may_change(self) -> bool:
        """Whether the file is the user's, and none that comes with the package."""
        return self.kind != "shipped" and not model_places.is_shipped(self.path)

    @property
    def name(self) -> str:
        """What the list calls it: the time of a training, else the file's name."""
        if self.kind != "trained":
            return self.path.stem if self.kind == "shipped" else self.path.name
        try:
            begun = time.strptime(self.path.parent.name, "%Y%m%d-%H%M%S")
        except ValueError:  # the user has renamed the folder
            return self.path.parent.name
        return time.strftime("%Y-%m-%d %H:%M:%S", begun)

    @property
    def title(self) -> str:
        """What a card or a package calls it: each training's file is "best.unet"."""
        if self.kind != "trained":
            return self.path.stem
        run = self.path.parent.name
        return run if self.name == run else f"Trained {self.name}"

    @property
    def stem(self) -> str:
        """How a file that is made of it may be called, without the ending."""
        return self.path.parent.name if self.kind == "trained" else self.path.stem

    @property
    def in_words(self) -> str:
        """What is known of it, or what is wrong, in a line or two."""
        if self.summary is None:
            return self.problem
        found = self.summary
        n = found.n_train_images
        parts = [
            _NETWORKS.get(found.network, found.network),
            ", ".join(found.classes),
            f"{n} image{'s' if n != 1 else ''}" if n else "",
            _size(found.n_bytes),
        ]
        about = f"\n{_shortened(found.about)}" if found.about else ""
        return f"{_shortened('; '.join(part for part in parts if part))}{about}"


def list_models() -> Generator[Event, None, None]:
    """Yield a `Listed` for each model file there is; reads their headers only."""
    seen: set[Path] = set()
    places: dict[Kind, Callable[[], list[Path]]] = {
        "shipped": model_places.shipped_models,
        "trained": model_places.trained_models,
        "opened": model_places.opened_models,
    }
    for kind, find in places.items():
        try:
            paths = find()
        except UNetError as error:
            yield Note(str(error), is_warning=True)
            continue
        for path in paths:
            if path not in seen:  # one that was opened may be listed already
                yield _listed(kind, path)
            seen.add(path)


def _listed(kind: Kind, path: Path) -> Listed:
    try:
        found = summarise(path)
    except UNetError as error:
        # Not `Path.is_file`: it raises where a folder may not be looked into.
        is_file = os.path.isfile(path)
        return Listed(kind, path, None, error.message, is_file=is_file)
    return Listed(kind, path, found, limits=limits_of(found))


class ModelList(QTreeWidget):
    """Models in groups; one can be chosen.

    Signals
    -------
    chosen_changed()
        Another one is chosen, or none.
    """

    chosen_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.listed: list[Listed] = []
        self.setHeaderLabels(["Model", "F1", "Written"])
        self.setRootIsDecorated(False)
        self.setIndentation(12)
        self.setMinimumHeight(_HEIGHT_PX)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        describe(
            self,
            "Models",
            "Models that come with napari-unet, that were trained in napari, and files "
            "that you opened. F1: of cells at IoU 0.5, on held-back pixels",
        )
        header = self.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
            for column in (_F1, _DATE):
                header.setSectionResizeMode(
                    column, QHeaderView.ResizeMode.ResizeToContents
                )
        self.itemSelectionChanged.connect(self.chosen_changed)

    def set_theme(self, name: str) -> None:
        """Take the colours of a theme of napari."""
        theme = get_theme(name)
        # napari's own style makes rows that are hardly higher than a letter, and the
        # chosen one looks like the others.
        self.setStyleSheet(
            "QTreeView::item { padding: 2px; min-height: 1.2em; }"
            "QTreeView::item:selected {"
            f" background: {theme.current.as_hex()}; color: {theme.text.as_hex()};"
            "}"
        )

    def chosen(self) -> Listed | None:
        """Return the chosen model."""
        indices = [_index(item) for item in self.selectedItems()]
        return self.listed[indices[0]] if indices else None

    def choose(self, path: Path) -> None:
        """Choose the model of this file, if it is on the list."""
        for item in self._items():
            if self.listed[_index(item)].path == path:
                self.setCurrentItem(item)
                return

    def neighbour(self, path: Path) -> Path | None:
        """Return the model beneath this one, or above it where it is the last."""
        paths = [self.listed[_index(item)].path for item in self._items()]
        if path not in paths or len(paths) == 1:
            return None
        row = paths.index(path)
        return paths[row + 1 if row + 1 < len(paths) else row - 1]

    def show_models(self, listed: Sequence[Listed]) -> None:
        """Show these models; the chosen one stays chosen if it is among them."""
        before, bar = self.chosen(), self.verticalScrollBar()
        scrolled = 0 if bar is None else bar.value()
        self.blockSignals(True)
        self.clear()
        self.listed = list(listed)
        for kind, title in _GROUPS.items():
            group = QTreeWidgetItem([title])
            group.setFlags(Qt.ItemFlag.ItemIsEnabled)
            for index, one in enumerate(self.listed):
                if one.kind == kind:
                    group.addChild(self._item(index, one))
            if group.childCount():
                self.addTopLevelItem(group)
                group.setFirstColumnSpanned(True)
                group.setExpanded(True)
        if before is not None:
            self.choose(before.path)
        if bar is not None:
            # Until they are laid out there is nothing to scroll.
            self.executeDelayedItemsLayout()
            bar.setValue(scrolled)
        self.blockSignals(False)
        self.chosen_changed.emit()

    def _item(self, index: int, one: Listed) -> QTreeWidgetItem:
        found = one.summary
        name = one.name if found is not None else f"⚠ {one.name}"
        f1 = "" if found is None or found.f1 is None else f"{found.f1:.2f}"
        item = QTreeWidgetItem([name, f1, "" if found is None else _date(found)])
        item.setData(_NAME, Qt.ItemDataRole.UserRole, index)
        item.setTextAlignment(_F1, Qt.AlignmentFlag.AlignRight | _MIDDLE)
        for column in (_NAME, _F1, _DATE):
            # Plain text: what a file's description holds is never HTML.
            item.setToolTip(column, _plain(f"{one.path}\n{one.in_words}"))
        return item

    def _items(self) -> list[QTreeWidgetItem]:
        groups = [self.topLevelItem(i) for i in range(self.topLevelItemCount())]
        children = [g.child(i) for g in groups if g for i in range(g.childCount())]
        return [child for child in children if child is not None]


def _index(item: QTreeWidgetItem) -> int:
    """Return where a model's row stands among the listed ones."""
    return int(item.data(_NAME, Qt.ItemDataRole.UserRole))


def _date(summary: ModelSummary) -> str:
    return summary.written.astimezone().strftime("%Y-%m-%d")


def _size(n_bytes: int) -> str:
    n_mb = n_bytes / 2**20
    return f"{n_mb:.1f} MB" if n_mb >= 0.1 else f"{max(1, round(n_bytes / 1024))} kB"


def _shortened(text: str) -> str:
    """Return the beginning of a text: all of it is on the card."""
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS].rstrip()} …"


def _plain(text: str) -> str:
    """Return a tooltip that Qt doesn't take for HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<p style='white-space:pre-wrap'>{escaped}</p>"
