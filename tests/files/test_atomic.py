"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, BinaryIO

import pytest

from napari_unet.errors import SaveError
from napari_unet.files import atomic
from napari_unet.files.atomic import (
    sweep_strays,
    write_atomically,
    write_bytes,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _failing(real: Callable[..., object], error: OSError) -> Callable[..., object]:
    def fail(*args: object, **keywords: object) -> object:
        raise error

    return fail


def test_content_arrives_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"one")
    write_bytes(tmp_path / "a.bin", b"two")
    assert (tmp_path / "a.bin").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "µ\n日本語\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ\n日本語\r\n".encode()


def test_the_writer_may_seek(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"....")
        file.seek(1)
        file.write(b"X")

    write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_bytes() == b".X.."


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_new_file_has_the_umasks_mode_and_an_old_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new", b"")
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(0o604)
        write_bytes(tmp_path / "old", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["日本語 é %20 #[x].tif", "-x.tif", "x" * 250])
def test_any_name_that_the_system_takes_can_be_written(
    tmp_path: Path, name: str
) -> None:
    write_bytes(tmp_path / name, b"1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"not saved, because it is not a regular file"):
        write_bytes(tmp_path, b"")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"there is no folder .*gone: create it"):
        write_bytes(tmp_path / "gone" / "a", b"")


def test_a_write_protected_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(SaveError, match="it is write-protected"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES]
)
def test_a_fault_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(os, call, _failing(os.fsync, OSError(code, os.strerror(code))))
    with pytest.raises(SaveError, match="a was not saved") as caught:
        write_bytes(tmp_path / "a", b"new")
    assert caught.value.code == "NU-S01"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SaveError, match=r"the disk is full .* free some space"):
        write_atomically(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_what_the_writer_raises_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_held_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = os.replace, []

    def busy(source: str, target: str) -> None:
        tries.append(source)
        if len(tries) < 4:
            raise PermissionError(errno.EACCES, "held by a virus scanner")
        real(source, target)

    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(os, "replace", busy)
    write_bytes(tmp_path / "a", b"new")
    assert len(tries) == 4
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_folder_that_cannot_be_synced_does_not_undo_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", _failing(os.open, OSError(errno.EINVAL, "no")))
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_strays_of_dead_processes_are_swept_and_nothing_else(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = tmp_path / f".a.tif.{child.pid}.0123abcd.unettmp"
    mine = tmp_path / f".a.tif.{os.getpid()}.0123abcd.unettmp"
    young = tmp_path / f".b.tif.{child.pid}.0123abcd.unettmp"
    other = tmp_path / "notes.unettmp"
    for path in (dead, mine, young, other):
        path.write_bytes(b"")
    for path in (dead, mine, other):
        os.utime(path, (0, 0))
    assert sweep_strays(tmp_path) == [dead]
    assert sorted(tmp_path.iterdir()) == sorted([mine, young, other])


def test_sweeping_a_folder_that_is_gone_does_nothing(tmp_path: Path) -> None:
    assert sweep_strays(tmp_path / "gone") == []


def test_a_process_number_beyond_the_systems_counts_as_running() -> None:
    assert atomic._is_running(10**30)
