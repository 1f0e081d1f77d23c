"""Whether this process is one of several that `torchrun` started for one training."""

from __future__ import annotations

import os

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Return which of the processes this is, from 0; 0 if there is but one."""
    return int(os.environ["RANK"]) if n_ranks() > 1 else 0


def local_rank() -> int:
    """Return which one on its machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", rank())) if n_ranks() > 1 else 0


def n_ranks() -> int:
    """Return how many processes train together: 1 unless a launcher says more.

    Without torch, which takes a second to load.
    """
    if any(not os.environ.get(name) for name in _NEEDED):
        return 1
    numbers = [os.environ[name] for name in ("RANK", "WORLD_SIZE")]
    # Other programs may have set such a variable for their own ends.
    if not all(number.isdecimal() for number in numbers):
        return 1
    return max(1, int(numbers[1]))
