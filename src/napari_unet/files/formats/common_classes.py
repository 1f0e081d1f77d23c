"""One list of classes for annotations that each name only the classes they have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.files.formats.shapes import with_all_colors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.imaging.arrays import Annotation


def place_holder(kind: int) -> str:
    """Return what a class is called that is not named, but has its place in a list."""
    return f"class {kind}"


@dataclass(frozen=True)
class ClassList:
    """The classes of one annotation, without its labels.

    Parameters
    ----------
    names, colors, areas
        As in `Annotation`.
    used : frozenset of int
        Classes of painted objects.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    areas: frozenset[int]
    used: frozenset[int]

    def named(self) -> dict[int, str]:
        """Return the name of each class, without background and place holders.

        A reader that finds no object calls the only class ``"cell"``, which says
        nothing either.
        """
        if self.names[1:] == ("cell",) and not self.used:
            return {}
        return {
            i: name
            for i, name in enumerate(self.names)
            if i and (name != place_holder(i) or i in self.used)
        }


def class_list(annotation: Annotation) -> ClassList:
    """Return the classes of an annotation."""
    return ClassList(
        annotation.class_names,
        annotation.class_colors,
        annotation.area_classes,
        frozenset(annotation.label_class.get(i, 1) for i in _ids(annotation)),
    )


def _ids(annotation: Annotation) -> list[int]:
    labels = annotation.labels
    ids: list[int] = np.unique(labels[labels > 0]).tolist()
    return ids


class CommonClasses:
    """One list of classes for several annotations.

    Background comes first. Where no two annotations contradict each other, a class
    keeps its number; else the classes come in the order in which they are first named.

    Parameters
    ----------
    lists : mapping of str to ClassList
        Those of each annotation, at least one.
    """

    def __init__(self, lists: Mapping[str, ClassList]) -> None:
        self._lists = dict(lists)

    @cached_property
    def _number(self) -> dict[str, int]:
        """The number of each class."""
        by_place: dict[int, str] = {}
        in_order: dict[str, int] = {}
        for one in self._lists.values():
            for i, name in one.named().items():
                by_place.setdefault(i, name)
                in_order.setdefault(name, len(in_order) + 1)
        places = {name: i for i, name in by_place.items()}
        fits = all(
            places.get(name) == i
            for one in self._lists.values()
            for i, name in one.named().items()
        )
        gaps = set(range(1, max(by_place, default=0))) - set(by_place)
        is_clear = not any(place_holder(i) in places for i in gaps)
        return places if fits and is_clear else in_order

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each class, background first and at least one more."""
        first = next(iter(self._lists.values()))
        if not self._number:
            return first.names
        names = [place_holder(i) for i in range(max(self._number.values()) + 1)]
        for name, i in self._number.items():
            names[i] = name
        return (first.names[0], *names[1:])

    @cached_property
    def colors(self) -> tuple[str, ...]:
        """Colour of each class, the first that is given; empty where none is."""
        given: list[str | None] = [None] * len(self.names)
        for one in self._lists.values():
            kinds = {0: 0} | {i: self._number[name] for i, name in one.named().items()}
            for i, color in enumerate(one.colors):
                if i in kinds:
                    given[kinds[i]] = given[kinds[i]] or color
        return with_all_colors(given)

    @cached_property
    def _areas(self) -> frozenset[str]:
        lists = self._lists.values()
        return frozenset(
            name for one in lists for i, name in one.named().items() if i in one.areas
        )

    @property
    def is_new(self) -> bool:
        """Whether some annotation has other classes than this list."""
        return any(one.names != self.names for one in self._lists.values())

    def applied(self, key: str, annotation: Annotation) -> Annotation:
        """Return an annotation with these classes; `key` is that of its list."""
        if not self.is_new:
            return annotation
        named = self._lists[key].named()
        kinds = {0: 0} | {i: self._number[name] for i, name in named.items()}
        others = self._areas - set(named.values())
        areas = {kinds[i] for i in annotation.area_classes if i in kinds}
        old = annotation.label_class
        return replace(
            annotation,
            label_class={i: kinds[old.get(i, 1)] for i in _ids(annotation)},
            class_names=self.names,
            class_colors=self.colors,
            area_classes=frozenset(areas | {self._number[name] for name in others}),
        )
