"""Defines the tables of the SQLite store, and how older files become newer ones.

Sums of work and value need 128 bits, and SQLite counts to 2^63: they are kept in three limbs of 40,
40 and 48 bits, so that SQL alone adds them up exactly, for thousands of rows at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.store.ecash_schema import create_mint
from radpool_sv2.store.registration import create_order
from radpool_sv2.store.residue_schema import create_residues
from radpool_sv2.store.value_schema import EPOCH_SUM, add_value, create_value, keep_for_ever

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["APPLICATION_ID", "LIMB_BITS", "MIGRATIONS", "VERSION", "create"]

APPLICATION_ID = 0x52505332
"""Marks the file as ours ("RPS2"), so that another program's database is never written to."""

VERSION = 5

LIMB_BITS = 40

MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {
    1: create_mint,
    2: add_value,
    3: create_residues,
    4: create_order,
}
"""What turns a file of the version that is the key into one of the next version."""

STATEMENTS = (
    """
    CREATE TABLE meta (
        key TEXT NOT NULL PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE batch (
        sequence INTEGER PRIMARY KEY CHECK (sequence >= 0),
        hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        time_ms INTEGER NOT NULL,
        epoch_min INTEGER NOT NULL,
        count INTEGER NOT NULL CHECK (count > 0),
        blob BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE template (
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        height INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT
    """,
    # A share's key is its ntime, big-endian, and the first 16 bytes of its header hash: its
    # low-order ones, which proof of work leaves random. Whoever makes two shares that agree in
    # them, at a cost of 2^64 hashes, loses the second. Without the time in front, each share would
    # dirty a page of its own somewhere in the tree: six times the cost, and growing.
    """
    CREATE TABLE share (
        key BLOB NOT NULL PRIMARY KEY CHECK (length(key) = 20),
        sequence INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE recent (
        sequence INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        hashes BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        salt BLOB NOT NULL CHECK (length(salt) = 16),
        commitment BLOB NOT NULL UNIQUE CHECK (length(commitment) = 32),
        opened_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE epoch (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        opened_sequence INTEGER NOT NULL,
        opened_ms INTEGER NOT NULL,
        closed_ms INTEGER,
        frozen_sequence INTEGER
    ) STRICT
    """,
    EPOCH_SUM,
    """
    CREATE TABLE block (
        hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        height INTEGER NOT NULL,
        epoch INTEGER NOT NULL UNIQUE REFERENCES epoch,
        value_sats INTEGER NOT NULL CHECK (value_sats >= 0),
        finder INTEGER NOT NULL,
        found_ms INTEGER NOT NULL,
        confirmations INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE settlement (
        id INTEGER PRIMARY KEY,
        block BLOB NOT NULL REFERENCES block (hash),
        reverses INTEGER UNIQUE REFERENCES settlement,
        sequence INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        value_sats INTEGER NOT NULL,
        carry_in INTEGER NOT NULL,
        carry_out INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE settlement_epoch (
        settlement INTEGER NOT NULL REFERENCES settlement,
        epoch INTEGER NOT NULL REFERENCES epoch,
        PRIMARY KEY (settlement, epoch)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE entry (
        settlement INTEGER NOT NULL REFERENCES settlement,
        book TEXT NOT NULL CHECK (book IN ('reward', 'miner', 'carry')),
        account INTEGER NOT NULL,
        rail INTEGER NOT NULL,
        sats INTEGER NOT NULL,
        PRIMARY KEY (settlement, book, account, rail)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX entry_of_account ON entry (book, account, rail, sats)",
    "CREATE INDEX settlement_of_block ON settlement (block)",
    "CREATE INDEX settlement_of_epoch ON settlement_epoch (epoch)",
    # A payment counts until a settlement reverses it.
    """
    CREATE VIEW payment AS
        SELECT * FROM settlement AS payment WHERE reverses IS NULL
        AND NOT EXISTS (SELECT 1 FROM settlement WHERE reverses = payment.id)
    """,
)

APPEND_ONLY = ("batch", "template", "settlement", "settlement_epoch", "entry")
"""Tables whose rows are undone by opposite rows, never changed."""


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables of the newest version, inside the caller's transaction."""
    for statement in STATEMENTS:
        connection.execute(statement)
    for table in APPEND_ONLY:
        keep_for_ever(connection, table)
    create_mint(connection)
    create_value(connection)
    create_residues(connection)
    create_order(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
