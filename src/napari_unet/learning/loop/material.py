"""What training was given, looked at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.config import NetworkConfig, NormalizationConfig, TrainConfig
from napari_unet.errors import LabelError
from napari_unet.learning.data.sources import Sources
from napari_unet.learning.data.survey import Survey, take_survey
from napari_unet.learning.loop.starting import check_start, check_trainable, target_of
from napari_unet.learning.loop.transfer import Kept, fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike
    from napari_unet.learning.data.summaries import PairSummary
    from napari_unet.learning.model import Model


@dataclass(frozen=True, eq=False)
class Material:
    """All pairs, what there is to learn from them, and how.

    Parameters
    ----------
    sources : Sources
        The pairs, to be read again when they are needed.
    survey : Survey
        What there is to learn from.
    validation : Survey, optional
        What there is to validate on, where it was given; its pairs come after the
        others in `sources`.
    policy : NormalizationConfig
        How the images are scaled.
    start : Model, optional
        What fits of the model to start from, completed.
    config : TrainConfig
        How to train; the target is that of the model to start from, unless given.
    told : str
        What is anew in `start`, in one sentence; empty where nothing is.
    kept : {"all", "body", "encoder"}, optional
        What `start` has of the model to start from (`fitted`).
    """

    sources: Sources
    survey: Survey
    validation: Survey | None
    policy: NormalizationConfig
    start: Model | None
    config: TrainConfig
    told: str = ""
    kept: Kept | None = None

    @property
    def pairs(self) -> tuple[PairSummary, ...]:
        """All pairs, those to validate on last."""
        held = () if self.validation is None else self.validation.pairs
        return self.survey.pairs + held


def gather(
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike | ImageLike],
    config: TrainConfig,
    *,
    network: NetworkConfig | None = None,
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike | ImageLike]]
    | None = None,
    start: Model | None = None,
) -> Material:
    """Look at each pair once, with one of them in memory at a time.

    The parameters are those of `train`; `start` is the model to start from.

    Raises
    ------
    UNetError
        The input can't be learned from.
    """
    target = None if start is None else target_of(start)
    if target is not None and "target" not in config.model_fields_set:
        config = config.model_copy(update={"target": target})
    is_regression = config.task == "regress"
    if network is not None:
        check_trainable(network, upscale=network.upscale if is_regression else 1)
    policy = start.normalization if start else _normalization_for(network)
    sources = Sources(images, annotations, is_regression=is_regression)
    seen = take_survey(sources, policy)
    if network is not None:
        # What was not given follows from the targets.
        given = "upscale" in network.model_fields_set
        check_trainable(network, upscale=seen.upscale if given else network.upscale)
    if not is_regression:
        _check_annotated(seen)
    told, kept = "", None
    if start is not None:
        check_start(start, seen, config, network)
        start, told, kept = fitted(start, seen, config)
    held = None
    if validation is not None:
        others = Sources(*validation, is_regression=is_regression)
        held = take_survey(others, policy, first=sources.open(0))
        _check_validation(held, is_regression=is_regression)
        sources.extend(others)
    return Material(sources, seen, held, policy, start, config, told, kept)


def _normalization_for(network: NetworkConfig | None) -> NormalizationConfig:
    """Return how images are scaled for a fresh network."""
    if network is not None and network.norm == "none":
        # He's weights keep the variance that comes in, so it has to be 1 there: with
        # [0, 1] SGD learned no more than how frequent the classes are.
        return NormalizationConfig(policy="standardize")
    return NormalizationConfig()


def _check_annotated(seen: Survey) -> None:
    """Refuse annotations that lack cells or background (NU-L04, NU-L08)."""
    n_background, *n_of_cells = seen.n_px_of_class
    named = seen.pairs[0].facts.annotation
    if seen.n_images > 1:
        named += f" (and {seen.n_images - 1} more)"
    if not any(n_of_cells):
        raise LabelError(
            "NU-L04",
            f"{named} has no annotated cells: paint a few cells, each with its own "
            "label",
        )
    if n_background == 0:
        raise LabelError(
            "NU-L08",
            f"{named} has cells but no known background: paint some background, draw "
            "a finished region, or choose 'unpainted is background'",
        )


def _check_validation(held: Survey, *, is_regression: bool) -> None:
    if not is_regression and not any(held.n_px_of_class[1:]):
        raise LabelError(
            "NU-L04",
            f"{held.pairs[0].facts.annotation} has no annotated cells to validate on: "
            "give validation images with painted cells",
        )
