"""What to learn from: layers of the viewer, or two folders."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.events import Event, Note
from napari_unet.files.images import find_images
from napari_unet.files.pairs import find_pairs, read_pair
from napari_unet.widgets._choices import ImageChoice
from napari_unet.widgets._controls import PathRow, describe, plain_label, rows
from napari_unet.widgets._interrupted import as_kept
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about, full_resolution
from napari_unet.widgets._painted import (
    Painted,
    check_lies_on,
    check_shape,
    painted_of,
    regions_from_shapes,
    regions_layer_of,
)
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer
    from napari.utils.events import EventEmitter

    from napari_unet.imaging.arrays import Annotation, Image

    Pairs = list[tuple[Image, Annotation]]
    ReadPairs = Callable[[], Generator[Event, None, Pairs]]

_LAYERS, _FOLDERS = "layers of the viewer", "two folders"
_N_NAMED = 3
_REST_MS = 300


@dataclass(frozen=True)
class Counted(Event):
    """The slices of an annotation that count in training are counted."""

    text: str


@dataclass(frozen=True, eq=False)
class TrainedLayers:
    """Layers that training was given: they may be painted in while it runs.

    Parameters
    ----------
    labels : callable
        Returns the annotation's layer, or None once it is gone.
    painted : Painted
        What training was given; nobody writes to its array any more.
    source : str
        What the image calls itself.
    name : str
        Name of the image's layer.
    """

    labels: Callable[[], Labels | None]
    painted: Painted
    source: str
    name: str


@dataclass(frozen=True, eq=False)
class Taken:
    """What to learn from: how to read it, and where it is.

    Either its layers or its folders, as (images, masks, pattern, axes).
    """

    read: ReadPairs
    layers: TrainedLayers | None = None
    folders: tuple[str, str, str, str] | None = None


class TrainingData(QWidget):
    """Choose image layers and what was painted on them, or folders of both.

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
        self.source.currentIndexChanged.connect(self._on_source)
        self._rest.timeout.connect(self._count_now)
        self._counter.happened.connect(self._on_counted)
        self._counter.failed.connect(self.failed.emit)
        self.labels.layer_changed.connect(self._on_labels)
        self._on_labels()
        self._on_source()

    @property
    def is_folders(self) -> bool:
        """Whether two folders are learned from."""
        return self.source.currentText() == _FOLDERS

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
        return self._taken_layers(image, self._painted_on(image))

    def take_again(self, image: str, painted: Painted | None) -> Taken:
        """Return an image layer with what was painted on it when training began.

        Parameters
        ----------
        image : str
            Name of the layer.
        painted : Painted or None
            The annotation as it was.

        Raises
        ------
        UNetError
            No such layer is open, or it has another shape.
        """
        named = [layer for layer in self.images.offered if layer.name == image]
        if not named or painted is None:
            raise ImageError(
                "NU-I06",
                f'no image layer is called "{image}": open that image to go on with '
                "its training",
            )
        if named[0] not in self.images.layers():
            self.images.choose(named[0])
        chosen = self.images.image()
        check_shape(painted, chosen)
        return self._taken_layers(chosen, painted)

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    def _build(self, viewer: ViewerModel) -> None:
        self.source = QComboBox()
        self.source.addItems([_LAYERS, _FOLDERS])
        describe(self.source, "Learn from", "Where images and annotations come from")
        self.images = ImageChoice(viewer)
        self.labels = LayerBox(
            viewer, "labels", "Annotation", "The layer that you painted cells in"
        )
        self.slices = plain_label("Annotated slices")
        self.image_folder = PathRow("Image folder", "Folder of images: TIFF or PNG")
        self.mask_folder = PathRow(
            "Mask folder", "Folder of their masks, each of the same name as its image"
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
        self._layer_rows = rows(("Image", self.images), ("Annotation", self.labels))
        self._folder_rows = rows(
            ("Images", self.image_folder),
            ("Masks", self.mask_folder),
            ("Pattern", self.pattern),
            ("Axes", self.axes),
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(rows(("Learn from", self.source)))
        for part in (self._layer_rows, self.slices, self._folder_rows):
            layout.addWidget(part)

    def _on_source(self) -> None:
        self._layer_rows.setVisible(not self.is_folders)
        self._folder_rows.setVisible(self.is_folders)
        self._count()

    @guarded
    def _on_labels(self) -> None:
        labels = self.labels.layer()
        self._watch(labels)
        if labels is not None:
            self.images.prefer(annotated_image(labels, self._by_likelihood()))
        self._count()

    def _by_likelihood(self) -> list[Any]:
        chosen = self.images.layers()
        return chosen + [x for x in self.images.offered if x not in chosen]

    @guarded
    def _count(self) -> None:
        """Count the slices in the background, as soon as painting rests."""
        layer = self.labels.layer()
        is_stack = not self.is_folders and layer is not None and layer.ndim > 2
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
        return Taken(read, TrainedLayers(reference, painted, image.source, name))

    def _taken_folders(self) -> Taken:
        images, masks = self.image_folder.path(), self.mask_folder.path()
        if images is None or masks is None:
            raise FolderError(
                "NU-F01", "images and masks are needed: choose a folder for each"
            )
        pattern, axes = self.pattern.text().strip(), self.axes.text().strip()
        return taken_folders(str(images), str(masks), pattern, axes)


def taken_folders(images: str, masks: str, pattern: str, axes: str) -> Taken:
    """Return two folders to learn from; an empty pattern takes all images."""
    read = partial(
        read_folders, Path(images), Path(masks), pattern or None, axes or None
    )
    return Taken(read, folders=(images, masks, pattern, axes))


def annotated_image(labels: Labels, images: Sequence[Layer]) -> Layer | None:
    """Return the image that an annotation was made for, or None.

    Parameters
    ----------
    labels : napari Labels layer
        The annotation. What was noted when it was made goes first, then its name,
        which begins with the image's, then where it lies.
    images : sequence of napari Image layers
        To choose from, the likeliest first.
    """
    noted = about(labels).get("image")
    image = noted() if isinstance(noted, weakref.ref) else None
    if image in images:
        return image
    fitting = [image for image in images if _lies_on(labels, image)]
    by_name = [x for x in fitting if str(labels.name).startswith(str(x.name))]
    # "cells 10 annotation" begins with "cells 1", too.
    by_name.sort(key=lambda image: -len(str(image.name)))
    return next(iter(by_name or fitting), None)


def _lies_on(labels: Labels, image: Layer) -> bool:
    shape = full_resolution(image).shape[: image.ndim]
    return (
        tuple(full_resolution(labels).shape) == tuple(shape[-labels.ndim :])
        and np.allclose(labels.scale, image.scale[-labels.ndim :])
        and np.allclose(labels.translate, image.translate[-labels.ndim :])
    )


def _changes_of(labels: Labels) -> list[EventEmitter]:
    events = labels.events
    # Of these, undo emits `set_data` only, and strokes out of sight emit no `set_data`.
    emitters = [events.paint, events.labels_update, events.set_data, events.metadata]
    shapes = regions_layer_of(labels)
    return emitters if shapes is None else [*emitters, shapes.events.data]


def counting(painted: Painted) -> Generator[Event, None, None]:
    """Count the slices that count, and yield the count."""
    yield Counted(count_slices(painted.annotation()))


def count_slices(annotation: Annotation) -> str:
    """Return how many slices of a stack count in training; "" for a plane."""
    if annotation.labels.ndim == 2:
        return ""
    counts = annotation.is_known.any(axis=(-2, -1))
    return (
        f"{np.count_nonzero(counts)} of {counts.size} slices count: those with a "
        "painted pixel or a finished region"
    )


def read_folders(
    images: Path, masks: Path, pattern: str | None, axes: str | None
) -> Generator[Event, None, Pairs]:
    """Read images and the masks of the same name; yield notes, return the pairs.

    Raises
    ------
    UNetError
        A folder is missing, nothing fits together, or a file can't be read.
    """
    pairs, missing = find_pairs(find_images(images, pattern), masks)
    if missing:
        names = ", ".join(path.name for path in missing[:_N_NAMED])
        n_more = len(missing) - _N_NAMED
        more = f" and {n_more} more" if n_more > 0 else ""
        yield Note(f"no mask in {masks} for {names}{more}: left out", is_warning=True)
    found: Pairs = []
    notes: list[str] = []
    for image, mask in pairs:
        found.append(read_pair(image, mask, axes=axes, notes=notes))
        # Something to stop at between two files.
        yield Note(f"{len(pairs)} images with masks")
    for note in dict.fromkeys(notes):
        yield Note(note)
    return found
