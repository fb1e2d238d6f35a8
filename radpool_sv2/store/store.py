"""Defines what the ledger asks of a store.

Methods block: they run in worker threads. Each one that changes something is one transaction: it is
durable when the method returns, and has left nothing behind when it raises `StoreError`. After an
error the store mends itself as far as it can; the caller tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from radpool_sv2.store.row import (
        AccountRow,
        BatchRow,
        BlockRow,
        EpochRow,
        QuoteRow,
        SettlementRow,
        SumRow,
        VoidRow,
        WeightRow,
    )

__all__ = ["Enclosure", "Store"]


class Enclosure(Protocol):
    """Is something that becomes durable together with a batch of shares, or not at all."""

    def store(self, connection: sqlite3.Connection, sequence: int, excluded: Sequence[int]) -> None:
        """Writes inside the transaction that appends the batch.

        It runs in a worker thread and neither begins, commits nor rolls back. An error of SQLite
        takes the batch back, which is tried again then; so does whatever else it raises, which
        nobody catches. It may be called several times for a batch and starts anew each time. What
        it did last is what counts once the batch is durable, even where COMMIT reported an error.

        Args:
            connection: In the transaction; the shares are in it already.
            sequence: The number of the batch.
            excluded: Indices of shares that are left out of the batch, because the ledger has them
                already; ascending.
        """


class Store(Protocol):
    """Is durable storage for one MSP's books. Every method may raise `StoreError`."""

    def close(self) -> None:
        """Gives everything back. Never raises."""

    def head(self) -> tuple[int, bytes] | None:
        """Returns sequence and hash of the last batch; None before the first."""

    def append_batch(
        self,
        batch: BatchRow,
        enclosures: Sequence[Enclosure] = (),
        excluded: Sequence[int] = (),
    ) -> list[int]:
        """Makes a batch durable, unless some of its shares are in the store already.

        Args:
            batch: The batch.
            enclosures: What is to be written in the same transaction.
            excluded: What to tell them about shares that were left out of the batch.

        Returns:
            The indices of shares whose header hash was stored before or stands earlier in the
            batch, ascending. If there are any, nothing was stored.
        """

    def batches(self, first: int, last: int) -> Sequence[tuple[int, bytes, bytes]]:
        """Returns `(sequence, hash, blob)` of the batches from `first` to `last`, inclusive."""

    def body(self, digest: bytes) -> bytes | None:
        """Returns a template body by its digest."""

    def recent_hashes(self, limit: int) -> bytes:
        """Returns header hashes of up to `limit` recent shares, 32 bytes each, the newest last."""

    def find_account(self, name: str) -> AccountRow | None:
        """Returns the account of a name, or None when there is none."""

    def add_account(self, name: str, salt: bytes, commitment: bytes, time_ms: int) -> AccountRow:
        """Returns the account of a name, which is made with the given values if it is new."""

    def accounts(self, offset: int, limit: int) -> tuple[int, Sequence[AccountRow]]:
        """Returns how many accounts there are, and some of them, the newest first."""

    def lease_prefixes(self, count: int) -> int:
        """Returns the first of `count` numbers that were never given out and never will be."""

    def current_epoch(self) -> EpochRow:
        """Returns the open epoch."""

    def epochs(self, offset: int, limit: int) -> tuple[int, Sequence[EpochRow]]:
        """Returns how many epochs there are, and some of them, the newest first."""

    def sums(self, epochs: Collection[int]) -> Sequence[SumRow]:
        """Returns the sums of some epochs, ordered by epoch, account, rail."""

    def earned_in_epochs(
        self, epochs: Collection[int]
    ) -> Mapping[tuple[int, int], tuple[int, int]]:
        """Returns work and value of some epochs together, by `(account, rail)`."""

    def weights_of_epochs(self, epochs: Collection[int]) -> Sequence[tuple[int, WeightRow]]:
        """Returns each epoch with each rule that shares of it were weighed by, ascending."""

    def quotes(self, digest: bytes) -> Sequence[QuoteRow]:
        """Returns how the prices of a template body came about, by rising price."""

    def scripts(self) -> Sequence[bytes]:
        """Returns the scripts that templates have paid as the pool's, each once."""

    def templates_at(self, height: int) -> Sequence[tuple[bytes, bytes]]:
        """Returns digest and body of the templates of a height that shares were found on."""

    def add_void(self, void: VoidRow) -> None:
        """Posts a void, unless the template has one."""

    def voids(self) -> Sequence[VoidRow]:
        """Returns all voids, the oldest first."""

    def last_settlement(self) -> int:
        """Returns the number of the last settlement; 0 before the first."""

    def add_block(self, block: BlockRow) -> int:
        """Records a block and closes the open epoch with it, unless it is known already.

        `epoch`, `confirmations` and `settlement` of the argument do not count.

        Returns:
            The number of the epoch that is open then.
        """

    def block(self, block_hash: bytes) -> BlockRow | None:
        """Returns a block that the pool found."""

    def blocks(self, offset: int, limit: int) -> tuple[int, Sequence[BlockRow]]:
        """Returns how many blocks there are, and some of them, the newest first."""

    def see_blocks(self, active: Mapping[bytes, int | None]) -> None:
        """Notes the confirmations of blocks."""

    def unpaid_epochs(self, through: int) -> tuple[int, ...]:
        """Returns the closed epochs up to `through` that no settlement pays, ascending."""

    def carry(self) -> int:
        """Returns what is carried, sats."""

    def settle(self, settlement: SettlementRow) -> int:
        """Posts a settlement and returns its number."""

    def settlement(self, number: int) -> SettlementRow:
        """Returns a settlement with its entries."""

    def settlements_of_epoch(self, epoch: int) -> Sequence[SettlementRow]:
        """Returns the payments that include an epoch, and their reversals, in order of time."""

    def balances(self) -> Mapping[tuple[int, int], int]:
        """Returns what is owed, sats, by `(account, rail)`."""
