"""What can't be done with a model, and why, in words; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.files.model_summaries import ModelSummary
    from napari_unet.widgets._model_list import Listed

_FOREIGN = "foreign"
ACTIONS = ("use", "tune", "card", "verify", "export", "delete")


@dataclass(frozen=True)
class Limits:
    """Why a model is not for Predict, Train or export; empty where it is.

    Parameters
    ----------
    predict, train, export : str
        One sentence each.
    """

    predict: str = ""
    train: str = ""
    export: str = ""


def limits_of(summary: ModelSummary) -> Limits:
    """Return what can't be done with a model, by what its file's header says."""
    is_foreign = summary.network == _FOREIGN
    return Limits(
        predict=_not_for_predict(summary),
        train=_not_for_training(summary, is_foreign=is_foreign),
        export=(
            "It is the graph of another program: share the file that it was imported "
            "from"
            if is_foreign
            else ""
        ),
    )


def _not_for_predict(summary: ModelSummary) -> str:
    # Here and not above: it imports scikit-image.
    from napari_unet.imaging.instances import finds_cells

    if finds_cells(summary.roles):
        return ""
    return (
        "It gives values and no classes, so it finds no cells: apply it on the command "
        "line, with napari-unet predict, or from Python, with nu.predict"
    )


def _not_for_training(summary: ModelSummary, *, is_foreign: bool) -> str:
    if is_foreign:
        return "It is the graph of another program, which can't be trained on"
    if summary.n_dims != 2:
        return "It takes volumes, and training works on planes so far"
    return ""


def why_not(chosen: Listed | None, *, is_busy: bool) -> dict[str, str]:
    """Return for each of the actions why it is not offered; empty where it is."""
    if chosen is None:
        return dict.fromkeys(ACTIONS, "Choose a model first")
    limits, problem = chosen.limits, chosen.problem
    busy = "Wait until the work has ended" if is_busy else ""
    return {
        "use": problem or limits.predict,
        "tune": problem or limits.train,
        "card": problem or busy,
        "verify": busy if chosen.is_file else problem,
        "export": problem or limits.export or busy,
        "delete": _not_to_be_deleted(chosen) or busy,
    }


def _not_to_be_deleted(chosen: Listed) -> str:
    if chosen.kind == "opened":
        return ""  # it can be taken off the list at least
    if chosen.kind == "shipped":
        return "It comes with napari-unet"
    return "" if chosen.is_file else chosen.problem
