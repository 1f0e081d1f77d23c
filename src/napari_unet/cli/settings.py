"""Settings from flags and from a file; flags win."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from napari_unet.errors import ConfigError, FolderError
from napari_unet.files.json_files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Config = TypeVar("Config", bound=pydantic.BaseModel)

_LIKE = '{"train": {"max_steps": 500}, "network": {...}, "weights": {...}}'
_SECTIONS = {"train", "network", "weights"}
# A run's config.json also says what came from the data and the defaults.
_SECTIONS_OF_A_RUN = _SECTIONS | {"normalization"}
_FROM_THE_DATA = {"in_channels", "out_channels"}


class UsageError(Exception):
    """Flags that don't go together."""


def flag_of(field: str) -> str:
    """Return the flag that sets a field: ``max_steps`` -> ``--max-steps``."""
    return "--" + field.replace("_", "-")


def describe(error: pydantic.ValidationError, name_of: Callable[[str], str]) -> str:
    """Say in one sentence which settings are wrong, and what they should be.

    Parameters
    ----------
    error : pydantic.ValidationError
        From a config model.
    name_of : callable
        Field -> how the user wrote it.
    """
    found: dict[str, tuple[Any, list[str]]] = {}
    sentences = []
    for entry in error.errors(include_url=False):
        if not entry["loc"]:  # from a check of several fields, a sentence by itself
            sentences.append(entry["msg"].removeprefix("Value error, "))
            continue
        # A field of several types fails once for each of them.
        _, wanted = found.setdefault(str(entry["loc"][0]), (entry["input"], []))
        wanted.append(_wish(entry["type"], entry["msg"]))
    for field, (value, wanted) in found.items():
        sentences.append(_sentence(name_of(field), value, wanted))
    return "; ".join(sentences)


def _wish(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return ""
    text = message.removeprefix("Input should be ").split(", unable to")[0]
    return text.replace("a valid integer", "a whole number").replace("a valid ", "a ")


def _sentence(name: str, value: object, wanted: list[str]) -> str:
    if wanted == [""]:
        return f"there is no setting {name}"
    return f"{name} is {value}: it should be {' or '.join(wanted)}"


def read_settings(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read a settings file: one JSON object a section, "train", "network" ...

    The ``config.json`` of a run is one too; what the data decides is left out.

    Raises
    ------
    FolderError
        NU-F01: there is no such file; NU-F02: it is a folder; NU-F04: it can't be read.
    ConfigError
        NU-C01: it is no JSON, or not made of sections.
    """
    if path is None:
        return {}
    if not path.exists():
        raise FolderError("NU-F01", f"there is no file {path}: check the path")
    if path.is_dir():
        raise FolderError("NU-F02", f"{path} is a folder: give the settings file in it")
    content = read_json(path, remedy=f"write settings like {_LIKE}")
    if (
        not isinstance(content, dict)
        or not set(content) <= _SECTIONS_OF_A_RUN
        or not all(isinstance(part, dict) for part in content.values())
    ):
        raise ConfigError(
            "NU-C01",
            f"settings file {path} is not understood: it should be like {_LIKE}",
        )
    sections = {name: dict(content[name]) for name in _SECTIONS if name in content}
    for field in _FROM_THE_DATA:
        sections.get("network", {}).pop(field, None)
    return sections


def merge(
    kind: type[Config], from_file: dict[str, Any], flags: Config, path: Path | None
) -> Config:
    """Return the settings of a file, overridden by the flags that were given.

    Raises
    ------
    ConfigError
        NU-C01: a value of the file is not allowed.
    UsageError
        Flags and file ask for what does not go together.
    """
    try:
        kind.model_validate(from_file)
    except pydantic.ValidationError as error:
        sentence = describe(error, lambda field: repr(field))
        raise ConfigError("NU-C01", f"settings file {path}: {sentence}") from error
    given = flags.model_dump(include=flags.model_fields_set)
    try:
        return kind.model_validate({**from_file, **given})
    except pydantic.ValidationError as error:
        sentence = describe(error, flag_of)
        raise UsageError(
            f"the flags don't go with settings file {path}: {sentence}"
        ) from error
