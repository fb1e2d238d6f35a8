"""Lets go of what is so old that no peer is served with it any more.

Epochs go in their order, whole: the decision, the checkpoint, and of each stream the entries up to
the mark that the cut names. So what is left of a stream begins behind a mark, and what is left of
the epochs has no gap. The database keeps its size and fills the room again.

Source: `spec/13-broadcast.md`, "Catching up".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.federation.messages import ENTRIES_MAX

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from radpool_sv2.federation.agreement.mark import Ending

__all__ = ["EPOCHS_AT_ONCE", "KEEP_EPOCHS", "let_go_of_epochs", "let_go_of_segments"]

KEEP_EPOCHS: Final = 4_032
"""Four weeks of blocks: longer than an outage that anybody waits for."""

EPOCHS_AT_ONCE: Final = 4
"""More than the one that is added meanwhile, and little enough to hold up no other write."""


def let_go_of_epochs(
    connection: sqlite3.Connection, floor: int, endings_of: Callable[[bytes], Iterable[Ending]]
) -> None:
    """Deletes the oldest epochs before a floor, a few of them; the next call deletes more.

    Args:
        connection: In a transaction.
        floor: The first epoch that stays.
        endings_of: Reads the endings off a decision as the store has it.
    """
    found = connection.execute(
        "SELECT epoch, blob FROM decision WHERE epoch < ? ORDER BY epoch LIMIT ?",
        (floor, EPOCHS_AT_ONCE),
    ).fetchall()
    for epoch, blob in found:
        let_go_of_segments(connection, endings_of(bytes(blob)))
        connection.execute("DELETE FROM decision WHERE epoch = ?", (epoch,))
        connection.execute("DELETE FROM checkpoint WHERE epoch = ?", (epoch,))


def let_go_of_segments(connection: sqlite3.Connection, endings: Iterable[Ending]) -> None:
    """Deletes of each stream what is not behind its mark.

    The last few before the mark stay until the next one goes: a record about an entry behind the
    mark may name them, because they came in one message.
    """
    for member, seq in ((ending.member, ending.seq) for ending in endings):
        query = "DELETE FROM certificate WHERE sender = ? AND seq <= ?"
        connection.execute(query, (member, seq))
        place = member, seq - ENTRIES_MAX
        connection.execute("DELETE FROM entry WHERE sender = ? AND seq <= ?", place)
        connection.execute("DELETE FROM held WHERE sender = ? AND seq <= ?", place)
