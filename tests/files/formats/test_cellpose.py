from __future__ import annotations

import ast
import functools
import io
import os
import pickle
import random
import struct
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from napari_unet.errors import FolderError, LabelError, UNetError
from napari_unet.files.formats.cellpose import read_cellpose
from napari_unet.files.formats.pickled import PickleError, read_pickle

SOURCE = Path(__file__).parents[3] / "src" / "napari_unet"
MASKS = np.random.default_rng(0).integers(0, 7, (23, 31)).astype(np.uint16)


def held(masks: Any = MASKS, **more: Any) -> dict[str, Any]:
    """Return a dict with the keys that Cellpose 2 to 4 write."""
    rng = np.random.default_rng(1)
    return {
        "outlines": (MASKS > 3).astype(np.uint16),
        "colors": rng.integers(0, 255, (6, 3)).astype(np.uint8),
        "masks": masks,
        "chan_choose": [0, 0],
        "filename": "C:\\data\\day 1\\field.tif",
        "flows": [rng.random((1, 23, 31, 3)), rng.random((1, 23, 31)), [], None],
        "ismanual": np.zeros(6, bool),
        "manual_changes": [],
        "model_path": 0,
        "flow_threshold": 0.4,
        "cellprob_threshold": np.float64(0.0),
        "diameter": np.nan,
        "normalize_params": {"percentile": [1.0, 99.0], "invert": False, 3: "x"},
        "zdraw": [None, [1, 2]],
        **more,
    }


def header(shape: str = "()", descr: str = "'|O'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    outer = np.empty((), object)
    outer[()] = content
    path.write_bytes(header() + pickle.dumps(outer, protocol=protocol))
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8", ">u2", ">i8", "?"])
def test_masks_are_those_that_numpy_reads(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "field_seg.npy"
    np.save(path, held(MASKS.astype(dtype)))  # type: ignore[arg-type]
    notes: list[str] = []
    stored = read_cellpose(path, shape=MASKS.shape, notes=notes)
    truth = np.load(path, allow_pickle=True).item()["masks"]
    assert stored.annotation.labels.dtype == np.int32
    np.testing.assert_array_equal(stored.annotation.labels, truth)
    assert stored.unpainted is None
    assert stored.axes == "YX"
    assert not notes


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol_and_order_is_read(
    tmp_path: Path, protocol: int, order: Any
) -> None:
    masks = np.asarray(np.stack([MASKS, MASKS.max() - MASKS]), order=order)
    stored = read_cellpose(write(tmp_path / "a_seg.npy", held(masks), protocol))
    np.testing.assert_array_equal(stored.annotation.labels, masks)
    assert stored.axes == "ZYX"


def test_numpy_1_spelling_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a_seg.npy", held(), 3)
    content = path.read_bytes()
    assert b"numpy._core" in content
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    np.testing.assert_array_equal(read_cellpose(path).annotation.labels, MASKS)


@pytest.mark.parametrize(
    "filename",
    [
        "/home/a/other.tif",
        "C:\\a\\other.tif",
        PurePosixPath("/home/other.tif"),
        PureWindowsPath("C:\\a\\other.tif"),
        Path("other.tif"),
    ],
)
def test_a_name_of_another_image_is_noted(tmp_path: Path, filename: object) -> None:
    path = write(tmp_path / "field_seg.npy", held(filename=filename))
    notes: list[str] = []
    read_cellpose(path, notes=notes)
    assert len(notes) == 1
    assert notes[0].endswith("was made for the image other.tif")


@pytest.mark.parametrize("filename", [None, 3, "\x1b[31mfield\n.tif"])
def test_odd_names_of_images_do_no_harm(tmp_path: Path, filename: object) -> None:
    notes: list[str] = []
    write(tmp_path / "field_seg.npy", held(filename=filename))
    read_cellpose(tmp_path / "field_seg.npy", notes=notes)
    assert all(note.isprintable() for note in notes)


def test_masks_of_another_shape_than_the_image_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a_seg.npy", held())
    with pytest.raises(LabelError, match=r"a_seg\.npy has masks of shape.*NU-L02"):
        read_cellpose(path, shape=(23, 32))


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="NU-F01"):
        read_cellpose(tmp_path / "a_seg.npy")
    with pytest.raises(FolderError, match="NU-F04"):
        read_cellpose(tmp_path)


def test_a_file_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a_seg.npy", held())
    monkeypatch.setattr("napari_unet.files.formats.cellpose._MAX_BYTES", 100)
    with pytest.raises(LabelError, match=r"at most 100 are read.*NU-L11"):
        read_cellpose(path)


def refused(path: Path, why: str) -> None:
    with pytest.raises(LabelError, match=rf"{path.name} is not a sound.*{why}.*NU-L11"):
        read_cellpose(path)


@pytest.mark.parametrize(
    ("masks", "why"),
    [
        (np.zeros((3, 3)), "no whole numbers"),
        (np.zeros((3, 3), object), "no whole numbers"),
        (np.zeros((3, 3), "i4,u2"), "no whole numbers"),
        (np.zeros((3, 3), "M8[s]"), "no whole numbers"),
        (np.zeros(3, int), "neither"),
        (np.zeros((1, 2, 3, 4), int), "neither"),
        (np.zeros((0, 3), int), "neither"),
        ([[1, 2]], "no array"),
        (None, "no array"),
        (np.int64(3), "no array"),
    ],
)
def test_masks_that_are_none_are_refused(
    tmp_path: Path, masks: object, why: str
) -> None:
    refused(write(tmp_path / "a_seg.npy", held(masks)), why)


@pytest.mark.parametrize("content", [{}, {"labels": MASKS}, [MASKS], MASKS, None])
def test_a_dict_without_masks_is_refused(tmp_path: Path, content: object) -> None:
    refused(write(tmp_path / "a_seg.npy", content), "no masks")


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"PK\3\4",
        header("(1,)"),
        header("(9999999999999,)"),
        header(descr="'<u2'"),
        header(descr="[('a', '|O')]"),
        header(descr="(" * 5000 + ")" * 5000),
    ],
)
def test_only_the_header_of_a_dict_is_accepted(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "a_seg.npy"
    path.write_bytes(start + pickle.dumps(held()))
    refused(path, "does not start")


class Bomb:
    """Runs a call wherever a pickle of it is loaded."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


class ByState:
    """Runs a call by the state of a numpy array or dtype."""

    def __init__(self, maker: Any, args: Any, state: Any) -> None:
        self.parts = (maker, args, state)

    def __reduce__(self) -> Any:
        return self.parts


RECONSTRUCT = np.zeros(1).__reduce__()[0]


def bombs(marker: Path) -> dict[str, Any]:
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    system = Bomb(os.system, touch)
    return {
        "os.system": system,
        "eval": Bomb(eval, code),
        "exec": Bomb(exec, code),
        "open": Bomb(open, str(marker), "w"),
        "numpy.load": Bomb(np.load, str(marker)),
        "partial": Bomb(functools.partial(os.system), touch),
        "getattr": Bomb(getattr, Path(), "unlink"),
        "nested object array": np.array([system], object),
        "object masks": np.array([[system]], object),
        "dtype": Bomb(np.dtype, system),
        "structured dtype": ByState(np.dtype, ("V8", False, True), (3, "|", system)),
        "state": ByState(RECONSTRUCT, (np.ndarray, (0,), b"b"), system),
        "subclass": ByState(RECONSTRUCT, (Bomb, (0,), b"b"), (1, (1,), None)),
        "memmap": Bomb(np.memmap, str(marker), "u1", "w+", 0, (9,)),
        "tofile": Bomb(MASKS.tofile, str(marker)),
    }


@pytest.mark.parametrize("name", bombs(Path("x")))
@pytest.mark.parametrize("key", ["masks", "filename", "flows"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_a_hostile_pickle_is_refused_and_never_executed(
    tmp_path: Path, name: str, key: str, protocol: int
) -> None:
    marker = tmp_path / "marker"
    bomb = bombs(marker)[name]
    path = write(tmp_path / "a_seg.npy", held(**{key: bomb}), protocol)
    refused(path, "")
    assert not marker.exists()


def test_a_bomb_that_a_load_would_run_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a_seg.npy", held(x=Bomb(open, str(tmp_path / "m"), "w")))
    np.load(path, allow_pickle=True).item()["x"].close()
    assert (tmp_path / "m").exists()


LAUGHS = b"(" + b"].q\0" + b"(h\0h\0h\0h\0t" * 20


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo of 2**31 entries
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",  # 2**63 bytes
        b"\x80\x04B\xff\xff\xff\xffabc.",
        b"\x80\x04\x8b\xff\xff\xff\x7f\1.",
        b"\x80\x04" + b"(" * 100_000 + b".",
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x04]q\0h\0a.",  # a list in itself
        b"\x80\x04N" + b"\x85" * 100_000 + b".",
        b"\x80\x04N" + b"2\x86" * 100_000 + b".",  # 2**100000 items
        b"\x80\x04N" + b"2\x86" * 100_000 + b"N\x93.",  # ... as a name
        b"\x80\x04}N" + b"2\x86" * 100_000 + b"Ns.",  # ... as a key
        b"\x80\x04I" + b"9" * 10_000 + b"\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"cos\nsystem\n(S'\\q'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02\x82\1.",  # an extension code
        b"Pid\n.",
        b"\x80\x04NQ.",
        b"\x80\x05\x97.",
        b"\x80\x04N)\x81.",
        b"\x80\x04NNR.",
        b"\x80\x04NNb.",
        b"\x80\x04NNa.",
        b"\x80\x04N(Ne.",
        b"\x80\x04NNNs.",
        b"\x80\x04}(Nu.",
        b"\x80\x04(0(00.",
        b"\x80\x04e.",
        b"\x80\x04t.",
        b"\x80\x04h\1.",
        b"\x80\x04\x87.",
        b".",
        b"",
        b"\xff\xff",
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a_seg.npy"
    path.write_bytes(header() + content)
    refused(path, "")


def test_the_number_of_steps_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet.files.formats.pickled._MAX_STEPS", 10)
    assert read_pickle(b"\x80\x04" + b"N" * 8 + b".") is None
    with pytest.raises(PickleError, match="more than 10 steps"):
        read_pickle(b"\x80\x04" + b"N" * 9 + b".")


PLAIN = {
    "a": [1, -1, 300, 70_000, 2**40, -(2**70), 2.5, True, False, None],
    "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "c": {"d": "é" * 300, "e": b"x" * 300, "f": b"x", "g": bytearray(b"y"), "h": "z"},
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_data_is_read_as_pickle_reads_it(protocol: int) -> None:
    # Protocols below 3 have no bytes, those below 5 no bytearray.
    plain = PLAIN if protocol == 5 else {k: v for k, v in PLAIN.items() if k != "c"}
    plain = {**plain, "again": plain["a"]}
    assert read_pickle(pickle.dumps(plain, protocol=protocol)) == plain


@pytest.mark.parametrize("empty", [set(), {1}, frozenset({1})])
def test_sets_become_lists(empty: set[int]) -> None:
    assert read_pickle(pickle.dumps(empty, protocol=4)) == list(empty)


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a_seg.npy"
    whole = write(path, held(), protocol).read_bytes()
    for n in range(0, len(whole), 64):
        path.write_bytes(whole[:n])
        refused(path, "")


@pytest.mark.parametrize("protocol", [3, 4])
def test_flipped_bytes_give_masks_or_one_clear_error(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "a_seg.npy"
    small = {"masks": MASKS[:5, :6].copy(), "filename": "a.tif", "flows": [MASKS[:2]]}
    whole = write(path, small, protocol).read_bytes()
    rng = random.Random(protocol)
    for _ in range(1500):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        message, labels = "", None
        try:
            labels = read_cellpose(path).annotation.labels
        except UNetError as error:
            message = error.message
        assert path.name in message if labels is None else labels.dtype == np.int32


def test_no_other_file_imports_pickle() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            kinds = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib"}
            kinds |= {"pickletools", "shelve", "marshal"}
            if kinds & {name.split(".")[0] for name in names}:
                found.add((path.name, *names))
    assert found == {("pickled.py", "pickletools")}


def test_the_reader_never_loads_a_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a_seg.npy", held())

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was loaded")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, fail)
    read_cellpose(path)
    with pytest.raises(AssertionError):
        pickle.load(io.BytesIO())
