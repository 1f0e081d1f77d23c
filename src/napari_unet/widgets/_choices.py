"""What several docks ask for: an image, and a model."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QListWidget,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ModelError
from napari_unet.files.model_places import shipped_models
from napari_unet.widgets._controls import PathRow, describe, plain_label
from napari_unet.widgets._layers import (
    axes_choices,
    dropped_alpha,
    image_from_layers,
    layer_choices,
    unwrapped,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Layer
    from qtpy.QtGui import QShowEvent

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model

_N_ROWS = 4
_N_TRAINED = 3
_MODEL_FILES = "U-Net models (*.unet)"
_AXES = {
    "YX": "YX: one plane",
    "ZYX": "ZYX: a stack of slices",
    "TYX": "TYX: a movie",
    "CYX": "CYX: channels",
}


class ImageChoice(QWidget):
    """Choose an image layer, or several that are the channels of one image.

    The axes are asked for where the layer does not tell them. Until the user chooses,
    it is the preferred image (`prefer`) that is chosen, or else the viewer's active
    one.

    Signals
    -------
    changed()
        Other layers are chosen, by hand or because a layer went.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._offered: list[weakref.ref[Layer]] = []
        self._preferred: weakref.ref[Layer] | None = None
        self._is_chosen = False
        self._build()
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self._refresh)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        self.list.itemSelectionChanged.connect(self._on_chosen)
        self._refresh()

    @property
    def offered(self) -> list[Any]:
        """The layers to choose from, the topmost first."""
        layers = [reference() for reference in self._offered]
        return [layer for layer in layers if layer is not None]

    def layers(self) -> list[Any]:
        """Return the chosen layers, the lowest in the viewer first."""
        rows = sorted((i.row() for i in self.list.selectedIndexes()), reverse=True)
        layers = [self._offered[row]() for row in rows]
        return [layer for layer in layers if layer is not None]

    def choose(self, *layers: Layer) -> None:
        """Choose these layers; those that are not offered are left out."""
        self._is_chosen = True
        self._select(*layers)

    def prefer(self, layer: Layer | None) -> None:
        """Choose a layer, with others if it is among them, until the user chooses.

        None: whichever is active.
        """
        self._preferred = None if layer is None else weakref.ref(unwrapped(layer))
        if layer is not None and unwrapped(layer) not in self.layers():
            self._is_chosen = False
        if not self._is_chosen:
            self._select(*self._default())

    def _select(self, *layers: Layer) -> None:
        wanted = [unwrapped(layer) for layer in layers]
        self.list.blockSignals(True)
        for row, offered in enumerate(self._offered):
            item = self.list.item(row)
            if item is not None:
                item.setSelected(offered() in wanted)
        self.list.blockSignals(False)
        self._on_selected()

    def image(self) -> Image:
        """Return the chosen layers as one image.

        Raises
        ------
        ImageError
            None is chosen, they don't fit together, or their axes are not known.
        """
        axes = self.axes.currentData() if not self.axes.isHidden() else None
        return image_from_layers(self.layers(), axes)

    def notes(self) -> list[str]:
        """Return what the user should know about how the layers are taken."""
        return dropped_alpha(self.layers())

    def _build(self) -> None:
        self.list = QListWidget()
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        describe(
            self.list,
            "Image layers",
            "The image. Ctrl+click: several layers as channels of one image, the "
            "lowest first",
        )
        self.hint = plain_label("Hint", "Ctrl+click: several layers as channels")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.axes = QComboBox()
        describe(
            self.axes, "Axes", "What the axes of the image mean: nothing in it says so"
        )
        self.axes.currentIndexChanged.connect(self.changed.emit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addWidget(self.hint)
        layout.addWidget(self.axes)
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def _refresh(self, event: Any = None) -> None:
        try:
            chosen = self.layers()
        except RuntimeError:  # the widget is gone, its slot not yet
            return
        layers = layer_choices(self._viewer, "image")
        self._offered = [weakref.ref(layer) for layer in layers]
        self.list.blockSignals(True)
        self.list.clear()
        self.list.addItems([str(layer.name) for layer in layers])
        self.list.blockSignals(False)
        self.hint.setVisible(len(layers) > 1)
        self._fit_height()
        for row, layer in enumerate(layers):
            item = self.list.item(row)
            if item is not None:
                item.setToolTip(str(layer.name))
            layer.events.name.connect(self._refresh)
            layer.events.axis_labels.connect(self._refresh)
        kept = [layer for layer in chosen if layer in layers]
        self._is_chosen = self._is_chosen and bool(kept)
        self._select(*(kept if self._is_chosen else self._default(kept)))

    def _default(self, kept: list[Layer] | None = None) -> list[Layer]:
        """Return what is chosen while the user chose nothing."""
        offered = self.offered
        preferred = None if self._preferred is None else self._preferred()
        for layer in (preferred, self._viewer.layers.selection.active):
            if layer in offered:
                return [layer]
        return (self.layers() if kept is None else kept) or offered[:1]

    def _on_active(self, event: Any = None) -> None:
        try:
            if not self._is_chosen and self._default() != self.layers():
                self._select(*self._default())
        except RuntimeError:  # the widget is gone, its slot not yet
            return

    def _on_chosen(self) -> None:
        self._is_chosen = True
        self._on_selected()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take the height that the rows have in napari's style."""
        super().showEvent(event)
        self._fit_height()

    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        # napari's own style makes rows that are hardly higher than a letter, and the
        # chosen ones look like the others.
        with suppress(RuntimeError):  # the widget is gone, its slot not yet
            self.list.setStyleSheet(
                "QListWidget::item { padding: 3px; min-height: 1.2em; }"
                "QListWidget::item:selected {"
                f" background: {theme.current.as_hex()}; color: {theme.text.as_hex()};"
                "}"
            )

    def _fit_height(self) -> None:
        n_rows = max(1, min(self.list.count(), _N_ROWS))
        row = max(self.list.sizeHintForRow(0), self.fontMetrics().height())
        self.list.setFixedHeight(n_rows * row + 2 * self.list.frameWidth() + 4)

    def _on_selected(self) -> None:
        layers = self.layers()
        choices = axes_choices(layers[0]) if layers else []
        offered = [self.axes.itemData(i) for i in range(self.axes.count())]
        if offered[1:] != choices:
            self.axes.blockSignals(True)
            self.axes.clear()
            self.axes.addItem("choose the axes …", None)
            for choice in choices:
                self.axes.addItem(_AXES.get(choice, choice), choice)
            self.axes.blockSignals(False)
        self.axes.setVisible(bool(choices))
        self.changed.emit()


class TrainedModels(QObject):
    """The models that were trained since napari started, the newest first.

    Signals
    -------
    changed()
        There is a new one.
    offered(str)
        The user wants to apply this one next.
    """

    changed = Signal()
    offered = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}

    def add(self, name: str, model: Model) -> None:
        """Offer a model in all docks; only a few are kept."""
        others = {k: v for k, v in self.models.items() if k != name}
        newest_first = {name: model, **others}
        self.models = dict(list(newest_first.items())[:_N_TRAINED])
        self.changed.emit()


TRAINED = TrainedModels()


class ModelChoice(QWidget):
    """Choose a model: a file, one that was trained just now, or one that comes along.

    Parameters
    ----------
    nothing : str
        Text of the choice of no model; without it there is no such choice.
    """

    changed = Signal()

    def __init__(self, nothing: str = "") -> None:
        super().__init__()
        self._nothing = nothing
        self._shipped = {f"{m.stem} (comes along)": m for m in shipped_models()}
        self.box = QComboBox()
        self.box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        describe(
            self.box,
            "Model",
            "A model file, a model that was trained just now, or one that comes with "
            "napari-unet",
        )
        self.file = PathRow(
            "Model file", "A model, *.unet", mode="open", pattern=_MODEL_FILES
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        layout.addWidget(self.file)
        self.box.currentIndexChanged.connect(self._on_choice)
        self.file.changed.connect(self.changed.emit)
        TRAINED.changed.connect(self._refresh)
        if not nothing:
            TRAINED.offered.connect(self.box.setCurrentText)
        self._refresh()

    @property
    def is_nothing(self) -> bool:
        """Whether the user wants no model."""
        return self.box.currentText() == self._nothing

    def model(self) -> Model | Path:
        """Return the model, or the path of its file.

        Raises
        ------
        ModelError
            No file is given.
        """
        chosen = self.box.currentText()
        if chosen in TRAINED.models:
            return TRAINED.models[chosen]
        if chosen in self._shipped:
            return self._shipped[chosen]
        path = self.file.path()
        if path is None:
            raise ModelError(
                "NU-M01", "no model file is given: choose a model, or train one"
            )
        return path

    def choose_file(self, path: Path | str) -> None:
        """Choose a model file."""
        self.box.setCurrentText("Model file")
        self.file.set_path(path)

    def _refresh(self) -> None:
        chosen = self.box.currentText()
        texts = [self._nothing] if self._nothing else []
        texts += [*TRAINED.models, "Model file", *self._shipped]
        self.box.blockSignals(True)
        self.box.clear()
        self.box.addItems(texts)
        # What was trained just now is what one wants next; a file that was named, or
        # training from scratch, stays.
        is_named = self.file.path() is not None or chosen in self._shipped
        is_kept = chosen in texts and (self._nothing or is_named)
        self.box.setCurrentText(chosen if is_kept else texts[0])
        self.box.blockSignals(False)
        self._on_choice()

    def _on_choice(self) -> None:
        self.file.setVisible(self.box.currentText() == "Model file")
        self.changed.emit()
