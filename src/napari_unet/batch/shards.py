"""A run in parts, by independent processes: each takes every n-th file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Shard = tuple[int, int]


def parse_shard(text: str) -> Shard:
    """Return which of how many shards a text names.

    Raises
    ------
    ConfigError
        No such text, or no such shard (NU-C40).

    Examples
    --------
    >>> parse_shard("2/4")
    (2, 4)
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    return checked((int(match[1]), int(match[2])) if match else (0, 0), text)


def checked(shard: Shard, said: object = None) -> Shard:
    """Return a shard; what is none is refused (NU-C40)."""
    i, n = shard
    if not 1 <= i <= n:
        raise ConfigError(
            "NU-C40",
            f"there is no shard {shard if said is None else said}: give the first of "
            "four as 1/4, the last as 4/4",
        )
    return shard


def of_shard(items: Sequence[T], shard: Shard | None) -> Sequence[T]:
    """Return the items of a shard: every n-th, so that each gets its share of all.

    Examples
    --------
    >>> of_shard("abcde", (2, 2))
    'bd'
    """
    return items if shard is None else items[shard[0] - 1 :: shard[1]]


def ledger_name(shard: Shard | None) -> str:
    """Return the name of a shard's own ledger.

    Examples
    --------
    >>> ledger_name((2, 4)), ledger_name(None)
    ('ledger-2-of-4.jsonl', 'ledger.jsonl')
    """
    return "ledger.jsonl" if shard is None else f"ledger-{shard[0]}-of-{shard[1]}.jsonl"
