"""Writes files that a crash leaves whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["READABLE_MODE", "SECRET_MODE", "sync_directory", "write_whole"]

READABLE_MODE: Final = 0o644
SECRET_MODE: Final = 0o600


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable: of files that were created, renamed or removed."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(file: Path, data: bytes, *, draft: Path, mode: int = READABLE_MODE) -> None:
    """Writes a file durably, all of it or nothing, in place of one that may be there.

    Args:
        file: Its directory exists.
        data: All that is in it.
        draft: A name in the same directory that nobody else writes to; a file that an earlier run
            has left there is given up.
        mode: The access rights of the file.

    Raises:
        OSError: It could not be written; `file` is as it was, and there is no draft.
    """
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(file.parent)
