"""Whether a model file is whole and its model still computes what it did."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.learning.checkpoint import changed, read_stored, versions_now
from napari_unet.learning.device import choose_device
from napari_unet.learning.model_file.self_test import (
    VERIFY_LIMIT,
    is_within,
    reduced_precision_difference,
    self_test_difference,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.errors import ModelError


@dataclass(frozen=True)
class Verification:
    """What came out of verifying a model file whose checksums are right.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Of the weights, in hex: two files with the same one predict the same.
    difference : float
        Largest difference of a logit of the self-test, computed in fp32 on the CPU,
        from the one in the file, as a share of the largest (of 1 if that is below
        1); NaN if any is not a number.
    limit : float
        What that may be.
    device : str
        Where reduced precision was tried.
    reduced_precision : float or None
        Largest difference of an output (a probability, say) between reduced precision
        and fp32 on that device; None where only fp32 is used there.
    versions_then, versions_now : mapping of str to str
        Of the libraries that wrote the file, and that are installed.
    """

    path: Path
    sha256: str
    difference: float
    limit: float
    device: str
    reduced_precision: float | None
    versions_then: Mapping[str, str]
    versions_now: Mapping[str, str]

    @property
    def is_ok(self) -> bool:
        """Whether the model computes what it did."""
        return is_within(self.difference, self.limit)

    @property
    def problem(self) -> ModelError | None:
        """What is wrong with the model (NU-M07), if anything is."""
        if self.is_ok:
            return None
        return changed(self.path, self.versions_then, self.difference, self.limit)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON knows it: what is no number is None."""
        problem = self.problem
        return {
            **asdict(self),
            "path": str(self.path),
            "is_ok": self.is_ok,
            "difference": self.difference if math.isfinite(self.difference) else None,
            "problem": problem and {"code": problem.code, "message": problem.message},
        }


def verify_model(path: Path | str, *, device: str = "auto") -> Verification:
    """Check a model file's checksums, and that its model still computes what it did.

    Stricter than `load_model`, which tolerates 1e-3 and looks once per process.

    Parameters
    ----------
    path : path
        A ``.unet`` file.
    device : {"auto", "cuda", "mps", "cpu"}
        Where to compare reduced precision with fp32; the self-test runs on the CPU.

    Raises
    ------
    ModelError
        The file can't be read, or is damaged, or no model that this version knows.
    ResourceError
        The device is missing or has too little memory.
    """
    chosen = choose_device(device)
    stored = read_stored(path)
    return Verification(
        path=Path(path),
        sha256=stored.sha256,
        difference=self_test_difference(stored.model, stored.self_test),
        limit=VERIFY_LIMIT,
        device=chosen.label,
        reduced_precision=reduced_precision_difference(
            stored.model, chosen, stored.self_test
        ),
        versions_then=stored.model.versions,
        versions_now=versions_now(),
    )
