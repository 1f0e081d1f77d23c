"""Whether what is validated on is learned from as well."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.learning.data.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learning.data.summaries import PairSummary, PlaneSummary


def leakage_warnings(
    learned: Sequence[PairSummary], validated: Sequence[PairSummary]
) -> list[str]:
    """Return a sentence if images of one field are on both sides of a given split.

    Two parts of one image, each known on its own side of a straight line, are fine.

    Parameters
    ----------
    learned, validated : sequence of PairSummary
        The images to learn from, and those that were given to validate on.

    Returns
    -------
    list of str
        One sentence that names the first such pair (see `groups_of`), or none.
    """
    groups = groups_of([*learned, *validated])
    of_group: dict[int, list[PairSummary]] = {}
    for group, pair in zip(groups, learned, strict=False):
        of_group.setdefault(group, []).append(pair)
    shared = []
    for group, pair in zip(groups[len(learned) :], validated, strict=True):
        same = (p for p in of_group.get(group, ()) if not _are_parts(p, pair))
        shared += [(pair.source, other.source) for other in itertools.islice(same, 1)]
    if not shared:
        return []
    own, other = shared[0]
    what = f"like {other}" if own != other else own
    n, total = len(shared), len(validated)
    show = "validation image shows" if total == 1 else "validation images show"
    return [
        f"{n} of {total} {show} a field that is learned from as well ({what}): the "
        "scores will be too good, so validate on other fields"
    ]


def _are_parts(a: PairSummary, b: PairSummary) -> bool:
    """Whether both are one image of which no plane is known on both sides."""
    own = {plane.index: plane for plane in a.planes}
    return a.pixels == b.pixels and not any(
        plane.index in own and _overlap(own[plane.index], plane) for plane in b.planes
    )


def _overlap(a: PlaneSummary, b: PlaneSummary) -> bool:
    """Whether no straight line parts what is known of both."""
    sides = zip(a.known, b.known, strict=True)
    return all(bool(np.any((n > 0) & (m > 0))) for n, m in sides)
