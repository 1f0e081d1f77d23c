"""The track tables of the Cell Tracking Challenge: `man_track.txt`, `res_track.txt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_MAX_BYTES = 16 * 2**20


class Track(NamedTuple):
    """A cell that is there in each frame from `begin` to `end`.

    Parameters
    ----------
    label : int
        Its id in the frames.
    begin, end : int
        First and last frame, counted from 0.
    parent : int
        Track that it comes from; 0 for none.
    """

    label: int
    begin: int
    end: int
    parent: int = 0


def tracks_of(present: Sequence[Iterable[int]]) -> dict[int, list[Track]]:
    """Return the tracks of each id: one for each run of frames without a gap.

    The first run keeps the id; the following ones get new ids above all others and
    have the run before as their parent, as the challenge asks for.

    Parameters
    ----------
    present : sequence of iterable of int
        Ids in each frame.

    Examples
    --------
    >>> tracks_of([[1, 2], [1], [1, 2]])[2]
    [Track(label=2, begin=0, end=0, parent=0), Track(label=3, begin=2, end=2, parent=2)]
    """
    tracks: dict[int, list[Track]] = {}
    for t, ids in enumerate(present):
        for i in ids:
            runs = tracks.setdefault(int(i), [])
            if runs and runs[-1].end == t - 1:
                runs[-1] = runs[-1]._replace(end=t)
            else:
                runs.append(Track(int(i), t, t))
    label = max(tracks, default=0)
    for runs in (tracks[i] for i in sorted(tracks)):
        for k in range(1, len(runs)):
            label += 1
            runs[k] = runs[k]._replace(label=label, parent=runs[k - 1].label)
    return tracks


def table_of(tracks: Iterable[Track]) -> str:
    r"""Return the lines "L B E P" of tracks, by label.

    Examples
    --------
    >>> table_of([Track(7, 0, 4), Track(2, 1, 1)])
    '2 1 1 0\n7 0 4 0\n'
    """
    return "".join(f"{' '.join(map(str, track))}\n" for track in sorted(tracks))


def read_tracks(path: Path) -> list[Track] | None:
    """Return the tracks in a table, or None if it is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        lines = path.read_text(encoding="ascii").splitlines()
        rows = [[int(word) for word in line.split()] for line in lines if line.strip()]
        return [Track(label, begin, end, parent) for label, begin, end, parent in rows]
    except (OSError, ValueError):
        return None
