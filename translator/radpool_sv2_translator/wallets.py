"""Keeps the wallets of workers: a directory for each, all from the words of the common wallet.

Directories are named `NUMBER-NAME-DIGEST`. The number is that of BIP85, and the digest tells one
worker from another; the name is what is left of the worker's for people to read. So a worker finds
its wallet again by looking, there is no list that could contradict the directories, and no name
that a device sends becomes a path.

The number of wallets is bounded; who comes when they are all taken has none. A directory whose
wallet was not finished, because the machine went down, is used again.

Source: ADR 24.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from radpool_sv2.durable import sync_directory
from radpool_sv2.errors import ConfigError
from radpool_sv2.wallet.child import child_words
from radpool_sv2.wallet.file import FILE_NAME, make_file
from radpool_sv2.wallet.purse import Purse, unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["WORKERS", "WorkerWallet", "WorkerWallets", "remove_unused", "words_in"]

WORKERS: Final = "workers"
"""Where they are within the directory of the common wallet."""

SHOWN_MAX: Final = 32
"""Letters of a name that stand in the name of its directory."""

DIGEST_LEN: Final = 16
"""Bytes of hash: nobody finds two names that share them."""

ENTRY: Final = re.compile(r"(\d{4,10})(?:-([A-Za-z0-9_.-]*)-([0-9a-f]{32}))?")


class WorkerWallet(NamedTuple):
    """Is the wallet of a worker.

    Attributes:
        number: Which child of the common wallet's words it is.
        shown: What is left of the worker's name.
        digest: The hash of the name; empty when it was restored from words, and is nobody's.
        directory: Where it is.
    """

    number: int
    shown: str
    digest: str
    directory: Path


class WorkerWallets:
    """Finds and makes them; each call touches the disk.

    Args:
        directory: The directory of the common wallet.
        words: Gives its words.
        count_max: How many may be made.
    """

    def __init__(self, directory: Path, words: Callable[[], str], count_max: int) -> None:
        self._directory = directory / WORKERS
        self._words = words
        self._count_max = count_max
        self._known: dict[str, WorkerWallet] | None = None
        self._numbers: set[int] = set()
        self._lock = threading.Lock()

    def all(self) -> list[WorkerWallet]:
        """Returns all that are there, by number."""
        return sorted(self._entries())

    def find(self, user: str) -> WorkerWallet | None:
        """Returns the wallet of a user name, made if it has none; None when all are taken.

        Raises:
            ConfigError: The directory cannot be used.
        """
        digest = digest_of(user)
        with self._lock:
            if self._known is None:
                self._look()
            found = self._known.get(digest) if self._known else None
            if found is None and len(self._numbers) >= self._count_max:
                return None
            if found is None or not (found.directory / FILE_NAME).exists():
                with self._held():
                    found = self._make(user, digest)
            return found

    def place(self, number: int) -> WorkerWallet:
        """Returns where the wallet of a number is, or would be restored to."""
        found = (each for each in self._entries() if each.number == number)
        unnamed = WorkerWallet(number, "", "", self._directory / f"{number:04}")
        return next(found, unnamed)

    def _look(self) -> dict[str, WorkerWallet]:
        there = self.all()
        self._numbers = {each.number for each in there}
        self._known = {each.digest: each for each in there if each.digest}
        return self._known

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keeps other processes from giving a number away meanwhile."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._directory.parent)
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make(self, user: str, digest: str) -> WorkerWallet:
        found = self._look().get(digest)
        if found is None:
            number = max(self._numbers, default=0) + 1
            name = "-".join((f"{number:04}", shown(user), digest))
            found = WorkerWallet(number, shown(user), digest, self._directory / name)
        if (found.directory / FILE_NAME).exists():
            return found
        try:
            # A number that is forgotten would be given to another worker, with the same words.
            found.directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise self._unusable(error) from error
        words = child_words(self._words(), found.number)
        make_file(found.directory, {"words": words, "created_ms": unix_ms()})
        self._look()
        return found

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the directory of workers' wallets cannot be used: {error.strerror}",
            file=self._directory,
        )

    def _entries(self) -> Iterator[WorkerWallet]:
        try:
            entries = list(self._directory.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        for entry in entries:
            match = ENTRY.fullmatch(entry.name)
            if match is not None and entry.is_dir():
                yield WorkerWallet(int(match[1]), match[2] or "", match[3] or "", entry)


def words_in(directory: Path) -> str:
    """Returns the words of the wallet of a directory."""
    purse = Purse(directory)
    try:
        return purse.words()
    finally:
        purse.close()


def remove_unused(directory: Path) -> None:
    """Removes a wallet that was made only to look whether the mint knows it, and does not.

    Nothing is lost: all that it could ever have follows from words.
    """
    for file in directory.glob(f"{FILE_NAME}*"):
        file.unlink()
    directory.rmdir()


def digest_of(user: str) -> str:
    """Returns what tells a user name from every other."""
    return sha256(user.encode()).digest()[:DIGEST_LEN].hex()


def shown(user: str) -> str:
    """Returns what is left of a user name in the name of a directory."""
    return re.sub(r"[^A-Za-z0-9_]+", ".", user)[:SHOWN_MAX].strip(".")
