"""Colours and names of classes in a Labels layer."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet.widgets._class_colors import draw_classes, is_colored_by_class
from napari_unet.widgets._layers import note_about

TISSUE = 3
NAMES = ("background", "T cell", "B cell", "tissue")
COLORS = ("#808080", "#ff0000", "#0000ff", "#00ff00")


@pytest.fixture
def labels() -> Labels:
    layer = Labels(np.zeros((4, 4), np.int32))
    note_about(
        layer,
        label_class={7: 0, 8: 2, 9: TISSUE},
        class_names=NAMES,
        class_colors=COLORS,
        area_classes=frozenset({TISSUE}),
    )
    return layer


def hue(color: np.ndarray) -> list[float]:
    return (color[:3] / color[:3].max()).round(3).tolist()


def test_cells_of_a_class_are_shades_of_its_colour(labels) -> None:
    draw_classes(labels, 20)
    red = labels.colormap.map(np.arange(1, 7))
    assert all(hue(color) == [1, 0, 0] for color in red)
    assert len({float(color[0]) for color in red[:3]}) == 3
    assert hue(labels.colormap.map(8)) == [0, 0, 1]


def test_background_and_areas_show_the_image_through(labels) -> None:
    for by in ("class", "cell"):
        note_about(labels, color_by=by)
        draw_classes(labels, 20)
        grey, green = labels.colormap.map(np.array([7, 9]))
        np.testing.assert_allclose(grey, [0.502, 0.502, 0.502, 0.55], atol=1e-3)
        np.testing.assert_allclose(green, [0, 1, 0, 0.55], atol=1e-3)


def test_by_cell_each_cell_has_napari_s_colour(labels) -> None:
    note_about(labels, color_by="cell")
    draw_classes(labels, 20)
    first, second, of_other_class = labels.colormap.map(np.array([1, 2, 8]))
    plain = Labels(np.zeros((4, 4), np.int32)).colormap
    np.testing.assert_allclose(first, plain.map(1), atol=1e-3)
    assert len({tuple(hue(color)) for color in (first, second, of_other_class)}) == 3
    assert hue(of_other_class) != [0, 0, 1]


def test_first_class_may_be_the_area(labels) -> None:
    note_about(labels, area_classes=frozenset({1}), color_by="cell")
    draw_classes(labels, 20)
    np.testing.assert_allclose(labels.colormap.map(1), [1, 0, 0, 0.55], atol=1e-3)
    assert labels.colormap.map(8)[3] == 1


def test_one_class_is_coloured_by_cell_and_several_by_class(labels) -> None:
    assert is_colored_by_class(labels)
    assert not is_colored_by_class(Labels(np.zeros((4, 4), np.int32)))
    note_about(labels, color_by="cell")
    assert not is_colored_by_class(labels)


def test_what_is_drawn_already_is_not_drawn_again(labels) -> None:
    draw_classes(labels, 20)
    changes = []
    for name in ("colormap", "features"):
        getattr(labels.events, name).connect(lambda _, n=name: changes.append(n))
    draw_classes(labels, 21)
    assert changes == []
    note_about(labels, label_class={7: 0, 8: 1, 9: TISSUE})
    draw_classes(labels, 21)
    assert set(changes) == {"colormap", "features"}


def test_renamed_class_shows_under_the_cursor(labels) -> None:
    labels.data[0, 0] = 8
    draw_classes(labels, 20)
    assert labels.get_status((0, 0))["value"] == "8; class: B cell"
    note_about(labels, class_names=("background", "T cell", "plasma", "tissue"))
    draw_classes(labels, 20)
    assert labels.get_status((0, 0))["value"] == "8; class: plasma"


def test_what_others_know_of_the_ids_stays(labels) -> None:
    labels.features = {"index": [2, 8], "area_px": [5.0, 7.0]}
    for names in (NAMES, ("background", "T cell", "plasma", "tissue")):
        note_about(labels, class_names=names)
        draw_classes(labels, 20)
        rows = labels.features.set_index("index")
        assert rows["area_px"].dropna().to_dict() == {2: 5.0, 8: 7.0}
        assert rows["class"][8] == names[2]


@pytest.mark.gui
def test_layer_stays_on_top_when_its_colours_are_many(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    for _ in range(3):
        viewer.add_image(np.zeros((4, 4)))
    layer = viewer.add_labels(np.zeros((4, 4), np.int32))
    draw_classes(layer, 20)
    drawn = viewer.window._qt_viewer.canvas.layer_to_visual
    assert [drawn[layer].node.order for layer in viewer.layers] == [0, 1, 2, 3]
