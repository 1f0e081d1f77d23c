"""Dock widget: paint cells, background and finished regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image as ImageLayer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QMainWindow,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_unet.errors import LabelError
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._annotation_files import AnnotationFiles
from napari_unet.widgets._autosave import autosaver_of
from napari_unet.widgets._check_list import CheckList
from napari_unet.widgets._controls import Fold, describe, fill_dock, plain_label
from napari_unet.widgets._inspection import Inspector
from napari_unet.widgets._keys import bind_key
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import (
    about,
    axes_choices,
    layer_choices,
    unwrapped,
)
from napari_unet.widgets._paint_tools import PaintTools
from napari_unet.widgets._painted import regions_layer_of
from napari_unet.widgets._tools import EditTools
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from napari.components import ViewerModel
    from napari.layers import Labels
    from qtpy.QtGui import QShowEvent

    from napari_unet.widgets._inspection import Inspected

_UNPAINTED = {"unknown": "unknown (ignored)", "background": "background"}
_WAYS = """\
Three ways to annotate, which mix:
• Paint every cell, and set “Unpainted is” to background.
• Paint every cell of an area, and draw that area as finished.
• Scribble some cells (or areas) and some background: what is not painted is ignored."""
_CHECK = "Check before training"


class AnnotateWidget(QWidget):
    """Paint an annotation of an image.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    folder : Path, optional
        Folder of the autosaves; the user's data folder by default. It counts, as
        `delay_s` does, for the first one in a viewer.
    delay_s : float
        Time from a stroke to its autosave, in seconds.
    """

    def __init__(
        self,
        napari_viewer: ViewerModel,
        *,
        folder: Path | None = None,
        delay_s: float = 10.0,
    ) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._autosaver = autosaver_of(self._viewer, folder=folder, delay_s=delay_s)
        self._inspector = Inspector(self)
        self._position: tuple[float, ...] = ()
        self._build()
        self._lay_out()
        self._connect()
        self._watch_annotations()
        self._on_image()
        self._on_annotation()

    def annotation(self) -> Labels | None:
        """Return the layer that is painted in, or None."""
        layer: Labels | None = self.labels_box.layer()
        return layer

    def show_failure(self, failure: Failure) -> None:
        """Show an error, instead of any other."""
        self.files.show_failure(failure)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch for the closing of the window that we are docked in."""
        super().showEvent(event)
        window = self.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None:
            self._autosaver.guard(window)

    # -- layout -----------------------------------------------------------------

    def _build(self) -> None:
        self.image_box = LayerBox(
            self._viewer, "image", "Image", "The image to annotate"
        )
        self.axes_box = QComboBox()
        describe(self.axes_box, "Axes", "What the image's axes are: nothing says so")
        self.new_button = QPushButton("New annotation")
        describe(
            self.new_button,
            "New annotation",
            "Add an empty annotation on top of the image",
        )
        self.labels_box = LayerBox(
            self._viewer, "labels", "Annotation", "The annotation to paint in"
        )
        self.unpainted_box = QComboBox()
        self.unpainted_box.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        for value, text in _UNPAINTED.items():
            self.unpainted_box.addItem(text, value)
        describe(
            self.unpainted_box,
            "Unpainted is",
            "What is not painted, outside of finished regions: unknown pixels are "
            "ignored in training",
        )
        self.paint_tools = PaintTools(self._viewer, self._chosen_annotation)
        self.ways_label = plain_label("Three ways to annotate", _WAYS)
        self.count_label = plain_label("What is annotated")
        self.edit_tools = EditTools(self._viewer, self.labels_box)
        self.check_list = CheckList(self._viewer, self.labels_box)
        self.edit_fold = Fold("Correct cells", self.edit_tools)
        self.check_fold = Fold(_CHECK, self.check_list)
        self.files = AnnotationFiles(
            self._viewer, self.image_box, self.labels_box, self._autosaver
        )

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow
        )
        self._form.addRow("Image", self.image_box)
        self._form.addRow("Axes", self.axes_box)
        self._form.addRow(self.new_button)
        self._form.addRow("Annotation", self.labels_box)
        self._form.addRow("Unpainted is", self.unpainted_box)
        fill_dock(
            self,
            self.files.offer_box,
            self._form,
            self.ways_label,
            self.paint_tools,
            self.count_label,
            self.edit_fold,
            self.check_fold,
            self.files,
        )

    def _connect(self) -> None:
        self.image_box.layer_changed.connect(self._on_image)
        self.labels_box.layer_changed.connect(self._on_annotation)
        self.labels_box.activated.connect(self._on_chosen)
        self.new_button.clicked.connect(self._new)
        self.unpainted_box.activated.connect(self._set_unpainted)
        self.paint_tools.failed.connect(self.show_failure)
        self.edit_tools.edited.connect(self._on_edit)
        self.check_list.changed.connect(self._render_n_problems)
        self.check_list.fixed.connect(self._on_edit)
        for part in (self.edit_tools, self.check_list, self.files):
            part.acted.connect(self._forget_failures)
        self.files.opened.connect(self._on_opened)
        self._inspector.inspected.connect(self._render_inspected)
        self._inspector.failed.connect(self.show_failure)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        self.paint_tools.bind_keys(self._viewer)

    # -- drawing ----------------------------------------------------------------

    def _render(self) -> None:
        labels = self.annotation()
        self.new_button.setEnabled(self.image_box.layer() is not None)
        self.unpainted_box.setEnabled(labels is not None)
        self.paint_tools.show_annotation(labels)
        known = {} if labels is None else about(labels)
        unpainted = known.get("unpainted", "unknown")
        self.unpainted_box.setCurrentIndex(self.unpainted_box.findData(unpainted))
        if labels is None:
            self.ways_label.show()
            self.count_label.setText("Nothing is annotated yet: press “New annotation”")

    @guarded
    def _render_inspected(self, found: Inspected) -> None:
        counts = found.counts
        parts = [
            _plural(counts.n_cells, "cell"),
            _plural(found.n_regions, "finished region"),
        ]
        if found.n_planes > 1:
            parts.append(f"{counts.n_planes} of {found.n_planes} slices annotated")
        if counts.n_touching_pairs:
            parts.append(_plural(counts.n_touching_pairs, "touching pair"))
        if found.n_negative:
            ids = _plural(found.n_negative, "negative id")
            parts.append(f"{ids} (ignored, not saved: see Check)")
        self.count_label.setText(", ".join(parts))
        self.ways_label.setVisible(found.is_empty)
        self.paint_tools.class_list.show_counts(counts.classes)
        self.check_list.show_problems(found.problems)

    @guarded
    def _render_n_problems(self) -> None:
        n = self.check_list.n_problems
        self.check_fold.heading.setText(f"{_CHECK} ({n})" if n else _CHECK)

    # -- slots ------------------------------------------------------------------

    @guarded
    def _watch_annotations(self) -> None:
        """Autosave what another widget, or one before us, made an annotation."""
        for layer in layer_choices(self._viewer, "labels"):
            if "label_class" in about(layer) and not self._autosaver.is_watched(layer):
                self.files.watch(layer)

    @guarded
    def _on_image(self) -> None:
        layer = self.image_box.layer()
        choices = [] if layer is None else axes_choices(layer)
        self.axes_box.clear()
        self.axes_box.addItem("choose …", None)
        for axes in choices:
            self.axes_box.addItem(axes, axes)
        self._form.setRowVisible(self.axes_box, bool(choices))
        self.files.refresh()
        self._render()

    @guarded
    def _on_annotation(self) -> None:
        labels = self.annotation()
        self._inspector.want(labels)
        if labels is not None:
            self.count_label.setText("Counting …")  # no numbers of another one
        if labels is not None:
            for name in ("paint", "data"):
                getattr(labels.events, name).connect(self._on_edit)
            for name in ("selected_label", "mode"):
                getattr(labels.events, name).connect(self._on_brush)
            labels.events.metadata.connect(self._on_metadata)
            labels.events.set_data.connect(self._on_shown)
            if "label_class" in about(labels):
                self._watch_brush(labels)
        self.files.refresh()
        self._render()

    @guarded
    def _on_chosen(self) -> None:
        self._viewer.layers.selection.active = self.annotation()

    @guarded
    def _on_active(self) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and "shown_as" in about(active):
            # A result that comes is active for a moment; once it is corrected, it is
            # an annotation.
            active.events.metadata.connect(self._on_active)
        elif active is not None:
            self.labels_box.set_layer(active)
            self.image_box.set_layer(active)
            self._bind_active(active)
        self._render()

    def _bind_active(self, active: Any) -> None:
        labels = self.annotation()
        if labels is None or "label_class" not in about(labels):
            return
        # napari's own digits would move an image, or edit a finished region.
        if isinstance(active, ImageLayer) or active is regions_layer_of(labels):
            self.paint_tools.bind_keys(active)

    @guarded
    def _on_opened(self, labels: Labels) -> None:
        self._take(labels)

    @guarded
    def _forget_failures(self) -> None:
        """Show no error any more: the user went on."""
        for part in (self.edit_tools, self.check_list, self.files):
            part.failure.show_failure(None)

    @guarded
    def _on_edit(self) -> None:
        self._forget_failures()
        self._look_again()

    def _look_again(self) -> None:
        labels = self.annotation()
        shapes = None if labels is None else regions_layer_of(labels)
        if shapes is not None:
            shapes.events.data.connect(self._on_edit)
        self._inspector.want(labels)

    @guarded
    def _on_metadata(self) -> None:
        labels = self.annotation()
        if labels is not None and "label_class" in about(labels):
            painting.redraw(labels)
        self._look_again()
        self._render()

    @guarded
    def _on_brush(self) -> None:
        self._render()

    @guarded
    def _on_shown(self) -> None:
        # Undo and redo tell of themselves by this event only; so does another slice.
        position, self._position = self._position, tuple(self._viewer.dims.point)
        if position == self._position:
            self._look_again()

    @guarded
    def _new(self) -> None:
        self._forget_failures()
        axes = self.axes_box.currentData()
        labels = painting.new_annotation(self._viewer, self.image_box.layer(), axes)
        self.files.watch(labels)
        self._take(labels)
        self.ways_label.show()

    def _take(self, labels: Labels) -> None:
        self.labels_box.set_layer(labels)
        self._watch_brush(labels)
        self._render()

    def _watch_brush(self, labels: Labels) -> None:
        self.paint_tools.bind_keys(labels)
        # napari's own M may take the id of the background brush.
        bind_key(labels, "M", self.paint_tools.next_cell)

    def _chosen_annotation(self) -> Labels:
        """Return the chosen annotation; a layer of another origin becomes one."""
        self._forget_failures()  # who asks for it is about to do something
        labels = self.annotation()
        if labels is None:
            raise LabelError(
                "NU-L04", "there is no annotation yet: press “New annotation” first"
            )
        if "label_class" not in about(labels):
            image = painting.image_of(self._viewer, labels, self.image_box.layer())
            painting.adopt(labels, image)
            self.files.watch(labels)
            self._take(labels)
        return labels

    @guarded
    def _set_unpainted(self) -> None:
        labels = self._chosen_annotation()
        painting.set_unpainted(labels, self.unpainted_box.currentData())


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
