"""The classes of an annotation: names, colours, and which are areas."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_unet.errors import LabelError
from napari_unet.widgets._layers import about, note_about

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Labels

CLASS_NAMES = ("background", "cell")
MOST_CLASSES = 100
LONGEST_NAME = 60

# Background: grey is not seen on a grey image. Cells are never of this hue.
_BLUE_VIOLET = "#7878ff"
# Okabe and Ito's colours, which the colour-blind tell apart, without black.
_COLORS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#cc79a7",
    "#d55e00",
    "#3d8bd4",
)
_GOLDEN_RATIO = 0.618034


def default_color(i: int) -> str:
    """Return the colour of a class that nobody gave one, as ``"#rrggbb"``."""
    if i == 0:
        return _BLUE_VIOLET
    if i <= len(_COLORS):
        return _COLORS[i - 1]
    rgb = colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1, 0.55 + 0.15 * (i % 3), 0.95)
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)


@dataclass(frozen=True)
class Classes:
    """What may be painted; class 0 is background.

    Parameters
    ----------
    names : tuple of str
        Background first, then at least one class.
    colors : tuple of str
        As ``"#rrggbb"``; those that are missing are filled in.
    areas : set of int
        Classes that are areas (tissue, membrane), and not single cells.
    """

    names: tuple[str, ...] = CLASS_NAMES
    colors: tuple[str, ...] = ()
    areas: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        n_given = len(self.colors)
        more = [default_color(i) for i in range(n_given, len(self.names))]
        object.__setattr__(self, "colors", (*self.colors, *more)[: len(self.names)])

    def __len__(self) -> int:
        return len(self.names)

    def is_cell(self, i: int) -> bool:
        """Return whether each object of a class is a cell of its own."""
        return i > 0 and i not in self.areas

    def added(self) -> Classes:
        """Return these and one more.

        Raises
        ------
        LabelError
            There are many already (NU-L06).
        """
        if len(self) > MOST_CLASSES:
            raise LabelError(
                "NU-L06", f"there are {MOST_CLASSES} classes already: remove one first"
            )
        n = len(self)
        while f"class {n}" in self.names:
            n += 1
        unused = (default_color(i) for i in range(len(self), 3 * MOST_CLASSES))
        color = next(color for color in unused if color not in self.colors)
        return replace(
            self, names=(*self.names, f"class {n}"), colors=(*self.colors, color)
        )

    def renamed(self, i: int, name: str) -> Classes:
        """Return these, one under another name.

        Raises
        ------
        LabelError
            An empty name, a long one, or that of another class (NU-L06).
        """
        name = " ".join(name.split())
        others = {n.casefold() for k, n in enumerate(self.names) if k != i}
        if not name:
            raise LabelError("NU-L06", "a class needs a name: type one")
        if len(name) > LONGEST_NAME:
            raise LabelError(
                "NU-L06",
                f"the name of a class has {len(name)} letters but at most "
                f"{LONGEST_NAME} are shown: choose a shorter one",
            )
        if name.casefold() in others:
            raise LabelError(
                "NU-L06", f"there is a class “{name}” already: choose another name"
            )
        return replace(self, names=_with(self.names, i, name))

    def recolored(self, i: int, color: str) -> Classes:
        """Return these, one in another colour."""
        return replace(self, colors=_with(self.colors, i, color))

    def as_area(self, i: int, *, is_area: bool) -> Classes:
        """Return these, one as an area or as single cells."""
        return replace(self, areas=self.areas | {i} if is_area else self.areas - {i})

    def without(self, i: int) -> Classes:
        """Return these without one; those after it move up.

        Raises
        ------
        LabelError
            Background, or the only class (NU-L06).
        """
        if i == 0 or len(self) <= len(CLASS_NAMES):
            raise LabelError(
                "NU-L06",
                "background and one more class are always there: rename it instead",
            )
        return Classes(
            self.names[:i] + self.names[i + 1 :],
            self.colors[:i] + self.colors[i + 1 :],
            frozenset(k - (k > i) for k in self.areas if k != i),
        )


def _with(values: tuple[str, ...], i: int, value: str) -> tuple[str, ...]:
    return (*values[:i], value, *values[i + 1 :])


def without_class(label_class: Mapping[int, int], i: int) -> dict[int, int]:
    """Return the class of each id once class `i` is removed: its ids become class 1.

    Examples
    --------
    >>> without_class({5: 0, 6: 2, 7: 3}, 2)
    {5: 0, 6: 1, 7: 2}
    """
    return {k: 1 if c == i else c - (c > i) for k, c in label_class.items()}


def classes_of(labels: Labels) -> Classes:
    """Return the classes of an annotation layer."""
    known = about(labels)
    return Classes(
        tuple(known.get("class_names", CLASS_NAMES)),
        tuple(known.get("class_colors", ())),
        frozenset(known.get("area_classes", ())),
    )


def note_classes(
    labels: Labels, classes: Classes, label_class: Mapping[int, int] | None = None
) -> None:
    """Give an annotation layer its classes, and its ids theirs where given."""
    changes: dict[str, Any] = {
        "class_names": classes.names,
        "class_colors": classes.colors,
        "area_classes": classes.areas,
    }
    if label_class is not None:
        changes["label_class"] = dict(label_class)
    note_about(labels, **changes)


def class_of(labels: Labels, i: int) -> int:
    """Return the class of an id; those that are not named are of class 1."""
    return int(about(labels).get("label_class", {}).get(i, 1))
