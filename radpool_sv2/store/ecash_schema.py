"""Defines the tables of the mint.

Claims and outputs share one table, because their blinded messages must be unique together. A row's
number tells what it is: `sequence * 2^16 + place` for the claim of a share, the negative of
`redemption * 2^10 + index` for an output, that of `2^62 + cash_out * 2^6 + index` for a token out
of a residue. So a share has one claim, claims are appended in order, and a claim costs some 90
bytes. Its index holds 16 bytes of each message, as that of shares does: whoever makes two messages
that agree in them, at a cost of 2^64 point additions, loses the second.

`mint_entry` is double entry: the entries of an event sum to zero. What has been entered is undone
by opposite entries, never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["CASH_OUT_BASE", "CASH_OUT_BITS", "INDEX_BITS", "NO_TOKEN", "PLACE_BITS", "create_mint"]

PLACE_BITS = 16
"""A batch has at most 65,535 shares."""

INDEX_BITS = 10
"""A redemption has at most 1,000 outputs and inputs."""

CASH_OUT_BASE = 1 << 62
CASH_OUT_BITS = 6
"""A cash-out has at most 64 outputs: one for each amount of a keyset."""

NO_TOKEN = 255
"""The exponent of a claim whose share brought no token: its value joined a residue."""

STATEMENTS = (
    """
    CREATE TABLE keyset (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 33),
        unit TEXT NOT NULL CHECK (unit IN ('work', 'sat')),
        policy INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        height INTEGER NOT NULL,
        z0 INTEGER NOT NULL,
        opened_ms INTEGER NOT NULL,
        closed_ms INTEGER,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER,
        state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
        frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)),
        price_num INTEGER NOT NULL CHECK (price_num >= 0),
        price_den INTEGER NOT NULL CHECK (price_den >= 0),
        fee_ppm INTEGER NOT NULL,
        fee_fixed_msat INTEGER NOT NULL,
        work INTEGER NOT NULL DEFAULT 0 CHECK (work >= 0),
        theta_msat INTEGER NOT NULL DEFAULT 0,
        paid_msat INTEGER NOT NULL DEFAULT 0 CHECK (paid_msat >= 0),
        redeemed INTEGER NOT NULL DEFAULT 0 CHECK (redeemed BETWEEN 0 AND work),
        block BLOB,
        redeem_after INTEGER NOT NULL DEFAULT 0,
        final_ms INTEGER,
        expires_ms INTEGER,
        expires_height INTEGER
    ) STRICT
    """,
    "CREATE INDEX keyset_of_state ON keyset (state, policy, epoch)",
    "CREATE INDEX keyset_of_policy ON keyset (policy, number)",
    "CREATE INDEX keyset_of_block ON keyset (block, policy) WHERE block IS NOT NULL",
    "CREATE INDEX keyset_expiry ON keyset (expires_ms) WHERE state = 3",
    "CREATE INDEX keyset_lapse ON keyset (expires_height) WHERE state = 4",
    """
    CREATE TABLE announcement (
        keyset INTEGER PRIMARY KEY REFERENCES keyset,
        payload BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE keyset_sum (
        keyset INTEGER NOT NULL REFERENCES keyset,
        exponent INTEGER NOT NULL CHECK (exponent BETWEEN 0 AND 63),
        count INTEGER NOT NULL CHECK (count > 0),
        PRIMARY KEY (keyset, exponent)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE blinded (
        id INTEGER PRIMARY KEY,
        message BLOB NOT NULL CHECK (length(message) = 33),
        keyset INTEGER NOT NULL REFERENCES keyset,
        exponent INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX blinded_message ON blinded (substr(message, 2, 16))",
    """
    CREATE TABLE unclaimed (
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        sequence INTEGER NOT NULL,
        place INTEGER NOT NULL,
        time_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX unclaimed_time ON unclaimed (time_ms)",
    """
    CREATE TABLE redemption (
        number INTEGER PRIMARY KEY,
        request BLOB NOT NULL UNIQUE CHECK (length(request) = 32),
        keyset INTEGER NOT NULL REFERENCES keyset,
        amount INTEGER NOT NULL CHECK (amount > 0),
        issued_sats INTEGER NOT NULL CHECK (issued_sats >= 0),
        price_num INTEGER NOT NULL,
        price_den INTEGER NOT NULL,
        time_ms INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX redemption_of_keyset ON redemption (keyset)",
    """
    CREATE TABLE spent (
        id INTEGER PRIMARY KEY,
        y BLOB NOT NULL UNIQUE CHECK (length(y) = 33)
    ) STRICT
    """,
    """
    CREATE TABLE mint_event (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('payment', 'reversal', 'redemption', 'loss', 'expiry')),
        policy INTEGER NOT NULL,
        cause INTEGER NOT NULL,
        time_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE mint_entry (
        event INTEGER NOT NULL REFERENCES mint_event,
        policy INTEGER NOT NULL,
        book TEXT NOT NULL
            CHECK (book IN ('reward', 'keyset', 'issued', 'carry', 'fee', 'operator')),
        keyset INTEGER NOT NULL,
        msat INTEGER NOT NULL,
        PRIMARY KEY (event, book, keyset)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX mint_entry_of_book ON mint_entry (policy, book, keyset, msat)",
    """
    CREATE TABLE mint_settlement (
        settlement INTEGER NOT NULL REFERENCES settlement,
        policy INTEGER NOT NULL,
        theta_sats INTEGER NOT NULL,
        fee_msat INTEGER NOT NULL,
        carry_in_msat INTEGER NOT NULL,
        carry_out_msat INTEGER NOT NULL,
        work BLOB NOT NULL CHECK (length(work) = 16),
        PRIMARY KEY (settlement, policy)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX mint_settlement_of_policy ON mint_settlement (policy, theta_sats, settlement)",
    """
    CREATE TABLE allocation (
        settlement INTEGER NOT NULL REFERENCES settlement,
        keyset INTEGER NOT NULL REFERENCES keyset,
        work INTEGER NOT NULL,
        msat INTEGER NOT NULL,
        PRIMARY KEY (settlement, keyset)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX allocation_of_keyset ON allocation (keyset)",
    """
    CREATE TABLE mint_block (
        hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
        difficulty BLOB NOT NULL CHECK (length(difficulty) = 32)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE statement (
        keyset INTEGER PRIMARY KEY REFERENCES keyset,
        state INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        document BLOB NOT NULL
    ) STRICT
    """,
)

APPEND_ONLY = ("blinded", "redemption", "mint_event", "mint_entry", "mint_settlement", "allocation")
"""Tables whose rows are undone by opposite rows, never changed."""


def create_mint(connection: sqlite3.Connection) -> None:
    """Makes the tables of the mint, inside the caller's transaction."""
    for statement in STATEMENTS:
        connection.execute(statement)
    for table in APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    connection.execute(
        "CREATE TRIGGER spent_no_update BEFORE UPDATE ON spent "
        "BEGIN SELECT RAISE(ABORT, 'spent is never changed'); END"
    )
    connection.execute("INSERT INTO meta VALUES ('mint_settlement', 0)")
    connection.execute("INSERT INTO meta VALUES ('keyset', 0)")
