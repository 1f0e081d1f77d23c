"""What is painted while training runs: taken in, written down, replayed."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import SaveError
from napari_unet.events import Note, Region, Stroke, StrokesTaken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.events import Event, Mailbox
    from napari_unet.learning.patches import PatchSource

_MAX_STROKE_PX = 2**28


class Strokes:
    """What is painted while training runs, written down with the step it entered at.

    Parameters
    ----------
    path : path, optional
        ``strokes.jsonl`` of the run folder; None writes nothing down.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._replayed: deque[tuple[int, Stroke]] = deque()
        self._has_told = False

    def replay(self) -> None:
        """Let the strokes that were written down enter again, each at its step."""
        if self._path is not None and self._path.exists():
            self._replayed.extend(read_strokes(self._path))

    def enter(
        self, source: PatchSource, mailbox: Mailbox, step: int
    ) -> Iterator[Event]:
        """Hand on what was painted until now, after `step` steps.

        Yields
        ------
        StrokesTaken
            Where there was anything to learn from.
        Note
            The first time that a stroke is not learned from.
        """
        again = []
        while self._replayed and self._replayed[0][0] <= step:
            again.append(self._replayed.popleft())
        fresh = [(step, stroke) for stroke in mailbox.take_strokes()]
        taken = [source.apply(stroke, at) > 0 for at, stroke in (*again, *fresh)]
        if fresh:
            yield from self._write_down(fresh)
        if any(taken):
            yield StrokesTaken(step, sum(taken))
        if not all(taken) and not self._has_told:
            self._has_told = True
            yield Note(
                "What is painted on held-back pixels is not learned from, so that the "
                "scores stay honest"
            )

    def _write_down(self, fresh: list[tuple[int, Stroke]]) -> Iterator[Note]:
        if self._path is None:
            return
        lines = "".join(_as_line(step, stroke) + "\n" for step, stroke in fresh)
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(lines)
        except OSError as error:
            yield Note(
                f"{self._path} can't be written ({error.strerror}): what was painted "
                "just now is learned from, but not after training was interrupted",
                is_warning=True,
            )


def read_strokes(path: Path) -> list[tuple[int, Stroke]]:
    """Return the strokes of a ``strokes.jsonl``, each with its step, in order.

    What a killed process left of a last line is not taken, nor what follows damage.

    Raises
    ------
    SaveError
        The file can't be read (NU-S01).
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SaveError("NU-S01", f"{path} can't be read: {error.strerror}") from error
    found = []
    for line in lines:
        stroke = _from_line(line)
        if stroke is None:
            break
        found.append(stroke)
    return found


def _as_line(step: int, stroke: Stroke) -> str:
    region = stroke.region
    row = {
        "step": step,
        "image": region.image,
        "plane": list(region.plane),
        "start": list(region.start),
        "shape": list(region.shape),
        "source": region.source,
        "label_class": {str(k): v for k, v in stroke.label_class.items()},
        "labels": _packed(stroke.labels.astype("<i4").tobytes()),
        "known": _packed(np.packbits(stroke.known).tobytes()),
    }
    return json.dumps(row)


def _from_line(line: str) -> tuple[int, Stroke] | None:
    try:
        row = json.loads(line)
        region = Region(
            int(row["image"]),
            tuple(int(n) for n in row["plane"]),
            _pair(row["start"]),
            _pair(row["shape"]),
            str(row["source"]),
        )
        n = math.prod(region.shape)
        if not 0 < n <= _MAX_STROKE_PX:
            return None
        labels = np.frombuffer(_unpacked(row["labels"], 4 * n), "<i4")
        known = np.frombuffer(_unpacked(row["known"], -(-n // 8)), np.uint8)
        stroke = Stroke(
            region,
            labels.reshape(region.shape).astype(np.int32),
            np.unpackbits(known, count=n).reshape(region.shape).astype(bool),
            {int(k): int(v) for k, v in row["label_class"].items()},
        )
        return int(row["step"]), stroke
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error,
            RecursionError):  # fmt: skip
        return None


def _pair(values: Any) -> tuple[int, int]:
    y, x = values
    return int(y), int(x)


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")


def _unpacked(text: str, n_bytes: int) -> bytes:
    content = zlib.decompressobj().decompress(base64.b64decode(text), n_bytes)
    if len(content) != n_bytes:
        raise ValueError(f"{len(content)} bytes where {n_bytes} were expected")
    return content
