"""Learn to remove noise from pairs of images, and say what it is worth.

Run it as ``python examples/remove_noise.py``.
"""

from __future__ import annotations

import sys

import numpy as np

import napari_unet as nu
from napari_unet.events import Finished, Validated
from napari_unet.files.samples import sample_images
from napari_unet.imaging.image_scores import psnr


def main(max_steps: int = 300) -> None:
    """Make noisy images, train, and compare."""
    rng = np.random.default_rng(0)
    clean = [np.asarray(image.data[0], float) for _, image, _ in sample_images()]
    noisy = [rng.poisson(image / 8 + 1) * 8.0 for image in clean]

    config = nu.TrainConfig(task="regress", max_steps=max_steps)
    for event in nu.train(noisy[:3], clean[:3], config):
        if isinstance(event, Validated):
            print(f"step {event.step}: PSNR {event.scores['psnr']:.1f} dB")
        elif isinstance(event, Finished):
            model = event.model

    made = nu.predict(model, noisy[3])[0]  # in the units of the clean images
    print(f"PSNR {psnr(clean[3], noisy[3]):.1f} -> {psnr(clean[3], made):.1f} dB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
