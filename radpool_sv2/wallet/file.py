"""Opens a wallet's file, which holds money, and runs transactions on it.

Theory of operation. The file is for its owner alone (mode 0600 in a directory of mode 0700), since
whoever can read it can spend it: the words stand in it in the clear. It is in WAL mode with
synchronous = FULL, so a transaction is on the disk when COMMIT returns; nothing that depends on one
leaves the machine before. Several processes may use a wallet at once, as when a balance is asked
for while a miner runs: whoever reads sees one unchanging state and never waits, whoever writes
takes SQLite's lock for the moment of a transaction, and each decision about counters, tokens and
exchanges is made inside one.

A new file is made under another name and linked to its own when it is complete, so that a crash
leaves a whole wallet or none, and two processes cannot make one over the other.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from radpool_sv2.durable import SECRET_MODE, sync_directory
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.wallet.schema import APPLICATION_ID, MIGRATIONS, VERSION, create

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FILE_NAME", "WalletFile", "make_file"]

FILE_NAME: Final = "wallet.sqlite"
BUSY_SECONDS: Final = 15.0
"""How long another process may hold the lock before a write here gives up; each holds it for
milliseconds."""
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
DIRECTORY_MODE: Final = 0o700


class WalletFile:
    """Is the file of an existing wallet, with its connection and its transactions."""

    def __init__(self, directory: Path) -> None:
        """Opens the file.

        Raises:
            ConfigError: There is none, or others can read it.
            StoreError: It is damaged, newer, or another program's.
        """
        self.path = directory / FILE_NAME
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        _check_private(directory, self.path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the connection back."""
        with self._lock:
            self._drop()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Runs the block as one durable transaction.

        Raises:
            StoreError: It could not be made durable, so nothing of it happened.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Runs the block, which only reads, on one unchanging state.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path)
                self._connection.execute(begin)
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                # After a failed write the connection may be in any state: a new one is in none.
                self._drop()
                raise _store_error(self.path, error) from error
            except BaseException:
                if self._connection is not None:
                    self._connection.execute("ROLLBACK")
                raise

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _prepare(self) -> None:
        """Makes sure that the file is a wallet of this version, undamaged."""
        with self.read() as connection:
            version = self._version(connection)
            [(verdict, *_), *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise StoreError(
                    f"{self.path}: damaged ({verdict}). Move it away, and `radpool wallet restore` "
                    "it from the words."
                )
        if version < VERSION:
            with self.write() as connection:
                for old in range(self._version(connection), VERSION):
                    MIGRATIONS[old](connection)
                    connection.execute(f"PRAGMA user_version = {old + 1}")

    def _version(self, connection: sqlite3.Connection) -> int:
        [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path}: a database of another program. Give another directory.")
        if version > VERSION:
            raise StoreError(
                f"{self.path}: written by a newer radpool (schema {version}, this one knows "
                f"{VERSION}). Install that version again."
            )
        return int(version)


def make_file(directory: Path, meta: dict[str, str | int]) -> None:
    """Makes a wallet's file durably, all of it or nothing.

    Args:
        directory: Where; it is made for its owner alone if it does not exist.
        meta: What the file is to know from the beginning.

    Raises:
        ConfigError: There is a wallet already, or the directory cannot be used.
    """
    file = directory / FILE_NAME
    draft = directory / f".{FILE_NAME}.{os.getpid()}"
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if file.exists():
            raise ConfigError("there is a wallet already, and it is not overwritten", file=file)
        _check_directory(directory)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE))
        _fill(draft, meta)
        os.link(draft, file)
        sync_directory(directory)
    except FileExistsError as error:
        raise ConfigError("another process makes a wallet here now", file=file) from error
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", file=file) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _fill(draft: Path, meta: dict[str, str | int]) -> None:
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN")
            create(connection)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _store_error(draft, error) from error


def _check_private(directory: Path, file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"there is no wallet ({error.strerror}): `radpool wallet create` makes one", file=file
        ) from error
    _check_directory(directory)
    if mode & OTHERS:
        raise ConfigError(
            f"can be read by others (mode {stat.S_IMODE(mode):04o}), who can then spend what is in "
            "it: `chmod 600` it",
            file=file,
        )


def _check_directory(directory: Path) -> None:
    mode = directory.stat().st_mode
    if mode & OTHERS:
        raise ConfigError(
            f"others can look into it (mode {stat.S_IMODE(mode):04o}): `chmod 700` it, or give "
            "another directory to the wallet",
            file=directory,
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(
            f"{path}: another process has held the wallet for {BUSY_SECONDS:.0f} s ({name}). Try "
            "again when it has ended."
        )
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StoreError(f"{path}: the disk is full or fails ({name}). Nothing was spent.")
    return StoreError(f"{path}: {error} ({name}).")
