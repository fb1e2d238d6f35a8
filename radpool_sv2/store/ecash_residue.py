"""Keeps residues in the ledger's file: value that shares have earned and that no token stands for.

Functions take a connection inside a transaction of the caller, as in `radpool_sv2.store.ecash`.
Values have 128 bits, and SQLite counts to 2^63: sums are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.store.ecash_schema import CASH_OUT_BASE, CASH_OUT_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

__all__ = [
    "add_cash_out",
    "add_values",
    "cash_out_of",
    "cash_outs_of_keyset",
    "leave_behind",
    "put_residues",
    "residue_before",
    "residues_of",
    "residues_of_claimant",
    "set_residue_out",
    "total_residue",
]

VALUE_LEN: Final = 16

LEFT_BEHIND: Final = bytes(33)
"""Whose the residues of ended channels are whose clients gave no claim key: nobody's."""

# A channel's name begins with 0 and 1, a claim key with 2 or 3.
CHANNELS: Final = (b"\x00\x01", b"\x00\x02")

Key = tuple[int, bytes]
"""The account of a policy, and the claimant."""


def _blob(value: int) -> bytes:
    return value.to_bytes(VALUE_LEN, "big")


def _number(blob: bytes) -> int:
    return int.from_bytes(blob, "big")


def residues_of(connection: sqlite3.Connection, keys: Iterable[Key]) -> dict[Key, int]:
    """Returns what claimants have; 0 for whoever never had anything."""
    found = {}
    for key in keys:
        query = "SELECT value FROM residue WHERE account = ? AND claimant = ?"
        row = connection.execute(query, key).fetchone()
        found[key] = 0 if row is None else _number(row[0])
    return found


def put_residues(connection: sqlite3.Connection, residues: Iterable[tuple[Key, int]]) -> None:
    """Stores what claimants have now."""
    connection.executemany(
        "INSERT INTO residue VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        [(*key, _blob(value)) for key, value in residues],
    )


def residues_of_claimant(connection: sqlite3.Connection, claimant: bytes) -> dict[int, int]:
    """Returns what a claimant has, by account: of all policies under which there ever was any."""
    query = "SELECT account, value FROM residue WHERE claimant = ? ORDER BY account"
    return {account: _number(blob) for account, blob in connection.execute(query, (claimant,))}


def total_residue(connection: sqlite3.Connection, account: int) -> int:
    """Returns what all claimants of a policy have, and what channels have left behind."""
    query = "SELECT value FROM residue WHERE account = ?"
    return sum(_number(blob) for (blob,) in connection.execute(query, (account,)))


def leave_behind(connection: sqlite3.Connection, channels: Iterable[bytes] | None = None) -> None:
    """Takes what channels without a claim key have for what nobody can claim any more.

    Args:
        connection: A connection.
        channels: The names of channels that have ended; None for all.
    """
    if channels is None:
        query = "SELECT account, claimant, value FROM residue WHERE claimant >= ? AND claimant < ?"
        rows = connection.execute(query, CHANNELS).fetchall()
    else:
        query = "SELECT account, claimant, value FROM residue WHERE claimant = ?"
        rows = [row for name in channels for row in connection.execute(query, (name,))]
    for account, name, blob in rows:
        left: Key = account, LEFT_BEHIND
        together = residues_of(connection, [left])[left] + _number(blob)
        put_residues(connection, [(left, together)])
        connection.execute(
            "DELETE FROM residue WHERE account = ? AND claimant = ?", (account, name)
        )


# What keysets took in.


def add_values(connection: sqlite3.Connection, values: Iterable[tuple[int, int]]) -> None:
    """Adds what shares with new claims are worth, by the numbers of their keysets."""
    for number, value in values:
        query = "SELECT value FROM keyset_value WHERE keyset = ?"
        [(blob,)] = connection.execute(query, (number,))
        connection.execute(
            "UPDATE keyset_value SET value = ? WHERE keyset = ?",
            (_blob(_number(blob) + value), number),
        )


def residue_before(
    connection: sqlite3.Connection, policy: int, number: int
) -> tuple[int, bytes | None]:
    """Returns what all residues of a policy were together by the keysets below a number.

    That is what claimed shares are worth less what tokens cost, over those keysets. It does not
    change once none of them takes claims. With it comes the id of the last of them that has claims,
    None when there is none.
    """
    query = (
        "SELECT id, work, unit_value, value, residue_out FROM keyset "
        "JOIN keyset_value ON keyset_value.keyset = keyset.number "
        "WHERE policy = ? AND number < ? ORDER BY number DESC"
    )
    together, last = 0, None
    for each, work, unit_value, value, residue_out in connection.execute(query, (policy, number)):
        if last is None and (work or _number(value)):
            last = bytes(each)
        if residue_out is not None:
            return together + _number(residue_out), last
        together += _number(value) - work * _number(unit_value)
    return together, last


def set_residue_out(connection: sqlite3.Connection, number: int, residue: int) -> None:
    """Notes what the residues of a policy are behind a keyset; nothing up to it may change then."""
    connection.execute(
        "UPDATE keyset_value SET residue_out = ? WHERE keyset = ?", (_blob(residue), number)
    )


# Cash-outs.


def _ids(number: int) -> tuple[int, int]:
    """Returns the first and the last number of a cash-out's blinded messages, descending."""
    first = -(CASH_OUT_BASE + (number << CASH_OUT_BITS))
    return first, first - (1 << CASH_OUT_BITS) + 1


def add_cash_out(  # noqa: PLR0913, PLR0917 - the columns
    connection: sqlite3.Connection,
    keyset: int,
    key: Key,
    units: int,
    time_ms: int,
    outputs: Sequence[tuple[bytes, int]],
) -> bool:
    """Stores a cash-out with message and exponent of each token; returns whether all are new."""
    [(number,)] = connection.execute(
        "INSERT INTO cash_out VALUES (NULL, ?, ?, ?, ?, ?) RETURNING number",
        (keyset, *key, units, time_ms),
    )
    first, _ = _ids(number)
    before = connection.total_changes
    connection.executemany(
        "INSERT OR IGNORE INTO blinded VALUES (?, ?, ?, ?)",
        [
            (first - index, message, keyset, exponent)
            for index, (message, exponent) in enumerate(outputs)
        ],
    )
    return connection.total_changes - before == len(outputs)


def cash_out_of(
    connection: sqlite3.Connection, identifier: int
) -> tuple[bytes, list[tuple[bytes, int, int]]] | None:
    """Returns the cash-out that a blinded message is of, given by its number in the store.

    Returns:
        The claimant; message, keyset and exponent of each token, in order. None when the message
        is of something else.
    """
    if identifier > -CASH_OUT_BASE:
        return None
    number = (-identifier - CASH_OUT_BASE) >> CASH_OUT_BITS
    [(claimant,)] = connection.execute("SELECT claimant FROM cash_out WHERE number = ?", (number,))
    first, last = _ids(number)
    query = (
        "SELECT message, keyset, exponent FROM blinded WHERE id BETWEEN ? AND ? ORDER BY id DESC"
    )
    return bytes(claimant), connection.execute(query, (last, first)).fetchall()


def cash_outs_of_keyset(connection: sqlite3.Connection, keyset: int) -> list[tuple[int, bytes]]:
    """Returns exponent and message of all tokens of a keyset that were cashed out, in order."""
    found = []
    query = "SELECT number FROM cash_out WHERE keyset = ? ORDER BY number"
    for (number,) in connection.execute(query, (keyset,)).fetchall():
        first, last = _ids(number)
        found += connection.execute(
            "SELECT exponent, message FROM blinded WHERE id BETWEEN ? AND ? ORDER BY id DESC",
            (last, first),
        ).fetchall()
    return found
