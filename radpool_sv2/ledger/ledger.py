"""Offers the books to trio: every change runs in a worker thread, one at a time.

A change that has started is finished, and its result is returned, even if the caller is cancelled
meanwhile: trio asks about cancellation only before the thread starts. So a commit is never left in
doubt, and two changes never overlap.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from radpool_sv2.ledger.batch import last_sequence, read_batches, read_bodies
from radpool_sv2.ledger.books import BatchKey, Books, Reconciled, Sealable, Weigher
from radpool_sv2.ledger.export import Export, Reach, export_epoch
from radpool_sv2.ledger.page import epoch_page
from radpool_sv2.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from radpool_sv2.ledger.account import Account
    from radpool_sv2.ledger.batch import DurableBatch
    from radpool_sv2.store import BlockRow, Enclosure, EpochRow, Store, SumRow, VoidRow

__all__ = ["Ledger"]

T = TypeVar("T")


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Ledger:
    """Is the pool's ledger; `Ledger.open` makes one.

    Attributes:
        store: The file, for what others keep in it beside the ledger's own tables.
        committed: Are called on trio's thread when a batch has become durable; must not wait.
    """

    def __init__(self, books: Books, store: SqliteStore) -> None:
        self._books = books
        self.store = store
        self.committed: set[Callable[[], None]] = set()
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(1)

    @classmethod
    async def open(  # noqa: PLR0913 - all but two have a default
        cls,
        file: Path,
        key: BatchKey,
        *,
        maturity_blocks: int,
        recent_shares_max: int = 2_000_000,
        check: bool = True,
        unix_ms: Callable[[], int] = _unix_ms,
    ) -> Ledger:
        """Opens the ledger in a file, or makes it.

        Args:
            file: The database.
            key: The MSP's key; a ledger belongs to one key for ever.
            maturity_blocks: Confirmations after which a block is paid out.
            recent_shares_max: For how many shares `recent_hashes` can answer.
            check: Whether to look for damage first, which reads the whole file.
            unix_ms: Gives the milliseconds since 1970.

        Raises:
            StoreError: The file cannot be used; the message says why and what to do.
        """

        def make() -> Ledger:
            store = SqliteStore(
                file,
                owner=key.public,
                time_ms=unix_ms(),
                recent_shares_max=recent_shares_max,
                check=check,
            )
            books = Books(store, key, maturity_blocks=maturity_blocks, unix_ms=unix_ms)
            return cls(books, store)

        return await trio.to_thread.run_sync(make)

    async def close(self) -> None:
        """Closes the file, after whatever is being written."""
        await self._write(self._store.close)

    @property
    def current_epoch(self) -> int:
        """The epoch that templates are to be tagged with."""
        return self._books.current_epoch

    @property
    def blocks_found(self) -> int:
        """How many blocks the pool has found since it keeps books."""
        return self._books.blocks_found

    def weigh_by(self, weigher: Weigher) -> None:
        """Takes who prices templates; call it before the first commit."""
        self._books.weigh_by(weigher)

    @property
    def script(self) -> bytes:
        """The pool's script that templates pay to now; empty until somebody weighs."""
        return self._books.script

    # What the pool changes.

    async def find_account(self, name: str) -> Account | None:
        """Returns the account of a name, or None when there is none.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._read(self._books.find_account, name)

    async def account(self, name: str) -> Account:
        """Returns the account of a name, opening it if it is new.

        Raises:
            StoreError: It could not be made durable.
        """
        return await self._write(self._books.account, name)

    async def commit(
        self, batch: Sealable, enclosures: Sequence[Enclosure] = ()
    ) -> list[tuple[int, str]]:
        """Makes a batch of shares durable, and its enclosures with it.

        After `StoreError` commit the same objects again: what is durable already is recognised, and
        its enclosures are not called again. If all shares are refused, no enclosure is called.

        Returns:
            The shares that were refused, as `(index, error code)`, ascending. All others are
            durable.

        Raises:
            StoreError: Nothing may be acknowledged yet.
        """
        refused = await self._write(self._books.commit, batch, enclosures)
        for listener in tuple(self.committed):
            listener()
        return refused

    async def reserve_prefixes(self, count: int) -> tuple[int, int]:
        """Reserves extranonce prefixes that were never used and never will be by anyone else.

        Returns:
            The first, and the one behind the last.

        Raises:
            StoreError: They could not be reserved, or all are used up.
        """
        start = await self._write(self._store.lease_prefixes, count)
        return start, start + count

    # Block hashes are called `hash` wherever the pool speaks of them.
    async def record_block(self, *, hash: bytes, height: int, value_sats: int, finder: int) -> int:  # noqa: A002
        """Records a block that the pool found, which closes the open epoch.

        All shares that precede the block must have been committed. A block that is recorded already
        changes nothing.

        Args:
            hash: The block's hash, internal byte order.
            height: Its height.
            value_sats: The sum of the values of its coinbase's outputs.
            finder: The account whose share it is.

        Returns:
            The epoch that is open now.

        Raises:
            StoreError: It is not durable.
        """
        return await self._write(self._books.record_block, hash, height, value_sats, finder)

    async def reconcile(self, active: Mapping[bytes, int | None]) -> Reconciled:
        """Brings settlements in line with the chain: pays confirmed blocks, undoes orphaned ones.

        Args:
            active: For each block that was looked up, its confirmations on the active chain, or
                None if it is not there.

        Raises:
            StoreError: Some of it is not durable. Repeating the call does the rest.
        """
        return await self._write(self._books.reconcile, active)

    async def void(self, digest: bytes, reason: str) -> VoidRow:
        """Makes the shares on a template earn nothing in all payments to come.

        Args:
            digest: The digest of the template body; `templates_at` finds it.
            reason: Why, in words for whoever reads an export.

        Returns:
            The void with what the shares had earned, which is the first one if there are two.

        Raises:
            LocalProtocolError: No share on such a template is in the ledger.
            StoreError: It is not durable.
        """
        return await self._write(self._books.void, digest, reason)

    # What is read.

    async def templates_at(self, height: int) -> Sequence[tuple[bytes, bytes]]:
        """Returns digest and body of the templates of a height that shares were found on."""
        return await self._read(self._store.templates_at, height)

    async def scripts(self) -> Sequence[bytes]:
        """Returns the scripts that templates have paid as the pool's, each once."""
        return await self._read(self._store.scripts)

    async def voids(self) -> Sequence[VoidRow]:
        """Returns all voids, the oldest first."""
        return await self._read(self._store.voids)

    async def last_sequence(self) -> int:
        """Returns the number of the last durable batch; -1 before the first."""
        return await self._read(last_sequence, self._store)

    async def batches(self, first: int, limit: int) -> Sequence[DurableBatch]:
        """Returns up to `limit` durable batches from a number on, in order."""
        return await self._read(read_batches, self._store, first, limit)

    async def bodies(self, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Returns template bodies by their digest.

        Raises:
            StoreError: One is not there, or the store cannot be read.
        """
        return await self._read(read_bodies, self._store, digests)

    async def recent_hashes(self, limit: int) -> bytes:
        """Returns the header hashes of up to `limit` recent shares, 32 bytes each."""
        return await self._read(self._store.recent_hashes, limit)

    async def has_block(self, block_hash: bytes) -> bool:
        """Says whether a block is recorded."""
        return await self._read(self._store.block, block_hash) is not None

    async def unsettled_blocks(self) -> list[bytes]:
        """Returns the blocks that the chain may still change, paid or not, the newest first."""
        return await self._read(self._books.watched_blocks)

    async def epochs(self, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
        """Returns how many epochs there are, and some of them, the newest first, JSON-ready."""
        return await self._read(_epochs, self._store, offset, limit)

    async def epoch(self, number: int) -> Mapping[str, Any] | None:
        """Returns who worked in an epoch and what it paid, JSON-ready; None if there is none."""
        return await self._read(epoch_page, self._store, number)

    async def blocks(self, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
        """Returns how many blocks there are, and some of them, the newest first, JSON-ready."""
        return await self._read(_blocks, self._store, offset, limit)

    async def accounts(self, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
        """Returns how many accounts there are, and some of them, the newest first, JSON-ready."""
        return await self._read(_accounts, self._store, offset, limit)

    async def balances(self) -> Mapping[tuple[int, int], int]:
        """Returns what is owed, sats, by `(account, rail)`."""
        return await self._read(self._store.balances)

    async def carry(self) -> int:
        """Returns what is carried to the next settlement, sats."""
        return await self._read(self._store.carry)

    async def sums(self, epochs: Sequence[int]) -> Sequence[SumRow]:
        """Returns who has earned what in some epochs."""
        return await self._read(self._store.sums, epochs)

    async def export(self, directory: Path, epoch: int, reach: Reach | None = None) -> Export:
        """Writes an epoch's batches, template bodies and claims for anyone to verify.

        Args:
            directory: An empty directory, or one that does not exist yet.
            epoch: The epoch's number.
            reach: Says which batches are to be in it besides those of the epochs, if any.

        Raises:
            LocalProtocolError: There is no such epoch, or the directory has something in it.
            StoreError: It cannot be read or written.
        """
        key = self._books.key
        return await self._read(export_epoch, self._store, key, directory, epoch, reach)

    @property
    def _store(self) -> Store:
        return self._books.store

    async def _write(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args, limiter=self._writing)

    async def _read(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args, limiter=self._reading)


def _epochs(store: Store, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
    total, epochs = store.epochs(offset, limit)
    sums = store.sums([epoch.number for epoch in epochs])
    rows: list[Mapping[str, Any]] = []
    for epoch in epochs:
        own = [row for row in sums if row.epoch == epoch.number]
        rows.append(
            {
                "epoch": epoch.number,
                "state": _epoch_state(store, epoch),
                "opened_unix_ms": epoch.opened_ms,
                "closed_unix_ms": epoch.closed_ms,
                "shares": sum(row.count for row in own),
                # Work exceeds what JSON readers take for a number.
                "work": str(sum(row.work for row in own)),
                "value": str(sum(row.value for row in own)),
            }
        )
    return total, rows


def _epoch_state(store: Store, epoch: EpochRow) -> str:
    if epoch.closed_ms is None:
        return "open"
    return "closed" if epoch.number in store.unpaid_epochs(epoch.number) else "paid"


def _blocks(store: Store, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
    total, blocks = store.blocks(offset, limit)
    _, accounts = store.accounts(0, -1)
    names = {account.id: account.name for account in accounts}
    return total, [
        {
            "hash": block.hash[::-1].hex(),
            "height": block.height,
            "epoch": block.epoch,
            "value_sats": block.value_sats,
            "finder": names.get(block.finder, ""),
            "found_unix_ms": block.found_ms,
            "confirmations": block.confirmations,
            "state": _block_state(block),
        }
        for block in blocks
    ]


def _block_state(block: BlockRow) -> str:
    if block.confirmations is None:
        return "orphaned"
    return "maturing" if block.settlement is None else "paid"


def _accounts(store: Store, offset: int, limit: int) -> tuple[int, list[Mapping[str, Any]]]:
    total, accounts = store.accounts(offset, limit)
    balances = store.balances()
    return total, [
        {
            "account": account.name,
            "commitment": account.commitment.hex(),
            "balance_sats": sum(
                sats for (owner, _), sats in balances.items() if owner == account.id
            ),
        }
        for account in accounts
    ]
