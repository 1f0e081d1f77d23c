"""What a model card says, read back by an independent parser."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from markdown_it import MarkdownIt

from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.model import Look, Model, Origin
from napari_unet.learning.networks import build_network
from napari_unet.learning.sharing.card_text import Picture, card_text

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeModel = Callable[..., Model]

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
SPITE = "<script>alert(1)</script> ![x](http://x.org/a.png) | `*a_b*`"


def types_in(markdown: str) -> set[str]:
    tokens = PARSER.parse(markdown)
    inside = [child for token in tokens for child in token.children or []]
    return {token.type for token in (*tokens, *inside)}


def sections(markdown: str) -> list[str]:
    return re.findall(r"^## (.*)", markdown, re.MULTILINE)


@pytest.fixture
def full(random_model: MakeModel) -> Model:
    """Return a model that knows all that a model can know."""
    return replace(
        random_model(in_channels=2, out_channels=3),
        about="For nuclei.\n\nNot for yeast.",
        authors=("A. Author", "B. Author"),
        license="CC-BY-4.0",
        channel_names=("DAPI", "actin"),
        class_names=("background", "cell", "tissue"),
        roles=("softmax:background", "softmax:cell", "softmax-area:tissue"),
        class_colors=("#000000", "#ff0000", "#00ff00"),
        pixel_size_um=(0.5, 0.5),
        cell_diameter_px=24.0,
        image_dtype="uint8",
        instances=InstanceConfig(threshold=0.45, seed_threshold=0.65),
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((100.0, 20.0), (4095.0, 255.0)),
        weights=WeightConfig.falk2019(),
        training=TrainConfig(optimizer="sgd", loss="combined", max_steps=700),
        n_train_images=3,
        step=650,
        scores={"f1": 0.91, "iou": 0.876, "loss": 0.2, "n_cells": 40.0},
        fingerprint="0123456789abcdef" * 4,
        versions={"napari_unet": "0.1.0", "torch": "2.13"},
        derived_from=(Origin("fedcba98" * 8, ("C. Author",), "MIT"),),
        history=(Look(0, None, 0.5, 0.2), Look(10, 0.4, 0.3, 0.8)),
    )


def test_the_card_says_all_that_the_model_knows(full: Model) -> None:
    text = card_text(full, name="nuclei")
    for said in (
        "# nuclei",
        "For nuclei.\n\nNot for yeast.",
        "2 channels: DAPI, actin; axes CYX",
        "0.5 x 0.5 µm (YX)",
        "about 24 pixels (12 µm) across",
        "100, 20 is 0 and 4095, 255 is 1, in every image",
        "the training images were uint8",
        "| 1 | probability of *cell*",
        "| 2 | probability of *tissue*, an area without single cells | \\#00ff00 |",
        "pixels above 0.45, grown from regions above 0.65",
        "| F1 of cells, at IoU 0.5 | 0.910 |",
        "| IoU of the foreground | 0.876 |",
        "with 40 annotated cells",
        "were chosen on the same pixels",
        "They are few",
        "650 of at most 700",
        "weighted cross entropy + Dice loss",
        "Falk 2019, w0 = 50, sigma = 6 px",
        "SGD, momentum 0.99",
        "3 (fingerprint of the training data: 0123456789abcdef)",
        "It learned from 3 images only.",
        "Images of another pixel size",
        "| Authors | A. Author, B. Author |",
        "| Licence | CC-BY-4.0 |",
        "fedcba98fedcba98 (by C. Author; MIT)",
        "torch 2.13",
        "--model nuclei.unet",
    ):
        assert said in text, said


def test_the_number_of_parameters_is_that_of_the_network(
    random_model: MakeModel,
) -> None:
    model = random_model()
    trained = [
        tensor
        for name, tensor in model.state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    n_parameters = sum(tensor.numel() for tensor in trained)
    text = card_text(model)
    assert f"{n_parameters:,} parameters" in text
    assert "sides are multiples of 4" in text
    assert f"sees {model.build().halo} px around each pixel" in text


def test_a_network_that_sees_everything_says_so() -> None:
    config = NetworkConfig(base_width=2, depth=1, norm="group")
    model = Model(config, build_network(config).state_dict())
    assert "sees its whole input" in card_text(model)


def test_what_a_bare_model_does_not_know_is_said_to_be_unknown() -> None:
    config = NetworkConfig(base_width=2, depth=1)
    text = card_text(Model(config, build_network(config).state_dict()))
    assert "Not known: the file holds no scores." in text
    assert "none is named: ask before using it" in text
    assert "not known: compare the size of the cells" in text
    assert "Pictures" not in sections(text)
    assert "Steps" not in text


@pytest.mark.parametrize(
    "changed",
    [
        {"about": SPITE},
        {"authors": (SPITE,)},
        {"license": SPITE},
        {"channel_names": (SPITE,)},
        {"roles": ("softmax:background", f"softmax:{SPITE}")},
        {"class_colors": (SPITE, SPITE)},
        {"image_dtype": SPITE},
        {"fingerprint": SPITE},
        {"versions": {SPITE: SPITE}},
        {"derived_from": (Origin(SPITE, (SPITE,), SPITE),)},
    ],
)
def test_nothing_that_a_user_typed_becomes_mark_up(
    random_model: MakeModel, changed: dict[str, object]
) -> None:
    bare = random_model()
    text = card_text(replace(bare, **changed), name="a")
    allowed = types_in(card_text(replace(bare, about="x"), name="a"))
    assert types_in(text) <= allowed
    assert not {"html_block", "html_inline", "image", "link_open"} & types_in(text)
    lines = [line for line in text.splitlines() if line.startswith("| Auth")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)


@pytest.mark.parametrize("name", ["a b", "x; rm -rf", "```", "$(x)", "é", "a\nb"])
def test_no_odd_name_gets_into_a_command(random_model: MakeModel, name: str) -> None:
    text = card_text(random_model(), name=name)
    assert "--model model.unet" in text
    (fenced,) = [t for t in PARSER.parse(text) if t.type == "fence" and t.info]
    assert 'load_model("model.unet")' in fenced.content


def test_a_model_of_values_is_not_said_to_find_cells(random_model: MakeModel) -> None:
    model = replace(random_model(out_channels=1), roles=("value:clean",))
    text = card_text(model)
    assert "values of *clean*, as they are" in text
    assert "nu.predict" in text
    assert "nu.segment" not in text
    assert "Cells: pixels above" not in text


def test_pictures_are_shown_with_their_captions(random_model: MakeModel) -> None:
    pictures = [Picture("a.png", "A *title*", "Its caption."), Picture("b.png", "B")]
    text = card_text(random_model(), pictures=pictures)
    tokens = [c for t in PARSER.parse(text) for c in t.children or []]
    images = [c for c in tokens if c.type == "image"]
    assert [c.attrGet("src") for c in images] == ["a.png", "b.png"]
    assert images[0].content == "A \\*title\\*"
    assert "Its caption." in text


def test_making_a_card_leaves_torch_s_random_numbers_alone(
    random_model: MakeModel,
) -> None:
    model = random_model()
    before = torch.random.get_rng_state()
    card_text(model)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("image", "each image's percentiles 1 and 99.8 are 0 and 1"),
        ("standardize", "each image's mean is 0 and its standard deviation 1"),
    ],
)
def test_the_card_says_how_intensities_are_scaled(
    random_model: MakeModel, policy: str, said: str
) -> None:
    how = NormalizationConfig.model_validate({"policy": policy})
    assert said in card_text(replace(random_model(), normalization=how))


def test_settings_that_nobody_tuned_are_not_called_tuned(
    random_model: MakeModel,
) -> None:
    assert "tuned" not in card_text(random_model())
