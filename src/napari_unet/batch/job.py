"""What is the same for all files of a folder run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from napari_unet.batch.ledger import sha256_of
from napari_unet.learning.applying.inference import network_for
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.prediction import resolved

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from napari_unet.config import InstanceConfig, PredictConfig
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks import Network

    To = Literal["auto", "tiff", "zarr"]

# Of a model, all but its weights that the results depend on.
_OF_MODEL = (
    "network",
    "roles",
    "instances",
    "normalization",
    "dataset_range",
    "pixel_size_um",
    "cell_diameter_px",
    "scale",
    "scales_by_cells",
    "value_range",
    "values_follow_image",
)


@dataclass(frozen=True)
class Job:
    """What is the same for all files of a folder run.

    Parameters
    ----------
    model : Model
        The model to apply.
    output : Path
        Folder of the results.
    config, instances, axes, channels, probabilities, attention, measure, preview, to
        As for `segment_folder`.
    link, ctc, uncertainty
        As well.
    """

    model: Model
    output: Path
    config: PredictConfig
    instances: InstanceConfig | None = None
    axes: str | None = None
    channels: Sequence[str] | None = None
    probabilities: bool = False
    attention: bool = False
    measure: bool = False
    preview: bool = False
    link: bool = False
    ctc: bool = False
    uncertainty: bool = False
    to: To = "auto"

    @cached_property
    def net(self) -> Network:
        """The network, made once for all files."""
        return network_for(self.model, self.config)

    @cached_property
    def stamp(self) -> dict[str, Any]:
        """What each record of the ledger says of model, settings and device."""
        return {
            "model": weights_sha256(self.model.state),
            "settings": sha256_of(self._settings()),
            **self.made_with,
        }

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Device, precision and halo: what this machine computes with."""
        return resolved(self.model, self.config)

    def _settings(self) -> dict[str, Any]:
        """Return what is not in the weights and makes other results."""
        # Not on which device: all give the same to rounding, and a run that is shared
        # among machines may see several.
        config = self.config.model_dump(mode="json", exclude={"device"})
        # Which results were asked for.
        wanted = ("probabilities", "attention", "measure", "preview")
        names = ("axes", *wanted, "link", "ctc", "uncertainty")
        return {
            "config": config,
            "instances": repr(self.instances),
            "channels": list(self.channels) if self.channels is not None else None,
            **{name: getattr(self, name) for name in names},
            "model": {name: repr(getattr(self.model, name)) for name in _OF_MODEL},
        }
