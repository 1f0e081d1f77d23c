"""Train the model that comes with the package, on the sample that does.

Run it with ``make shipped-model`` after a change of the file's format. One thread,
one seed and full precision: the same machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import Finished, Validated
from napari_unet.files.model_places import SHIPPED_FOLDER
from napari_unet.files.samples import sample_about, sample_images
from napari_unet.imaging.arrays import Annotation
from napari_unet.learning.checkpoint import Model, save_model
from napari_unet.learning.training import train

NETWORK = NetworkConfig(base_width=16, depth=3)
ABOUT = """\
Nuclei in fluorescence images, bright on dark, about as large as those of the sample
that comes with napari-unet. It is a start to fine-tune from, and something to try the
program with: it learned from one field of one experiment.

Trained on: {title} ({source}; {licence}). Cite: {cite}"""


def trained(config: TrainConfig) -> Model:
    """Train on the four images of the sample, of which blocks are held back."""
    samples = sample_images()
    events = train(
        [image for _, image, _ in samples],
        [Annotation.complete(labels, source=name) for name, _, labels in samples],
        config,
        network=NETWORK,
    )
    model: Model | None = None
    for event in events:
        if isinstance(event, Validated):
            print(f"step {event.step}: loss {event.loss:.3f}, score {event.score:.3f}")
        elif isinstance(event, Finished):
            model = event.model
    if model is None:
        raise RuntimeError("training ended without a model")
    return model


def main() -> None:
    """Train, name whom it is owed to, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600, help="steps to train")
    parser.add_argument("--out", type=Path, default=SHIPPED_FOLDER / "nuclei.unet")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(
        max_steps=given.steps, patience=1000, seed=0, device="cpu", precision="fp32"
    )
    model = replace(
        trained(config),
        authors=("the napari-unet contributors",),
        license="BSD-3-Clause",
        about=ABOUT.format(**sample_about()),
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    path = save_model(given.out, model)
    print(f"{path}: {path.stat().st_size / 2**20:.2f} MB, {dict(model.scores)}")


if __name__ == "__main__":
    main()
