"""Defines the tables of residues: value that shares have earned and no token stands for yet.

A file of schema 3 has keysets that count work. They go on doing so; that they have no row here says
it. Shares that waited for a claim then are forgotten: what could submit them again has ended with
the node that the file comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.store.value_schema import keep_for_ever

if TYPE_CHECKING:
    import sqlite3

__all__ = ["create_residues"]

STATEMENTS = (
    # What a unit of a keyset costs, and what the shares with claims of it are worth together.
    # Keysets without a row count work. Values need 128 bits: they are kept big-endian.
    """
    CREATE TABLE keyset_value (
        keyset INTEGER PRIMARY KEY REFERENCES keyset,
        unit_value BLOB NOT NULL CHECK (length(unit_value) = 16),
        value BLOB NOT NULL CHECK (length(value) = 16),
        -- What all residues of its policy are behind it, once no keyset up to it takes claims.
        residue_out BLOB CHECK (length(residue_out) = 16)
    ) STRICT
    """,
    # Whose value waits for tokens, by the account of the policy. A row stays when nothing is left:
    # whoever has lost everything but words finds by it which keys were used.
    """
    CREATE TABLE residue (
        account INTEGER NOT NULL REFERENCES account,
        claimant BLOB NOT NULL CHECK (length(claimant) = 33),
        value BLOB NOT NULL CHECK (length(value) = 16),
        PRIMARY KEY (account, claimant)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX residue_of_claimant ON residue (claimant)",
    """
    CREATE TABLE cash_out (
        number INTEGER PRIMARY KEY,
        keyset INTEGER NOT NULL REFERENCES keyset,
        account INTEGER NOT NULL REFERENCES account,
        claimant BLOB NOT NULL CHECK (length(claimant) = 33),
        units INTEGER NOT NULL CHECK (units > 0),
        time_ms INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX cash_out_of_keyset ON cash_out (keyset)",
    # Settlements that were divided by value; all others were by work.
    """
    CREATE TABLE value_settlement (
        settlement INTEGER NOT NULL REFERENCES settlement,
        policy INTEGER NOT NULL,
        PRIMARY KEY (settlement, policy)
    ) STRICT, WITHOUT ROWID
    """,
    "DROP TABLE unclaimed",
    """
    CREATE TABLE unclaimed (
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        sequence INTEGER NOT NULL,
        place INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        price BLOB NOT NULL CHECK (length(price) = 16)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX unclaimed_time ON unclaimed (time_ms)",
)

APPEND_ONLY = ("cash_out", "value_settlement")


def create_residues(connection: sqlite3.Connection) -> None:
    """Makes the tables, inside the caller's transaction; a file of schema 3 becomes one of 4."""
    for statement in STATEMENTS:
        connection.execute(statement)
    for table in APPEND_ONLY:
        keep_for_ever(connection, table)
