from __future__ import annotations

import itertools

import numpy as np
import pytest
import skimage.draw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import find_boundaries

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.targets import (
    border_distances,
    cell_boundaries,
    cut_annotation,
    make_target,
    separate_touching,
)
from napari_unet.imaging.weight_maps import weight_map

label_images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 1, 1, 1, 2, 2, 50]),
)


def neighbours(labels, place):
    for step in itertools.product((-1, 0, 1), repeat=labels.ndim):
        other = tuple(np.add(place, step))
        if all(0 <= o < n for o, n in zip(other, labels.shape, strict=True)):
            yield labels[other]


def brute_force(labels):
    """Cut one field, pixel by pixel."""
    cut = labels.copy()
    for place in np.argwhere(labels > 0):
        own = labels[tuple(place)]
        if any(n not in (0, own) for n in neighbours(labels, place)):
            cut[tuple(place)] = 0
    for i in set(np.unique(labels)) - set(np.unique(cut)):
        cut[labels == i] = i
    return cut


@settings(max_examples=80, deadline=None, derandomize=True)
@given(label_images)
def test_cutting_equals_brute_force(labels):
    cut = separate_touching(labels, n_dims=labels.ndim)
    np.testing.assert_array_equal(cut, brute_force(labels))
    assert cut.dtype == np.int32


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images)
def test_cutting_keeps_every_cell_and_only_takes_pixels_away(labels):
    cut = separate_touching(labels, n_dims=labels.ndim)
    assert set(np.unique(labels[labels > 0])) == set(np.unique(cut[cut > 0]))
    assert ((cut == labels) | (cut == 0)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images)
def test_cutting_does_not_depend_on_the_ids(labels):
    other_ids = np.where(labels > 0, 60 - labels, 0)
    cut = separate_touching(labels, n_dims=labels.ndim)
    other = separate_touching(other_ids, n_dims=labels.ndim)
    np.testing.assert_array_equal(np.where(cut > 0, 60 - cut, 0), other)


def test_cut_cells_touch_nowhere_not_even_at_a_corner():
    labels = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((5, 5), int))
    cut = separate_touching(labels)
    for place in np.argwhere(cut > 0):
        assert set(neighbours(cut, place)) <= {0, cut[tuple(place)]}


def test_cells_that_do_not_touch_stay_as_they_are():
    labels = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    np.testing.assert_array_equal(separate_touching(labels), labels)


def test_a_cell_of_one_pixel_keeps_it():
    labels = np.array([[1, 1, 1, 2]])
    np.testing.assert_array_equal(separate_touching(labels), [[1, 1, 0, 2]])


def test_planes_are_cut_by_themselves():
    stack = np.zeros((2, 4, 6), int)
    stack[0, :, :3], stack[0, :, 3:] = 1, 2
    stack[1] = 3  # touches 1 and 2 only across planes
    cut = separate_touching(stack)
    np.testing.assert_array_equal(cut[0], separate_touching(stack[0]))
    assert (cut[1] == 3).all()
    assert not np.array_equal(cut, separate_touching(stack, n_dims=3))


def test_a_cell_that_would_vanish_on_one_plane_keeps_its_pixels_there():
    stack = np.zeros((2, 3, 5), int)
    stack[0, 0, 0], stack[0, 0, 1:] = 1, 2
    stack[1] = 1
    assert separate_touching(stack)[0, 0, 0] == 1


def test_cutting_leaves_the_labels_alone():
    labels = np.array([[1, 2]])
    separate_touching(labels)
    np.testing.assert_array_equal(labels, [[1, 2]])


def test_cutting_refuses_what_is_no_label_image():
    with pytest.raises(LabelError, match="not whole numbers"):
        separate_touching(np.array([[0.5]]))


# --- the target -------------------------------------------------------------------


def halves():
    labels = np.zeros((6, 10), int)
    labels[1:5, 1:5], labels[1:5, 5:9] = 1, 2
    return labels


def test_a_target_has_the_classes_and_weights_of_the_cut_labels():
    labels = halves()
    config = WeightConfig(w0=30, sigma=2)
    target = make_target(Annotation.complete(labels), config)
    cut = separate_touching(labels)
    np.testing.assert_array_equal(target.classes, cut > 0)
    np.testing.assert_array_equal(target.weights, weight_map(cut, config))
    assert target.classes.dtype == np.int16
    assert target.weights.dtype == np.float32
    assert target.values is None


def test_a_target_keeps_the_classes_of_the_ids():
    annotation = Annotation(
        halves(), label_class={1: 2}, class_names=("background", "a", "b")
    )
    classes = make_target(annotation).classes
    assert (classes[1:5, 1:4] == 2).all()
    assert (classes[1:5, 6:9] == 1).all()
    assert (classes[1:5, 4:6] == 0).all()


def test_a_cut_is_known_background_in_a_partial_annotation():
    target = make_target(Annotation(halves()))
    assert (target.classes[1:5, 4:6] == 0).all()
    assert (target.weights[1:5, 4:6] > 1).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images, st.data())
def test_weights_are_zero_exactly_where_nothing_is_known(labels, data):
    known = data.draw(hnp.arrays(bool, labels.shape))
    annotation = Annotation(labels, label_class={50: 0}, known=known)
    weights = make_target(annotation).weights
    np.testing.assert_array_equal(weights == 0, ~annotation.is_known)


def test_painted_background_neither_cuts_nor_is_cut():
    labels = np.array([[1, 1, 1, 9, 9, 9]])
    target = make_target(Annotation(labels, label_class={9: 0}))
    np.testing.assert_array_equal(target.classes, [[1, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(target.weights, np.ones((1, 6)))


def test_a_plane_without_paint_does_not_count():
    stack = np.zeros((3, 6, 10), int)
    stack[1] = halves()
    target = make_target(Annotation(stack))
    assert not target.weights[[0, 2]].any()
    assert target.weights[1].any()


def test_planes_make_targets_of_their_own():
    stack = np.stack([halves(), np.roll(halves(), 1, axis=1), halves() * 0])
    target = make_target(Annotation.complete(stack))
    for plane, classes, weights in zip(
        stack, target.classes, target.weights, strict=True
    ):
        alone = make_target(Annotation.complete(plane))
        np.testing.assert_array_equal(classes, alone.classes)
        np.testing.assert_array_equal(weights, alone.weights)


def test_a_volume_makes_one_target():
    volume = np.zeros((4, 6, 6), int)
    volume[:2], volume[2:] = 1, 2
    classes = make_target(Annotation.complete(volume), n_dims=3).classes
    np.testing.assert_array_equal(classes[:, 0, 0], [1, 0, 0, 1])


# --- gaps -----------------------------------------------------------------------------


def arrangements(n_dims):
    """Every set of 3 neighbouring pixels, as offsets from its first pixel."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=n_dims) if any(s)]
    start = (0,) * n_dims
    for a, b in itertools.product(steps, repeat=2):
        for base in (start, a):
            third = tuple(np.add(base, b))
            if len({start, a, third}) == 3:
                yield tuple(sorted({start, a, third}))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_cell_of_three_pixels_is_never_deleted(n_dims):
    for cell in set(arrangements(n_dims)):
        places = tuple(np.transpose(np.array(cell) + 3))
        labels = np.full((7,) * n_dims, 5)  # surrounded by one other cell
        labels[places] = 2
        cut = separate_touching(labels, n_dims=n_dims)
        assert (cut[places] == 2).all()
        # The other cell gives one pixel all around: nothing touches.
        for place in np.transpose(places):
            assert set(neighbours(cut, place)) <= {0, 2}
        halves = np.zeros((7,) * n_dims, int)  # and cut by one neighbour on one side
        halves[..., :3], halves[places] = 5, 2
        assert {2, 5} <= set(np.unique(separate_touching(halves, n_dims=n_dims)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images)
def test_a_gap_takes_one_pixel_from_each_side_at_most(labels):
    cut = separate_touching(labels, n_dims=labels.ndim)
    for place in np.argwhere((labels > 0) & (cut == 0)):
        own = labels[tuple(place)]
        assert any(n not in (0, own) for n in neighbours(labels, place))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images, st.data())
def test_a_gap_is_symmetric(labels, data):
    axis = data.draw(st.integers(0, labels.ndim - 1))
    cut = separate_touching(labels, n_dims=labels.ndim)
    mirrored = separate_touching(np.flip(labels, axis), n_dims=labels.ndim)
    np.testing.assert_array_equal(np.flip(mirrored, axis), cut)


# --- areas ----------------------------------------------------------------------------


def beside_an_area(kind):
    labels = np.array([[1, 1, 1, 9, 9, 9, 2, 2, 3, 3]])
    return Annotation(
        labels,
        label_class={9: kind},
        class_names=("background", "cell", "tissue"),
        area_classes=frozenset({2}),
    )


@pytest.mark.parametrize("kind", [0, 2])
def test_areas_and_painted_background_neither_cut_nor_are_cut(kind):
    cut = cut_annotation(beside_an_area(kind))
    np.testing.assert_array_equal(cut.labels, [[1, 1, 1, 9, 9, 9, 2, 0, 0, 3]])
    assert cut.is_known.all()
    assert cut.label_class == {9: kind}
    target = make_target(beside_an_area(kind))
    want = [[1, 1, 1, kind, kind, kind, 1, 0, 0, 1]]
    np.testing.assert_array_equal(target.classes, want)
    assert (target.weights[target.classes > 0] == 1).all()
    assert (target.weights[0, 7:9] > 1).all()


def test_areas_that_touch_each_other_are_not_cut():
    annotation = Annotation(
        np.array([[1, 1, 2, 2]]),
        class_names=("background", "tissue"),
        area_classes=frozenset({1}),
    )
    target = make_target(annotation)
    np.testing.assert_array_equal(target.classes, [[1, 1, 1, 1]])
    np.testing.assert_array_equal(target.weights, [[1, 1, 1, 1]])


def test_cutting_an_annotation_leaves_it_alone():
    annotation = Annotation(halves())
    cut_annotation(annotation)
    np.testing.assert_array_equal(annotation.labels, halves())


def test_a_target_takes_sigmas_in_micrometres():
    config = WeightConfig(unit="um", sigma=1.0)
    annotation = Annotation.complete(halves())
    target = make_target(annotation, config, pixel_size_um=(0.5, 0.25))
    cut = separate_touching(halves())
    expected = weight_map(cut, config, pixel_size_um=(0.5, 0.25))
    np.testing.assert_array_equal(target.weights, expected)
    with pytest.raises(ConfigError, match="has no pixel size"):
        make_target(annotation, config)


# --- boundaries -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images)
def test_boundaries_equal_brute_force(labels):
    expected = np.zeros(labels.shape, bool)
    for place in np.argwhere(labels > 0):
        own = labels[tuple(place)]
        expected[tuple(place)] = any(n != own for n in neighbours(labels, place))
    for i in np.unique(labels[labels > 0]):
        if expected[labels == i].all():
            expected[labels == i] = False
    found = cell_boundaries(labels, n_dims=labels.ndim)
    np.testing.assert_array_equal(found, expected)


def test_boundaries_are_the_inner_ones_of_scikit_image():
    labels = np.zeros((40, 60), np.int32)
    labels[skimage.draw.disk((20, 20), 12)] = 1
    labels[skimage.draw.disk((20, 40), 12)] = 2
    expected = find_boundaries(labels, connectivity=2, mode="inner")
    np.testing.assert_array_equal(cell_boundaries(labels), expected)


def two_classes():
    labels = np.zeros((8, 20), int)
    labels[1:7, 1:7], labels[1:7, 7:13], labels[1:7, 13:19] = 1, 2, 9
    return Annotation.complete(labels), Annotation(
        labels,
        label_class={1: 2, 9: 3},
        known=np.ones(labels.shape, bool),
        class_names=("background", "a", "b", "tissue"),
        area_classes=frozenset({3}),
    )


def test_all_cell_classes_share_the_class_of_boundaries_and_areas_have_none():
    _, annotation = two_classes()
    classes = make_target(annotation, target="boundary").classes
    edge = cell_boundaries(annotation.cells())
    assert (classes[edge] == 4).all()
    np.testing.assert_array_equal(classes[~edge], annotation.class_map()[~edge])
    assert edge[1:7, 6:8].all()
    assert not edge[:, 13:].any()
    assert set(np.unique(classes[2:6, 2:6])) == {2}
    assert set(np.unique(classes[2:6, 8:12])) == {1}
    assert classes.dtype == np.int16


@pytest.mark.parametrize("target", ["boundary", "distance"])
def test_every_target_has_the_weights_of_the_cut_labels(target):
    annotation, _ = two_classes()
    config = WeightConfig(w0=30, sigma=2)
    found = make_target(annotation, config, target=target)
    gap = make_target(annotation, config)
    np.testing.assert_array_equal(found.weights, gap.weights)


# --- distances ------------------------------------------------------------------------


def depth_by_brute_force(labels, spacing):
    """Return the distance to the nearest other pixel, over the greatest in the cell."""
    depth = np.zeros(labels.shape)
    places = np.argwhere(np.ones(labels.shape, bool))
    for place in np.argwhere(labels > 0):
        others = places[labels.ravel() != labels[tuple(place)]]
        apart = np.sqrt((((others - place) * spacing) ** 2).sum(1))
        depth[tuple(place)] = apart.min() if len(others) else 1
    for i in np.unique(labels[labels > 0]):
        depth[labels == i] /= depth[labels == i].max()
    return depth


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images, st.sampled_from([None, 0.5, 2.0]))
def test_distances_equal_brute_force(labels, other_size):
    spacing = [1.0] * labels.ndim
    spacing[0] = other_size or 1.0
    found = border_distances(
        labels, n_dims=labels.ndim, spacing=spacing if other_size else None
    )
    expected = depth_by_brute_force(labels, np.array(spacing))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32


def test_cells_of_any_size_are_as_deep():
    labels = np.zeros((80, 80), np.int32)
    labels[skimage.draw.disk((15, 15), 5)] = 1
    labels[skimage.draw.disk((50, 50), 25)] = 2
    depth = border_distances(labels)
    assert depth[labels == 1].max() == depth[labels == 2].max() == 1
    np.testing.assert_array_equal(depth > 0, labels > 0)


def test_a_cell_at_the_edge_of_the_image_has_no_border_there():
    labels = np.zeros((5, 8), np.int32)
    labels[:, :4] = 1
    np.testing.assert_allclose(
        border_distances(labels)[2], [1, 0.75, 0.5, 0.25] + [0] * 4
    )


def test_a_distance_target_has_cut_classes_and_the_depth_of_the_cells_as_painted():
    annotation, _ = two_classes()
    target = make_target(annotation, target="distance")
    np.testing.assert_array_equal(target.classes, make_target(annotation).classes)
    assert target.values.shape == (1, 8, 20)
    np.testing.assert_array_equal(target.values[0], border_distances(annotation.labels))
    assert (target.values[0][1:7, 6:8] > 0).all()  # where the classes are cut


def test_areas_and_painted_background_have_no_distance():
    _, annotation = two_classes()
    values = make_target(annotation, target="distance").values
    np.testing.assert_array_equal(values[0] > 0, annotation.cells() > 0)


def test_distances_know_the_size_of_a_pixel():
    annotation, _ = two_classes()
    target = make_target(annotation, target="distance", pixel_size_um=(9, 1, 0.25))
    expected = border_distances(annotation.labels, spacing=(1, 0.25))
    np.testing.assert_array_equal(target.values[0], expected)


@pytest.mark.parametrize("target", ["boundary", "distance"])
def test_planes_of_a_stack_are_targets_of_their_own(target):
    stack = np.stack([halves(), np.roll(halves(), 1, axis=1)])
    whole = make_target(Annotation.complete(stack), target=target)
    for k, plane in enumerate(stack):
        alone = make_target(Annotation.complete(plane), target=target)
        np.testing.assert_array_equal(whole.classes[k], alone.classes)
        if target == "distance":
            np.testing.assert_array_equal(whole.values[:, k], alone.values)


@pytest.mark.parametrize("target", ["boundary", "distance"])
def test_volumes_are_separated_across_planes(target):
    volume = np.zeros((6, 5, 5), int)
    volume[:3], volume[3:] = 1, 2
    found = make_target(Annotation.complete(volume), target=target, n_dims=3)
    if target == "boundary":
        np.testing.assert_array_equal(found.classes[:, 2, 2], [1, 1, 2, 2, 1, 1])
    else:
        depth = found.values[0, :, 2, 2] * 3
        np.testing.assert_allclose(depth, [3, 2, 1, 1, 2, 3], rtol=1e-6)


@pytest.mark.parametrize("target", ["boundary", "distance"])
def test_with_areas_alone_all_targets_are_the_same(target):
    annotation = Annotation(
        halves(), class_names=("background", "tissue"), area_classes=frozenset({1})
    )
    found = make_target(annotation, target=target)
    np.testing.assert_array_equal(found.classes, make_target(annotation).classes)
    assert found.values is None


def test_an_unknown_target_is_refused():
    with pytest.raises(ConfigError, match="target is 'contour': give one of gap, "):
        make_target(Annotation(halves()), target="contour")
