"""What a model makes of held-back images, beside what it should: a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.device import own_memory_errors
from napari_unet.learning.quality.held_back import HeldBack, predictions

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.learning.loop.run_state import RunState
    from napari_unet.learning.model import Model

COMPARISON = "comparison.png"
_N_SHOWN = 3
_MOST_PX = 3 * 1024**2


def draw_comparison(run: RunState, model: Model, folder: Path | None) -> None:
    """Draw image, prediction, target and error of held-back planes into a run folder.

    In normalised intensities, of the first channel. Nothing is drawn of cells.

    Parameters
    ----------
    run : RunState
        After its last step.
    model : Model
        The one that is kept.
    folder : path, optional
        Where to write ``comparison.png``; nothing is written without one.

    Raises
    ------
    SaveError
        The picture can't be written.
    """
    if folder is None or model.training.task != "regress":
        return
    # Here and not above: matplotlib is slow to import.
    from napari_unet.figures import draw_made_images, save_figure

    held = HeldBack(
        run.split.validation[:_N_SHOWN],
        model,
        max_px=_MOST_PX,
        tile_px=run.memory.tile_px,
    )
    rows = []
    with own_memory_errors(run.device), torch.no_grad():
        net = for_inference(model.build(), run.device, "fp32")
        for k, (piece, made) in enumerate(predictions(net, held, run.device)):
            values = piece.plane.target.values
            if values is not None:
                own = made[0].float().cpu().numpy()
                rows.append(
                    (f"held back {k + 1}", piece.plane.image[0], own, values[0])
                )
    save_figure(folder / COMPARISON, draw_made_images(rows))
