"""Whether what is validated on is learned from as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.learning.data.grouping import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.learning.data.summaries import PairSummary


def leakage_warnings(
    learned: Sequence[PairSummary], validated: Sequence[PairSummary]
) -> list[str]:
    """Return a sentence if images of one field are on both sides of a given split.

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
    first: dict[int, PairSummary] = {}
    for group, pair in zip(groups, learned, strict=False):
        first.setdefault(group, pair)
    shared = [
        (pair.source, first[group].source)
        for group, pair in zip(groups[len(learned) :], validated, strict=True)
        if group in first
    ]
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
