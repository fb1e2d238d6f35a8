"""Defines the tables of what shares are worth: rules of weight, prices and voids.

A file of schema 2 knows no value: its epochs with shares are marked as weighed by work, and what is
added to them later does not change that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.store.registration import create_registrations

if TYPE_CHECKING:
    import sqlite3

__all__ = ["EPOCH_SUM", "add_value", "create_value", "keep_for_ever"]

EPOCH_SUM = """
    CREATE TABLE epoch_sum (
        epoch INTEGER NOT NULL REFERENCES epoch,
        account INTEGER NOT NULL REFERENCES account,
        rail INTEGER NOT NULL,
        count INTEGER NOT NULL,
        work_0 INTEGER NOT NULL CHECK (work_0 BETWEEN 0 AND 0xffffffffff),
        work_40 INTEGER NOT NULL CHECK (work_40 BETWEEN 0 AND 0xffffffffff),
        work_80 INTEGER NOT NULL CHECK (work_80 BETWEEN 0 AND 0xffffffffffff),
        value_0 INTEGER NOT NULL CHECK (value_0 BETWEEN 0 AND 0xffffffffff),
        value_40 INTEGER NOT NULL CHECK (value_40 BETWEEN 0 AND 0xffffffffff),
        value_80 INTEGER NOT NULL CHECK (value_80 BETWEEN 0 AND 0xffffffffffff),
        PRIMARY KEY (epoch, account, rail)
    ) STRICT, WITHOUT ROWID
    """

STATEMENTS = (
    # Which rules the shares of an epoch were weighed by; mode 0 is that of batches without prices.
    """
    CREATE TABLE epoch_weight (
        epoch INTEGER NOT NULL REFERENCES epoch,
        mode INTEGER NOT NULL,
        scale INTEGER NOT NULL,
        base INTEGER NOT NULL,
        PRIMARY KEY (epoch, mode, scale, base)
    ) STRICT, WITHOUT ROWID
    """,
    # How the price of a template came about. Prices need 128 bits: they are kept big-endian.
    """
    CREATE TABLE quote (
        digest BLOB NOT NULL REFERENCES template (digest),
        price BLOB NOT NULL CHECK (length(price) = 16),
        paid_sats INTEGER NOT NULL CHECK (paid_sats >= 0),
        cap_sats INTEGER NOT NULL CHECK (cap_sats >= 0),
        reference_sats INTEGER NOT NULL CHECK (reference_sats >= 0),
        target BLOB NOT NULL CHECK (length(target) = 32),
        script BLOB NOT NULL,
        PRIMARY KEY (digest, price)
    ) STRICT, WITHOUT ROWID
    """,
    # Shares on these templates earn nothing in payments behind the settlement, as far as they count
    # in epochs that were not settled then.
    """
    CREATE TABLE void (
        digest BLOB NOT NULL PRIMARY KEY REFERENCES template (digest),
        settlement INTEGER NOT NULL,
        epoch_min INTEGER NOT NULL,
        reason TEXT NOT NULL,
        time_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE void_sum (
        digest BLOB NOT NULL REFERENCES void,
        account INTEGER NOT NULL REFERENCES account,
        epoch INTEGER NOT NULL,
        rail INTEGER NOT NULL,
        count INTEGER NOT NULL,
        work BLOB NOT NULL CHECK (length(work) = 16),
        value BLOB NOT NULL CHECK (length(value) = 16),
        PRIMARY KEY (digest, account, epoch, rail)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX template_of_height ON template (height)",
)

APPEND_ONLY = ("epoch_weight", "quote", "void", "void_sum")


def keep_for_ever(connection: sqlite3.Connection, table: str) -> None:
    """Makes a table refuse that its rows are changed or removed."""
    for change in ("UPDATE", "DELETE"):
        connection.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def create_value(connection: sqlite3.Connection) -> None:
    """Makes the tables, inside the caller's transaction."""
    for statement in STATEMENTS:
        connection.execute(statement)
    for table in APPEND_ONLY:
        keep_for_ever(connection, table)
    create_registrations(connection)


def add_value(connection: sqlite3.Connection) -> None:
    """Makes a file of schema 2 one of schema 3, inside the caller's transaction."""
    # Made anew instead of altered: a file that has grown up has the tables of a new one.
    connection.execute("ALTER TABLE epoch_sum RENAME TO epoch_sum_of_schema_2")
    connection.execute(EPOCH_SUM)
    connection.execute("INSERT INTO epoch_sum SELECT *, 0, 0, 0 FROM epoch_sum_of_schema_2")
    connection.execute("DROP TABLE epoch_sum_of_schema_2")
    create_value(connection)
    connection.execute("INSERT INTO epoch_weight SELECT DISTINCT epoch, 0, 0, 0 FROM epoch_sum")
