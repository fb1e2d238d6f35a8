"""Says in plain words what a storage error means and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["store_error"]

ADVICE = (
    ("SQLITE_FULL", "the disk is full. Free some space; it goes on by itself"),
    (
        "SQLITE_IOERR",
        (
            "the disk could not read or write. If it is full, free some space; if `dmesg` shows "
            "disk errors, move the file to another disk. It is tried again"
        ),
    ),
    ("SQLITE_READONLY", "it may not be written. Give this user the right to write it"),
    ("SQLITE_PERM", "it may not be opened. Give this user the right to read and write it"),
    ("SQLITE_CANTOPEN", "it cannot be opened. The directory must exist and be writable"),
    ("SQLITE_BUSY", "another program holds it. Two nodes must not share one ledger"),
    ("SQLITE_LOCKED", "another program holds it. Two nodes must not share one ledger"),
    ("SQLITE_CORRUPT", "it is damaged. Restore it from a backup"),
    ("SQLITE_NOTADB", "it is no database. Move it away, or give another file"),
)


def store_error(file: Path, error: sqlite3.Error) -> StoreError:
    """Makes the error to raise for one of SQLite's.

    Args:
        file: The database.
        error: What SQLite said.
    """
    # Absent from errors that the sqlite3 module raises itself.
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    for start, advice in ADVICE:
        if name.startswith(start):
            return StoreError(f"{file}: {advice} ({name}).")
    return StoreError(f"{file}: {error} ({name}).")
