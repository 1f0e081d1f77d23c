from __future__ import annotations

import pytest

from napari_unet.cli import run
from napari_unet.cli.flags import channel_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("DAPI", ["DAPI"]),
        ("0, 2", ["0", "2"]),
        ("a,,b,", ["a", "b"]),
    ],
)
def test_channels_are_split_at_commas(text: str | None, expected: object) -> None:
    assert channel_list(text) == expected


def test_what_training_does_not_know_is_no_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["train", "--images=a", "--masks=b", "--out=c.unet"]
    assert run([*given, "--upscale=2"]) == 2
    assert "Unknown option: --upscale" in capsys.readouterr().err
    assert run(["train", "--help"]) == 0
    assert "--upscale" not in capsys.readouterr().out
