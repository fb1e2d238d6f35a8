"""Keeps the register of owners in the ledger's file: which miner key owns which account.

Registrations become whole in another order than they are numbered in: that of the miners' first
signatures. By this order a federation is told of them, and it has to be the same after a restart.

Functions take a connection inside a transaction of the caller; `SqliteFile.change` and
`SqliteFile.look` make one. Rows are never removed, and only the miner's signature is ever added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = [
    "RegistrationRow",
    "add_registration",
    "confirm_registration",
    "create_order",
    "create_registrations",
    "find_registration",
    "next_registration",
    "place_of_registration",
    "registrations",
    "registrations_behind",
    "tell_registrations",
    "told_registrations",
]

COLUMNS = (
    "registration.number, registration.account, registration.miner_key, account.salt, "
    "account.commitment, registration.epoch, registration.msp_signature, "
    "registration.miner_signature, registration.time_ms"
)
JOINED = "registration JOIN account ON account.id = registration.account"


@dataclass(frozen=True, slots=True)
class RegistrationRow:
    """Is a registration.

    Attributes:
        number: Its number in the register, from 1.
        account: The ledger's number of the account.
        miner_key: The miner's x-only key, 32 bytes.
        salt: The salt of the account's commitment, 16 bytes; not public.
        commitment: What owner tags commit to, 32 bytes.
        epoch: The epoch that was open when the key was registered.
        msp_signature: The MSP's signature, 64 bytes.
        miner_signature: The miner's; empty until it has come.
        time_ms: When the key was registered, milliseconds since 1970.
    """

    number: int
    account: int
    miner_key: bytes
    salt: bytes
    commitment: bytes
    epoch: int
    msp_signature: bytes
    miner_signature: bytes
    time_ms: int


def create_registrations(connection: sqlite3.Connection) -> None:
    """Makes the table, inside the caller's transaction."""
    connection.execute(
        """
        CREATE TABLE registration (
            number INTEGER PRIMARY KEY CHECK (number > 0),
            account INTEGER NOT NULL UNIQUE REFERENCES account,
            miner_key BLOB NOT NULL UNIQUE CHECK (length(miner_key) = 32),
            epoch INTEGER NOT NULL,
            msp_signature BLOB NOT NULL CHECK (length(msp_signature) = 64),
            miner_signature BLOB NOT NULL CHECK (length(miner_signature) IN (0, 64)),
            time_ms INTEGER NOT NULL
        ) STRICT
        """
    )
    connection.execute(
        "CREATE TRIGGER registration_no_delete BEFORE DELETE ON registration "
        "BEGIN SELECT RAISE(ABORT, 'registration is append-only'); END"
    )
    connection.execute(
        "CREATE TRIGGER registration_no_update BEFORE UPDATE ON registration "
        "WHEN length(old.miner_signature) > 0 OR new.number != old.number "
        "OR new.account != old.account OR new.miner_key != old.miner_key "
        "OR new.epoch != old.epoch OR new.msp_signature != old.msp_signature "
        "BEGIN SELECT RAISE(ABORT, 'a registration is never changed'); END"
    )


def create_order(connection: sqlite3.Connection) -> None:
    """Makes the tables of who is told what; a file of schema 4 becomes one of 5."""
    connection.execute(
        """
        CREATE TABLE registration_order (
            place INTEGER PRIMARY KEY CHECK (place > 0),
            number INTEGER NOT NULL UNIQUE REFERENCES registration
        ) STRICT
        """
    )
    for change in ("UPDATE", "DELETE"):
        connection.execute(
            f"CREATE TRIGGER registration_order_no_{change.lower()} "
            f"BEFORE {change} ON registration_order "
            "BEGIN SELECT RAISE(ABORT, 'registration_order is append-only'); END"
        )
    # Of the order in which they became whole nothing is known any more; any will do, once.
    connection.execute(
        "INSERT INTO registration_order (number) SELECT number FROM registration "
        "WHERE length(miner_signature) > 0 ORDER BY number"
    )
    connection.execute(
        """
        CREATE TABLE registration_told (
            committee BLOB NOT NULL PRIMARY KEY CHECK (length(committee) = 32),
            place INTEGER NOT NULL CHECK (place >= 0),
            entries INTEGER NOT NULL CHECK (entries >= 0)
        ) STRICT, WITHOUT ROWID
        """
    )


def next_registration(connection: sqlite3.Connection) -> int:
    """Returns the number that the next registration gets."""
    (last,) = connection.execute("SELECT max(number) FROM registration").fetchone()
    return 1 + (last or 0)


def add_registration(  # noqa: PLR0913, PLR0917 - the columns of a row
    connection: sqlite3.Connection,
    number: int,
    account: int,
    miner_key: bytes,
    epoch: int,
    msp_signature: bytes,
    time_ms: int,
) -> None:
    """Adds a registration that its miner has not signed yet."""
    connection.execute(
        "INSERT INTO registration VALUES (?, ?, ?, ?, ?, x'', ?)",
        (number, account, miner_key, epoch, msp_signature, time_ms),
    )


def confirm_registration(
    connection: sqlite3.Connection, number: int, miner_signature: bytes
) -> None:
    """Adds the miner's signature; one that is there stays."""
    added = connection.execute(
        "UPDATE registration SET miner_signature = ? "
        "WHERE number = ? AND length(miner_signature) = 0",
        (miner_signature, number),
    )
    if added.rowcount:
        connection.execute("INSERT INTO registration_order (number) VALUES (?)", (number,))


def find_registration(connection: sqlite3.Connection, miner_key: bytes) -> RegistrationRow | None:
    """Returns the registration of a miner's key, if there is one."""
    query = f"SELECT {COLUMNS} FROM {JOINED} WHERE miner_key = ?"  # noqa: S608 - constants
    row = connection.execute(query, (miner_key,)).fetchone()
    return None if row is None else RegistrationRow(*row)


def registrations(
    connection: sqlite3.Connection, offset: int, limit: int
) -> tuple[int, Sequence[RegistrationRow]]:
    """Returns how many registrations there are, and some of them, the newest first."""
    (total,) = connection.execute("SELECT count(*) FROM registration").fetchone()
    query = f"SELECT {COLUMNS} FROM {JOINED} ORDER BY number DESC LIMIT ? OFFSET ?"  # noqa: S608
    rows = connection.execute(query, (limit, offset)).fetchall()
    return total, [RegistrationRow(*row) for row in rows]


def registrations_behind(
    connection: sqlite3.Connection, place: int, limit: int
) -> Sequence[RegistrationRow]:
    """Returns whole registrations in the order in which they became so, behind a place of it."""
    query = (
        f"SELECT {COLUMNS} FROM registration_order "  # noqa: S608 - constants
        "JOIN registration USING (number) JOIN account ON account.id = registration.account "
        "WHERE place > ? ORDER BY place LIMIT ?"
    )
    return [RegistrationRow(*row) for row in connection.execute(query, (place, limit))]


def place_of_registration(connection: sqlite3.Connection, number: int) -> int | None:
    """Returns the place of a registration in that order, from 1; None while it is not whole."""
    query = "SELECT place FROM registration_order WHERE number = ?"
    row = connection.execute(query, (number,)).fetchone()
    return None if row is None else int(row[0])


def told_registrations(connection: sqlite3.Connection, committee: bytes) -> tuple[int, int] | None:
    """Returns how far a federation has been told, if it is known.

    Returns:
        The last place that is surely in the own stream, and before which entry.
    """
    query = "SELECT place, entries FROM registration_told WHERE committee = ?"
    row = connection.execute(query, (committee,)).fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def tell_registrations(
    connection: sqlite3.Connection, committee: bytes, place: int, entries: int
) -> None:
    """Keeps how far a federation has been told."""
    connection.execute(
        "INSERT INTO registration_told VALUES (?, ?, ?) "
        "ON CONFLICT (committee) DO UPDATE SET place = excluded.place, entries = excluded.entries",
        (committee, place, entries),
    )
