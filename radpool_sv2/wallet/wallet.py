"""Is the wallet: everything that `radpool wallet` and a miner ask of it."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import trio

from radpool_sv2.wallet.file import make_file
from radpool_sv2.wallet.purse import Purse, unix_ms
from radpool_sv2.wallet.seed import check_words, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from radpool_sv2.wallet.purse import Output, Receipt, Received, Trusted
    from radpool_sv2.wallet.store import Keyset

__all__ = ["Wallet"]

ENTROPY_LEN: Final = 16
"""Twelve words."""


class Wallet:
    """Is one wallet directory. Close it, so that counters nobody saw are not skipped.

    What touches the disk or computes runs in worker threads; nothing here blocks the loop.
    """

    def __init__(self, purse: Purse) -> None:
        self._purse = purse

    @classmethod
    async def create(cls, directory: Path, *, words: str | None = None) -> Self:
        """Makes a new wallet.

        Args:
            directory: Where; made for its owner alone if it does not exist.
            words: The words to begin with; new ones are drawn without.

        Raises:
            ConfigError: There is a wallet already, the directory cannot be used, or the words are
                wrong.
        """
        words = words_of(secrets.token_bytes(ENTROPY_LEN)) if words is None else check_words(words)
        meta: dict[str, str | int] = {"words": words, "created_ms": unix_ms()}
        await trio.to_thread.run_sync(make_file, directory, meta)
        return await cls.open(directory)

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Opens a wallet; other processes may have it open too.

        Raises:
            ConfigError: There is none, or others can read it.
            StoreError: It is damaged or of a newer version.
        """
        return cls(await trio.to_thread.run_sync(Purse, directory))

    @classmethod
    @asynccontextmanager
    async def using(cls, directory: Path) -> AsyncIterator[Self]:
        """Opens a wallet for as long as the context lasts."""
        wallet = await cls.open(directory)
        try:
            yield wallet
        finally:
            await wallet.close()

    async def close(self) -> None:
        """Gives back what nobody saw, and the file."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._purse.close)

    def words(self) -> str:
        """Returns the words that bring the wallet back: whoever has them has the money."""
        return self._purse.words()

    # What a miner asks

    async def trust(self, announcement: bytes, mint: bytes, url: str | None = None) -> Trusted:
        """Checks an announced keyset and keeps it, bound to its mint for ever.

        Args:
            announcement: The payload of EcashKeysetAnnounce.
            mint: The mint's key, 33 bytes, as the connection vouched for it.
            url: Where the mint answers over HTTP, if that is known.

        Raises:
            RemoteProtocolError: The announcement is malformed, not the mint's, its id not the one
                of its keys, or another mint has shown the keyset before.
        """
        return await trio.to_thread.run_sync(self._purse.trust, announcement, mint, url)

    async def reserve(self, keyset_id: bytes, count: int) -> list[Output]:
        """Derives outputs that nobody had before; they are durably used on return.

        Args:
            keyset_id: A keyset that `trust` has accepted, 33 bytes.
            count: How many, 1 to 10,000.

        Raises:
            RemoteProtocolError: The keyset is unknown.
            StoreError: The reservation is not durable; nothing may be sent.
        """
        return await trio.to_thread.run_sync(self._purse.reserve, keyset_id, count)

    async def receive(self, keyset_id: bytes, receipts: Sequence[Receipt]) -> Received:
        """Verifies signatures of shares and keeps them as tokens, durable on return.

        Args:
            keyset_id: The keyset.
            receipts: Counter, amount in units (2^(z - z0)), C_, e, s of each; one may come again.

        Returns:
            How many are tokens now, and the counters of those whose proof is missing or wrong.

        Raises:
            StoreError: Nothing was kept; give the receipts again.
        """
        return await trio.to_thread.run_sync(self._purse.receive, keyset_id, receipts)

    async def missing(self, keyset_id: bytes) -> list[Output]:
        """Returns the outputs that were reserved and never came back as tokens.

        Raises:
            RemoteProtocolError: The keyset is unknown.
        """
        return await trio.to_thread.run_sync(self._purse.missing, keyset_id)

    async def skip(self, keyset_id: bytes, counter: int) -> int:
        """Goes beyond a counter of which the mint says `blinded-message-reused`.

        That happens when the wallet's file is an old copy: later counters may be used as well.

        Returns:
            The first counter that is used from now on.
        """
        return await trio.to_thread.run_sync(self._purse.skip, keyset_id, counter)

    async def take_update(self, update: bytes) -> Keyset:
        """Keeps the payload of an EcashEpochUpdate.

        Raises:
            RemoteProtocolError: It is malformed, of an unknown keyset, or not signed by its mint.
        """
        return await trio.to_thread.run_sync(self._purse.take_update, update)

    async def keyset(self, keyset_id: bytes) -> Keyset:
        """Returns a keyset that the wallet trusts.

        Raises:
            RemoteProtocolError: It does not.
        """
        return await trio.to_thread.run_sync(self._purse.keyset, keyset_id)
