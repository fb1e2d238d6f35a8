"""Defines the tables of a wallet's file.

Amounts are powers of two, so a token is kept by its exponent; sums may pass 2^63, to which SQLite
counts, so they are kept as decimal text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["APPLICATION_ID", "MIGRATIONS", "VERSION", "create"]

APPLICATION_ID = 0x52505357
"""Marks the file as a wallet ("RPSW"), so that another program's database is never written to."""

VERSION = 2

# What value belongs to that no token stands for yet. A row is there before the key leaves the
# machine; used_ms is when a channel last had it.
CLAIM_KEYS = (
    """
    CREATE TABLE claim_key (
        counter INTEGER PRIMARY KEY CHECK (counter >= 0),
        used_ms INTEGER NOT NULL
    ) STRICT
    """,
    # known: a mint has said that it holds, or held, value under the key. over: nothing can come any
    # more, so it is not asked for again.
    """
    CREATE TABLE residue (
        claim_key INTEGER NOT NULL REFERENCES claim_key,
        mint INTEGER NOT NULL REFERENCES mint,
        policy TEXT NOT NULL,
        known INTEGER NOT NULL CHECK (known IN (0, 1)),
        over INTEGER NOT NULL CHECK (over IN (0, 1)),
        units TEXT NOT NULL,
        PRIMARY KEY (claim_key, mint, policy)
    ) STRICT, WITHOUT ROWID
    """,
)

STATEMENTS = (
    """
    CREATE TABLE meta (
        key TEXT NOT NULL PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE mint (
        number INTEGER PRIMARY KEY,
        public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 33),
        url TEXT UNIQUE
    ) STRICT
    """,
    # The id is unique over all mints: one that another mint shows again is refused, because the
    # same counters would give both mints the same secrets, and either could spend the other's.
    """
    CREATE TABLE keyset (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 33),
        mint INTEGER NOT NULL REFERENCES mint,
        unit TEXT NOT NULL,
        announcement BLOB NOT NULL,
        epoch_update BLOB,
        next_counter INTEGER NOT NULL CHECK (next_counter >= 0),
        swept INTEGER NOT NULL CHECK (swept IN (0, 1)),
        seen_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE exchange (
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        input_keyset INTEGER NOT NULL REFERENCES keyset,
        output_keyset INTEGER NOT NULL REFERENCES keyset,
        request BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'refused')),
        fault TEXT NOT NULL,
        transfer INTEGER REFERENCES transfer,
        created_ms INTEGER NOT NULL,
        ended_ms INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE output (
        exchange INTEGER NOT NULL REFERENCES exchange,
        place INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        exponent INTEGER NOT NULL CHECK (exponent BETWEEN 0 AND 63),
        sent INTEGER NOT NULL CHECK (sent IN (0, 1)),
        PRIMARY KEY (exchange, place)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE transfer (
        number INTEGER PRIMARY KEY,
        state TEXT NOT NULL CHECK (state IN ('preparing', 'pending', 'claimed', 'reclaimed')),
        sats TEXT NOT NULL,
        memo TEXT NOT NULL,
        token TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        ended_ms INTEGER
    ) STRICT
    """,
    # state: 0 ours, 1 in an exchange that is under way, 2 handed to somebody else, 3 spent.
    # mined: 1 if it is the signature of a share, which the pool has seen with the share.
    """
    CREATE TABLE token (
        keyset INTEGER NOT NULL REFERENCES keyset,
        counter INTEGER NOT NULL CHECK (counter >= 0),
        exponent INTEGER NOT NULL CHECK (exponent BETWEEN 0 AND 63),
        signature BLOB NOT NULL CHECK (length(signature) = 33),
        mined INTEGER NOT NULL CHECK (mined IN (0, 1)),
        state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
        exchange INTEGER REFERENCES exchange,
        transfer INTEGER REFERENCES transfer,
        PRIMARY KEY (keyset, counter)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX token_of_state ON token (state, keyset, exponent)",
    "CREATE INDEX token_of_exchange ON token (exchange) WHERE exchange IS NOT NULL",
    "CREATE INDEX token_of_transfer ON token (transfer) WHERE transfer IS NOT NULL",
    "CREATE INDEX exchange_of_state ON exchange (state)",
    """
    CREATE TABLE event (
        number INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        keyset INTEGER REFERENCES keyset,
        units TEXT NOT NULL,
        sats TEXT NOT NULL,
        note TEXT NOT NULL
    ) STRICT
    """,
    *CLAIM_KEYS,
)


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables of the newest version, inside the caller's transaction."""
    for statement in STATEMENTS:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def add_claim_keys(connection: sqlite3.Connection) -> None:
    """Makes the tables that version 1 lacks, inside the caller's transaction."""
    for statement in CLAIM_KEYS:
        connection.execute(statement)


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: add_claim_keys}
"""What turns a file of the version that is the key into one of the next version."""
