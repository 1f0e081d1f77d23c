from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli import run
from napari_unet.cli.train import _pretrained, _saying_stop, _stopping
from napari_unet.config import NetworkConfig
from napari_unet.events import Mailbox, Note
from napari_unet.files import model_places
from napari_unet.learning.checkpoint import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cells

FAST = [
    "--max-steps=4",
    "--validate-every=2",
    "--batch-size=2",
    "--patch-size=32",
    "--device=cpu",
]
SMALL = ["--base-width=2", "--depth=1"]


def arguments(cells: Cells, out: Path, *more: str) -> list[str]:
    return [
        "train",
        f"--images={cells.images}",
        f"--masks={cells.masks}",
        f"--out={out}",
        *FAST,
        *SMALL,
        *more,
    ]


def test_train_writes_the_model_and_its_run_folder(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "cells.unet"
    assert run(arguments(cells, out, "--seed=5", "--w0=3", "--no-flip")) == 0
    model = load_model(out)
    assert (model.training.seed, model.training.max_steps) == (5, 4)
    assert model.training.flip is False
    assert (model.network.base_width, model.network.depth) == (2, 1)
    assert (model.weights.w0, model.weights.sigma) == (3.0, 5.0)
    run_folder = out.with_name("cells.unet.run")
    names = {path.name for path in run_folder.iterdir()}
    written = {"config.json", "metrics.jsonl", "best.unet", "split.json"}
    assert names == written | {"checkpoints", "finished.json"}
    said, told = capsys.readouterr()
    assert f"model: {out}" in said
    assert "f1" in said
    assert "3 images with masks" in told
    assert "Device: CPU" in told
    assert "step 4: loss" in told


def test_images_are_made_from_images_with_targets(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.unet"
    given = [a for a in arguments(cells, out) if not a.startswith("--masks")]
    assert run([*given, f"--targets={cells.images}"]) == 0
    said, told = capsys.readouterr()
    assert "psnr" in said
    assert "3 images with targets" in told
    assert "Tuning" not in told
    model = load_model(out)
    assert model.training.task == "regress"
    assert model.roles == ("value:image",)
    assert model.value_range is not None
    assert run(given) == 2
    assert "give either --masks" in capsys.readouterr().err
    assert run([*given, f"--masks={cells.masks}", "--task=regress"]) == 2
    assert "--task regress needs --targets" in capsys.readouterr().err
    targets = f"--targets={cells.images}"
    assert run([*given, targets, "--val-images=x"]) == 2
    assert "--val-images and --val-targets belong" in capsys.readouterr().err
    assert run([*given, f"--targets={tmp_path}"]) == 1


def test_the_same_seed_gives_the_same_file(cells: Cells, tmp_path: Path) -> None:
    first, second = tmp_path / "a.unet", tmp_path / "b.unet"
    for out in (first, second):
        assert run(arguments(cells, out, "--precision=fp32")) == 0
    assert first.read_bytes() == second.read_bytes()


def test_val_pattern_keeps_those_images_out_of_training(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.unet"
    assert run(arguments(cells, out, "--val-pattern=val_*")) == 0
    told = capsys.readouterr().err
    assert "2 images with masks to learn from, 1 to validate" in told
    assert "Learning from 2 planes" in told
    assert load_model(out).n_train_images == 2


def test_holding_all_images_back_is_refused(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--pattern=train_*", "--val-pattern=*")
    assert run(arguments(cells, tmp_path / "a.unet", *more)) == 1
    told = capsys.readouterr().err
    assert f"all images in {cells.images} are held back for validation" in told
    assert "[NU-F03]" in told


def test_validation_may_come_from_other_folders(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (
        "--pattern=train_*",
        f"--val-images={cells.images}",
        f"--val-masks={cells.masks}",
    )
    assert run(arguments(cells, tmp_path / "a.unet", *more)) == 0
    told = capsys.readouterr().err
    assert "2 images with masks to learn from, 3 to validate" in told


def test_settings_come_from_a_file_and_flags_win(cells: Cells, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    # Without a window nothing is painted meanwhile that could be waited for.
    train = {"seed": 9, "max_steps": 3, "keep_learning": True}
    parts = {"train": train, "weights": {"sigma": 2.5}}
    settings.write_text(json.dumps(parts))
    out = tmp_path / "a.unet"
    assert run(arguments(cells, out, f"--config={settings}")) == 0
    model = load_model(out)
    assert (model.training.seed, model.training.max_steps) == (9, 4)
    assert not model.training.keep_learning
    assert model.weights.sigma == 2.5


def test_the_config_of_a_run_trains_the_same_model_again(
    cells: Cells, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.unet", tmp_path / "b.unet"
    assert run(arguments(cells, first, "--seed=5", "--precision=fp32")) == 0
    argv = [a for a in arguments(cells, second) if a not in [*FAST, *SMALL]]
    assert run([*argv, f"--config={tmp_path / 'a.unet.run' / 'config.json'}"]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_from_goes_on_with_the_models_own_network_and_weights(
    cells: Cells, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b.unet"
    argv = [
        a for a in arguments(cells, out) if "base-width" not in a and "depth" not in a
    ]
    assert run([*argv, f"--from={tiny_model}"]) == 0
    assert load_model(out).network == load_model(tiny_model).network


def test_images_without_a_mask_are_named_and_left_out(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(cells.masks, masks)
    (masks / "train_b.tif").unlink()
    argv = arguments(cells, tmp_path / "a.unet", f"--masks={masks}")
    assert run([a for a in argv if a != f"--masks={cells.masks}"]) == 0
    told = capsys.readouterr().err
    assert f"warning: train_b.tif has no mask in {masks} and is left out" in told
    assert "2 images with masks" in told


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--val-images=x"], "--val-images and --val-masks belong together"),
        (["--val-pattern=v*", "--val-fraction=0.3"], "exclude each other"),
        (["--val-images=x", "--val-targets=y"], "give --val-masks"),
        (["--keep-learning"], "takes the window (napari-unet gui): give more"),
        (["--resume", "--restart"], "--resume and --restart exclude each other"),
        (
            ["--val-pattern=v*", "--val-images=x", "--val-masks=y"],
            "--val-pattern and --val-images exclude each other",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_code_2(
    cells: Cells,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    sentence: str,
) -> None:
    assert run(arguments(cells, tmp_path / "a.unet", *more)) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_masks_of_other_names_are_refused_before_anything_is_written(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    shutil.copy(cells.masks / "val_a.tif", masks / "other.tif")
    argv = [
        a.replace(str(cells.masks), str(masks))
        for a in arguments(cells, tmp_path / "a.unet")
    ]
    assert run(argv) == 1
    assert "none of the 3 images in" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_the_first_signal_stops_and_keeps_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mailbox = Mailbox()
    before = signal.getsignal(signal.SIGINT)
    with _stopping(mailbox) as received:
        assert not mailbox.wants_stop
        events = _saying_stop(iter([Note("a"), Note("b"), Note("c")]), received)
        next(events)
        signal.raise_signal(signal.SIGINT)
        assert mailbox.wants_stop
        assert received == [signal.SIGINT]
        # A handler that writes may break into a write to the same stream.
        assert capsys.readouterr().err == ""
        assert [event.message for event in events] == ["b", "c"]
        assert capsys.readouterr().err.count("the best model is kept") == 1
    assert signal.getsignal(signal.SIGINT) == before


def test_the_second_signal_leaves_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _stopping(Mailbox()):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_model_that_comes_with_the_package_is_gone_on_from(
    cells: Cells, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_places, "SHIPPED_FOLDER", tiny_model.parent)
    out = tmp_path / "a.unet"
    argv = [a for a in arguments(cells, out, "--pretrained=tiny") if a not in SMALL]
    assert run(argv) == 0
    assert load_model(out).network == load_model(tiny_model).network


def test_a_name_that_no_model_has_is_answered_with_those_there_are(
    cells: Cells,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(model_places, "SHIPPED_FOLDER", tiny_model.parent)
    assert run(arguments(cells, tmp_path / "a.unet", "--pretrained=yeast")) == 1
    assert "choose one of tiny" in capsys.readouterr().err


def test_two_models_to_go_on_from_are_refused(cells: Cells, tmp_path: Path) -> None:
    more = ("--pretrained=nuclei", "--from=b.unet")
    assert run(arguments(cells, tmp_path / "a.unet", *more)) == 2


def test_weights_of_imagenet_are_for_transformers_only(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(cells, tmp_path / "a.unet", "--pretrained=imagenet")) == 2
    told = capsys.readouterr().err
    assert "is for a trans_unet of base width 64: " in told
    assert "give --architecture trans_unet --base-width 64 as well" in told


def test_weights_of_imagenet_are_asked_of_the_network() -> None:
    shape = NetworkConfig(architecture="trans_unet", base_width=64)
    assert _pretrained(shape) == shape.model_copy(update={"pretrained": True})


def test_a_run_that_is_finished_writes_its_model_again(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells.unet"
    assert run(arguments(cells, out)) == 0
    before = out.read_bytes()
    out.unlink()
    capsys.readouterr()
    assert run(arguments(cells, out, "--resume")) == 0
    assert out.read_bytes() == before
    assert "is finished, after 4 steps" in capsys.readouterr().err


def test_a_model_that_is_there_is_replaced_at_the_end_and_that_is_said(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells.unet"
    out.write_bytes(b"the one before")
    folder = out.with_name("cells.unet.run") / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-000003.json").touch()
    assert run(arguments(cells, out)) == 1
    assert "NU-C33" in capsys.readouterr().err
    assert out.read_bytes() == b"the one before"
    assert run(arguments(cells, out, "--restart")) == 0
    assert f"{out} is there already: it stays until" in capsys.readouterr().err
    assert load_model(out).training.max_steps == 4


def test_other_settings_than_those_of_the_run_are_refused(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells.unet"
    assert run(arguments(cells, out)) == 0
    assert run(arguments(cells, out, "--resume", "--seed=5")) == 1
    err = capsys.readouterr().err
    assert "no seed but now came seed = 5" in err
    assert "NU-C30" in err


def test_with_nothing_to_go_on_from_training_begins(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells.unet"
    assert run(arguments(cells, out, "--resume")) == 0
    assert out.exists()
    assert "There is nothing to go on from" in capsys.readouterr().err
