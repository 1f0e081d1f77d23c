"""The preview sheet: what became of each file, at a glance."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image as Picture

from napari_unet.batch import segment_folder
from napari_unet.batch.inputs import Item
from napari_unet.batch.job import Job
from napari_unet.batch.ledger import Record
from napari_unet.batch.sheet import write_sheet
from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.events import FileDone, FileProgress
from napari_unet.files.images import write_image
from napari_unet.files.jpeg import jpeg_writer, read_text
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.networks import build_network

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no such names there")

CONFIG = PredictConfig(device="cpu")
NASTY = "<script>a&'b.tif"


class _Page(HTMLParser):
    """What a browser makes of a page: tags, pictures, texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.pictures: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            # After a bare # a browser looks for a place in the file before it.
            self.pictures.append(unquote(urlsplit(dict(attrs)["src"]).path))

    def handle_data(self, data):
        if self.lasttag != "style":
            self.texts.append(data.strip())


def _bytes(out: Path) -> dict[str, bytes]:
    paths = [out / "preview.html", *(out / "previews").rglob("*.jpg")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images in two folders: cells, none, a bad file with a nasty name, a movie."""
    folder = tmp_path_factory.mktemp("sheet") / "images"
    (folder / "day 1").mkdir(parents=True)
    for i in range(2):
        data = draw_cells((64, 64), n_cells=6, rng=np.random.default_rng(10 + i))[0]
        path = folder / "day 1" / f"c #<i>{i}.tif"
        write_image(path, data[None], axes="CYX", pixel_size_um=(0.5, 0.5))
    (folder / NASTY).write_bytes(b"no TIFF")
    (folder / "notes.txt").write_text("stray")
    flat = np.full((1, 32, 32), 7, np.uint8)
    write_image(folder / "flat.tif", flat, axes="CYX", pixel_size_um=(0.5, 0.5))
    movie = np.zeros((1, 2, 32, 32), np.uint8)
    write_image(folder / "movie.tif", movie, axes="CTYX", pixel_size_um=(0.5, 0.5))
    return folder


@pytest.fixture(scope="module")
def out(model, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("sheet") / "out"
    list(segment_folder(model, images, out, config=CONFIG, preview=True))
    return out


def test_all_files_are_on_it_and_each_that_was_done_has_its_thumbnail(out):
    page = _Page(out / "preview.html")
    for name in (
        "day 1/c #<i>0.tif",
        "day 1/c #<i>1.tif",
        "flat.tif",
        "movie.tif",
        NASTY,
    ):
        assert page.texts.count(name) == 1
    assert sorted(page.pictures) == [
        "previews/day 1/c #<i>0.jpg", "previews/day 1/c #<i>1.jpg", "previews/flat.jpg",
        "previews/movie.jpg",
    ]  # fmt: skip
    for path in page.pictures:
        with Picture.open(out / path) as picture:
            assert max(picture.size) == 256
    assert "4 files done," in page.texts
    assert "1 failed" in page.texts


def test_what_is_odd_is_told_in_words(out):
    texts = _Page(out / "preview.html").texts
    why = texts[texts.index(NASTY) + 1]
    assert "NU-I" in why
    assert "no cells found" in texts
    assert "frame 1 of 2" in texts
    assert "notes.txt" in texts
    (cells,) = (
        t for t in texts[texts.index("day 1/c #<i>0.tif") :][:5] if "median" in t
    )
    assert cells.endswith(" µm²")


def test_a_name_is_no_code(out):
    assert not {"script", "i"} & _Page(out / "preview.html").tags


def test_begun_again_it_has_all_files_and_the_same_bytes(model, images, out, tmp_path):
    before = _bytes(out)
    (out / "flat_labels.tif").unlink()
    (out / "previews" / "movie.jpg").write_bytes(b"")
    (out / "preview.html").unlink()
    run = segment_folder(model, images, out, config=CONFIG, preview=True)
    events = list(run)
    redone = {e.index for e in events if isinstance(e, FileProgress)}
    names = {e.path.name for e in events if isinstance(e, FileDone)}
    assert len(names) == 6
    assert len(redone) == 2
    assert _bytes(out) == before
    list(segment_folder(model, images, tmp_path, config=CONFIG, preview=True))
    assert _bytes(tmp_path) == before


def test_shards_leave_the_sheet_to_the_run_of_all(model, images, tmp_path):
    for i in (1, 2):
        settings = {"config": CONFIG, "preview": True, "shard": (i, 2)}
        list(segment_folder(model, images, tmp_path, **settings))
        assert not (tmp_path / "preview.html").exists()
    list(segment_folder(model, images, tmp_path, config=CONFIG, preview=True))
    assert len(_Page(tmp_path / "preview.html").pictures) == 4


def test_made_images_are_shown_as_they_are(images, tmp_path):
    network = NetworkConfig(base_width=2, depth=1, out_channels=1)
    state = build_network(network).state_dict()
    made = Model(network, state, roles=("value:image",))
    run = segment_folder(
        made, images, tmp_path, config=CONFIG, preview=True, pattern="m*"
    )
    list(run)
    page = _Page(tmp_path / "preview.html")
    assert page.pictures == ["previews/movie.jpg"]
    assert {"done", "frame 1 of 2"} <= set(page.texts)
    assert not any("cell" in text for text in page.texts)


def test_what_is_not_done_yet_is_told(model, tmp_path):
    items = [Item(i, Path(f"{i}.tif"), f"{i}.tif") for i in range(2)]
    record = Record("0.tif", "", "", "", "done", n_cells=3)
    write_sheet(Job(model, tmp_path, CONFIG), items, {"0.tif": record})
    texts = _Page(tmp_path / "preview.html").texts
    assert "Not done yet (1)" in texts
    # A thumbnail that can't be read takes nothing else with it.
    assert "3 cells" in texts


def test_a_picture_keeps_its_text(tmp_path):
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        jpeg_writer(np.zeros((4, 5, 3), np.uint8), "µm²")(file)
    assert read_text(path) == "µm²"
    assert read_text(tmp_path / "none.jpg") == ""
    path.write_bytes(b"no picture")
    assert read_text(path) == ""
