"""The lower part of Annotate: save, load, and restore what was not saved."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.annotations import load_annotation
from napari_unet.files.formats import image_stem
from napari_unet.widgets._annotation_formats import (
    Loaded,
    Saved,
    check_free,
    loading,
    names_of,
    saving,
    shape_if_clear,
    to_save,
)
from napari_unet.widgets._autosave import is_open
from napari_unet.widgets._autosave_files import (
    Autosave,
    discard_autosave,
    fingerprint_of,
    list_autosaves,
)
from napari_unet.widgets._controls import button, plain_label, question
from napari_unet.widgets._file_filters import (
    as_written,
    filters_to_load,
    filters_to_save,
    format_of_filter,
)
from napari_unet.widgets._layers import about, unwrapped
from napari_unet.widgets._painted import painted_of
from napari_unet.widgets._painting import (
    image_key,
    image_of,
    open_annotation,
    set_unpainted,
)
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from napari_unet.events import Event
    from napari_unet.files.annotations import StoredAnnotation, Unpainted
    from napari_unet.files.formats import Format
    from napari_unet.widgets._autosave import Autosaver
    from napari_unet.widgets._layer_box import LayerBox


class AnnotationFiles(QWidget):
    """Save and load the annotation of an image.

    Parameters
    ----------
    viewer : napari viewer
        Opened annotations go there.
    image_box, labels_box : LayerBox
        Where the image and its annotation are chosen.
    autosaver : Autosaver
        Watches what is opened here.

    Attributes
    ----------
    offer_box : QWidget
        Offers an unsaved annotation; to be laid out where it is seen.

    Signals
    -------
    opened(napari Labels layer)
        An annotation was loaded or restored.
    acted()
        Something was done or tried, before an error of it is shown: what went wrong
        before is over.
    """

    opened = Signal(object)
    acted = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        image_box: LayerBox,
        labels_box: LayerBox,
        autosaver: Autosaver,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._image_box, self._labels_box = image_box, labels_box
        self._autosaver = autosaver
        self._saver = Runner(self)
        self._offer: Autosave | None = None
        # What is to be asked about annotations that were loaded.
        self._questions: WeakKeyDictionary[Labels, str] = WeakKeyDictionary()
        self._saving: weakref.ref[Labels] | None = None
        self._loading: weakref.ref[ImageLayer] | None = None
        self._build()
        self._connect()
        self.refresh()

    def watch(
        self, labels: Labels, *, path: Path | None = None, saved_digest: str = ""
    ) -> None:
        """Autosave an annotation from now on, for the image that it lies on."""
        image = image_of(self._viewer, labels, self._image_box.layer())
        if image is not None:
            self._autosaver.watch(
                labels, image=image_key(image), path=path, saved_digest=saved_digest
            )

    def save_to(
        self, path: Path, *, chosen: Format | None = None, may_replace: bool = False
    ) -> None:
        """Save the annotation in the background: as x.tif and x.json, or otherwise.

        Parameters
        ----------
        path : Path
            Its suffix says the format; where it has none it gets one.
        chosen : Format, optional
            For a path without suffix; the label TIFF by default.
        may_replace : bool
            The user wants a file that is there to be replaced. The file of an open
            layer is kept in any case, as are a TIFF and a JSON that are no annotation
            of ours.

        Raises
        ------
        LabelError
            There is none (NU-L04).
        SaveError
            The file is something else (NU-S03).
        """
        labels = self._chosen()
        self._begin()
        path, chosen = as_written(path, chosen)
        check_free(self._viewer, path, labels, may_replace=may_replace)
        image = image_of(self._viewer, labels, self._image_box.layer())
        events = saving(path, chosen, to_save(labels, image))
        if self._run(events, f"Saving {path} …"):
            self._saving = weakref.ref(labels)

    def load_from(self, path: Path, *, chosen: Format | None = None) -> None:
        """Open a saved annotation of the chosen image, read in the background.

        A file that says nothing of what is not painted: that is asked.

        Parameters
        ----------
        path : Path
            A file in any of the formats; for a movie any file of its folder.
        chosen : Format, optional
            The format, where the content may mislead: a mask of a movie.

        Raises
        ------
        ImageError
            There is no image (NU-I06).
        """
        self._begin()
        image = self._image_box.layer()
        if image is None:
            raise ImageError("NU-I06", "there is no image to annotate: open one first")
        events = loading(path, chosen, shape_if_clear(image), names_of(image))
        if self._run(events, f"Loading {path} …"):
            self._loading = weakref.ref(unwrapped(image))

    def refresh(self) -> None:
        """Look for unsaved annotations of the chosen image, and draw everything."""
        image, labels = self._image_box.layer(), self._labels_box.layer()
        self.load_button.setEnabled(image is not None)
        self.save_button.setEnabled(labels is not None)
        # One that napari's own Open added is an annotation from the first.
        is_ours = labels is not None and "label_class" in about(labels)
        if is_ours and not self._autosaver.is_watched(labels):
            self.watch(labels)
        question = "" if labels is None else self._questions.get(labels, "")
        self.ask_box.setVisible(bool(question))
        self._ask_label.setText(question)
        self._offer = self._newest_autosave()
        self.offer_box.setVisible(self._offer is not None)
        if self._offer is not None:
            when = self._offer.saved_at.astimezone().strftime("%Y-%m-%d %H:%M")
            self.offer_label.setText(
                f"An unsaved annotation of “{image.name}” from {when} was found."
            )

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self._begin()
        self.failure.show_failure(failure)

    def _begin(self) -> None:
        self.failure.show_failure(None)
        self.acted.emit()

    def _build(self) -> None:
        self.save_button = button(
            "Save …", "Save as a TIFF and a JSON file, or for another program"
        )
        self.load_button = button(
            "Load …", "Load an annotation of this image, from any program"
        )
        self.message = plain_label("What was saved or loaded")
        self.failure = FailureBox()
        self.restore_button = button("Restore", "Open the unsaved annotation")
        self.discard_button = button("Discard", "Delete the unsaved annotation")
        self.offer_box, self.offer_label = question(
            "Unsaved annotation", self.restore_button, self.discard_button
        )
        self.unknown_button = button("Unknown", "Only what is painted counts")
        self.background_button = button(
            "Background", "All cells are painted: the rest is background"
        )
        self.ask_box, self._ask_label = question(
            "What is not painted?", self.unknown_button, self.background_button
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        buttons.addWidget(self.save_button)
        buttons.addWidget(self.load_button)
        layout.addLayout(buttons)
        for widget in (self.ask_box, self.message, self.failure):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.save_button.clicked.connect(self._choose_and_save)
        self.load_button.clicked.connect(self._choose_and_load)
        self.restore_button.clicked.connect(self._restore)
        self.discard_button.clicked.connect(self._discard)
        self.unknown_button.clicked.connect(self._answer_unknown)
        self.background_button.clicked.connect(self._answer_background)
        self._autosaver.failed.connect(self.show_failure)
        self._saver.happened.connect(self._on_events)
        self._saver.failed.connect(self._on_failed)

    def _chosen(self) -> Labels:
        labels: Labels | None = self._labels_box.layer()
        if labels is None:
            raise LabelError(
                "NU-L04", "there is no annotation yet: press “New annotation” first"
            )
        return labels

    def _run(self, events: Generator[Event, None, None], doing: str) -> bool:
        has_started = self._saver.run(lambda: events)
        # One thing at a time: what runs already says itself when it is done.
        if has_started:
            self.message.setText(doing)
        return has_started

    def _open(self, stored: StoredAnnotation, name: str, image: ImageLayer) -> Labels:
        return open_annotation(self._viewer, image, stored, name=name)

    def _newest_autosave(self) -> Autosave | None:
        image = self._image_box.layer()
        if image is None:
            return None
        found = list_autosaves(image_key(image), self._autosaver.folder)
        return next((one for one in found if not is_open(one.path)), None)

    @guarded
    def _choose_and_save(self) -> None:
        labels = self._chosen()
        text, kind = QFileDialog.getSaveFileName(
            self,
            "Save annotation",
            f"{labels.name}.tif",
            filters_to_save(is_stack=labels.ndim > 2),
        )
        if not text:
            return
        chosen = format_of_filter(kind)
        path, _ = as_written(Path(text), chosen)
        # The dialogue asks about files, but not about a movie's folder.
        is_asked = path == Path(text) and not path.is_dir()
        if is_asked or self._may_replace(path):
            self.save_to(path, chosen=chosen, may_replace=True)

    def _may_replace(self, path: Path) -> bool:
        """Ask about a file that the dialogue did not see: we added its suffix."""
        if not path.exists():
            return True
        answer = QMessageBox.question(
            self, "Save annotation", f"{path} is there already. Replace it?"
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    @guarded
    def _choose_and_load(self) -> None:
        path, kind = QFileDialog.getOpenFileName(
            self, "Load annotation", "", filters_to_load()
        )
        if path:
            self.load_from(Path(path), chosen=format_of_filter(kind))

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Saved):
                self._on_saved(event)
            elif isinstance(event, Loaded):
                self._on_loaded(event)

    def _on_saved(self, event: Saved) -> None:
        self.message.setText("\n".join([f"Saved {event.path}", *event.notes]))
        labels = None if self._saving is None else self._saving()
        if labels is not None and event.fingerprint:
            self._autosaver.mark_saved(labels, event.fingerprint)

    def _on_loaded(self, event: Loaded) -> None:
        image = None if self._loading is None else self._loading()
        if image is None or image not in self._viewer.layers:
            self.message.setText(f"{event.path} is not shown: its image is gone")
            return
        self.message.setText("")  # where it can't be opened the failure says it all
        labels = self._open(event.stored, image_stem(event.path), image)
        digest = ""
        if event.labels_digest:
            # Taken from the layers: Shapes round the corners of regions to float32.
            painted = painted_of(labels)
            digest = fingerprint_of(
                event.labels_digest, painted, painted.regions, painted.unpainted
            )
        self.watch(labels, saved_digest=digest)
        self.message.setText("\n".join([f"Loaded {event.path}", *event.notes]))
        if event.stored.unpainted is None:
            self._questions[labels] = f"What is not painted in {event.path.name}?"
        self.opened.emit(labels)
        self.refresh()

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        self.message.setText("")
        self.show_failure(failure)

    @guarded
    def _restore(self) -> None:
        if self._offer is not None:
            path = self._offer.path
            image = self._image_box.layer()
            labels = self._open(load_annotation(path), self._offer.layer, image)
            self.watch(labels, path=path)
            self.opened.emit(labels)
            self.refresh()

    @guarded
    def _discard(self) -> None:
        if self._offer is not None:
            discard_autosave(self._offer.path)
            self.refresh()

    @guarded
    def _answer_unknown(self) -> None:
        self._answer("unknown")

    @guarded
    def _answer_background(self) -> None:
        self._answer("background")

    def _answer(self, unpainted: Unpainted) -> None:
        labels = self._chosen()
        self._questions.pop(labels, None)
        set_unpainted(labels, unpainted)
        self.refresh()
