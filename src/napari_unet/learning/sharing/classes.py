"""What the outputs of a model from elsewhere mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def classes_and_roles(
    n_outputs: int, class_names: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes of a network of logits, and the role of each output.

    One output is the logit of the only class; of several, the first is background.

    Parameters
    ----------
    n_outputs : int
        Number of the network's output channels.
    class_names : sequence of str
        Background first; made up if empty.

    Raises
    ------
    ConfigError
        Not as many names as there are classes (NU-C01).

    Examples
    --------
    >>> classes_and_roles(1)
    (('background', 'cell'), ('sigmoid:cell',))
    >>> classes_and_roles(2, ["background", "nucleus"])
    (('background', 'nucleus'), ('softmax:background', 'softmax:nucleus'))
    """
    n_classes = max(n_outputs, 2)
    made_up = [f"class {i}" for i in range(1, n_classes)]
    made_up = ["cell"] if n_classes == 2 else made_up
    names = tuple(class_names) or ("background", *made_up)
    if len(names) != n_classes or len(set(names)) < n_classes:
        raise ConfigError(
            "NU-C01",
            f"{len(names)} classes are named ({', '.join(names)}), but the network has "
            f"{n_classes}: name each once, background first",
        )
    if n_outputs == 1:
        return names, (f"sigmoid:{names[1]}",)
    return names, ("softmax:background", *(f"softmax:{name}" for name in names[1:]))
