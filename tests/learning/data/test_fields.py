from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import FolderError, LabelError
from napari_unet.events import Region, Stroke
from napari_unet.files.lazy import ImageFile, LazyLabels, MaskFile
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.intensity import intensity_range
from napari_unet.imaging.targets import make_target
from napari_unet.learning.data import sources
from napari_unet.learning.data.painted import with_lost_cells
from napari_unet.learning.data.value_units import span_of_values
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.patches import PatchSource

TINY = NetworkConfig(base_width=2, depth=1)


def _prepared(
    images, annotations, config=None, *, network=TINY, validation=None, **settings
):
    config = config or TrainConfig()
    material = gather(
        images, annotations, config, network=network, validation=validation
    )
    return prepare(material, config, network=network, **settings)


def _cells(shape=(64, 64), n=8, seed=1):
    return draw_cells(shape, n_cells=n, rng=np.random.default_rng(seed))


class Recording:
    """A lazy array that tells what was sliced from it, and how much."""

    def __init__(self, array):
        self._array = array
        self.dtype, self.shape = array.dtype, array.shape
        self.read: list[tuple[int, ...]] = []

    def __getitem__(self, where):
        part = self._array[where]
        self.read.append(part.shape)
        return part


def test_a_lazy_stack_is_read_plane_by_plane():
    stack = [_cells(seed=i) for i in range(6)]
    image = Recording(np.stack([im for im, _ in stack])[None])
    labels = Recording(np.stack([labels for _, labels in stack]))
    split = _prepared([Image(image, axes="CZYX")], [labels]).split
    plane = split.train[2].load()
    assert max(np.prod(shape) for shape in image.read) == 64 * 64
    assert max(np.prod(shape) for shape in labels.read) == 64 * 64
    np.testing.assert_array_equal(plane.labels, stack[2][1])
    assert plane.known.all()
    assert plane.region == Region(0, (2,), (0, 0), (64, 64), "image")


def test_a_huge_plane_is_read_in_blocks():
    image, labels = _cells((3000, 2600), n=400)
    lazy, painted = Recording(image), Recording(labels.astype(np.uint16))
    split = _prepared([lazy], [painted]).split
    assert len(split.train) + len(split.validation) >= 6
    for field in split.train:
        field.load()
    # Intensities are measured on a grid of at most 4 million pixels.
    assert max(np.prod(s) for s in lazy.read) <= 2**22
    assert max(np.prod(s) for s in painted.read) <= 1600**2


def test_blocks_have_the_targets_of_the_whole_plane():
    image, labels = _cells((1700, 1700), n=700)
    held = ([image], [labels])
    split = _prepared([image], [labels], validation=held).split
    whole = make_target(Annotation.complete(labels))
    assert len(split.train) == 4
    seen = np.zeros(labels.shape, int)
    for field in split.train:
        plane = field.load()
        own = field.own
        region, view = field.region.slices, field.view.slices
        seen[region] += 1
        np.testing.assert_array_equal(
            plane.target.classes[own].reshape(field.region.shape), whole.classes[region]
        )
        np.testing.assert_array_equal(
            plane.target.weights[own].reshape(field.region.shape), whole.weights[region]
        )
        assert not plane.target.weights[~own].any()
        np.testing.assert_array_equal(plane.labels, labels[view])
    assert (seen == 1).all()


def test_each_cell_is_validated_in_one_block():
    image, labels = _cells((1700, 1700), n=700)
    split = _prepared([image], [labels], validation=([image], [labels])).split
    whole = []
    for field in split.validation:
        plane = field.load()
        ids = np.unique(plane.labels)
        for i in ids[ids > 0].tolist():
            assert (plane.labels == i).sum() == (labels == i).sum()
        whole += ids[ids > 0].tolist()
    assert sorted(whole) == sorted(set(np.unique(labels)) - {0})


@pytest.fixture
def folder(tmp_path):
    """Files of small images and masks."""
    pairs = []
    for i in range(8):
        image, labels = _cells(seed=i)
        names = [tmp_path / f"{kind}{i}.tif" for kind in ("image", "mask")]
        tifffile.imwrite(names[0], image.astype(np.float32))
        tifffile.imwrite(names[1], labels.astype(np.uint16))
        pairs.append((ImageFile(names[0]), MaskFile(names[1])))
    return tuple(map(list, zip(*pairs, strict=True)))


@pytest.fixture
def opened(monkeypatch):
    """Count how often each image is read."""
    found = []
    original = sources.open_pair

    def counting(image, annotation, **about):
        found.append(image)
        return original(image, annotation, **about)

    monkeypatch.setattr(sources, "open_pair", counting)
    return found


def test_small_data_sets_are_read_once(folder, opened):
    split = _prepared(*folder).split
    with PatchSource(split.train) as source:
        for step in range(1, 30):
            source.draw(step, n=4, size=32, reach=8)
    for field in split.validation:
        field.load()
    assert len(opened) == 8


def test_files_are_read_again_where_there_is_no_room(folder, opened, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_KEPT", 2)
    material = gather(*folder, TrainConfig(), network=TINY)
    assert len(opened) == 8
    split = prepare(material, material.config, network=TINY).split
    opened.clear()
    for field in split.train:
        field.load()
    assert len(opened) == len(split.train)


@pytest.mark.parametrize("way", ["changed", "gone"])
def test_a_file_that_changes_while_it_is_learned_from_is_told(folder, way, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_KEPT", 1)
    split = _prepared(*folder).split
    path = folder[0][split.train[0].region.image].path
    if way == "gone":
        path.unlink()
    else:
        tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    with pytest.raises(FolderError, match=f"image.*tif .*{way}") as caught:
        split.train[0].load()
    assert caught.value.code == "NU-F11"


def test_a_store_that_can_not_be_read_any_more_is_told():
    image, labels = _cells()
    lazy = Recording(labels)
    split = _prepared([image], [lazy]).split

    def gone(where):
        raise OSError("no such chunk")

    lazy._array = type("Gone", (), {"__getitem__": lambda self, where: gone(where)})()
    with pytest.raises(FolderError, match="no such chunk") as caught:
        split.train[0].load()
    assert caught.value.code == "NU-F11"


_MEASURED = """
import sys
import numpy as np, tifffile
from pathlib import Path
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.lazy import ImageFile, MaskFile
from napari_unet.learning.data import pool, sources
from napari_unet.learning.patches import PatchSource
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
folder, n = Path(sys.argv[1]), int(sys.argv[2])
images = [ImageFile(folder / f"i{i % 5}.tif") for i in range(n)]
masks = [MaskFile(folder / f"m{i % 5}.tif") for i in range(n)]
network = NetworkConfig(base_width=2, depth=1)
material = gather(images, masks, TrainConfig(), network=network)
split = prepare(material, material.config, network=network).split
with PatchSource(split.train, spare=split.spare) as source:
    for step in range(1, 101):
        source.draw(step, n=2, size=64, reach=10)
# The peak that getrusage tells may be that of the parent, before exec.
status = Path("/proc/self/status").read_text()
print(next(l.split()[1] for l in status.splitlines() if l.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_files_take_no_more_memory_than_fifty(tmp_path):
    for i in range(5):
        image, labels = _cells((384, 384), n=20, seed=i)
        tifffile.imwrite(tmp_path / f"i{i}.tif", image.astype(np.float32))
        tifffile.imwrite(tmp_path / f"m{i}.tif", labels.astype(np.uint16))
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(_MEASURED), tmp_path, str(n)],
                check=True, capture_output=True, text=True,
            ).stdout
        )
        for n in (10, 60, 180)
    ]  # fmt: skip
    # Fifty more take about 4 MB each. If all were kept, 120 more than that would take
    # 2.4 times as much again; a few are read ahead and then let go.
    assert peaks[1] - peaks[0] > 60_000
    assert peaks[2] - peaks[1] < 0.6 * (peaks[1] - peaks[0])


def _stroke(start, labels, known=None, **about) -> Stroke:
    labels = np.asarray(labels, np.int32)
    region = Region(0, about.pop("plane", ()), start, labels.shape)
    known = np.ones(labels.shape, bool) if known is None else known
    return Stroke(region, labels, known, **about)


def _parts(plane) -> list:
    target = plane.target
    parts = [plane.labels, plane.known, target.weights, target.classes, target.values]
    return [part for part in parts if part is not None]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(["gap", "boundary", "distance"]),
    st.sampled_from([1.0, 0.5, 1.5]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_stroke_gives_what_reading_anew_would_give(target, scale, balance, random):
    image, labels = _cells((96, 96), n=10)
    known = np.zeros(labels.shape, bool)
    known[10:80, 5:90] = True
    annotation = Annotation(np.where(known, labels, 0), known=known)
    split = _prepared(
        [image], [annotation], TrainConfig(target=target), scale=scale,
        weights=WeightConfig(sigma=2, balance_classes=balance),
        validation=([image], [labels]),
    ).split  # fmt: skip
    strokes = []
    with PatchSource(split.train) as source:
        source.draw(1, n=1, size=8, reach=0)
        for i in range(3):
            y, x = random.randrange(80), random.randrange(80)
            blob = np.full((random.randint(1, 16), random.randint(1, 16)), 50 + i)
            blob[: random.randrange(4)] = 0
            strokes.append(_stroke((y, x), blob))
            assert source.apply(strokes[-1], step=1) == 1
        kept = source._store.get(0).plane
    anew, _ = split.train[0].load_with(strokes)
    for own, expected in zip(_parts(kept), _parts(anew), strict=True):
        np.testing.assert_array_equal(own, expected)
    assert not np.array_equal(anew.labels, split.train[0].load().labels)


def test_fresh_strokes_are_drawn_more_often_and_ever_less_later():
    image, labels = _cells((128, 128), n=10)
    where = np.zeros((1, 128, 128), np.float32)
    where[0, 60:64, 60:64] = 1
    images = [Image(where + np.eye(128) * 1e-6)]
    split = _prepared(images, [labels], validation=([image], [labels])).split
    with PatchSource(split.train, seed=3) as source:
        assert source.apply(_stroke((60, 60), np.full((4, 4), 99)), step=10) == 1

        def share(step) -> float:
            batch = source.draw(step, n=600, size=1, reach=0)
            return float((batch.image > 0.5).float().mean())

        shares = [share(step) for step in (11, 60, 61, 111, 1000)]
    assert shares == pytest.approx([0.5, 0.5, 0.25, 0.125, 0], abs=0.06)


def test_what_is_painted_on_a_plane_without_annotation_is_learned_from():
    image, labels = _cells()
    stack = np.stack([labels, np.zeros_like(labels)])
    known = stack > -1
    known[1] = False
    pictures = np.stack([image, image + 100])[None]
    split = _prepared(
        [Image(pictures, axes="CZYX")], [Annotation(stack, known=known)],
        validation=([image], [labels]),
    ).split  # fmt: skip
    with PatchSource(split.train, spare=split.spare) as source:
        before = source.draw(1, n=40, size=4, reach=0)
        stroke = _stroke((0, 0), labels[:20, :20] * 0 + 1, plane=(1,))
        assert source.apply(stroke, step=1) == 1
        after = source.draw(2, n=40, size=4, reach=0)
    assert (before.weights > 0).any(-1).any(-1).all()
    assert after.image.max() > 5 * before.image.max()


def test_strokes_on_held_back_pixels_are_never_learned_from():
    image, labels = _cells((128, 128), n=30)
    split = _prepared([image], [labels]).split
    (held,) = split.held_back
    stroke = _stroke(held.start, np.full(held.shape, 5))
    with PatchSource(split.train, spare=split.spare) as source:
        assert source.apply(stroke, step=3) == 0


def test_drawing_goes_on_alike_after_strokes_are_replayed():
    image, labels = _cells((96, 96), n=10)
    split = _prepared([image], [labels]).split
    strokes = [
        (_stroke((4 + 9 * i, 7), np.full((5, 6), 70 + i)), 2 * i) for i in range(3)
    ]
    how = {"n": 4, "size": 24, "reach": 6}
    with PatchSource(split.train, seed=1) as source:
        for step in range(1, 9):
            for stroke, at in strokes:
                if at == step - 1:
                    source.apply(stroke, at)
            last = source.draw(step, **how)
    with PatchSource(split.train, seed=1) as source:
        for stroke, at in strokes:
            source.apply(stroke, at)
        again = source.draw(8, **how)
    for name in ("image", "classes", "weights"):
        assert (getattr(last, name) == getattr(again, name)).all()


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_planes_are_made_at_the_working_scale(scale):
    image, labels = _cells((64, 80))
    split = _prepared([image], [labels], scale=scale, validation=([image], [labels]))
    (field,) = split.split.train
    plane = field.load()
    shape = (int(64 * scale), int(80 * scale))
    assert field.shape == plane.shape == plane.image.shape[1:] == shape
    assert plane.target.weights.shape == plane.known.shape == shape
    assert set(np.unique(plane.labels)) == set(np.unique(labels))
    areas = np.bincount(plane.labels.ravel())[1:] / np.bincount(labels.ravel())[1:]
    assert np.median(areas) == pytest.approx(scale**2, rel=0.1)
    model = split.model
    assert model.scale == scale
    own = np.bincount(labels.ravel())
    of_each_pixel = own[labels[labels > 0]]  # large cells count by their pixels
    assert model.cell_diameter_px == pytest.approx(
        2 * np.sqrt(np.median(of_each_pixel) / np.pi),
        rel=0.01,  # areas of resampled cells are whole numbers
    )
    assert plane.region == Region(0, (), (0, 0), (64, 80), "array")


def test_the_smallest_cells_are_not_lost_when_shrinking():
    before = np.zeros((9, 9), np.int32)
    before[0, 0], before[4, 5], before[8, 8] = 3, 4, 9
    small = with_lost_cells(np.zeros((3, 3), np.int32), before)
    np.testing.assert_array_equal(small, [[3, 0, 0], [0, 4, 0], [0, 0, 9]])


@pytest.mark.parametrize("target", ["gap", "boundary", "distance"])
def test_targets_are_those_that_were_asked_for(target):
    image, labels = _cells()
    prepared = _prepared(
        [image], [labels], TrainConfig(target=target), validation=([image], [labels])
    )
    found = prepared.split.train[0].load().target
    expected = make_target(Annotation.complete(labels), target=target)
    np.testing.assert_array_equal(found.classes, expected.classes)
    assert (found.values is None) == (target != "distance")
    assert prepared.model.network.out_channels == 2 + (target != "gap")


MARK = 1e6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 3),
    st.sampled_from([(48, 64), (70, 50), (64, 64)]),
    st.sampled_from([1.0, 0.5, 1.7]),
    st.floats(0.1, 0.5),
    st.integers(0, 5),
    st.sampled_from([0, 1, 6]),
)
def test_no_patch_ever_holds_a_held_back_pixel(
    n_images, shape, scale, fraction, seed, n_slices
):
    """Held-back pixels get a value that shows through resampling and mirroring."""
    rng = np.random.default_rng(seed)
    pairs = [
        _cells(shape, n=8, seed=10 * seed + i)
        for i in range(n_images * (n_slices or 1))
    ]
    images = [image for image, _ in pairs]
    labels = [painted for _, painted in pairs]
    if n_slices:
        images = [np.stack(images[i::n_images]) for i in range(n_images)]
        labels = [np.stack(labels[i::n_images]) for i in range(n_images)]
    given_images = [
        Image(im[None], axes="CZYX" if n_slices else "CYX") for im in images
    ]
    config = TrainConfig(val_fraction=fraction, seed=seed)
    split = _prepared(given_images, labels, config, scale=scale).split
    if not split.is_held_back:
        return
    for region in split.held_back:
        # In place: fields read it again.
        given_images[region.image].data[(0, *region.plane, *region.slices)] = MARK
    with PatchSource([*split.train, *split.spare], seed=seed) as source:
        for step in range(1, 6):
            size = int(rng.integers(3, 200))
            batch = source.draw(step, n=4, size=size, reach=size // 3)
            assert batch.image.max() < MARK / 1e3
    marked = [field.load().image.max() for field in split.validation]
    assert min(marked) > MARK / 1e3


def _checked(labels, known=None, shape=(64, 64), **about):
    image = np.random.default_rng(0).random(shape)
    annotation = Annotation(
        labels, known=np.ones(shape, bool) if known is None else known, **about
    )
    return _prepared([image], [annotation])


def test_one_single_cell_can_be_learned_from_and_that_nothing_is_held_back_is_said():
    labels = np.zeros((64, 64), int)
    labels[20:40, 20:40] = 1
    split = _checked(labels).split
    assert not split.is_held_back
    assert "too few cells" in split.how
    assert split.held_back == ()
    assert split.train[0].load().labels.any()


def test_an_annotation_of_background_alone_is_refused():
    with pytest.raises(LabelError, match="no annotated cells"):
        _checked(np.zeros((64, 64), int))
    with pytest.raises(LabelError, match="no annotated cells"):
        _checked(
            np.ones((64, 64), int), class_names=("background",), label_class={1: 0}
        )


def test_a_class_that_is_painted_nowhere_is_told():
    names = ("background", "round", "long")
    labels = _cells()[1]
    warnings = _checked(labels, class_names=names).warnings
    assert warnings == [
        "'long' is painted nowhere, so that nothing about it can be learned: paint "
        "some, or remove the class"
    ]


@pytest.mark.parametrize("shape", [(20, 30), (3, 40), (1, 1)])
def test_an_image_smaller_than_a_patch_is_mirrored(shape):
    labels = np.zeros(shape, int)
    labels[0, 0] = 1
    known = np.ones(shape, bool)
    image = np.random.default_rng(0).random(shape) + np.eye(*shape)
    big, painted = _cells()
    split = _prepared(
        [image if min(shape) > 1 else big, big], [labels if min(shape) > 1 else painted,
        painted], validation=([big], [painted]),
    ).split  # fmt: skip
    with PatchSource(split.train) as source:
        batch = source.draw(1, n=3, size=128, reach=5)
    assert batch.image.shape == (3, 1, 128, 128)
    assert known.all()


@pytest.mark.parametrize("upscale", [1, 2, 4])
def test_images_can_be_made_from_images(upscale):
    rng = np.random.default_rng(0)
    images = [rng.random((40, 48)) for _ in range(2)]
    targets = [1000 + 500 * np.kron(im, np.ones((upscale, upscale))) for im in images]
    targets[0][: 8 * upscale] = np.nan
    config = TrainConfig(task="regress")
    model, split, _ = _prepared(images, targets, config, network=None)
    assert model.roles == ("value:image",)
    assert model.network.upscale == upscale
    assert split.is_held_back
    made = span_of_values(
        model.value_range, True, intensity_range(Image(images[1][None]))
    )
    assert model.values_follow_image
    assert made.low[0] == pytest.approx(1005, abs=4)
    assert made.high[0] == pytest.approx(1499, abs=4)
    plane = split.train[0].load()
    assert plane.target.classes is None
    height, width = plane.shape
    assert plane.target.values.shape == (1, upscale * height, upscale * width)
    unknown = plane.target.weights == 0
    assert unknown[: 8 * upscale].all() != (split.train[0].region.start[0] > 8)
    assert set(np.unique(plane.target.weights)) <= {0.0, 1.0}
    with PatchSource(split.train) as source:
        batch = source.draw(1, n=2, size=64, reach=4)
    assert batch.values.shape == (2, 1, 64 * upscale, 64 * upscale)
    # The target is the image, finer: it stays on it.
    means = batch.values[:, 0].reshape(2, 64, upscale, 64, upscale).mean((2, 4))
    clear = batch.weights.reshape(2, 64, upscale, 64, upscale).amin((2, 4)) > 0
    assert clear.any()
    assert (means - batch.image[:, 0])[clear].abs().max() < 0.05


def test_a_target_of_another_size_is_refused():
    image = np.random.default_rng(0).random((40, 48))
    config = TrainConfig(task="regress")
    with pytest.raises(LabelError, match="60 x 72 but its image array is 40 x 48") as e:
        _prepared([image], [np.random.default_rng(0).random((60, 72))], config)
    assert e.value.code == "NU-L02"


def test_a_survey_counts_what_is_there():
    image, labels = _cells()
    material = gather([image, image], [labels, LazyLabels(labels)], TrainConfig())
    seen = material.survey
    areas = ndimage.sum_labels(labels > 0, labels, np.arange(1, labels.max() + 1))
    assert seen.n_images == seen.n_planes == 2
    assert sorted(seen.cell_areas_px) == sorted([*areas, *areas])
    assert seen.n_known_px == 2 * labels.size
    assert seen.n_px_of_class == (2 * (labels == 0).sum(), 2 * (labels > 0).sum())
    assert seen.shapes == ((64, 64), (64, 64))
    prepared = _prepared([image, image], [labels, labels])
    assert prepared.model.fingerprint == seen.fingerprint


def test_images_may_be_learned_from_at_scales_of_their_own():
    (image, labels), (other, painted) = _cells(), _cells(seed=2)
    split = _prepared(
        [Image(image[None], pixel_size_um=(1, 1)), Image(other[None])],
        [labels, painted],
        scale=0.5,
        scales=[0.5, 2.0],
        validation=([Image(image[None], pixel_size_um=(0.5, 0.5))], [labels]),
    ).split
    assert [field.shape for field in split.train] == [(32, 32), (128, 128)]
    # Half the pixel size, so that a quarter of the pixels are seen along each axis.
    assert split.validation[0].shape == (16, 16)
