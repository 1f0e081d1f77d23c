"""Export by Python and by command line: what is asked, refused and written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from napari_unet.cli import run
from napari_unet.config import ForeignConfig
from napari_unet.errors import ConfigError, ModelError, ResourceError, SaveError
from napari_unet.events import Note
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import save_model
from napari_unet.learning.sharing import export, onnx, zoo_description, zoo_export
from napari_unet.learning.sharing.export import Exported, export_events, export_model
from napari_unet.learning.sharing.graphs import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_unet.learning.model import Model


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Write nothing but what was asked for."""
    seen: list[Any] = []

    def package(model: Model, path: Path, facts: Any, **options: Any) -> Iterator[Note]:
        seen.append((facts, options))
        path.write_text("package")
        yield Note("packed")

    def graph(model: Model, **options: Any) -> bytes:
        seen.append(options)
        return b"graph"

    monkeypatch.setattr(export, "package_events", package)
    monkeypatch.setattr(export, "onnx_bytes", graph)
    monkeypatch.setattr(export, "require_zoo", lambda: None)
    return seen


def test_a_package_gets_name_licence_and_authors(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    assert (
        export_model(
            random_model(),
            path,
            name="Nuclei: 10 × (a)",
            license="MIT",
            authors=["A. Author"],
        )
        == path
    )
    ((facts, _),) = asked
    assert (facts.name, facts.license, facts.authors) == (
        "Nuclei 10 (a)",
        "MIT",
        ("A. Author",),
    )


def test_what_is_not_given_comes_from_the_model_and_its_file(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    model = replace(random_model(), license="CC0-1.0", authors=("B. Author",))
    stored = save_model(tmp_path / "x_1.unet", model)
    events = list(export_events(stored, tmp_path / "out.zip"))
    ((facts, _),) = asked
    assert (facts.name, facts.license, facts.authors) == (
        "U-Net x_1",
        "CC0-1.0",
        ("B. Author",),
    )
    assert events[-1] == Exported(tmp_path / "out.zip", len("package"))


def test_a_missing_author_is_only_warned_about(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    events = list(export_events(random_model(), tmp_path / "a.zip", license="MIT"))
    warned = [e.message for e in events if isinstance(e, Note) and e.is_warning]
    assert len(warned) == 1
    assert "--author" in warned[0]


@pytest.mark.parametrize(
    ("license", "told"), [("", "such as CC-BY-4.0"), ("mine", "SPDX list")]
)
def test_a_package_needs_a_known_licence(
    license: str,  # noqa: A002 - the field
    told: str,
    asked: list[Any],
    random_model: Callable[..., Model],
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=told):
        export_model(random_model(), tmp_path / "a.zip", license=license)
    assert list(tmp_path.iterdir()) == []


def test_onnx_needs_no_licence(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    export_model(random_model(), path, to="onnx", size=64)
    assert path.read_bytes() == b"graph"
    assert asked == [{"name": "a", "size": 64}]


def test_one_size_is_said(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    model = random_model(norm="instance")
    first, *_ = export_events(model, tmp_path / "a.onnx", to="onnx", size=30)
    assert isinstance(first, Note)
    assert "for inputs of 32 px" in first.message
    first, *_ = export_events(random_model(), tmp_path / "a", to="onnx", size=30)
    assert isinstance(first, Note)
    assert first.is_warning


def test_the_graph_of_another_program_is_not_exported(
    random_model: Callable[..., Model], tmp_path: Path
) -> None:
    foreign = replace(
        random_model(), network=ForeignConfig(format="onnx", n_bytes=1), axes="CYX"
    )
    with pytest.raises(ModelError, match="the graph of another program"):
        export_model(foreign, tmp_path / "a.zip")


def test_a_folder_is_refused_before_any_work(
    random_model: Callable[..., Model], tmp_path: Path
) -> None:
    with pytest.raises(SaveError, match="is a folder"):
        export_model(random_model(), tmp_path)
    with pytest.raises(SaveError, match="a folder that is not there"):
        export_model(random_model(), tmp_path / "none" / "a.zip")


def test_libraries_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"bioimageio.spec": "0.5.12.0", "pydantic": "2.14.3"}
    monkeypatch.setattr(zoo_export, "version", versions.__getitem__)
    with pytest.raises(ResourceError, match=r"pip install 'pydantic<2.14'"):
        zoo_export.require_zoo()
    versions["pydantic"] = "2.13.5"
    zoo_export.require_zoo()
    versions |= {"bioimageio.spec": "0.5.14.3", "pydantic": "2.15.0"}
    zoo_export.require_zoo()


def test_the_command_exports_and_says_so(
    asked: list[Any],
    random_model: Callable[..., Model],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save_model(tmp_path / "cells.unet", random_model())
    out = tmp_path / "new" / "cells.zip"
    flags = ["--license", "MIT", "--author", "A", "--author", "B"]
    command = ["export", "--model", str(model), "--to", "bioimageio", "--out", str(out)]
    assert run([*command, *flags]) == 0
    assert out.read_text() == "package"
    ((facts, _),) = asked
    assert facts.authors == ("A", "B")
    said = capsys.readouterr()
    assert said.out == f"exported: {out} (0.0 MB)\n"
    assert "packed" in said.err
    assert run(command) == 1
    assert "NU-C20" in capsys.readouterr().err


def test_what_other_programs_must_do_themselves_is_told(
    asked: list[Any], random_model: Callable[..., Model], tmp_path: Path
) -> None:
    model = replace(
        random_model(),
        scale=0.5,
        cell_diameter_px=52.0,
        pixel_size_um=(0.3, 0.3),
        license="MIT",
        about="a" * 600,
    )
    for to in ("onnx", "bioimageio"):
        notes = [
            event.message
            for event in export_events(model, tmp_path / "m", to=to)
            if isinstance(event, Note) and event.is_warning
        ]
        assert "Rescale images first (by 0.5)" in notes[0]
        assert "cells about 26 pixels across" in notes[0]
    # Pixels of the package are those that the network sees.
    brief = zoo_description.describe_briefly(model)
    assert len(brief) == 512
    assert "Rescale images first (by 0.5)" in brief
    tensor = zoo_description.input_tensor(model, Sizes(16, 4), "test.npy")
    assert [a["scale"] for a in tensor["axes"][2:]] == pytest.approx([0.6, 0.6])
    told = onnx._metadata(model, "m")
    assert json.loads(told["napari_unet.pixel_size_um"]) == pytest.approx([0.6, 0.6])
    assert json.loads(told["napari_unet.scale"]) == 0.5
    assert zoo_description.left_to_do(replace(model, scale=1.0)) == []


def test_what_values_stand_for_is_told(random_model: Callable[..., Model]) -> None:
    model = replace(
        random_model(),
        roles=("value:a", "value:b"),
        value_range=IntensityRange((0.0, 1.0), (100.0, 4095.0)),
    )
    (told,) = zoo_description.left_to_do(model)
    assert told == "Its values 0 and 1 stand for 0, 1 and 100, 4095."
