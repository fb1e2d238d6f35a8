"""Does the ledger's work on the store, in whatever thread it is called, one call at a time.

Theory of operation. `commit` seals what the engine validated into the next batch of the chain and
appends it. Shares that are in the store already are refused, the batch is sealed again without
them, and the rest is appended: the store's unique index decides what is new, not memory.

A commit that fails may be durable nevertheless (see `radpool_sv2.store.sqlite`). So what was tried
is remembered: when the same batch is committed again, it is looked up before it is sealed anew,
or its own shares would be refused as duplicates of themselves.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from radpool_sv2.errors import InternalError, LocalProtocolError, StoreError
from radpool_sv2.ledger.account import SALT_LEN, Account, commitment_of
from radpool_sv2.ledger.division import Division, sums_of_template, void_sums
from radpool_sv2.ledger.settlement import pay, reverse
from radpool_sv2.store import BatchRow, BlockRow, SettlementRow, SumRow, VoidRow, WeightRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from radpool_sv2.store import Enclosure, QuoteRow, Store

__all__ = ["BatchKey", "Books", "Reconciled", "Sealable", "Sealed", "Weigher"]

DUPLICATE_SHARE = "duplicate-share"

NO_BATCH = bytes(32)
"""What the first batch names as the one before it."""

QUOTED_MAX = 65_536
"""How many prices are known to be explained in the store, so that they are not looked up again."""

WATCHED_BLOCKS_MAX = 1_000
"""How many of the newest blocks are asked about: a reorg of that depth is no longer one."""


class BatchKey(Protocol):
    """Is what the books need of the key; whatever else it does is between it and the batch."""

    @property
    def public(self) -> bytes:
        """The x-only public key, 32 bytes."""

    def sign(self, hash: bytes) -> bytes:  # noqa: A002 - the native class calls it so
        """Returns the BIP340 signature of a 32-byte hash."""


class Sealed(Protocol):
    """Is a sealed batch, as `radpool_sv2._native.ledger.SealedBatch`."""

    @property
    def blob(self) -> bytes:
        """The batch as exported."""

    @property
    def hash(self) -> bytes:
        """Its hash, 32 bytes."""

    @property
    def count(self) -> int:
        """Its shares."""

    @property
    def sums(self) -> Sequence[tuple[int, int, int, int, int, int]]:
        """`(account, epoch, rail, count, work, value)`."""

    @property
    def header_hashes(self) -> bytes:
        """32 bytes per share, in order."""

    @property
    def share_keys(self) -> bytes:
        """20 bytes per share, in order."""

    @property
    def bodies(self) -> Sequence[tuple[bytes, bytes, int, int]]:
        """`(digest, body, height, price)` of the template bodies it names."""


class Sealable(Protocol):
    """Is a batch of validated shares, as `radpool_sv2._native.engine.ShareBatch`."""

    def __len__(self) -> int: ...

    @property
    def seal(self) -> Callable[..., Sealed]:
        """Builds and signs; see the native class."""


class Weigher(Protocol):
    """Is who prices templates, as `radpool_sv2.weight.Weighing`."""

    @property
    def rule(self) -> WeightRow:
        """What prices stand for."""

    @property
    def script(self) -> bytes:
        """The pool's output script."""

    def quote_of(self, body: bytes, price: int) -> QuoteRow | None:
        """Returns how the price of a template body came about; None when it is forgotten."""


class _Unexplained:
    """Stands in until somebody weighs: prices as on regtest, of which nothing is known."""

    rule = WeightRow(1, 32, 0)
    script = b""

    def quote_of(self, body: bytes, price: int) -> None:
        """Knows nothing."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Says what a look at the chain changed.

    Attributes:
        paid: The payments that were posted.
        reversed: The reversals that were posted.
    """

    paid: tuple[SettlementRow, ...]
    reversed: tuple[SettlementRow, ...]


@dataclass(frozen=True, slots=True)
class _Attempt:
    batch: Sealable
    sequence: int
    hash: bytes
    refused: list[int]


class Books:
    """Is the ledger without its threads; calls must not overlap, reads of the store may.

    Attributes:
        current_epoch: The number of the open epoch.
        blocks_found: How many blocks are recorded.
    """

    def __init__(
        self, store: Store, key: BatchKey, *, maturity_blocks: int, unix_ms: Callable[[], int]
    ) -> None:
        self.store = store
        self.key = key
        self._maturity_blocks = maturity_blocks
        self._unix_ms = unix_ms
        self._weigher: Weigher = _Unexplained()
        self._quoted: dict[tuple[bytes, int], None] = {}
        self._voided = {void.digest for void in store.voids()}
        self._attempt: _Attempt | None = None
        self._sequence, self._head = store.head() or (-1, NO_BATCH)
        epoch = store.current_epoch()
        self.current_epoch = epoch.number
        self.blocks_found, _ = store.blocks(0, 0)
        self._epoch_min = self._first_unfrozen()

    def _first_unfrozen(self) -> int:
        offset = 0
        first = self.current_epoch
        # Epochs are frozen in order, so the newest frozen one ends the walk.
        while True:
            total, epochs = self.store.epochs(offset, 100)
            for epoch in epochs:
                if epoch.frozen_sequence is not None:
                    return first
                first = epoch.number
            offset += len(epochs)
            if offset >= total:
                return first

    def weigh_by(self, weigher: Weigher) -> None:
        """Takes who has priced the shares that are committed from now on."""
        self._weigher = weigher

    @property
    def script(self) -> bytes:
        """The pool's output script; empty until somebody weighs."""
        return self._weigher.script

    def commit(
        self, batch: Sealable, enclosures: Sequence[Enclosure] = ()
    ) -> list[tuple[int, str]]:
        """Makes a batch and its enclosures durable; returns the shares that it refused."""
        refused = self._finish_attempt(batch)
        if refused is None:
            refused = self._append(batch, enclosures)
        return [(index, DUPLICATE_SHARE) for index in refused]

    def _finish_attempt(self, batch: Sealable) -> list[int] | None:
        attempt = self._attempt
        if attempt is None:
            return None
        durable = self.store.head() == (attempt.sequence, attempt.hash)
        self._attempt = None
        if not durable:
            return None
        self._sequence, self._head = attempt.sequence, attempt.hash
        return attempt.refused if attempt.batch is batch else None

    def _append(self, batch: Sealable, enclosures: Sequence[Enclosure]) -> list[int]:
        refused: list[int] = []
        time_ms = self._unix_ms()
        while len(refused) < len(batch):
            sequence = self._sequence + 1
            sealed = batch.seal(
                self.key,
                sequence,
                self._head,
                time_ms,
                weight=self._weigher.rule,
                epoch_min=self._epoch_min,
                excluding=refused,
            )
            quotes = self._quotes(sealed)
            row = BatchRow(
                sequence=sequence,
                hash=sealed.hash,
                time_ms=time_ms,
                epoch_min=self._epoch_min,
                count=sealed.count,
                blob=sealed.blob,
                header_hashes=sealed.header_hashes,
                share_keys=sealed.share_keys,
                weight=self._weigher.rule,
                bodies=sealed.bodies,
                quotes=quotes,
                sums=[SumRow(*fields) for fields in sealed.sums],
                voided=self._voided_in(sealed),
            )
            try:
                duplicates = self.store.append_batch(row, enclosures, refused)
            except StoreError:
                self._attempt = _Attempt(batch, sequence, sealed.hash, refused)
                raise
            if not duplicates:
                self._sequence, self._head = sequence, sealed.hash
                self._note_quoted(quotes)
                break
            refused = _with_excluded(duplicates, refused, len(batch))
        return refused

    def _quotes(self, sealed: Sealed) -> list[tuple[bytes, QuoteRow]]:
        """Looks up how the prices came about that the store cannot explain yet."""
        quotes = []
        for digest, body, _, price in sealed.bodies:
            if (digest, price) not in self._quoted:
                quote = self._weigher.quote_of(body, price)
                if quote is not None:
                    quotes.append((digest, quote))
        return quotes

    def _voided_in(self, sealed: Sealed) -> list[tuple[bytes, SumRow]]:
        """Finds shares that came after their template was voided."""
        late = self._voided.intersection(digest for digest, *_ in sealed.bodies)
        return [row for digest in late for row in sums_of_template(self.store, sealed.blob, digest)]

    def _note_quoted(self, quotes: Sequence[tuple[bytes, QuoteRow]]) -> None:
        if len(self._quoted) > QUOTED_MAX:
            # The store passes over those that it has.
            self._quoted.clear()
        self._quoted.update(((digest, quote.price), None) for digest, quote in quotes)

    def find_account(self, name: str) -> Account | None:
        """Returns the account of a name, or None when there is none."""
        row = self.store.find_account(name)
        return None if row is None else Account(row.id, row.name, row.salt, row.commitment)

    def account(self, name: str) -> Account:
        """Returns the account of a name, opening it if it is new."""
        salt = os.urandom(SALT_LEN)
        row = self.store.add_account(name, salt, commitment_of(name, salt), self._unix_ms())
        return Account(row.id, row.name, row.salt, row.commitment)

    def record_block(self, block_hash: bytes, height: int, value_sats: int, finder: int) -> int:
        """Records a block; returns the epoch that is open then."""
        row = BlockRow(
            hash=block_hash,
            height=height,
            epoch=0,
            value_sats=value_sats,
            finder=finder,
            found_ms=self._unix_ms(),
            confirmations=0,
            settlement=None,
        )
        self.current_epoch = self.store.add_block(row)
        self.blocks_found, _ = self.store.blocks(0, 0)
        return self.current_epoch

    def watched_blocks(self) -> list[bytes]:
        """Returns the blocks that a reorg may still change, the newest first."""
        _, blocks = self.store.blocks(0, WATCHED_BLOCKS_MAX)
        return [block.hash for block in blocks]

    def reconcile(self, active: Mapping[bytes, int | None]) -> Reconciled:
        """Brings the settlements in line with the chain."""
        # A fresh look each time: an earlier call may have been cut short by a full disk.
        self.store.see_blocks(active)
        blocks = [block for block in map(self.store.block, active) if block is not None]
        blocks.sort(key=lambda block: block.epoch)
        orphaned = [
            block.settlement
            for block in reversed(blocks)
            if block.settlement is not None and active[block.hash] is None
        ]
        reversals = [self._reverse(number) for number in orphaned]
        payments = [
            self._pay(block)
            for block in blocks
            if block.settlement is None and self._is_mature(active[block.hash])
        ]
        return Reconciled(tuple(payments), tuple(reversals))

    def _is_mature(self, confirmations: int | None) -> bool:
        return confirmations is not None and confirmations >= self._maturity_blocks

    def _reverse(self, number: int) -> SettlementRow:
        payment = self.store.settlement(number)
        settlement = reverse(
            payment,
            carry=self.store.carry(),
            sequence=self._durable_sequence(),
            time_ms=self._unix_ms(),
        )
        return self.store.settlement(self.store.settle(settlement))

    def _pay(self, block: BlockRow) -> SettlementRow:
        epochs = self.store.unpaid_epochs(block.epoch) or (block.epoch,)
        settlement = pay(
            block,
            epochs=epochs,
            divide=Division(self.store, epochs).parts,
            carry=self.store.carry(),
            sequence=self._durable_sequence(),
            time_ms=self._unix_ms(),
        )
        number = self.store.settle(settlement)
        self._epoch_min = max(self._epoch_min, epochs[-1] + 1)
        return self.store.settlement(number)

    def void(self, digest: bytes, reason: str) -> VoidRow:
        """Makes the shares on a template earn nothing; what was settled before stays."""
        if self.store.body(digest) is None:
            raise LocalProtocolError(f"no share on a template {digest.hex()} is in the ledger")
        void = VoidRow(
            digest=digest,
            settlement=self.store.last_settlement(),
            epoch_min=self._epoch_min,
            reason=reason,
            time_ms=self._unix_ms(),
            sums=void_sums(self.store, digest, range(self._epoch_min, self.current_epoch + 1)),
        )
        self.store.add_void(void)
        self._voided.add(digest)
        [known] = [each for each in self.store.voids() if each.digest == digest]
        return known

    def _durable_sequence(self) -> int:
        head = self.store.head()
        return -1 if head is None else head[0]


def _with_excluded(duplicates: Sequence[int], excluded: Sequence[int], count: int) -> list[int]:
    """Maps indices within a batch that was sealed without some shares back to the whole batch."""
    left_out = set(excluded)
    kept = [index for index in range(count) if index not in left_out]
    if duplicates[-1] >= len(kept):
        raise InternalError("the store found duplicates that the batch does not have")
    return sorted(left_out.union(kept[index] for index in duplicates))
