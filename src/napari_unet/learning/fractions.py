"""A learning curve measured: trainings on fractions of the annotated cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import TrainConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.events import Event, Finished, Mailbox, Note, TrainingStarted
from napari_unet.files.inputs import as_annotation
from napari_unet.learning.quality.learning_curve import (
    LearningCurve,
    fit_learning_curve,
)
from napari_unet.learning.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.events import Region
    from napari_unet.imaging.arrays import Annotation
    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike

FRACTIONS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class CurvePoint(Event):
    """One training of a learning curve is done.

    Parameters
    ----------
    fraction : float
        Share of the annotated cells that it learned from.
    n_cells : int
        How many these were.
    score : float
        Mean of mean AP and IoU on what is held back.
    n_held_back : int
        Number of cells there.
    """

    fraction: float
    n_cells: int
    score: float
    n_held_back: int


@dataclass(frozen=True)
class CurveDone(Event):
    """The last event of a learning curve.

    `curve` is None where there are too few points; `sentence` says what as many cells
    more may bring, or why that can't be told.
    """

    points: tuple[CurvePoint, ...]
    curve: LearningCurve | None
    sentence: str


def learning_curve(
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike],
    config: TrainConfig | None = None,
    *,
    fractions: Sequence[float] = FRACTIONS,
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike]] | None = None,
    mailbox: Mailbox | None = None,
    **training: Any,
) -> Iterator[Event]:
    """Train on fractions of the annotated cells, yielding all that happens.

    The same pixels are held back each time, and what is learned from at 25 % is among
    what is learned from at 50 %: whole images in an order that the seed decides, and
    of one image as many rows or columns as it takes. What is left out is unknown, not
    background. All annotations are held in memory.

    Parameters
    ----------
    images, annotations, config, validation
        As of `napari_unet.learning.training.train`, for tasks with cells.
    fractions : sequence of float
        Shares of the cells, each above 0 and at most 1.
    mailbox : Mailbox, optional
        Stop ends the training that is running, which still counts, and all.
    **training
        What else `train` takes: network, weights, start_from.

    Yields
    ------
    Event
        Those of each training but `Finished`, in whose place comes `CurvePoint`;
        `CurveDone` is the last.

    Raises
    ------
    ConfigError
        A fraction that is none, or a task without cells (NU-C01).
    LabelError
        Nothing can be held back (NU-L13).
    UNetError
        As of `train`.
    """
    config, mailbox = config or TrainConfig(), mailbox or Mailbox()
    _check(fractions, config)
    if validation is None:
        regions = _held_back(images, annotations, config, training)
        images, annotations, validation = _divided(images, annotations, regions)
    known = [as_annotation(given) for given in annotations]
    order = np.random.default_rng([config.seed, 1]).permutation(len(known)).tolist()
    n_all = sum(map(_n_cells, known))
    points: list[CurvePoint] = []
    for fraction in sorted(set(fractions)):
        if mailbox.wants_stop:
            break
        some = _first_cells(known, order, max(1, round(fraction * n_all)))
        n_cells = sum(map(_n_cells, some.values()))
        yield Note(f"Training on {n_cells} of {n_all} annotated cells")
        for event in train(
            [images[i] for i in some],
            list(some.values()),
            config,
            validation=validation,
            mailbox=mailbox,
            **training,
        ):
            if not isinstance(event, Finished):
                yield event
                continue
            seen = event.scores
            score = (seen["map"] + seen["iou"]) / 2
            points.append(CurvePoint(fraction, n_cells, score, int(seen["n_cells"])))
            yield points[-1]
    yield _done(points)


def _done(points: Sequence[CurvePoint]) -> CurveDone:
    try:
        curve = fit_learning_curve(
            [p.n_cells for p in points],
            [p.score for p in points],
            [p.n_held_back for p in points],
        )
    except LabelError as error:
        return CurveDone(tuple(points), None, error.message)
    n = points[-1].n_cells
    return CurveDone(tuple(points), curve, curve.sentence(n, n))


def _check(fractions: Sequence[float], config: TrainConfig) -> None:
    if config.task != "segment":
        raise ConfigError(
            "NU-C01",
            f"the task is {config.task!r}, but a learning curve counts cells: use the "
            "task 'segment'",
        )
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ConfigError(
            "NU-C01",
            f"the fractions are {tuple(fractions)}: give shares above 0 and up to 1, "
            "such as 0.25, 0.5 and 1",
        )


def _held_back(
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike],
    config: TrainConfig,
    training: dict[str, Any],
) -> tuple[Region, ...]:
    """Return what a training on all would hold back; nothing is trained."""
    events = train(images, annotations, config, **training)
    held: tuple[Region, ...] = ()
    for event in events:
        if isinstance(event, TrainingStarted):
            held = event.held_back
            break
    events.close()  # type: ignore[attr-defined]
    if not held:
        raise LabelError(
            "NU-L13",
            "too few cells are annotated to hold any back, so no score is honest: "
            "annotate more of them, or give images to validate on",
        )
    return held


def _divided(
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike],
    regions: Sequence[Region],
) -> tuple[
    list[ImageLike],
    list[AnnotationLike],
    tuple[list[ImageLike], list[AnnotationLike]],
]:
    """Return what to learn from, and what to validate on: parts of the same images."""
    learn: tuple[list[ImageLike], list[AnnotationLike]] = ([], [])
    held: tuple[list[ImageLike], list[AnnotationLike]] = ([], [])
    for i, (image, given) in enumerate(zip(images, annotations, strict=True)):
        annotation = as_annotation(given)
        is_held: NDArray[np.bool_] = np.zeros(annotation.labels.shape, bool)
        for region in regions:
            if region.image == i:
                at: tuple[int | slice, ...] = (*region.plane, *region.slices)
                is_held[at] = True
        parts = ((learn, ~is_held), (held, is_held))
        for (some_images, some_annotations), where in parts:
            part = _only(annotation, where)
            if part.labels.any():
                some_images.append(image)
                some_annotations.append(part)
    return (*learn, held)


def _only(annotation: Annotation, where: NDArray[np.bool_]) -> Annotation:
    """Return an annotation in which the rest, and cells that reach into it, is unknown.

    Parameters
    ----------
    annotation : Annotation
        Not changed.
    where : ndarray of bool, shape of its labels
        What stays known.
    """
    cells = annotation.cells()
    reaching = np.unique(cells[~where])
    gone = ~where | np.isin(cells, reaching[reaching > 0])
    return replace(
        annotation,
        labels=np.where(gone, 0, annotation.labels),
        known=annotation.is_known & ~gone,
    )


def _n_cells(annotation: Annotation) -> int:
    return int(np.unique(annotation.cells()[annotation.cells() > 0]).size)


def _first_cells(
    annotations: Sequence[Annotation], order: Sequence[int], n: int
) -> dict[int, Annotation]:
    """Return the annotations with the first `n` cells, by the number of their image."""
    some: dict[int, Annotation] = {}
    for i in order:
        n_here = _n_cells(annotations[i])
        if n_here == 0:
            continue
        if n_here <= n:
            some[i] = annotations[i]
        else:
            some[i] = _first_rows(annotations[i], n)
        n -= _n_cells(some[i])
        if n <= 0:
            break
    return some


def _first_rows(annotation: Annotation, n: int) -> Annotation:
    """Return an annotation up to the row or column where `n` cells are complete."""
    cells = annotation.cells()
    shape = cells.shape
    axis = len(shape) - (1 if shape[-1] > shape[-2] else 2)
    at = np.nonzero(cells)
    ids, which = np.unique(cells[at], return_inverse=True)
    ends = np.zeros(ids.size, np.intp)
    np.maximum.at(ends, which, at[axis])
    stop = int(np.sort(ends)[n - 1]) + 1
    where = np.zeros(shape, bool)
    where[(slice(None),) * axis + (slice(0, stop),)] = True
    return _only(annotation, where)
