"""Exit codes, help and errors, the same for all commands."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from napari_unet import __version__, cli
from napari_unet.cli import main, run
from napari_unet.config import NetworkConfig, PredictConfig, TrainConfig, WeightConfig
from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = ["train", "predict", "evaluate", "weights", "demo", "gui", "doctor"]


def flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    assert run([command, "--help"]) == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    return {word for word in words if word.startswith("--")}


def field_flags(model: type[Any], *without: str) -> set[str]:
    return {cli.flag_of(name) for name in model.model_fields if name not in without}


def raising(error: BaseException) -> Callable[..., None]:
    def command(*_: object, **__: object) -> None:
        raise error

    return command


def test_help_lists_the_commands_the_main_ones_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f" {command} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    assert f" napari-unet {command}" in capsys.readouterr().out.partition("\n\n")[2]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_train_has_a_flag_for_every_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = flags_of("train", capsys)
    assert field_flags(TrainConfig) <= found
    assert field_flags(WeightConfig) <= found
    # From the data, for a task to come, and by --pretrained imagenet.
    hidden = {"in_channels", "out_channels", "n_dims", "upscale", "pretrained"}
    assert field_flags(NetworkConfig, *hidden) <= found
    assert not {cli.flag_of(name) for name in hidden - {"pretrained"}} & found


def test_predict_and_weights_have_a_flag_for_every_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert field_flags(PredictConfig) <= flags_of("predict", capsys)
    assert field_flags(WeightConfig) <= flags_of("weights", capsys)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nonsense"], 'Unknown command "nonsense"'),
        (["train", "--images", "a"], "error: --out is required"),
        (["predict", "--model"], "error: --model needs a value"),
        (
            ["predict", "--model=a", "--input=b", "--output=c", "--axes=QYX"],
            "--axes. use each of T, Z, C, Y, X at most once, with Y and X",
        ),
        (
            ["train", "--images=a", "--masks=b", "--out=c.unet", "--axes=ZYY"],
            "--axes. use each of T, Z, C, Y, X at most once, with Y and X",
        ),
        (
            ["predict", "--model=a", "--input=b", "--output=c", "--channels=,"],
            "--channels. name one channel at least",
        ),
        (["demo", "--otu", "a"], "Unknown option: --otu. Did you mean --out?"),
        (
            ["train", "--images=a", "--masks=b", "--out=c.unet", "--max-steps=0"],
            "error: --max-steps is 0: it should be greater than or equal to 1",
        ),
        (
            ["train", "--images=a", "--masks=b", "--out=c.unet", "--seed=x"],
            "error: --seed is x: it should be a whole number",
        ),
        (
            ["predict", "--model=a", "--input=b", "--output=c", "--halo=-1"],
            "error: halo is -1: give 'exact' or 0 and more pixels",
        ),
        (
            ["predict", "--model=a", "--input=b", "--output=c", "--halo=wide"],
            "error: --halo is wide: it should be 'exact' or a whole number",
        ),
        (["train", "--images=a", "--masks=b", "--out=c", "--task=paint"], "--task"),
    ],
)
def test_flags_not_understood_are_code_2_and_one_sentence(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert sentence in first
    assert second.startswith("see napari-unet ")
    assert second.endswith("--help")


def test_an_error_is_code_1_and_one_line_however_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]" + "x" * 200 + "\x1b[31m.tif"
    error = ImageError("NU-I01", f"{name} is empty")
    monkeypatch.setattr(cli, "app", raising(error))
    assert run([]) == 1
    out, err = capsys.readouterr()
    expected = name.replace("\x1b", "?")
    assert (out, err) == ("", f"error: {expected} is empty [NU-I01]\n")


def test_ctrl_c_is_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", raising(KeyboardInterrupt()))
    assert run([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_unwinds_and_is_code_143(monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def command(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit, match="143"):
        run([])
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run([])


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", lambda argv: len(argv))
    with pytest.raises(SystemExit) as left:
        main(["a", "b", "c"])
    assert left.value.code == 3
    monkeypatch.setattr("sys.argv", ["napari-unet", "x"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
