from __future__ import annotations

import threading

import numpy as np

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.imaging.arrays import Annotation, Image, Target
from napari_unet.learning.data import pool
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.data.pool import PlaneStore, Rotation
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.patches import PatchSource


def _planes(n: int) -> list[Plane]:
    labels = np.ones((4, 4), np.int32)
    target = Target(labels.astype(np.int16), labels.astype(np.float32))
    return [Plane(np.full((1, 4, 4), i), labels, labels > 0, target) for i in range(n)]


def _fields(n: int, *, kinds=lambda i: {1}):
    """Fields of small images; each has the classes that `kinds` says."""
    rng = np.random.default_rng(0)
    names = ("background", "a", "b", "c")
    pairs = []
    for i in range(n):
        labels = np.zeros((32, 32), np.int32)
        for kind in kinds(i):
            labels[5 * kind : 5 * kind + 3, 4:9] = kind
        given = Annotation(
            labels, {k: k for k in (1, 2, 3)}, np.ones(labels.shape, bool), names
        )
        pairs.append((Image(rng.random((1, 32, 32))), given))
    images, annotations = zip(*pairs, strict=True)
    network = NetworkConfig(base_width=2, depth=1)
    material = gather(
        images, annotations, TrainConfig(), network=network,
        validation=(images[:1], annotations[:1]),
    )  # fmt: skip
    return prepare(material, material.config, network=network).split.train


def test_few_fields_are_all_drawn_from_after_some_steps():
    rotation = Rotation(_planes(20), 50, seed=0)
    assert len(rotation.at(1)) == 8  # the first step shall not wait for all
    assert sorted(rotation.at(5)) == list(range(20))
    assert rotation.at(5) == rotation.at(1000)


def test_many_fields_come_one_after_the_other():
    rotation = Rotation(_planes(120), 50, seed=0)
    before = set(rotation.at(40))
    assert len(before) == 50
    for step in range(41, 600):
        now = set(rotation.at(step))
        assert len(now - before) <= 1
        assert len(now) >= 40
        before = now
    seen = [k for step in range(1, 200) for k in rotation.at(step)]
    assert set(seen) == set(range(120))


def test_the_order_depends_on_seed_and_step_alone():
    planes = _planes(120)
    expected = [Rotation(planes, 50, seed=3).at(step) for step in (7, 70, 700)]
    rotation = Rotation(planes, 50, seed=3)
    assert [rotation.at(step) for step in (700, 70, 7)] == expected[::-1]
    assert Rotation(planes, 50, seed=4).at(70) != expected[1]


def test_fields_with_a_rare_class_are_always_among_them():
    fields = _fields(60, kinds=lambda i: {1, 2} if i == 33 else {1})
    rotation = Rotation(fields, 10, seed=0)
    assert all(33 in rotation.at(step) for step in range(5, 300, 7))
    plain = Rotation(_fields(60), 10, seed=0)
    assert not all(33 in plain.at(step) for step in range(5, 300, 7))


def test_no_more_planes_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(pool, "MAX_PLANES", 5)
    store = PlaneStore(_fields(30))
    for k in range(30):
        store.get(k)
    assert len(store._kept) <= 5 + 6
    assert store.get(29) is store.get(29)


def test_planes_are_read_ahead_in_one_thread(monkeypatch):
    monkeypatch.setattr(pool, "MAX_PLANES", 8)
    fields = _fields(40)
    readers = []
    original = type(fields[0]).load_with

    def watched(self, strokes):
        readers.append(threading.current_thread().name)
        return original(self, strokes)

    monkeypatch.setattr(type(fields[0]), "load_with", watched)
    with PatchSource(fields) as source:
        for step in range(1, 60):
            source.draw(step, n=1, size=8, reach=2)
            for future in source._store._ahead:
                future.result()
        assert len(source._store._kept) <= 8 + 6
    late = readers[20:]
    assert sum(name.startswith("read-ahead") for name in late) > 0.8 * len(late)
    assert not any(t.name.startswith("read-ahead") for t in threading.enumerate())


def test_reading_ahead_changes_nothing_that_is_drawn(monkeypatch):
    monkeypatch.setattr(pool, "MAX_PLANES", 8)
    fields = _fields(30)

    def drawn() -> list[float]:
        with PatchSource(fields, seed=5) as source:
            batches = [source.draw(i, n=2, size=8, reach=2) for i in range(1, 40)]
        return [float(batch.image.sum()) for batch in batches]

    expected = drawn()
    monkeypatch.setattr(PlaneStore, "read_ahead", lambda self, wanted: None)
    assert drawn() == expected
