"""The work of Measure."""

from __future__ import annotations

import csv

import dask.array as da
import numpy as np
import pytest

from napari_unet.errors import LabelError
from napari_unet.events import Note
from napari_unet.imaging.arrays import Image
from napari_unet.widgets._classes import Classes
from napari_unet.widgets._measure_work import (
    Measured,
    ToMeasure,
    digest_of,
    measuring,
    saving,
)


def squares(shape=(20, 30)) -> np.ndarray:
    """Return two cells: 4 x 4 at the corner, 2 x 6 further in."""
    labels = np.zeros(shape, np.int32)
    labels[..., :4, :4] = 1
    labels[..., 10:12, 20:26] = 2
    return labels


def measured(labels, axes="YX", **given) -> Measured:
    events = list(measuring(ToMeasure(labels, axes, 'labels "cells"', **given)))
    (found,) = [event for event in events if isinstance(event, Measured)]
    return found


def test_cells_are_measured_in_micrometres_and_placed_in_pixels() -> None:
    found = measured(squares(), pixel_size_um=(0.5, 0.25))
    assert found.columns["area_um2"].tolist() == [2.0, 1.5]
    assert found.positions.tolist() == [[1.5, 1.5], [10.5, 22.5]]
    np.testing.assert_allclose(found.diameters_px, np.sqrt([64 / np.pi, 48 / np.pi]))
    assert not {"mean", "sd", "min", "max"} & set(found.columns)


def test_intensities_are_those_of_the_image() -> None:
    pixels = np.stack([squares() * 10.0, squares() + 0.5])
    image = Image(pixels, channel_names=("DAPI", "actin"))
    columns = measured(squares(), image=image).columns
    assert columns["mean_DAPI"].tolist() == [10, 20]
    assert columns["max_actin"].tolist() == [1.5, 2.5]


def test_what_is_no_cell_is_not_measured_and_cells_have_their_class() -> None:
    labels = squares()
    labels[5:8, 5:8], labels[15:, 5:8] = 3, 4
    classes = Classes(("background", "round", "tissue", "long"), areas=frozenset({2}))
    kinds = {2: 3, 3: 0, 4: 2}
    columns = measured(labels, label_class=kinds, classes=classes).columns
    assert columns["label"].tolist() == [1, 2]
    assert columns["class"].tolist() == ["round", "long"]


def test_ids_may_be_larger_than_tables_can_be() -> None:
    labels = squares()
    labels[labels == 2] = 2_000_000_000
    assert measured(labels).columns["label"].tolist() == [1, 2_000_000_000]
    full = np.full((2, 2), 2_000_000_000)
    assert measured(full).columns["area_px"].tolist() == [4]


def test_cells_of_a_movie_have_a_row_in_each_frame() -> None:
    movie = squares((3, 20, 30))
    movie[1, :4, :4] = 0
    found = measured(movie, "TYX")
    assert not found.is_one_a_label
    assert found.columns["frame"].tolist() == [0, 0, 1, 2, 2]
    assert found.positions[2].tolist() == [1, 10.5, 22.5]
    assert found.on_plane(np.array([2.0, 0, 0])).tolist() == [3, 4]
    assert found.cell_at(2, np.array([1.2, 11, 22])) == 2
    assert found.cell_at(1, np.array([1.0, 0, 0])) is None


def test_slices_that_share_ids_show_volumes_and_others_planes() -> None:
    given = ToMeasure(squares((3, 20, 30)), "ZYX", "labels", pixel_size_um=(2, 1, 1))
    events = list(measuring(given))
    assert any(isinstance(e, Note) and "volumes" in e.message for e in events)
    found = next(e for e in events if isinstance(e, Measured))
    assert found.columns["volume_um3"].tolist() == [96, 72]
    assert found.positions[0].tolist() == [1, 1.5, 1.5]
    own = squares((2, 20, 30)) + np.array([0, 2])[:, None, None]
    own[1][own[1] == 2] = 0
    assert measured(own, "ZYX").columns["plane"].tolist() == [0, 0, 1, 1]


def test_labels_without_cells_are_refused() -> None:
    with pytest.raises(LabelError, match='labels "cells" hold no cells'):
        measured(np.full((4, 4), -1))


def test_the_digest_tells_changes_and_is_not_made_of_lazy_labels() -> None:
    labels = squares()
    assert measured(labels).digest == digest_of(labels.copy())
    other = labels.copy()
    other[19, 29] = 1
    assert digest_of(other) != digest_of(labels)
    lazy = measured(da.from_array(labels))
    assert (lazy.digest, len(lazy)) == (None, 2)


def test_the_file_has_units_in_its_header_and_no_formulas(tmp_path) -> None:
    columns = measured(squares()).columns | {"class": np.array(["=1+1", "b"], object)}
    list(saving(tmp_path / "cells.csv", columns))
    with (tmp_path / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["area_px"] for row in rows] == ["16", "12"]
    assert rows[0]["class"] == "'=1+1"
