"""Losses of classes: weighted cross entropy, Dice, their sum, and focal.

All take ``logits``, float (N, K, [Z,] Y, X), the scores of the classes before the
softmax; ``classes``, int (N, [Z,] Y, X), the true class of each pixel; and
``weights``, float (N, [Z,] Y, X), >= 0. They return a scalar, computed in float32
under autocast too (float64 stays float64). Where a weight is 0 the pixel is ignored:
its gradient is exactly 0, and neither its class (-1 and 255 will do) nor its logits
(NaN will do) change the loss. A loss doesn't change with the scale of the weights;
where all are 0 it is 0.

Classes and weights are not checked, since on a GPU each step would wait for that:
weights below 0, and classes of known pixels that are none of 0 to K - 1, give a number
without a meaning or an error of torch (on CUDA one that ends the process).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_unet.learning.losses.weighting import (
    full_precision,
    weighted_mean,
    where_known,
)

if TYPE_CHECKING:
    from torch import Tensor


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the pixels' cross entropy (2015, eq. 1).

    Parameters
    ----------
    logits, classes, weights : Tensor
        As in the module's docstring.

    References
    ----------
    Ronneberger et al. 2015, eq. 1: E = sum over x of w(x) log p_l(x)(x); here with
    the minus that it needs to be made small, and divided by the sum of w.
    """
    return weighted_mean(_cross_entropy(logits, classes, weights), weights)


def dice_loss(
    logits: Tensor,
    classes: Tensor,
    weights: Tensor,
    *,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return 1 - the mean of the classes' soft Dice, pooled over the batch.

    For class k with true pixels g_k (0 or 1), probability p_k and weights w,

        D_k = 2 sum(w p_k g_k) / (sum(w p_k) + sum(w g_k))

    with sums over all pixels of the batch. The loss is between 0 and 1. Classes that
    no known pixel of the batch has are left out of the mean: their Dice would be 0
    with a gradient of 0 whatever is predicted, and where they are predicted wrongly
    the other classes lose.

    Parameters
    ----------
    logits, classes, weights : Tensor
        As in the module's docstring. Background is a class like any other, so that a
        batch without a cell has something to learn from too.
    class_weights : Tensor of float, shape (K,), optional
        How much each class counts in the mean; all alike where not given.

    References
    ----------
    Milletari et al. 2016, eq. 2, with squares in the denominator; Drozdzal et al. 2016
    and Sudre et al. 2017, table 1, without, as here. Isensee et al. 2021 for the
    pooling over the batch.
    """
    n_classes = logits.shape[1]
    logits = where_known(full_precision(logits), weights)
    p = torch.softmax(logits, 1).movedim(1, -1)
    g = functional.one_hot(_known_classes(classes, weights), n_classes).to(p)
    w = weights.to(p)[..., None]
    pixels = tuple(range(p.ndim - 1))
    common, predicted, true = ((w * x).sum(pixels) for x in (p * g, p, g))
    dice = 2 * common / torch.where(true > 0, predicted + true, 1)
    share = (true > 0).to(p)
    if class_weights is not None:
        share = share * class_weights.to(p)
    total = share.sum()
    # Nothing known: no Dice to be less than 1.
    return (share * (1 - dice)).sum() / torch.where(total > 0, total, 1)


def combined_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the weighted cross entropy and the Dice loss.

    Parameters
    ----------
    logits, classes, weights : Tensor
        As in the module's docstring.

    References
    ----------
    Isensee et al.: nnU-Net. Nature Methods 18, 203 (2021): both count alike.
    """
    cross_entropy = weighted_cross_entropy(logits, classes, weights)
    return cross_entropy + dice_loss(logits, classes, weights)


def focal_loss(
    logits: Tensor, classes: Tensor, weights: Tensor, *, gamma: float = 2.0
) -> Tensor:
    """Return the weighted mean of -(1 - p)^gamma log p, p that of the true class.

    Parameters
    ----------
    logits, classes, weights : Tensor
        As in the module's docstring. The weights stand where the paper's alpha does.
    gamma : float
        How much less a pixel counts that is right already, >= 1; 2 in the paper. (0
        would be the cross entropy, between 0 and 1 the slope has a pole at p = 1.)

    References
    ----------
    Lin et al.: Focal loss for dense object detection. ICCV 2017, eq. 5.
    """
    cross_entropy = _cross_entropy(logits, classes, weights)
    # 1 - p without loss of digits where p is near 1.
    miss = -torch.expm1(-cross_entropy)
    return weighted_mean(miss**gamma * cross_entropy, weights)


def _cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    return functional.cross_entropy(
        where_known(full_precision(logits), weights),
        _known_classes(classes, weights),
        reduction="none",
    )


def _known_classes(classes: Tensor, weights: Tensor) -> Tensor:
    return torch.where(weights > 0, classes, 0).long()
