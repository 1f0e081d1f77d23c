"""`napari-unet verify`: whether models still compute what they did."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import FILES
from napari_unet.cli.folders import prepare_file
from napari_unet.config import Device
from napari_unet.errors import ModelError
from napari_unet.files.atomic import write_text

if TYPE_CHECKING:
    from napari_unet.learning.sharing.verification import Verification

_WORTH_A_WARNING = 0.02


def verify(
    models: Annotated[list[Path], Parameter(name="MODEL", group=FILES)],
    /,
    *,
    device: Annotated[Device, Parameter(group=FILES)] = "auto",
    json_file: Annotated[Path | None, Parameter(name="--json", group=FILES)] = None,
) -> int:
    """Check that models are whole and still compute what they did when saved.

    A model's file holds drawn cells and what the network made of them. Here it does so
    again, on the CPU in full precision, and may differ by 1e-4 of the largest output.
    Reduced precision is compared with that, for information.

    ```
    napari-unet verify cells.unet nuclei.unet --json report.json
    ```

    Parameters
    ----------
    models
        The model, such as cells.unet, or several.
    device
        Where to try reduced precision.
    json_file
        Also write the results to this file, as JSON.
    """
    from napari_unet.learning.device import choose_device

    choose_device(device)  # that it is missing is no fault of a model's
    if json_file is not None:
        prepare_file(json_file)
    results = [_verify(path, device) for path in console.track(models, "Verifying")]
    if json_file is not None:
        content = [
            _failure(path, result)
            if isinstance(result, ModelError)
            else result.as_dict()
            for path, result in zip(models, results, strict=True)
        ]
        write_text(json_file, json.dumps(content, indent=2) + "\n")
    rows = [_row(*pair) for pair in zip(models, results, strict=True)]
    heads = ("model", "result", "difference", "reduced precision", "written with")
    title = "Models, by how much their outputs differ from what they were"
    console.show_table(title, heads, rows, are_numbers=False)
    n_failed = sum(_tell(*pair) for pair in zip(models, results, strict=True))
    console.say(f"{len(models) - n_failed} as they were, {n_failed} not")
    if n_failed == len(models):
        return 1
    return 3 if n_failed else 0


def _verify(path: Path, device: str) -> "Verification | ModelError":
    from napari_unet.learning.sharing.verification import verify_model

    try:
        return verify_model(path, device=device)
    except ModelError as error:
        return error


def _failure(path: Path, error: ModelError) -> dict[str, Any]:
    problem = {"code": error.code, "message": error.message}
    return {"path": str(path), "is_ok": False, "problem": problem}


def _row(path: Path, result: "Verification | ModelError") -> tuple[str, ...]:
    if isinstance(result, ModelError):
        return (path.name, f"refused ({result.code})", "", "", "")
    reduced = result.reduced_precision
    return (
        path.name,
        "as it was" if result.is_ok else "changed",
        f"{result.difference:.1e}",
        "not used" if reduced is None else f"{reduced:.1e}",
        f"torch {result.versions_then.get('torch', '?')}",
    )


def _tell(path: Path, result: "Verification | ModelError") -> bool:
    """Say what is wrong with a model, and return whether anything is."""
    if isinstance(result, ModelError):
        console.say_error(f"failed: {result}")
        return True
    if result.problem is not None:
        console.say_error(f"failed: {result.problem}")
        return True
    if (result.reduced_precision or 0) > _WORTH_A_WARNING:
        console.warn(
            f"reduced precision changes outputs of {path} by up to "
            f"{result.reduced_precision:.2f} on {result.device}: predict with "
            "--precision fp32"
        )
    return False
