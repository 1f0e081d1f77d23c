"""Trainings that were interrupted: what they began with, to go on with them."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import ConfigError, UNetError
from napari_unet.files.annotations import load_annotation, path_of_json, save_annotation
from napari_unet.files.atomic import write_text
from napari_unet.files.json_files import read_json
from napari_unet.files.model_places import runs_folder
from napari_unet.widgets._controls import button, question
from napari_unet.widgets._painted import Painted

if TYPE_CHECKING:
    from napari_unet.learning.model import Model

# Named apart from what the core writes into a run folder.
_BEGINNING, _MODEL = "napari.json", "began.unet"
_ANNOTATION = "annotation.tif"


class _BeginningFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["napari-unet interrupted training"]
    config: TrainConfig
    network: NetworkConfig | None
    weights: WeightConfig
    start_from: str = ""
    image: str = ""
    labels_source: str = ""
    target: str = ""
    folders: tuple[str, str, str, str] | None = None


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a training in napari was begun with.

    Parameters
    ----------
    config, network, weights : config models
        As the user gave them.
    start_from : Model, Path or None
        The model it began from.
    image : str
        Name of the image layer; empty for folders.
    painted : Painted or None
        The annotation of a layer, as it was then.
    target : str
        Name of the layer of the image to be made; empty where cells are found.
    folders : (images, masks or targets, pattern, axes) or None
        Where the files are.
    """

    config: TrainConfig
    network: NetworkConfig | None
    weights: WeightConfig
    start_from: Model | Path | None = None
    image: str = ""
    painted: Painted | None = None
    target: str = ""
    folders: tuple[str, str, str, str] | None = None

    def keep(self, folder: Path) -> None:
        """Write it into a run folder; takes a second with a large stack.

        Raises
        ------
        SaveError
            The folder can't be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        painted = self.painted
        if painted is not None:
            save_annotation(
                folder / _ANNOTATION,
                painted.annotation(),
                painted.regions,
                painted.unpainted,
            )
        about = _BeginningFile(
            format="napari-unet interrupted training",
            config=self.config,
            network=self.network,
            weights=self.weights,
            start_from=self._kept_model(folder),
            image=self.image,
            labels_source="" if painted is None else painted.source,
            target=self.target,
            folders=self.folders,
        )
        write_text(folder / _BEGINNING, about.model_dump_json(exclude_unset=True))

    def _kept_model(self, folder: Path) -> str:
        from napari_unet.learning.checkpoint import save_model

        if self.start_from is None or isinstance(self.start_from, Path):
            return str(self.start_from or "")
        return str(save_model(folder / _MODEL, self.start_from))


def read_beginning(folder: Path) -> Beginning:
    """Return what a run was begun with.

    Raises
    ------
    UNetError
        A file is missing or damaged.
    """
    path = folder / _BEGINNING
    try:
        about = _BeginningFile(**read_json(path))
    except (ValidationError, TypeError) as error:
        raise ConfigError(
            "NU-C01", f"{path} does not say how a training began: train anew"
        ) from error
    return Beginning(
        config=about.config,
        network=about.network,
        weights=about.weights,
        start_from=Path(about.start_from) if about.start_from else None,
        image=about.image,
        painted=_painted(folder, about) if about.image and not about.target else None,
        target=about.target,
        folders=about.folders,
    )


def _painted(folder: Path, about: _BeginningFile) -> Painted:
    stored = load_annotation(folder / _ANNOTATION)
    annotation = stored.annotation
    painted = Painted(
        labels=annotation.labels,
        label_class=dict(annotation.label_class),
        class_names=annotation.class_names,
        regions=stored.regions,
        unpainted=stored.unpainted or "unknown",
        source=about.labels_source,
        class_colors=annotation.class_colors,
        area_classes=annotation.area_classes,
    )
    return as_kept(painted)


def as_kept(painted: Painted) -> Painted:
    """Return an annotation as it comes back from a run folder."""
    kinds = {i: kind for i, kind in painted.label_class.items() if kind != 1}
    return replace(painted, label_class=kinds)


def forget(folder: Path) -> None:
    """Offer a run no more: it has ended, or is not wanted."""
    annotation = folder / _ANNOTATION
    for path in (folder / _BEGINNING, annotation, path_of_json(annotation)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def interrupted_run() -> tuple[Path, int] | None:
    """Return the newest run and its last checkpoint's step, if it was interrupted."""
    try:
        runs = sorted(path for path in runs_folder().iterdir() if path.is_dir())
    except OSError:
        return None
    if not runs or not (runs[-1] / _BEGINNING).is_file():
        return None
    found = (runs[-1] / "checkpoints").glob("step-*.json")
    steps = [int(m[1]) for p in found if (m := re.fullmatch(r"step-(\d+)", p.stem))]
    return (runs[-1], max(steps)) if steps else None


class InterruptedBox(QWidget):
    """Offers to go on with the newest training, if it was interrupted.

    Signals
    -------
    go_on(Path)
        The user wants to go on with this run.
    """

    go_on = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.yes = button("Go on", "Go on from the last checkpoint, on the same image")
        self.no = button("Forget", "Don't offer this training any more")
        self._box, self.label = question("Interrupted training", self.yes, self.no)
        self.run: Path | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.yes.clicked.connect(lambda: self.go_on.emit(self.run))
        self.no.clicked.connect(self._forget)
        self.refresh()

    def refresh(self) -> None:
        """Look for an interrupted run."""
        found = interrupted_run()
        self.run = None if found is None else found[0]
        self.setVisible(found is not None)
        if found is None:
            return
        folder, step = found
        self.label.setText(f"{_what_of(folder)} was interrupted; step {step} is kept.")

    def _forget(self) -> None:
        if self.run is not None:
            forget(self.run)
        self.refresh()


def _what_of(folder: Path) -> str:
    """Return in words which training a run folder is of."""
    when = folder.name
    with suppress(ValueError):
        begun = time.strptime(folder.name, "%Y%m%d-%H%M%S")
        when = time.strftime("%d %b, %H:%M", begun)
    on: Any = ""
    with suppress(UNetError, AttributeError, TypeError):
        on = read_json(folder / _BEGINNING).get("image", "")
    return f"The training of {when}" + (f' on "{on}"' if on else "")
