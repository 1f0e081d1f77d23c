"""Learn from a few cells inside a finished rectangle; all else is unknown.

Run it as ``python examples/partly_annotated.py``.
"""

from __future__ import annotations

import numpy as np

import napari_unet as nu
from napari_unet.events import Finished, TrainingStarted
from napari_unet.files.samples import sample_images


def main(max_steps: int = 200) -> None:
    """Annotate a quarter of an image, look at its weights, train on it."""
    _, image, labels = sample_images()[0]

    # Inside the finished rectangle unpainted means background, outside unknown.
    known = np.zeros(labels.shape, bool)
    known[:160, :160] = True
    annotation = nu.Annotation(np.where(known, labels, 0), known=known)

    weights = nu.weight_map(annotation, nu.WeightConfig(w0=10, sigma=5))
    print(f"weights from {weights.min():g} (unknown) to {weights.max():.1f}")

    for event in nu.train([image], [annotation], nu.TrainConfig(max_steps=max_steps)):
        if isinstance(event, TrainingStarted):
            print(f"on {event.device}; validation: {event.validation}")
        elif isinstance(event, Finished):
            print(f"{len(np.unique(nu.segment(event.model, image))) - 1} cells found")


if __name__ == "__main__":
    main()
