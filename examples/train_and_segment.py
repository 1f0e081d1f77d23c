"""Train on three of the sample's images, segment the fourth, print the scores.

Run it as ``python examples/train_and_segment.py``.
"""

from __future__ import annotations

import sys

import napari_unet as nu
from napari_unet.events import Finished, Validated
from napari_unet.files.samples import sample_images


def main(max_steps: int = 300) -> None:
    """Train, save, load, segment, score."""
    (*train, last) = sample_images()
    images = [image for _, image, _ in train]
    labels = [labels for _, _, labels in train]

    # Training is a generator of events: look at those that you care for.
    for event in nu.train(images, labels, nu.TrainConfig(max_steps=max_steps)):
        if isinstance(event, Validated):
            print(f"step {event.step}: F1 on held-back pixels {event.scores['f1']:.2f}")
        elif isinstance(event, Finished):
            nu.save_model("nuclei.unet", event.model)

    _, image, truth = last
    found = nu.segment("nuclei.unet", image)
    scores = nu.score(truth, found)
    print(f"{scores.n_pred} cells found, F1 at IoU 0.5: {scores.f1['0.5']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
