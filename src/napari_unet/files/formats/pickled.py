"""The data in a pickle, without running any of it.

Loading a pickle calls what the file names. Here the standard library only lists its
steps (`pickletools.genops` decodes them and calls nothing), and the few steps that
build plain data are done by hand: a name stays a name, an array stays what the file
says of it. So nothing runs on what a hostile file holds, neither numpy nor the C code
of `pickle.Unpickler`, which allocates whatever a file of 20 bytes asks for; no step
takes more memory than the file has bytes.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_STEPS = 2_000_000
_MARK = object()

_ARRAY_ROOMS = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_ARRAY_NAMES = ("_reconstruct", "ndarray", "dtype", "scalar")
_PATH_NAMES = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_KNOWN = {
    *((room, name) for room in _ARRAY_ROOMS for name in _ARRAY_NAMES),
    *((room, "_frombuffer") for room in ("numpy.core.numeric", "numpy._core.numeric")),
    *((room, name) for room in ("pathlib", "pathlib._local") for name in _PATH_NAMES),
}

# Steps that push what genops has decoded, that push something new, and that do nothing.
_PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("INT", "LONG", "FLOAT", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"),
}
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}
_NOTHING = {"PROTO", "FRAME"}


class PickleError(Exception):
    """Why a pickle is not read."""


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is never looked up."""

    room: str
    name: str


@dataclass(eq=False, repr=False)
class Made:
    """What a pickle says that `maker` would make of `args`; it is never called."""

    maker: Name
    args: tuple[Any, ...]
    state: Any = None


def read_pickle(content: bytes) -> Any:
    """Return what a pickle holds, as plain data.

    Parameters
    ----------
    content : bytes
        A pickle of any protocol.

    Returns
    -------
    Any
        Numbers, str, bytes, None, tuples, lists (for sets as well), dicts (entries
        whose key is a str), and `Made` for arrays, dtypes, numpy's numbers and paths.

    Raises
    ------
    PickleError
        Damaged, or it holds something else.

    Examples
    --------
    >>> import pickle
    >>> read_pickle(pickle.dumps({"a": [1, (2.5, None)]}))
    {'a': [1, (2.5, None)]}
    """
    machine = _Machine()
    for n_steps, (step, arg) in enumerate(_steps(content)):
        if n_steps >= _MAX_STEPS:
            raise PickleError(f"it takes more than {_MAX_STEPS:,} steps to read")
        if step == "STOP":
            break
        try:
            machine.do(step, arg)
        except (LookupError, TypeError, ValueError) as error:
            raise PickleError(f"it is damaged at {step}") from error
    return machine.stack[-1] if machine.stack else None


def _steps(content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        for step, arg, _ in pickletools.genops(BytesIO(content)):
            yield step.name, arg
    # A warning is an error where the user asked for that: one for escapes in text.
    except (ValueError, LookupError, OverflowError, Warning) as error:
        raise PickleError("it is cut off or damaged") from error


class _Machine:
    """The stack and the memo of pickle's machine."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, step: str, arg: Any) -> None:
        if step in _PUSH:
            self.stack.append(arg)
        elif step in _NEW:
            self.stack.append(_NEW[step]())
        elif step in _DO:
            _DO[step](self, arg)
        elif step not in _NOTHING:
            raise PickleError(f"it holds more than data ({step})")

    def pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise LookupError("no mark")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def push_tuple(self, items: list[Any]) -> None:
        self.stack.append(tuple(items))

    def pop(self, n: int) -> list[Any]:
        if len(self.stack) < n:
            raise LookupError("too few items")
        items = self.stack[-n:]
        del self.stack[-n:]
        return items

    def remember(self, key: int | None) -> None:
        # A dict, so that a number of 10 digits takes no more memory than a small one.
        self._memo[len(self._memo) if key is None else key] = self.stack[-1]

    def recall(self, key: int) -> None:
        self.stack.append(self._memo[key])

    def name(self, room: Any, name: Any) -> None:
        # Checked first: to hash a nested tuple could take for ever.
        if not (isinstance(room, str) and isinstance(name, str)):
            raise TypeError("a name that is no text")
        if (room, name) not in _KNOWN:
            what = ascii(f"{room[:40]}.{name[:40]}")
            raise PickleError(f"it names {what}, which is no array")
        self.stack.append(Name(room, name))

    def make(self) -> None:
        maker, args = self.pop(2)
        if not (isinstance(maker, Name) and isinstance(args, tuple)):
            raise PickleError("it calls what is no name")
        self.stack.append(Made(maker, args))

    def build(self) -> None:
        made, state = self.pop(2)
        if not isinstance(made, Made):
            raise PickleError("it changes what is no array")
        made.state = state
        self.stack.append(made)

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise PickleError("it adds to what is no list")
        self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise PickleError("it adds to what is no dict")
        # Other keys are of no use here, and hashing a nested one could take for ever.
        pairs = zip(items[::2], items[1::2], strict=True)
        self.stack[-1].update((key, item) for key, item in pairs if type(key) is str)

    def push_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.put(items)


_DO: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda machine, _: machine.push_tuple(machine.pop_to_mark()),
    "TUPLE1": lambda machine, _: machine.push_tuple(machine.pop(1)),
    "TUPLE2": lambda machine, _: machine.push_tuple(machine.pop(2)),
    "TUPLE3": lambda machine, _: machine.push_tuple(machine.pop(3)),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "DICT": lambda machine, _: machine.push_dict(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.put(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.put(machine.pop_to_mark()),
    "GLOBAL": lambda machine, arg: machine.name(*arg.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.pop(2)),
    "REDUCE": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.build(),
    "PUT": lambda machine, arg: machine.remember(arg),
    "BINPUT": lambda machine, arg: machine.remember(arg),
    "LONG_BINPUT": lambda machine, arg: machine.remember(arg),
    "MEMOIZE": lambda machine, _: machine.remember(None),
    "GET": lambda machine, arg: machine.recall(arg),
    "BINGET": lambda machine, arg: machine.recall(arg),
    "LONG_BINGET": lambda machine, arg: machine.recall(arg),
    "POP": lambda machine, _: machine.stack.__delitem__(-1),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
}
