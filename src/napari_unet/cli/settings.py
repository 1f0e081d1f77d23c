"""Settings from flags and from a file; flags win."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Config = TypeVar("Config", bound=pydantic.BaseModel)
# More is no settings file, and would not be read to its end.
_MAX_LENGTH = 2**20


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

    Raises
    ------
    ConfigError
        NU-C01: the file is missing, no JSON, or not made of sections.
    """
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_LENGTH)
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            "NU-C01", f"settings file {path} can't be read ({error}): give a JSON file"
        ) from error
    sections = {"train", "network", "weights"}
    if (
        not isinstance(content, dict)
        or not set(content) <= sections
        or not all(isinstance(part, dict) for part in content.values())
    ):
        raise ConfigError(
            "NU-C01",
            f"settings file {path} is not understood: it should be like "
            '{"train": {"max_steps": 500}, "network": {...}, "weights": {...}}',
        )
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return dict(pairs)


def merge(
    kind: type[Config], from_file: dict[str, Any], flags: Config, path: Path | None
) -> Config:
    """Return the settings of a file, overridden by the flags that were given.

    Raises
    ------
    ConfigError
        NU-C02: a value of the file is not allowed.
    """
    try:
        checked = kind.model_validate(from_file)
    except pydantic.ValidationError as error:
        sentence = describe(error, lambda field: repr(field))
        raise ConfigError("NU-C02", f"settings file {path}: {sentence}") from error
    given = flags.model_dump(include=flags.model_fields_set)
    return kind.model_validate({**checked.model_dump(exclude_unset=True), **given})
