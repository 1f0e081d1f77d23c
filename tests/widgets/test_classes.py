"""The classes of an annotation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.layers import Labels

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets._classes import (
    LONGEST_NAME,
    MOST_CLASSES,
    Classes,
    class_of,
    classes_of,
    default_color,
    note_classes,
    without_class,
)
from napari_unet.widgets._layers import note_about

THREE = Classes(("background", "T cell", "B cell", "tissue"), (), frozenset({3}))


def test_colours_that_are_missing_are_filled_in_and_differ() -> None:
    classes = Classes(("background", *(f"class {i}" for i in range(40))), ("#123456",))
    assert classes.colors[0] == "#123456"
    assert len(set(classes.colors)) == len(classes) == 41
    assert all(len(bytes.fromhex(color[1:])) == 3 for color in classes.colors)


def test_added_class_has_a_free_name_and_colour() -> None:
    classes = Classes(("background", "class 3", "cell"), ())
    classes = classes.recolored(1, default_color(3)).added().added()
    assert classes.names[3:] == ("class 4", "class 5")
    assert len(set(classes.colors)) == 5


def test_there_are_not_more_classes_than_can_be_told_apart() -> None:
    classes = Classes()
    while len(classes) <= MOST_CLASSES:
        classes = classes.added()
    with pytest.raises(LabelError, match=r"100 classes already.*NU-L06"):
        classes.added()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "needs a name"),
        (" \n\t", "needs a name"),
        ("b CELL ", "class “b CELL” already"),
        ("x" * (LONGEST_NAME + 1), "has 61 letters"),
    ],
)
def test_name_that_tells_nothing_apart_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(LabelError, match=rf"{sentence}.*NU-L06"):
        THREE.renamed(1, name)


def test_name_is_one_line_and_may_be_anything_else() -> None:
    assert THREE.renamed(1, " <b>T</b>\n  cell ").names[1] == "<b>T</b> cell"
    assert THREE.renamed(1, "t CELL").names[1] == "t CELL"


def test_area_is_no_cell() -> None:
    assert [THREE.is_cell(i) for i in range(4)] == [False, True, True, False]
    both = THREE.as_area(1, is_area=True).as_area(3, is_area=False)
    assert both.areas == {1}


def test_classes_after_a_removed_one_move_up() -> None:
    left = THREE.recolored(3, "#00ff00").without(1)
    assert left.names == ("background", "B cell", "tissue")
    assert left.colors[2] == "#00ff00"
    assert left.areas == {2}
    assert THREE.without(3).areas == frozenset()


@pytest.mark.parametrize(("classes", "i"), [(THREE, 0), (Classes(), 1), (Classes(), 0)])
def test_background_and_one_class_are_always_there(classes: Classes, i: int) -> None:
    with pytest.raises(LabelError, match=r"always there.*NU-L06"):
        classes.without(i)


@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    removed=st.integers(1, 4),
)
def test_removing_a_class_keeps_the_class_of_all_others(classes, removed) -> None:
    names = ("background", "a", "b", "c", "d")
    ids = np.arange(1, len(classes) + 1)[None]
    label_class = dict(zip(ids[0].tolist(), classes, strict=True))
    before = Annotation(ids, label_class, class_names=names)
    left = Classes(names).without(removed)
    after = Annotation(ids, without_class(label_class, removed), class_names=left.names)
    for old, new in zip(before.class_map()[0], after.class_map()[0], strict=True):
        expected = left.names[1] if old == removed else names[old]
        assert left.names[new] == expected


def test_classes_are_kept_with_the_layer() -> None:
    layer = Labels(np.zeros((4, 4), np.int32))
    assert classes_of(layer) == Classes()
    note_about(layer, label_class={5: 2})
    note_classes(layer, THREE)
    assert classes_of(layer) == THREE
    assert [class_of(layer, i) for i in (5, 6)] == [2, 1]
    note_classes(layer, THREE.without(2), {5: 1})
    assert class_of(layer, 5) == 1
