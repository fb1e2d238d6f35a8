"""Opens a SQLite file as a ledger's and runs transactions on it.

Theory of operation. One connection writes, another reads; a lock guards each, since calls come from
changing worker threads. The file is in WAL mode with synchronous = FULL, so a transaction is on the
disk when COMMIT returns, and readers never wait for the writer. After any error of SQLite the
connection is given up and the next call opens a new one: a full disk needs nobody to restart the
node once there is space.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from radpool_sv2.errors import StoreError
from radpool_sv2.store.fault import store_error
from radpool_sv2.store.schema import APPLICATION_ID, MIGRATIONS, VERSION, create

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SqliteFile"]

BUSY_SECONDS = 5.0
"""How long another process, such as a backup, may write before a write here gives up."""

PAGE_BYTES = 8192
"""Half as many pages to check and to log as with SQLite's 4096. Only new files take it."""

CHECKPOINT_PAGES = 4_000
"""32 MiB of log between two moves into the file: most pages are written again meanwhile."""

CACHE_KIB = 16_384
"""Holds the part of the share index that a minute of load writes to."""


class SqliteFile:
    """Is the file, with its connections and its transactions."""

    def __init__(self, file: Path, *, owner: bytes, time_ms: int, check: bool = True) -> None:
        """Opens the file, or makes it; see `SqliteStore`."""
        self._file = file
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{file.parent}: cannot be made: {error.strerror}.") from error
        try:
            self._prepare(owner, time_ms)
            if check:
                self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives both connections back."""
        with self._write_lock, self._read_lock:
            _close(self._writer)
            self._writer = None
            _close(self._reader)
            self._reader = None

    def change(self) -> AbstractContextManager[sqlite3.Connection]:
        """Runs the block as one durable transaction, for tables that others keep in this file."""
        return self._write()

    def look(self) -> AbstractContextManager[sqlite3.Connection]:
        """Runs the block, which only reads, on one unchanging state of the file."""
        return self._read()

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        """Runs the block as one durable transaction."""
        return self._on_writer("BEGIN IMMEDIATE")

    def _consult(self) -> AbstractContextManager[sqlite3.Connection]:
        """Runs the block, which only reads, without waiting for whoever reads pages of rows."""
        return self._on_writer("BEGIN")

    @contextmanager
    def _on_writer(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            try:
                if self._writer is None:
                    self._writer = self._connect()
                self._writer.execute(begin)
                yield self._writer
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                # The connection may be in any state after a failed write: a new one is in none.
                _close(self._writer)
                self._writer = None
                raise store_error(self._file, error) from error
            except BaseException:
                if self._writer is not None:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Runs the block on one unchanging state of the file."""
        with self._read_lock:
            try:
                if self._reader is None:
                    self._reader = self._connect()
                    self._reader.execute("PRAGMA query_only = ON")
                self._reader.execute("BEGIN")
                yield self._reader
                self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                _close(self._reader)
                self._reader = None
                raise store_error(self._file, error) from error
            except BaseException:
                if self._reader is not None:
                    self._reader.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, owner: bytes, time_ms: int) -> None:
        """Makes the tables of a new file, brings those of an old one up to date."""
        with self._consult() as connection:
            if self._version(connection) != VERSION:
                # Only now take the lock: a running node must not notice that someone exports.
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                version = self._version(connection)
                if version == 0:
                    create(connection)
                    connection.execute("INSERT INTO meta VALUES ('owner', ?)", (owner,))
                    connection.execute("INSERT INTO meta VALUES ('prefix', 0)")
                    connection.execute("INSERT INTO epoch VALUES (1, 0, ?, NULL, NULL)", (time_ms,))
                for old in range(version or VERSION, VERSION):
                    MIGRATIONS[old](connection)
                    connection.execute(f"PRAGMA user_version = {old + 1}")
            [(found,)] = connection.execute("SELECT value FROM meta WHERE key = 'owner'")
            if found != owner:
                raise StoreError(
                    f"{self._file}: belongs to the MSP key {found.hex()}, not to {owner.hex()}. "
                    "Give the key it was made with, or another file."
                )

    def _version(self, connection: sqlite3.Connection) -> int:
        """Returns the schema's version, 0 for a new file."""
        [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        [(tables,)] = connection.execute("SELECT COUNT(*) FROM sqlite_schema")
        if application == 0 and tables == 0:
            return 0
        if application != APPLICATION_ID:
            raise StoreError(f"{self._file}: a database of another program. Give another file.")
        if version > VERSION:
            raise StoreError(
                f"{self._file}: written by a newer radpool (schema {version}, this one knows "
                f"{VERSION}). Install that version again."
            )
        return int(version)

    def _check(self) -> None:
        """Looks for damage: pages, rows and constraints, and that each settlement balances."""
        with self._read() as connection:
            [(verdict, *_), *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise StoreError(f"{self._file}: damaged ({verdict}). Restore it from a backup.")
            unbalanced = connection.execute(
                "SELECT settlement FROM entry GROUP BY settlement HAVING SUM(sats) <> 0"
            ).fetchall()
            if unbalanced:
                raise StoreError(
                    f"{self._file}: damaged: settlement {unbalanced[0][0]} does not sum to zero. "
                    "Restore it from a backup."
                )
            unbalanced = connection.execute(
                "SELECT event FROM mint_entry GROUP BY event HAVING SUM(msat) <> 0"
            ).fetchall()
            if unbalanced:
                raise StoreError(
                    f"{self._file}: damaged: event {unbalanced[0][0]} of the mint does not sum to "
                    "zero. Restore it from a backup."
                )


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        # What cannot be written cannot be flushed on closing either; the log has all that counts.
        with suppress(sqlite3.Error):
            connection.close()
