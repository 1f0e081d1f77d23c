"""Which of several processes speaks, where `torchrun` started some for one training."""

from __future__ import annotations

import time

from napari_unet.learning.loop import launched

# A launcher ends all processes as soon as one has failed: first let the one that
# speaks do so.
_LINGER_S = 1.0
_has_failed_first: bool | None = None


def is_silent() -> bool:
    """Return whether this process leaves it to another to speak."""
    if _has_failed_first is None:
        return launched.rank() > 0
    return not _has_failed_first


def before_an_error() -> None:
    """Let one process tell what went wrong: the first to which it went."""
    global _has_failed_first
    if launched.n_ranks() == 1:
        return
    from napari_unet.learning.loop.parallel import is_first_to_fail

    _has_failed_first = is_first_to_fail()


def after_an_error() -> None:
    """Wait a moment where another process is telling what went wrong."""
    if launched.n_ranks() > 1 and is_silent():
        time.sleep(_LINGER_S)
