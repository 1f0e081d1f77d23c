"""Weights in half precision, as a model's file may hold them: half as large.

Only those of convolutions and the like: biases and the statistics of normalisation are
few, and a variance may well be larger than 65504, where float16 ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_unet.learning.model import TensorKinds


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights rounded to float16; what has one axis or none stays as it is.

    Parameters
    ----------
    state : mapping of str to Tensor
        Finite weights.

    Raises
    ------
    ModelError
        NU-M12: a weight beyond 65504, where float16 ends.
    """
    rounded = {
        name: tensor.half() if _is_halved(tensor.shape, tensor.dtype) else tensor
        for name, tensor in state.items()
    }
    for name in sorted(rounded):
        if not torch.isfinite(rounded[name]).all():
            largest = float(state[name].abs().max())
            raise ModelError(
                "NU-M12",
                f"the model can't be saved in half precision, {name} holds "
                f"{largest:.3g} and that ends at 65504: save it in full precision",
            )
    return rounded


def as_used(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in the precision in which models are used: float32."""
    return {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in state.items()
    }


def kinds_in_half(kinds: TensorKinds) -> TensorKinds:
    """Return the shapes and dtypes that weights have in half precision."""
    return {
        name: (shape, torch.float16 if _is_halved(shape, dtype) else dtype)
        for name, (shape, dtype) in kinds.items()
    }


def _is_halved(shape: Sequence[int], dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and len(shape) > 1
