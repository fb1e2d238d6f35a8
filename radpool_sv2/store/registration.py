"""Keeps the register of owners in the ledger's file: which miner key owns which account.

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
    "create_registrations",
    "find_registration",
    "next_registration",
    "registrations",
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
    connection.execute(
        "UPDATE registration SET miner_signature = ? "
        "WHERE number = ? AND length(miner_signature) = 0",
        (miner_signature, number),
    )


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
