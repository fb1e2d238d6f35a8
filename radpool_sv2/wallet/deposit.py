"""Keeps the rows of claim keys: which were given away, and what mints said they hold under them.

Each method takes the connection of a transaction that is under way, as those of `store` do.

A search by words ends after `SEARCH_GAP` keys of which the mint knows nothing, and a mint knows
only keys under which value was ever left over. Most runs of a miner may leave none: so once
`AHEAD_MAX` keys in a row are not known to any mint, the one of them that was given away longest ago
is given again. That tells a mint at most that two runs, sixteen apart, were of one miner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

__all__ = ["AHEAD_MAX", "SEARCH_GAP", "Deposit", "DepositStore"]

AHEAD_MAX: Final = 16
SEARCH_GAP: Final = 20


@dataclass(frozen=True, slots=True)
class Deposit:
    """Is what a mint holds under a claim key for one policy.

    Attributes:
        counter: The claim key's.
        mint: The mint's row.
        policy: The policy's name.
        known: Whether the mint has said that it ever held something.
        over: Whether nothing can come any more.
        units: What it held when it was asked last, in whole units.
        used_ms: When a channel last had the key, in milliseconds since 1970.
    """

    counter: int
    mint: int
    policy: str
    known: bool
    over: bool
    units: int
    used_ms: int


class DepositStore:
    """Reads and writes the rows."""

    def take(self, connection: sqlite3.Connection, now_ms: int) -> int:
        """Chooses the claim key that a channel is to have, and notes that it has."""
        [(next_counter,)] = connection.execute(
            "SELECT COALESCE(MAX(counter) + 1, 0) FROM claim_key"
        )
        [(first_unknown,)] = connection.execute(
            "SELECT COALESCE(MAX(claim_key) + 1, 0) FROM residue WHERE known = 1"
        )
        counter = int(next_counter)
        if counter - first_unknown >= AHEAD_MAX:
            [(counter,)] = connection.execute(
                "SELECT counter FROM claim_key WHERE counter >= ? "
                "ORDER BY used_ms, counter LIMIT 1",
                (first_unknown,),
            )
        self._note_use(connection, counter, now_ms)
        return counter

    def open(
        self, connection: sqlite3.Connection, counter: int, mint: int, policy: str, now_ms: int
    ) -> None:
        """Notes that a channel of a mint has a claim key."""
        self._note_use(connection, counter, now_ms)
        connection.execute(
            "INSERT INTO residue VALUES (?, ?, ?, 0, 0, '0') ON CONFLICT DO UPDATE SET over = 0",
            (counter, mint, policy),
        )

    def learn(
        self,
        connection: sqlite3.Connection,
        counter: int,
        mint: int,
        units: Iterable[tuple[str, int]],
        *,
        settled_ms: int,
    ) -> None:
        """Keeps what a mint says that it holds under a claim key.

        Args:
            connection: The transaction.
            counter: The claim key.
            mint: The mint's row.
            units: Policy and whole units of each that it knows; what it leaves out, it knows not.
            settled_ms: A key that no channel had since this time gets nothing more.
        """
        connection.execute(
            "UPDATE residue SET units = '0' WHERE claim_key = ? AND mint = ?", (counter, mint)
        )
        connection.executemany(
            "INSERT INTO residue VALUES (?, ?, ?, 1, 0, ?) "
            "ON CONFLICT DO UPDATE SET known = 1, units = excluded.units",
            ((counter, mint, policy, str(held)) for policy, held in units),
        )
        connection.execute(
            "UPDATE residue SET over = 1 WHERE claim_key = ? AND mint = ? AND units = '0' "
            "AND (SELECT used_ms FROM claim_key WHERE counter = claim_key) < ?",
            (counter, mint, settled_ms),
        )

    def cover(self, connection: sqlite3.Connection, end: int) -> None:
        """Makes sure that no counter below `end` is taken for one that was never given away."""
        connection.executemany(
            "INSERT INTO claim_key VALUES (?, 0) ON CONFLICT DO NOTHING",
            ((counter,) for counter in range(end)),
        )

    def count(self, connection: sqlite3.Connection) -> int:
        """Returns how many claim keys were given away: their counters are below it."""
        [(count,)] = connection.execute("SELECT COALESCE(MAX(counter) + 1, 0) FROM claim_key")
        return int(count)

    def of(self, connection: sqlite3.Connection, mint: int | None = None) -> list[Deposit]:
        """Returns what mints hold or may hold, by claim key; of one mint or of all."""
        rows = connection.execute(
            "SELECT claim_key, mint, policy, known, over, units, used_ms FROM residue "
            "JOIN claim_key ON counter = claim_key "
            "WHERE ? IS NULL OR mint = ? ORDER BY claim_key, mint, policy",
            (mint, mint),
        )
        return [
            Deposit(counter, of, policy, bool(known), bool(over), int(units), used_ms)
            for counter, of, policy, known, over, units, used_ms in rows
        ]

    def _note_use(self, connection: sqlite3.Connection, counter: int, now_ms: int) -> None:
        connection.execute(
            "INSERT INTO claim_key VALUES (?, ?) "
            "ON CONFLICT DO UPDATE SET used_ms = excluded.used_ms",
            (counter, now_ms),
        )
