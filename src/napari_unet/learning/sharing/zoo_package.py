"""A package of the BioImage Model Zoo, read within limits; nothing is extracted.

Only members that the description refers to are read, each into memory, so that names
that lead elsewhere lead nowhere.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

from napari_unet.errors import FolderError, ModelError
from napari_unet.files.zips import RAISED_ON_DAMAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
_MAX_DESCRIPTION_BYTES = 2**20
_MAX_MEMBER_BYTES = 2**31
_MAX_MEMBERS = 2000
_MAX_RATIO = 200
_MAX_UNCHECKED_BYTES = 2**20
_MAX_DEPTH = 64
_ENCRYPTED = 1
_RESERVED = {"CON", "PRN", "AUX", "NUL"}


def refused(name: str, why: str) -> ModelError:
    """Return the error for a package that is damaged or not safe to read."""
    return ModelError(
        "NU-M22",
        f"{name} is no sound bioimage.io package ({why}): download it again from its "
        "source",
    )


class Package(Protocol):
    """Where the members of a package are read from."""

    name: str

    def names(self) -> Sequence[str]:
        """Return the names of the members that are safe to read."""

    def read(self, member: str, *, at_most: int = _MAX_MEMBER_BYTES) -> bytes:
        """Return the content of a member.

        Raises
        ------
        ModelError
            There is none of that name, or it is damaged or too large (NU-M22).
        """


def open_package(path: Path) -> Package:
    """Open a zip or a folder that holds a bioimage.io model.

    Raises
    ------
    FolderError
        No such file (NU-F01).
    ModelError
        Not a zip, damaged, encrypted, with names that lead out of it, links, two
        members of one name, or far more than any model (NU-M22).
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise FolderError("NU-F01", f"there is no file {path}: check the path")
    return _Zip(path)


def read_description(package: Package) -> dict[str, Any]:
    """Return what the package's ``rdf.yaml`` says, as plain data.

    Raises
    ------
    ModelError
        There is none, over 1 MB, not YAML, with aliases (which can grow without end)
        or tags, or nested deeper than 64 (NU-M22).
    """
    found = [name for name in DESCRIPTIONS if name in package.names()]
    if not found:
        raise refused(package.name, f"it has no {DESCRIPTIONS[0]}")
    content = package.read(found[0], at_most=_MAX_DESCRIPTION_BYTES)
    value = _parse_yaml(content, f"{package.name}: {found[0]}")
    if not isinstance(value, dict):
        raise refused(package.name, f"{found[0]} holds no description")
    return value


def _parse_yaml(content: bytes, name: str) -> Any:
    # Comes with bioimageio.spec.
    from ruyaml import YAML
    from ruyaml.error import YAMLError
    from ruyaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    try:
        text, depth = content.decode("utf-8"), 0
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if isinstance(event, AliasEvent) or depth > _MAX_DEPTH:
                raise refused(name, "it uses aliases, or is nested too deeply")
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise refused(name, "it is not YAML of plain data") from error


def check_sha256(content: bytes, expected: object, name: str) -> None:
    """Compare a member with the checksum in the description, where it gives one.

    Raises
    ------
    ModelError
        It is another (NU-M22).
    """
    if expected and hashlib.sha256(content).hexdigest() != str(expected).lower():
        raise refused(name, "its content is not what its description was written for")


def _check_name(name: str, package: str) -> None:
    """Refuse a name that could lead out of the package on any system."""
    parts = PurePosixPath(name).parts
    is_unsafe = (
        not parts
        or "\\" in name
        or "\0" in name
        or ".." in parts
        or PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).drive
        or any(part.split(".")[0].upper() in _RESERVED for part in parts)
        or any(part.endswith((".", " ")) for part in parts)
    )
    if is_unsafe:
        raise refused(package, f"it holds {name[:60]!a}, which leads elsewhere")


class _Zip:
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except RAISED_ON_DAMAGE as error:
            raise refused(self.name, "it is damaged or no zip") from error
        if len(members) > _MAX_MEMBERS:
            raise refused(self.name, f"it has {len(members):,} members")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            self._add(member)

    def _add(self, member: zipfile.ZipInfo) -> None:
        # zipfile cuts names at a NUL; what stood there is kept here.
        _check_name(member.orig_filename, self.name)
        shown = ascii(member.filename[:60])
        if member.flag_bits & _ENCRYPTED:
            raise refused(self.name, f"{shown} is encrypted")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise refused(self.name, f"{shown} is a link")
        key = member.filename.casefold()
        if key in self._members:
            raise refused(self.name, f"it holds {shown} twice")
        self._members[key] = member

    def names(self) -> Sequence[str]:
        return [m.filename for m in self._members.values() if not m.is_dir()]

    def read(self, member: str, *, at_most: int = _MAX_MEMBER_BYTES) -> bytes:
        name = str(PurePosixPath(member))
        found = self._members.get(name.casefold())
        if found is None or found.filename != name or found.is_dir():
            raise refused(self.name, f"{member[:60]!a} is missing")
        is_bomb = found.file_size > _MAX_UNCHECKED_BYTES and (
            found.file_size > _MAX_RATIO * max(found.compress_size, 1)
        )
        if is_bomb or found.file_size > at_most:
            raise refused(self.name, f"{member[:60]!a} is far too large")
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(found) as file:
                content = file.read(found.file_size + 1)
        except RAISED_ON_DAMAGE as error:
            raise refused(self.name, f"{member[:60]!a} is damaged") from error
        if len(content) != found.file_size:
            raise refused(self.name, f"{member[:60]!a} has another size than told")
        return content


class _Folder:
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path.resolve()

    def names(self) -> Sequence[str]:
        return [name for name in DESCRIPTIONS if (self._path / name).is_file()]

    def read(self, member: str, *, at_most: int = _MAX_MEMBER_BYTES) -> bytes:
        _check_name(member, self.name)
        path = self._path / member
        # A link may lead out of the folder.
        if not path.is_file() or not path.resolve().is_relative_to(self._path):
            raise refused(self.name, f"{member[:60]!a} is missing")
        if path.stat().st_size > at_most:
            raise refused(self.name, f"{member[:60]!a} is far too large")
        try:
            return path.read_bytes()
        except OSError as error:
            raise refused(self.name, f"{member[:60]!a} is unreadable") from error
