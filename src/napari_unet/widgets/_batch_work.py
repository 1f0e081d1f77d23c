"""The work of Batch: a preview of one file, and the run over all of them; no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_unet.errors import FolderError
from napari_unet.events import Event
from napari_unet.files.folders import look_through
from napari_unet.files.images import read_image
from napari_unet.widgets._batch_open import Opened, is_large
from napari_unet.widgets._batch_progress import with_progress
from napari_unet.widgets._layers import size_text
from napari_unet.widgets._prediction import Predicted, segmentation

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.events import Mailbox
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model

# Of a large image its middle is previewed, so many pixels a side.
_PREVIEW_PX = 2048


@dataclass(frozen=True)
class Listed(Event):
    """The files of a folder that is not run yet; `chosen` is the one looked at."""

    paths: tuple[Path, ...]
    chosen: int


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Parameters
    ----------
    model : Model or Path
        The model to apply.
    source : Path
        Folder of the images, or one image.
    output : Path, optional
        Folder of the results; a preview needs none.
    config : PredictConfig
        How to apply the model.
    pattern, axes : str, optional
        As for `segment_folder`.
    settings : mapping
        Its other keyword arguments.
    """

    model: Model | Path
    source: Path
    output: Path | None
    config: PredictConfig
    pattern: str | None = None
    axes: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check_output(self) -> Path:
        """Return the folder of the results.

        Raises
        ------
        FolderError
            None was given (NU-F01).
        """
        if self.output is None:
            raise FolderError("NU-F01", "an output folder is needed: choose one")
        return self.output

    def again(self) -> Asked:
        """Return this for a run that passes over what is done."""
        return replace(self, settings={**self.settings, "resume": True})

    def run(self, mailbox: Mailbox) -> Generator[Event, None, None]:
        """Yield the events of `segment_folder`, and how far it is."""
        # Here and not above: importing torch takes seconds.
        from napari_unet.batch import segment_folder
        from napari_unet.learning.device import spare_one_core

        spare_one_core()
        events = segment_folder(
            self.model,
            self.source,
            self.check_output(),
            pattern=self.pattern,
            config=self.config,
            axes=self.axes,
            mailbox=mailbox,
            **self.settings,
        )
        yield from with_progress(cast("Generator[Event, None, None]", events))

    def preview(self, path: Path | None = None) -> Generator[Event, None, None]:
        """Yield the events of segmenting one file, and in the end what was found.

        Nothing is written. Without a path it is the first one of the folder, whose
        files are told as well.
        """
        if path is None:
            path = yield from self._first()
        image = read_image(path, axes=self.axes)
        image, origin, notes = _part(image)
        for event in segmentation(self.model, image, self.config, notes):
            if isinstance(event, Predicted):
                yield _opened(path, image, event, origin)
            else:
                yield event

    def _first(self) -> Generator[Event, None, Path]:
        if self.source.is_file():
            yield Listed((self.source,), 0)
            return self.source
        found = look_through(
            self.source,
            self.pattern,
            recursive=bool(self.settings.get("recursive", True)),
            without=self.output,
        )
        paths = tuple(sorted([*found.images, *found.others]))
        yield Listed(paths, paths.index(found.images[0]))
        return found.images[0]


def _opened(
    path: Path, image: Image, found: Predicted, origin: tuple[int, int] | None
) -> Opened:
    if found.labels is not None:
        return Opened(path, image, found.labels, origin=origin)
    # Of a made image each channel has its name.
    names = tuple(role.partition(":")[2] for role in found.roles)
    values = replace(image, data=found.outputs, channel_names=names, pixel_size_um=None)
    return Opened(path, image, values=values, origin=origin)


def _part(image: Image) -> tuple[Image, tuple[int, int] | None, Sequence[str]]:
    """Return the middle of a large image and where it begins; others as they are."""
    if not is_large(image):
        return replace(image, data=np.asarray(image.data)), None, ()
    height, width = image.shape[-2:]
    top, left = (max(0, n - _PREVIEW_PX) // 2 for n in (height, width))
    window = (slice(top, top + _PREVIEW_PX), slice(left, left + _PREVIEW_PX))
    data = image.data[(*[slice(None)] * (len(image.shape) - 1), *window)]
    part = replace(image, data=np.asarray(data))
    shown = size_text(part.shape[-2:])
    note = f"Of {size_text((height, width))} px the middle {shown} are previewed"
    return part, (top, left), [note]
