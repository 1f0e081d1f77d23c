"""Annotations that each name only the classes they have get one list."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from napari_unet.files.formats.common_classes import CommonClasses, class_list
from napari_unet.imaging.arrays import Annotation


def annotated(*names: str, kinds: Any = (), **more: Any) -> Annotation:
    """Return an annotation with one pixel of each kind in `kinds`."""
    labels = np.zeros((1, len(kinds) + 1), np.int32)
    labels[0, : len(kinds)] = range(1, len(kinds) + 1)
    label_class = {i: kind for i, kind in enumerate(kinds, 1) if kind != 1}
    return Annotation(labels, label_class, class_names=names, **more)


def made_common(*annotations: Annotation) -> tuple[CommonClasses, list[Annotation]]:
    keys = [str(i) for i in range(len(annotations))]
    common = CommonClasses(
        {key: class_list(one) for key, one in zip(keys, annotations, strict=True)}
    )
    pairs = zip(keys, annotations, strict=True)
    return common, [common.applied(key, one) for key, one in pairs]


def names_of_pixels(annotation: Annotation) -> list[str]:
    return [annotation.class_names[kind] for kind in annotation.class_map()[0]]


def test_classes_come_in_the_order_in_which_they_are_named() -> None:
    first = annotated("background", "Tumor", kinds=[1, 0])
    second = annotated("background", "Immune", "Tumor", kinds=[1, 2, 1])
    common, made = made_common(first, second)
    assert common.is_new
    assert common.names == ("background", "Tumor", "Immune")
    for before, after in zip((first, second), made, strict=True):
        assert after.class_names == common.names
        assert names_of_pixels(after) == names_of_pixels(before)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_numbers_are_kept_where_the_lists_agree(order: tuple[int, ...]) -> None:
    lists = [
        annotated("background", "Tumor", kinds=[1]),
        annotated("background", "class 1", "Immune", kinds=[2]),
        annotated("background", "class 1", "class 2", "Stroma", kinds=[3]),
    ]
    common, made = made_common(*(lists[i] for i in order))
    assert common.names == ("background", "Tumor", "Immune", "Stroma")
    for i, after in zip(order, made, strict=True):
        assert dict(after.label_class) == {1: i + 1}


def test_a_number_without_a_name_keeps_its_place() -> None:
    common, _ = made_common(annotated("background", "class 1", "Immune", kinds=[2]))
    assert common.names == ("background", "class 1", "Immune")
    assert not common.is_new


def test_a_class_that_is_called_as_a_place_holder_is_one_if_it_is_used() -> None:
    common, made = made_common(
        annotated("background", "class 1", kinds=[1]),
        annotated("background", "Immune", kinds=[1]),
    )
    assert common.names == ("background", "class 1", "Immune")
    assert names_of_pixels(made[0])[0] == "class 1"


def test_an_annotation_without_objects_adds_no_class() -> None:
    common, made = made_common(
        annotated("background", "cell"), annotated("background", "Tumor", kinds=[1])
    )
    assert common.names == made[0].class_names == ("background", "Tumor")
    assert made_common(annotated("background", "cell"))[0].names[1] == "cell"


def test_colours_and_areas_are_kept_and_shared() -> None:
    common, made = made_common(
        annotated("background", "Tumor", kinds=[1]),
        annotated(
            "background",
            "tissue",
            kinds=[1],
            class_colors=("#111111", "#222222"),
            area_classes=frozenset({1}),
        ),
    )
    assert common.colors[0] == "#111111"
    assert common.colors[2] == "#222222"
    assert len(set(common.colors)) == 3
    assert [one.area_classes for one in made] == [{2}, {2}]
    assert all(one.class_colors == common.colors for one in made)


def test_the_same_lists_change_nothing() -> None:
    same = annotated("background", "b", "a", kinds=[2, 1])
    common, made = made_common(same, same)
    assert not common.is_new
    assert made == [same, same]
