"""What is to be measured: labels, and perhaps the image that they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from napari_unet.errors import ImageError, LabelError
from napari_unet.widgets._choices import ImageChoice
from napari_unet.widgets._classes import classes_of
from napari_unet.widgets._controls import describe, rows, set_row_visible
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import (
    about,
    axes_choices,
    full_resolution,
    known_axes,
    pixel_size_um_of,
    size_text,
    unwrapped,
)
from napari_unet.widgets._measure_work import ToMeasure
from napari_unet.widgets._painted import annotated_image, check_lies_on
from napari_unet.widgets._worker import guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_unet.imaging.arrays import Image
    from napari_unet.widgets._worker import Failure

_NO_AXES = "choose the axes …"


class CellsChoice(QWidget):
    """Choose labels, and the image whose intensities are measured, if any.

    Until the user says otherwise it is the image that the labels were made for.

    Signals
    -------
    failed(Failure)
        A slot went wrong.
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._is_chosen = False
        self._build()
        self._connect()
        self._on_labels()

    def take(self) -> ToMeasure:
        """Return what to measure; in-memory labels are copied: painting may go on.

        Raises
        ------
        LabelError
            No labels (NU-L04), or of another shape or place than the image (NU-L02).
        ImageError
            Axes that nobody named (NU-I09), or what `ImageChoice.image` raises.
        """
        labels = self.labels_box.layer()
        if labels is None:
            raise LabelError(
                "NU-L04", "there are no labels to measure: paint or predict cells first"
            )
        image = self.images.image() if self.with_image.isChecked() else None
        if image is None:
            axes = _axes_of(labels, self.axes.currentText())
        else:
            axes = image.axes.replace("C", "")
            _check_shape(labels, image)
            check_lies_on(labels, self.images.layers()[0])
        data = full_resolution(labels)
        return ToMeasure(
            labels=data.copy() if isinstance(data, np.ndarray) else data,
            axes=axes,
            source=f'labels "{labels.name}"',
            image=image,
            pixel_size_um=pixel_size_um_of(labels, axes),
            label_class=about(labels).get("label_class"),
            classes=classes_of(labels),
        )

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    def _build(self) -> None:
        self.labels_box = LayerBox(
            self._viewer, "labels", "Labels", "The cells to be measured"
        )
        self.axes = QComboBox()
        describe(self.axes, "Axes of the labels", "Nothing says what their axes are")
        self.with_image = QCheckBox("Intensities of an image")
        describe(
            self.with_image,
            "Intensities of an image",
            "Measure how bright each cell is, channel by channel",
        )
        self.images = ImageChoice(self._viewer)
        self._image_rows = rows(("Image", self.images))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(rows(("Labels", self.labels_box), ("Axes", self.axes)))
        layout.addWidget(self.with_image)
        layout.addWidget(self._image_rows)

    def _connect(self) -> None:
        self.labels_box.layer_changed.connect(self._on_labels)
        self.with_image.toggled.connect(self._on_toggled)
        self.with_image.clicked.connect(self._on_clicked)
        # After the boxes, which hear of layers by themselves.
        self._viewer.layers.events.inserted.connect(self._on_layers)
        self._viewer.layers.events.removed.connect(self._on_layers)

    def _render(self) -> None:
        with_image = self.with_image.isChecked()
        self._image_rows.setVisible(with_image)
        set_row_visible(self.axes, self.axes.count() > 1 and not with_image)

    def _on_clicked(self) -> None:
        self._is_chosen = True

    @guarded
    def _on_toggled(self) -> None:
        self._render()

    @guarded
    def _on_layers(self) -> None:
        self._prefer_image()

    @guarded
    def _on_labels(self) -> None:
        labels = self.labels_box.layer()
        self.axes.clear()
        self.axes.addItem(_NO_AXES)
        self.axes.addItems([] if labels is None else _choices(labels))
        self._is_chosen = False
        self._prefer_image()

    def _prefer_image(self) -> None:
        labels = self.labels_box.layer()
        offered = self.images.offered
        image = None if labels is None else annotated_image(labels, offered)
        self.images.prefer(image)
        if not self._is_chosen:
            self.with_image.setChecked(image is not None)
        self._render()


def _choices(labels: Labels) -> list[str]:
    """Return the axes that labels may have, or [] where they are clear."""
    return [axes for axes in axes_choices(labels) if "C" not in axes]


def _axes_of(labels: Labels, chosen: str) -> str:
    choices = _choices(labels)
    axes = known_axes(labels) or (chosen if chosen in choices else "")
    if not axes or "C" in axes:
        told = f": choose their axes ({' or '.join(choices)})" if choices else ""
        raise ImageError(
            "NU-I09",
            f'labels "{labels.name}" have {labels.ndim} axes, and nothing says which '
            f"are time, slices, rows and columns{told}",
        )
    return axes


def _check_shape(labels: Labels, image: Image) -> None:
    shape = tuple(full_resolution(labels).shape)
    if shape != image.shape:
        raise LabelError(
            "NU-L02",
            f'labels "{labels.name}" are {size_text(shape)} but {image.source} is '
            f"{size_text(image.shape)}: choose the image that these cells are of, or "
            "measure without intensities",
        )
