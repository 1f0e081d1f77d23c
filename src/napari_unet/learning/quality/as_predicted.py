"""Fields at the scales at which a model's prediction sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.config import PredictConfig
from napari_unet.learning.applying.cell_sizes import wants_measuring
from napari_unet.learning.applying.scale import factors_for
from napari_unet.learning.data.fields import Field
from napari_unet.learning.prediction import working_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.learning.data.planes import Plane
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model


def scales_of_prediction(
    model: Model, fields: Sequence[Field | Plane], device: DeviceChoice
) -> dict[int, float]:
    """Return for each image of these fields the scale at which a model predicts it.

    Parameters
    ----------
    model : Model
        With its weights. One that learned each image at a scale of its own looks at
        the images; what is painted on them never counts.
    fields : sequence of Field or Plane
        Planes have no image to look at, and stay as they are.
    device : DeviceChoice
        Where to compute.

    Returns
    -------
    dict of int to float
        Working pixels for each pixel of the image, by the image's number.
    """
    config = PredictConfig(device=device.name, precision="fp32")
    of = factors_for
    if wants_measuring(model, config):
        of = working_factors
    found: dict[int, float] = {}
    for field in fields:
        if isinstance(field, Field) and field.region.image not in found:
            image = field.recipe.sources.open(field.region.image).image
            found[field.region.image] = of(model, image, config)[-1]
    return found


def seen_at(
    scales: Mapping[int, float], fields: Sequence[Field | Plane]
) -> list[Field | Plane]:
    """Return fields at other scales.

    Parameters
    ----------
    scales : mapping of int to float
        By the number of the image.
    fields : sequence of Field or Plane
        Those of other images, and planes, stay as they are.
    """
    found: list[Field | Plane] = []
    for field in fields:
        if isinstance(field, Field) and field.region.image in scales:
            found.append(field.at(scales[field.region.image]))
        else:
            found.append(field)
    return found
