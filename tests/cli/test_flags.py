from __future__ import annotations

import pytest

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
