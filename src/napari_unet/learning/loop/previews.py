"""The region that the user looks at, predicted while training runs."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.errors import UNetError
from napari_unet.events import Note, Previewed, Region
from napari_unet.imaging.instances import find_instances, finds_cells
from napari_unet.imaging.intensity import normalize
from napari_unet.imaging.resampling import resample, resample_labels, scaled_shape
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.imaging.windows import within
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.applying.ranges import in_units, values_span
from napari_unet.learning.device import own_memory_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_unet.events import Event, Mailbox
    from napari_unet.learning.loop.run_state import RunState

# Of the time goes into previews, at most; a view that changed is answered sooner.
_SHARE = 0.2
_LEAST_GAP_S, _LEAST_GAP_NEW_VIEW_S = 1.0, 0.25
# Of the network's pixels: more would make painting wait for its answer.
_MAX_SIDE_PX = 1024
# What a network that sees its whole input is shown around the view.
_CONTEXT_PX = 32


class Preview:
    """Shows what the averaged weights make of the region that the user looks at.

    At most a fifth of the time goes into it, at most once a second, and only after the
    weights changed; a view that changed is answered sooner.
    """

    def __init__(self) -> None:
        self._view: Region | None = None
        self._step = -1
        self._ended_at = -math.inf
        self._took_s = 0.0
        self._has_failed = False

    def show(self, run: RunState, mailbox: Mailbox) -> Iterator[Event]:
        """Predict the view, if that is due.

        Yields
        ------
        Previewed
            Of the part of the view that lies in the image, and of its middle where it
            is larger than the network sees 1024 px of.
        Note
            The first time that it fails: no reason to stop training.
        """
        view = mailbox.view
        if view is None or not self._is_due(view, run.step):
            return
        began = time.monotonic()
        self._view, self._step = view, run.step
        event: Event | None = None
        try:
            with own_memory_errors(run.device):
                event = _predicted(run, view)
        except UNetError as error:
            if not self._has_failed:
                event = Note(f"There is no preview: {error}", is_warning=True)
            self._has_failed = True
        self._ended_at = time.monotonic()
        self._took_s = self._ended_at - began
        if event is not None:
            yield event

    def _is_due(self, view: Region, step: int) -> bool:
        if view == self._view and step == self._step:
            return False
        gap_s = max(_LEAST_GAP_S, self._took_s * (1 / _SHARE - 1))
        if view != self._view:
            gap_s = max(_LEAST_GAP_NEW_VIEW_S, self._took_s)
        return time.monotonic() - self._ended_at >= gap_s


def _predicted(run: RunState, view: Region) -> Previewed | None:
    """Return the view as it is seen now; None where it lies on no image."""
    recipe = run.split.train[0].recipe
    if not 0 <= view.image < len(recipe.pairs):
        return None
    image = recipe.sources.open(view.image).image
    if len(view.plane) != len(image.stack_shape):
        return None
    scale = recipe.scales[view.image]
    region = _shown(view, image.plane_shape, math.floor(_MAX_SIDE_PX / scale))
    if region is None:
        return None
    halo = run.net.halo if run.net.halo is not None else _CONTEXT_PX
    seen = _grown(region, math.ceil(halo / scale), image.plane_shape)
    pixels = np.asarray(image.data[(slice(None), *seen.plane, *seen.slices)])
    pixels = normalize(pixels, recipe.spans[view.image])
    inner = within(region.slices, seen.slices)
    if not finds_cells(run.model.roles):
        made = _outputs(run, pixels)
        span = values_span(run.model, recipe.spans[view.image])
        finer = run.model.network.upscale
        window = tuple(slice(s.start * finer, s.stop * finer) for s in inner)
        shown = np.ascontiguousarray(made[(slice(None), *window)])
        return Previewed(run.step, region, None, in_units(shown, run.model.roles, span))
    shape = scaled_shape(seen.shape, (scale, scale))
    outputs = _outputs(run, resample(pixels, shape))
    # Cells are found at the size that the network knows, and shown on the image's grid.
    labels = find_instances(outputs, run.model.roles, run.model.instances)
    return Previewed(
        run.step,
        region,
        np.ascontiguousarray(resample_labels(labels, seen.shape)[inner]),
        np.ascontiguousarray(resample(outputs, seen.shape)[(slice(None), *inner)]),
    )


def _shown(view: Region, shape: tuple[int, int], most: int) -> Region | None:
    """Return the part of a view in its plane, the middle where that is too large."""
    start, size = [], []
    for at, n, length in zip(view.start, view.shape, shape, strict=True):
        first, last = max(at, 0), min(at + n, length)
        first += max(0, (last - first - most) // 2)
        start.append(first)
        size.append(min(last - first, most))
    if min(size) <= 0:
        return None
    return replace(view, start=(start[0], start[1]), shape=(size[0], size[1]))


def _grown(region: Region, margin: int, shape: tuple[int, int]) -> Region:
    """Return a region with what is around it in its plane."""
    start = [max(s.start - margin, 0) for s in region.slices]
    ends = [min(s.stop + margin, n) for s, n in zip(region.slices, shape, strict=True)]
    size = [end - first for first, end in zip(start, ends, strict=True)]
    return replace(region, start=(start[0], start[1]), shape=(size[0], size[1]))


@torch.no_grad()
def _outputs(run: RunState, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the averaged weights make of an image, float32 (K, Y, X).

    Its pixels may be finer than the image's, as the network makes them.
    """
    with run.average.swapped(run.net):
        net = for_inference(run.net, run.device, run.stepper.precision)
    height, width = image.shape[-2:]
    finer = run.model.network.upscale
    sizes = [net.input_size_for(finer * n) for n in (height, width)]
    pads = [(0, 0)] + [
        (net.margin, size - net.margin - n)
        for size, n in zip(sizes, (height, width), strict=True)
    ]
    padded = torch.from_numpy(mirror_pad(image, pads))[None].to(run.device.torch)
    logits = net(padded)[..., : finer * height, : finer * width]
    return activate(logits.float(), run.model.roles, dim=1)[0].cpu().numpy()
