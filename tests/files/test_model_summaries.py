"""What a model's header says, against what wrote it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import ModelError
from napari_unet.files.model_summaries import summarise
from napari_unet.learning.checkpoint import load_model

if TYPE_CHECKING:
    from pathlib import Path


def test_a_summary_says_what_the_model_does(tiny_model: Path) -> None:
    summary, model = summarise(tiny_model), load_model(tiny_model)
    assert summary.path == tiny_model
    assert summary.n_bytes == len(tiny_model.read_bytes())
    assert summary.written.timestamp() == pytest.approx(tiny_model.stat().st_mtime)
    assert summary.network == model.network.architecture
    assert summary.classes == model.class_names[1:]
    assert summary.f1 == model.scores["f1"]
    assert (summary.n_train_images, summary.about) == (1, "")
    assert summary.roles == model.roles
    assert (summary.n_dims, summary.upscale) == (2, 1)


def test_reading_a_summary_needs_no_torch(tiny_model: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from napari_unet.files.model_summaries import summarise\n"
        f"summarise(Path({str(tiny_model)!r}))\n"
        "print(*{'torch', 'safetensors', 'skimage'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def header_of(content: bytes) -> dict[str, dict[str, str]]:
    (n,) = struct.unpack("<Q", content[:8])
    header: dict[str, dict[str, str]] = json.loads(content[8 : 8 + n])
    return header


def with_header(header: object, tensors: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def test_a_file_that_is_cut_off_is_damaged(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.unet"
    path.write_bytes(tiny_model.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"damaged model file") as caught:
        summarise(path)
    assert caught.value.code == "NU-M02"


@pytest.mark.parametrize(
    "text", ["[]", "{}", "x", '{"scores": 1}', "[" * 100_000, "null"]
)
def test_a_description_that_makes_no_sense_is_damaged(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "a.unet"
    path.write_bytes(with_header({"__metadata__": {"napari_unet": text}}))
    with pytest.raises(ModelError, match="damaged"):
        summarise(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"PK\x03\x04" * 10,
        b"\xff" * 100,
        with_header([]),
        with_header({}),
        with_header({"__metadata__": []}),
        with_header({"__metadata__": {"other": "x"}}),
        with_header({"a": {"data_offsets": []}}),
        with_header({"a": 1}),
    ],
)
def test_another_file_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.unet"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a napari-unet model"):
        summarise(path)


def test_a_missing_file_or_a_folder_can_not_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "a.unet", tmp_path):
        with pytest.raises(ModelError, match="can't be read") as caught:
            summarise(path)
        assert caught.value.code == "NU-M00"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.unet")
    with pytest.raises(ModelError, match="no file"):
        summarise(tmp_path / "a.unet")


def test_a_model_s_scores_may_be_unknown(tiny_model: Path, tmp_path: Path) -> None:
    content = tiny_model.read_bytes()
    header = header_of(content)
    tensors = content[8 + struct.unpack("<Q", content[:8])[0] :]
    raw = json.loads(header["__metadata__"]["napari_unet"])
    raw["scores"] = {}
    header["__metadata__"]["napari_unet"] = json.dumps(raw)
    path = tmp_path / "a.unet"
    path.write_bytes(with_header(header, tensors))
    assert summarise(path).f1 is None
