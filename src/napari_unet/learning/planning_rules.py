"""The rules of planning: each looks at a draft, and completes it by one setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import NetworkConfig
from napari_unet.events import Choice
from napari_unet.imaging.cell_size import typical_diameter
from napari_unet.learning.memory import training_bytes, training_flop
from napari_unet.learning.networks import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.config import TrainConfig
    from napari_unet.learning.data.survey import Survey
    from napari_unet.learning.model import Model

# The size of a cell at which training did best, in pixels that the network sees.
WORKING_CELL_PX = 26.0
# What large cells are halved to at most: they lose what tells them apart.
LARGEST_WORKING_CELL_PX = 32.0
_CELLS_ACROSS = 5
_PATCH_WITHOUT_CELLS = {"cpu": 128, "mps": 192, "cuda": 256}
_SMALLEST_PATCH = 64
_LARGEST_PATCH = {"cpu": 256, "mps": 384, "cuda": 512}
_PIXELS_PER_STEP = {"cpu": 8 * 128**2, "mps": 16 * 128**2, "cuda": 32 * 128**2}
_WIDTH = {"cpu": 16, "mps": 32, "cuda": 32}
_CELLS_FOR_WIDTH_64 = 200
_MEMORY_SHARE = {"cpu": 0.25, "mps": 0.25, "cuda": 0.5}
# Float operations a second in training: of one core with bf16, and what any GPU does.
_FLOP_PER_S = {"cpu": 1.5e11, "mps": 2e12, "cuda": 3e13}
_LONGEST_S = {"cpu": 540, "mps": 300, "cuda": 120}
_FEWEST_STEPS, _MOST_STEPS = 300, 4000
_LEARNING_RATE = 3e-3
# Augmentations that resample, which leaves no noise as it was.
_SMOOTHING = {
    "rotation_deg": "Rotation 0: turning by any angle",
    "scale": "Scale 0: shrinking and enlarging",
    "elastic_px": "Elastic 0: bending",
    "blur_px": "Blur 0: blurring",
}


def typical_px(diameters: NDArray[np.float64]) -> float:
    """Return the diameter of a typical cell, in pixels; 0 where there is none."""
    areas = np.rint(np.pi / 4 * diameters**2).astype(np.int64)
    return typical_diameter(areas) or 0.0


def wanted_px(diameter: float) -> float:
    """Return how large the network is to see cells, in pixels, by their diameter.

    Examples
    --------
    >>> wanted_px(10), wanted_px(40), wanted_px(60), wanted_px(200)
    (26.0, 26.0, 30.0, 32.0)
    """
    return min(max(WORKING_CELL_PX, diameter / 2), LARGEST_WORKING_CELL_PX)


@dataclass
class Draft:
    """A plan in the making, and what it rests on."""

    survey: Survey
    config: TrainConfig
    network: NetworkConfig
    device: str
    memory_bytes: int
    start: Model | None
    choices: list[Choice]
    scale: float = 1.0
    is_anew: bool = False

    def __post_init__(self) -> None:
        self.diameters = np.asarray(self.survey.cell_diameters_px, float)
        self.diameter = typical_px(self.diameters)

    @property
    def working_px(self) -> float:
        """Diameter of a typical cell as the network sees it; 0 where there is none."""
        return self.diameter * self.scale

    def is_open(self, name: str) -> bool:
        """Whether the user left a setting open."""
        if name in type(self.config).model_fields:
            return name not in self.config.model_fields_set
        # The network of a model goes on as it is.
        return self.start is None and name not in self.network.model_fields_set

    def choose(self, name: str, value: Any, why: str) -> None:
        """Take a value for a setting that is open."""
        if name in type(self.config).model_fields:
            self.config = self.config.model_copy(update={name: value})
        elif name in NetworkConfig.model_fields:
            self.network = self.network.model_copy(update={name: value})
        self.tell(name, value, why)

    def tell(self, name: str, value: Any, why: str) -> None:
        """Keep what was chosen for whoever wants to know."""
        self.choices.append(Choice(name, value, why))


def _depth(draft: Draft) -> None:
    if not draft.is_open("depth"):
        return
    if not draft.working_px:
        why = "Depth 3: without single cells to measure, what was tried most."
        draft.choose("depth", 3, why)
        return
    depth = next(
        (d for d in (2, 3, 4) if _reach(draft.network, d) >= draft.working_px), 5
    )
    why = (
        f"Depth {depth}: the network sees {_reach(draft.network, depth)} px around "
        f"each pixel, a whole cell of {draft.working_px:.3g} px and more."
    )
    draft.choose("depth", depth, why)


def _reach(network: NetworkConfig, depth: int) -> int:
    """Return how far a network of this depth looks, whatever its norm sees besides."""
    local = NetworkConfig(depth=depth, up=network.up)
    start, stop = geometry.reads((0, 1), local)
    return max(-start, stop - 1)


def _width(draft: Draft) -> None:
    # Weights of others come in one width.
    if not draft.is_open("base_width") or draft.network.pretrained:
        return
    n_cells = draft.diameters.size
    width = _WIDTH[draft.device]
    where = {"cpu": "a CPU", "mps": "this GPU", "cuda": "a GPU"}[draft.device]
    why = f"Base width {width}: on {where} training takes minutes with it."
    if draft.device == "cuda" and n_cells >= _CELLS_FOR_WIDTH_64:
        width = 64
        why = f"Base width 64: {n_cells:,} cells are enough to learn so much from."
    draft.choose("base_width", width, why)


def _patch(draft: Draft) -> None:
    if not draft.is_open("patch_size"):
        return
    grid = geometry.multiple(draft.network)
    largest = _LARGEST_PATCH[draft.device]
    if draft.working_px:
        wanted = _CELLS_ACROSS * draft.working_px
        said = f"about {{n:.2g}} cells of {draft.working_px:.3g} px across"
    else:
        wanted = _PATCH_WITHOUT_CELLS[draft.device]
        said = "enough surroundings for areas, and several in memory"
    size = min(max(wanted, _SMALLEST_PATCH), largest)
    sides = [max(shape) for shape in draft.survey.shapes]
    image_px = float(np.median(sides)) * draft.scale
    if image_px < size:
        size, said = image_px, f"the images are no larger ({image_px:.3g} px)"
    # Sizes of 32 px are what convolutions are fastest with.
    step = max(grid, 32) if size >= _SMALLEST_PATCH else grid
    size = max(round(size / step) * step, 2 * grid, math.ceil(16 / grid) * grid)
    across = size / draft.working_px if draft.working_px else 0
    why = f"Patch {size} px: {said.format(n=across)}."
    draft.choose("patch_size", size, why)


def _batch(draft: Draft) -> None:
    if not draft.is_open("batch_size"):
        return
    patch = draft.config.patch_size
    size = _PIXELS_PER_STEP[draft.device] / patch**2
    size = min(max(2 ** round(math.log2(max(size, 1))), 2), 64)
    why = f"Batch {size}: as many pixels a step as this device does fast."
    budget = _MEMORY_SHARE[draft.device] * draft.memory_bytes
    precision = "bf16" if draft.device == "cuda" else "fp32"

    def needed(n: int) -> int:
        return training_bytes(
            draft.network, patch_size=patch, batch_size=n, precision=precision
        )

    if needed(size) > budget:
        while size > 1 and needed(size) > budget:
            size //= 2
        free = draft.memory_bytes / 2**30
        why = f"Batch {size}: what fits into {free:.2g} GB of free memory."
    draft.choose("batch_size", size, why)


def learning_rate_for(base_width: int) -> float:
    """Return the peak learning rate of AdamW for a network that begins anew."""
    return min(_LEARNING_RATE, _LEARNING_RATE * 16 / base_width)


def _learning_rate(draft: Draft) -> None:
    config, width = draft.config, draft.network.base_width
    if not draft.is_open("learning_rate") or config.optimizer == "sgd":
        return
    rate = learning_rate_for(width)
    why = f"Learning rate {rate:.2g}: what a network of base width {width} learns with."
    if draft.start is not None and not draft.is_anew:
        rate /= 3
        why = f"Learning rate {rate:.2g}: a third, so that what was learned is kept."
    draft.choose("learning_rate", rate, why)


def _steps(draft: Draft) -> None:
    if not draft.is_open("max_steps"):
        return
    config, n_cells = draft.config, float(draft.diameters.size)
    if not n_cells:
        # What a cell and its surroundings would take.
        n_cells = draft.survey.n_known_px * draft.scale**2 / WORKING_CELL_PX**2 / 2
    wanted = 250 * (1 + math.log2(1 + n_cells / 10))
    sizes = {"patch_size": config.patch_size, "batch_size": config.batch_size}
    step_s = training_flop(draft.network, **sizes) / _FLOP_PER_S[draft.device]
    affordable = _LONGEST_S[draft.device] / step_s
    steps = min(wanted, max(affordable, _FEWEST_STEPS), _MOST_STEPS)
    steps = max(round(steps / 50) * 50, _FEWEST_STEPS)
    what = f"{draft.diameters.size:,} annotated cells"
    if not draft.diameters.size:
        what = f"{draft.survey.n_known_px:,} annotated pixels"
    why = f"{steps} steps: as many as {what} are worth"
    if affordable < wanted:
        minutes = steps * step_s / 60
        why = f"{steps} steps: about {max(minutes, 1):.0f} minutes on this device"
    draft.choose("max_steps", steps, f"{why}; it ends before if nothing gets better.")


def _deformation(draft: Draft) -> None:
    """Leave pixels as they are where images are made from images."""
    if draft.config.task != "regress":
        return
    for name, what in _SMOOTHING.items():
        if draft.is_open(name) and getattr(draft.config, name):
            why = f"{what} would smooth the noise and the detail that are learned."
            draft.choose(name, 0.0, why)


def _sum(draft: Draft) -> None:
    """Let the network learn the change alone where the image says most."""
    if draft.config.task != "regress" or not draft.is_open("adds_image"):
        return
    if draft.survey.changes_images:
        why = "Add the image: then the network learns no more than the change."
        draft.choose("adds_image", True, why)


RULES = (
    _depth,
    _width,
    _patch,
    _batch,
    _learning_rate,
    _steps,
    _deformation,
    _sum,
)
