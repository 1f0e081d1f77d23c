"""Model cards as files: which pictures there are, and what they show."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image as Picture

from napari_unet.errors import ConfigError, LabelError, ModelError, SaveError
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.model import Look, Model
from napari_unet.learning.sharing import cards
from napari_unet.learning.sharing.cards import name_on_card, write_card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeModel = Callable[..., Model]

HISTORY = (Look(0, None, 0.9, 0.1), Look(10, 0.5, 0.4, 0.7))


@pytest.fixture
def model(random_model: MakeModel) -> Model:
    return random_model()


def pictures_of(card: Path) -> list[str]:
    tokens = MarkdownIt().parse(card.read_text(encoding="utf-8"))
    inside = [child for token in tokens for child in token.children or []]
    return [str(c.attrGet("src")) for c in inside if c.type == "image"]


def planes(n: int) -> list[Image]:
    rng = np.random.default_rng(0)
    return [Image(rng.random((1, 32, 32)), source=f"image_{i}.tif") for i in range(n)]


def test_without_images_there_is_no_picture_but_the_curves(
    model: Model, tmp_path: Path
) -> None:
    card = write_card(replace(model, history=HISTORY), tmp_path / "new" / "card")
    assert card == tmp_path / "new" / "card" / "README.md"
    assert {p.name for p in card.parent.iterdir()} == {"README.md", "curves.png"}
    assert pictures_of(card) == ["curves.png"]
    with Picture.open(card.with_name("curves.png")) as picture:
        assert picture.format == "PNG"


def test_a_model_without_a_history_has_a_card_of_words(
    model: Model, tmp_path: Path
) -> None:
    card = write_card(model, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    assert card.read_text(encoding="utf-8").startswith("# model\n")


def test_a_card_is_called_as_the_file_of_the_model(
    model: Model, tmp_path: Path
) -> None:
    path = save_model(tmp_path / "nuclei.unet", model)
    text = write_card(path, tmp_path).read_text(encoding="utf-8")
    assert text.startswith("# nuclei\n")
    assert "--model nuclei.unet" in text
    named = write_card(path, tmp_path, name="Mine").read_text(encoding="utf-8")
    assert named.startswith("# Mine\n")


def test_thumbnails_come_only_where_images_are_given(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[np.ndarray] = []
    draw = cards.draw_thumbnails
    monkeypatch.setattr(
        cards, "draw_thumbnails", lambda some: shown.extend(some) or draw(some)
    )
    images = planes(14)
    stack = Image(np.arange(3 * 1024.0).reshape(1, 3, 32, 32), axes="CZYX")
    card = write_card(model, tmp_path, images=[stack, *images])
    assert pictures_of(card) == ["images.png"]
    text = card.read_text(encoding="utf-8")
    assert "2: image\\_0.tif" in text
    assert "3 more are not shown" in text
    assert len(shown) == 12
    np.testing.assert_array_equal(shown[0], stack.data[0, 1])
    np.testing.assert_array_equal(shown[1], images[0].data[0])


def give(monkeypatch: pytest.MonkeyPatch, predicted: dict[str, np.ndarray]) -> None:
    """Let the model predict these labels."""

    def predict(model: Model, image: Image) -> np.ndarray:
        return np.stack([predicted[image.source]] * 2).astype(np.float32)

    monkeypatch.setattr(cards, "predict", predict)
    monkeypatch.setattr(
        cards, "find_instances", lambda outputs, *_: outputs[0].astype(np.int32)
    )


def test_the_best_and_the_worst_are_shown_with_their_scores(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.zeros((32, 32), np.int32)
    for i in range(4):
        truth[8 * i : 8 * i + 5, 4:9] = i + 1
    images = planes(5)
    # As many cells are found as the number says: F1 = 2 n / (4 + n).
    found = {f"image_{i}.tif": np.where(truth <= i, truth, 0) for i in range(5)}
    give(monkeypatch, found)
    card = write_card(model, tmp_path, images=images, annotations=[truth] * 5)
    files = ["best_1.png", "best_2.png", "worst_1.png", "worst_2.png"]
    assert pictures_of(card) == ["images.png", *files]
    text = card.read_text(encoding="utf-8")
    captions = re.findall(
        r"image\\_(\d)\.tif: F1 of cells at IoU 0\.5 (\d\.\d\d)", text
    )
    assert captions == [("4", "1.00"), ("3", "0.86"), ("1", "0.40"), ("0", "0.00")]
    ranks = re.findall(r"\*\*Prediction (\d of \d), from the best", text)
    assert ranks == ["1 of 5", "2 of 5", "4 of 5", "5 of 5"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in files)


def test_one_image_is_shown_once(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.zeros((32, 32), np.int32)
    truth[4:9, 4:9] = 1
    give(monkeypatch, {"image_0.tif": truth})
    card = write_card(model, tmp_path, images=planes(1), annotations=[truth])
    assert pictures_of(card) == ["images.png", "best_1.png"]
    assert "**Prediction**" in card.read_text(encoding="utf-8")


def test_cells_that_nobody_could_know_of_are_no_mistakes(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = np.zeros((32, 32), np.int32)
    found[4:9, 4:9], found[20:25, 20:25] = 1, 2
    known = np.zeros((32, 32), bool)
    known[:16] = True
    truth = Annotation(np.where(known, found, 0), known=known)
    give(monkeypatch, {"image_0.tif": found})
    card = write_card(model, tmp_path, images=planes(1), annotations=[truth])
    assert "F1 of cells at IoU 0.5 1.00" in card.read_text(encoding="utf-8")


def test_a_network_that_runs_gives_examples(model: Model, tmp_path: Path) -> None:
    stack = Image(np.random.default_rng(1).random((1, 2, 32, 32)), axes="CZYX")
    truth = np.zeros((2, 32, 32), np.int32)
    truth[1, 4:20, 4:20] = 1
    areas = replace(model, roles=("softmax:background", "softmax-area:class 1"))
    card = write_card(areas, tmp_path, images=[stack], annotations=[truth])
    assert re.search(r", plane 2: IoU \d", card.read_text(encoding="utf-8"))


def test_annotations_without_images_are_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="annotations came without images"):
        write_card(model, tmp_path, annotations=[np.ones((8, 8), int)])


def test_values_have_no_good_or_bad_cells(model: Model, tmp_path: Path) -> None:
    values = replace(model, roles=("value:a", "value:b"))
    with pytest.raises(ModelError, match="no classes"):
        write_card(values, tmp_path, images=planes(1), annotations=[np.ones((32, 32))])


def test_an_annotation_of_another_size_leaves_nothing_behind(
    model: Model, tmp_path: Path
) -> None:
    small = np.ones((8, 8), int)
    with pytest.raises(LabelError, match="8 x 8"):
        write_card(model, tmp_path / "card", images=planes(1), annotations=[small])
    assert not (tmp_path / "card").exists()


def test_a_folder_that_can_not_be_made_is_an_error(
    model: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="can't be made"):
        write_card(model, tmp_path / "file")


# -- who is named ----------------------------------------------------------------


def test_what_is_named_is_kept_in_the_file_and_all_else_stays(
    model: Model, tmp_path: Path
) -> None:
    path = save_model(tmp_path / "a.unet", replace(model, about="old", step=7))
    named = name_on_card(path, authors=["A. Author"], license="CC-BY-4.0")
    kept = load_model(path)
    for one in (named, kept):
        assert (one.authors, one.license) == (("A. Author",), "CC-BY-4.0")
        assert (one.about, one.step) == ("old", 7)
    assert all((kept.state[k] == v).all() for k, v in model.state.items())


def test_a_file_that_needs_no_change_is_not_written(
    model: Model, tmp_path: Path
) -> None:
    path = save_model(tmp_path / "a.unet", replace(model, license="MIT"))
    path.chmod(0o400)
    before = path.stat()
    name_on_card(path, license="MIT")
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("spdx", ["", "MIT", "Apache-2.0", "MIT OR (GPL-3.0+)"])
def test_spdx_ids_are_taken(model: Model, tmp_path: Path, spdx: str) -> None:
    path = save_model(tmp_path / "a.unet", model)
    assert name_on_card(path, license=spdx).license == spdx


@pytest.mark.parametrize("spdx", ["CC BY\n4.0", " MIT", "<b>", "my, own"])
def test_a_licence_that_is_none_is_refused(
    model: Model, tmp_path: Path, spdx: str
) -> None:
    path = save_model(tmp_path / "a.unet", model)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="no SPDX id"):
        name_on_card(path, license=spdx, about="new")
    assert path.read_bytes() == before


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        name_on_card(tmp_path / "a.unet", about="x")
