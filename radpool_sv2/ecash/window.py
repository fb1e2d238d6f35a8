"""Finds the slices of work that a block pays under the policy window.

Source: `spec/07-ecash-epochs.md`, "Allocation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from radpool_sv2.ecash.policy import KeysetState
from radpool_sv2.store import ecash as table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

__all__ = ["UNPRICED", "Slice", "slices_of", "span_of", "window_of"]

UNPRICED: Final = (KeysetState.CLOSED, KeysetState.PROVISIONAL)
"""States in which a payment gives a keyset its price."""


class Slice(NamedTuple):
    """Is what a window needs to know of a keyset of the policy window."""

    number: int
    epoch: int
    hashes: int
    state: int


def slices_of(connection: sqlite3.Connection) -> list[Slice]:
    """Returns the slices from the oldest that has no price on, the newest first."""
    query = (
        "SELECT number, epoch, work, z0, state FROM keyset WHERE policy = 2 AND number >= "
        "(SELECT MIN(number) FROM keyset WHERE state IN (1, 2) AND policy = 2) "
        "ORDER BY number DESC"
    )
    return [
        Slice(number, epoch, work << z0, state)
        for number, epoch, work, z0, state in connection.execute(query)
    ]


def window_of(slices: Iterable[Slice], epoch: int, span: int | None) -> list[int]:
    """Returns the numbers of the slices that a block pays: whole ones, until they span its window.

    Slices that have their final price are passed over, but count as work of the window.

    Args:
        slices: The slices, the newest first.
        epoch: The epoch that the block closed: later slices are not before it.
        span: The hashes that its window spans; None when they are not known: all slices.
    """
    paid = []
    hashes = 0
    for each in slices:
        if each.epoch > epoch or not each.hashes:
            continue
        if span is not None and hashes >= span:
            break
        hashes += each.hashes
        if each.state in UNPRICED:
            paid.append(each.number)
    return paid


def span_of(connection: sqlite3.Connection, block: bytes, difficulties: int) -> int | None:
    """Returns the hashes that a block's window spans; None when its difficulty is not known."""
    difficulty = table.difficulty_of(connection, block)
    return None if difficulty is None else difficulties * difficulty
