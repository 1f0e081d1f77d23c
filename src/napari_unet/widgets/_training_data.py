"""What to learn from: layers of the viewer or two folders, to find cells or images."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.events import Event, Note
from napari_unet.widgets._choices import ImageChoice
from napari_unet.widgets._controls import (
    PathRow,
    describe,
    plain_label,
    rows,
    set_row_visible,
)
from napari_unet.widgets._interrupted import as_kept
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import (
    axes_choices,
    dropped_alpha,
    image_from_layers,
)
from napari_unet.widgets._painted import (
    Painted,
    annotated_image,
    check_lies_on,
    check_shape,
    painted_of,
    regions_from_shapes,
    regions_layer_of,
)
from napari_unet.widgets._taken import (
    Counted,
    Taken,
    TrainedLayers,
    count_slices,
    counting,
    taken_folders,
)
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.utils.events import EventEmitter

    from napari_unet.imaging.arrays import Image
    from napari_unet.widgets._taken import Pairs

_CELLS, _IMAGES = "find cells", "image from image"
_LAYERS, _FOLDERS = "layers of the viewer", "two folders"
_REST_MS = 300


class TrainingData(QWidget):
    """Choose images and what to learn from them: layers of both, or folders.

    That is what was painted on them or, to make images from images, their targets.

    Signals
    -------
    failed(Failure)
        Looking at the layers went wrong.
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._watched: list[EventEmitter] = []
        self._counter = Runner(self)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._build(viewer)
        self._lay_out()
        self.task.currentIndexChanged.connect(self._on_task)
        self.source.currentIndexChanged.connect(self._on_source)
        self.images.changed.connect(self.target.refresh)
        self._rest.timeout.connect(self._count_now)
        self._counter.happened.connect(self._on_counted)
        self._counter.failed.connect(self.failed.emit)
        self.labels.layer_changed.connect(self._on_labels)
        self._on_task()

    @property
    def is_folders(self) -> bool:
        """Whether two folders are learned from."""
        return self.source.currentText() == _FOLDERS

    @property
    def makes_images(self) -> bool:
        """Whether images are to be made from images."""
        return self.task.currentText() == _IMAGES

    def choose_task(self, *, makes_images: bool) -> None:
        """Choose what is to be learned."""
        self.task.setCurrentText(_IMAGES if makes_images else _CELLS)

    def take(self) -> Taken:
        """Return what reads the images and annotations, in the background.

        The annotation is copied at once, so that painting may go on.

        Raises
        ------
        UNetError
            What is chosen can't be learned from, or nothing is chosen.
        """
        if self.is_folders:
            return self._taken_folders()
        image = self.images.image()
        if self.makes_images:
            return self._taken_images(image)
        return self._taken_layers(image, self._painted_on(image))

    def take_again(
        self, image: str, painted: Painted | None, target: str = ""
    ) -> Taken:
        """Return an image layer with what training began to learn from it.

        Parameters
        ----------
        image : str
            Name of the layer.
        painted : Painted or None
            The annotation as it was.
        target : str
            Name of the layer of the image to be made, if it is images that are made.

        Raises
        ------
        UNetError
            No such layer is open, or it has another shape.
        """
        layer = self._named(image)
        if layer not in self.images.layers():
            self.images.choose(layer)
        chosen = self.images.image()
        if target or painted is None:
            self.target.set_layer(self._named(target))
            return self._taken_images(chosen)
        check_shape(painted, chosen)
        return self._taken_layers(chosen, painted)

    def _named(self, name: str) -> Any:
        for layer in self.images.offered:
            if layer.name == name:
                return layer
        raise ImageError(
            "NU-I06",
            f'no image layer is called "{name}": open that image to go on with its '
            "training",
        )

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    def _build(self, viewer: ViewerModel) -> None:
        self.task = QComboBox()
        self.task.addItems([_CELLS, _IMAGES])
        describe(
            self.task,
            "Task",
            "Find the cells of an image, or make one image from another: without "
            "noise, of another contrast, with finer pixels",
        )
        self.source = QComboBox()
        self.source.addItems([_LAYERS, _FOLDERS])
        describe(self.source, "Learn from", "Where the images come from")
        self.images = ImageChoice(viewer)
        self.labels = LayerBox(
            viewer, "labels", "Annotation", "The layer that you painted cells in"
        )
        self.target = LayerBox(
            viewer,
            "image",
            "Target",
            "The image to be made: of the same size, or 2 or 4 times finer",
            accepts=lambda layer: layer not in self.images.layers(),
        )
        self.slices = plain_label("Annotated slices")
        self.image_folder = PathRow("Image folder", "Folder of images: TIFF or PNG")
        self.mask_folder = PathRow(
            "Mask folder", "Folder of their masks, each of the same name as its image"
        )
        self.target_folder = PathRow(
            "Target folder",
            "Folder of the images to be made, each of the same name as its image and "
            "of its size, or 2 or 4 times finer",
        )
        self.pattern = QLineEdit()
        self.pattern.setPlaceholderText("all images")
        describe(
            self.pattern, "Pattern", "Take only files whose name fits, as in train_*"
        )
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the files say")
        describe(
            self.axes, "Axes", "Axes of the images where the files don't say: ZYX, CYX"
        )

    def _lay_out(self) -> None:
        self._layer_rows = rows(
            ("Image", self.images),
            ("Annotation", self.labels),
            ("Target", self.target),
        )
        self._folder_rows = rows(
            ("Images", self.image_folder),
            ("Masks", self.mask_folder),
            ("Targets", self.target_folder),
            ("Pattern", self.pattern),
            ("Axes", self.axes),
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(rows(("Task", self.task), ("Learn from", self.source)))
        for part in (self._layer_rows, self.slices, self._folder_rows):
            layout.addWidget(part)

    @guarded
    def _on_task(self) -> None:
        for control in (self.labels, self.mask_folder):
            set_row_visible(control, not self.makes_images)
        for control in (self.target, self.target_folder):
            set_row_visible(control, self.makes_images)
        if self.makes_images:
            # No annotation says any more which image is meant.
            self.images.prefer(None)
        self._on_labels()
        self._on_source()

    @guarded
    def _on_source(self) -> None:
        self._layer_rows.setVisible(not self.is_folders)
        self._folder_rows.setVisible(self.is_folders)
        self._count()

    @guarded
    def _on_labels(self) -> None:
        labels = self.labels.layer()
        self._watch(labels)
        if labels is not None and not self.makes_images:
            self.images.prefer(annotated_image(labels, self._by_likelihood()))
        self._count()

    def _by_likelihood(self) -> list[Any]:
        chosen = self.images.layers()
        return chosen + [x for x in self.images.offered if x not in chosen]

    @guarded
    def _count(self) -> None:
        """Count the slices in the background, as soon as painting rests."""
        layer = self.labels.layer()
        is_counted = not (self.is_folders or self.makes_images)
        is_stack = is_counted and layer is not None and layer.ndim > 2
        self.slices.setVisible(is_stack)
        if is_stack:
            self._rest.start()
        else:
            self._rest.stop()

    @guarded
    def _count_now(self) -> None:
        layer = self.labels.layer()
        if layer is None or self.slices.isHidden():
            return
        # Finished regions may have come.
        self._watch(layer)
        painted = painted_of(layer)
        if not self._counter.run(lambda: counting(painted)):
            self._rest.start()

    @guarded
    def _on_counted(self, events: list[Counted]) -> None:
        self.slices.setText(events[-1].text)

    def _watch(self, layer: Labels | None) -> None:
        """Count anew whenever this annotation changes, and for no other."""
        for emitter in self._watched:
            emitter.disconnect(self._count)
        self._watched = [] if layer is None else _changes_of(layer)
        for emitter in self._watched:
            emitter.connect(self._count)

    def _painted_on(self, image: Image) -> Painted:
        layer = self.labels.layer()
        if layer is None:
            raise LabelError(
                "NU-L04",
                f"{image.source} has no annotation: make a labels layer with Annotate "
                "and paint a few cells",
            )
        painted = painted_of(layer)
        check_shape(painted, image)
        check_lies_on(layer, self.images.layers()[0])
        shapes = regions_layer_of(layer)
        regions = [] if shapes is None else regions_from_shapes(shapes, layer)
        # A copy: painting goes on while training runs.
        copy = replace(painted, labels=np.copy(painted.labels), regions=regions)
        return as_kept(copy)

    def _taken_layers(self, image: Image, painted: Painted) -> Taken:
        notes = self.images.notes()

        def read() -> Generator[Event, None, Pairs]:
            for note in notes:
                yield Note(note)
            # Here and not above: with a large stack it takes a second.
            annotation = painted.annotation()
            count = count_slices(annotation)
            if count:
                yield Note(count)
            return [(image, annotation)]

        layer = self.labels.layer()
        reference = (lambda: None) if layer is None else weakref.ref(layer)
        name = str(self.images.layers()[0].name)
        return Taken(read, TrainedLayers(reference, image.source, name, painted))

    def _taken_images(self, image: Image) -> Taken:
        layer = self.target.layer()
        if layer is None:
            raise ImageError(
                "NU-I06",
                f"{image.source} has no target: open the image to be made from it as "
                "another layer, and choose it",
            )
        # Axes that nothing in the target names are those of the image.
        is_alike = bool(axes_choices(layer))
        axes = image.axes[-layer.ndim :] if is_alike else None
        made = image_from_layers([layer], axes)
        notes = [*self.images.notes(), *dropped_alpha([layer])]

        def read() -> Generator[Event, None, Pairs]:
            for note in notes:
                yield Note(note)
            return [(image, made)]

        first = self.images.layers()[0]
        # An axis of channels within a layer is none of the image's.
        grid = weakref.ref(first) if first.ndim == len(image.shape) else (lambda: None)
        layers = TrainedLayers(
            grid, image.source, str(first.name), target=weakref.ref(layer)
        )
        return Taken(read, layers, target=str(layer.name))

    def _taken_folders(self) -> Taken:
        are_targets = self.makes_images
        row = self.target_folder if are_targets else self.mask_folder
        images, learned = self.image_folder.path(), row.path()
        if images is None or learned is None:
            what = "targets" if are_targets else "masks"
            raise FolderError(
                "NU-F01", f"images and {what} are needed: choose a folder for each"
            )
        pattern, axes = self.pattern.text().strip(), self.axes.text().strip()
        return taken_folders(
            str(images), str(learned), pattern, axes, are_targets=are_targets
        )


def _changes_of(labels: Labels) -> list[EventEmitter]:
    events = labels.events
    # Of these, undo emits `set_data` only, and strokes out of sight emit no `set_data`.
    emitters = [events.paint, events.labels_update, events.set_data, events.metadata]
    shapes = regions_layer_of(labels)
    return emitters if shapes is None else [*emitters, shapes.events.data]
