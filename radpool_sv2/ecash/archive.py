"""Finds shares in the ledger's batches again: their header hashes, and the coinbases of blocks.

Recent header hashes are in the store; older ones are computed from the batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from radpool_sv2._native.ledger import share_coinbase, verify_batch
from radpool_sv2.errors import StoreError
from radpool_sv2.store.batch import template_entries
from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from radpool_sv2.store import SqliteStore

__all__ = ["Archive", "ShareArchive"]

BATCHES_AT_ONCE = 256
"""How many batches' hashes are in memory together: some MiB at most."""

SOLVED_BATCHES_MAX = 16_384
"""How far back from the end of its epoch a block's share is looked for: it comes just before."""

BEFORE_BATCHES_MAX = BATCHES_AT_ONCE
"""How far back from the beginning of its epoch it is looked for, too.

Where a batch has two blocks, the first closes the epoch of both shares, and the second an epoch
that began behind them.
"""


class Archive(Protocol):
    """Is where a statement finds shares."""

    def share_hash(self, sequence: int, place: int) -> bytes:
        """Returns the header hash of a share, internal byte order."""

    def coinbase_output(self, block: bytes) -> tuple[bytes, int] | None:
        """Returns txid (internal byte order) and index of the largest output of a block's coinbase.

        None when the block is not among the shares.
        """


class ShareArchive:
    """Is the archive in a ledger's store; use it in one thread at a time.

    Shares asked for in order of their batches are read once.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._first = 0
        self._hashes: dict[int, bytes] = {}

    def share_hash(self, sequence: int, place: int) -> bytes:
        """Returns the header hash of a share.

        Raises:
            StoreError: There is no such share.
        """
        if sequence not in self._hashes:
            self._hashes = dict(self._read(sequence, sequence + BATCHES_AT_ONCE - 1))
        found = self._hashes.get(sequence, b"")[HASH_LEN * place : HASH_LEN * (place + 1)]
        if len(found) != HASH_LEN:
            raise StoreError(f"the ledger lost share {place} of batch {sequence}")
        return found

    def _read(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        recent = dict(self._store.header_hashes(first, last))
        yield from recent.items()
        for start in range(first, last + 1):
            if start in recent:
                continue
            for sequence, _, blob in self._store.batches(start, start):
                yield sequence, verify_batch(blob, self._bodies(blob)).header_hashes

    def _bodies(self, blob: bytes) -> Mapping[bytes, bytes]:
        bodies = {}
        for digest, _ in template_entries(blob):
            body = self._store.body(digest)
            if body is None:
                raise StoreError(f"the ledger lost the template body {digest.hex()}")
            bodies[digest] = body
        return bodies

    def coinbase_output(self, block: bytes) -> tuple[bytes, int] | None:
        """Returns txid and index of the largest output of a block's coinbase; see `Archive`."""
        row = self._store.block(block)
        if row is None:
            return None
        total, _ = self._store.epochs(0, 0)
        _, newest_first = self._store.epochs(total - row.epoch - 1, 2)
        opened = {epoch.number: epoch.opened_sequence for epoch in newest_first}
        end, begin = opened[row.epoch + 1], opened[row.epoch]
        first = max(0, begin - BEFORE_BATCHES_MAX, end - SOLVED_BATCHES_MAX)
        for stop in range(end, first, -BATCHES_AT_ONCE):
            start = max(first, stop - BATCHES_AT_ONCE)
            for sequence, hashes in self._read(start, stop - 1):
                place = _place(hashes, block)
                if place is not None:
                    [(_, _, blob)] = self._store.batches(sequence, sequence)
                    return _largest_output(share_coinbase(blob, self._bodies(blob), place))
        return None


def _place(hashes: bytes, wanted: bytes) -> int | None:
    at = hashes.find(wanted)
    while at >= 0 and at % HASH_LEN:
        at = hashes.find(wanted, at + 1)
    return None if at < 0 else at // HASH_LEN


def _largest_output(coinbase: bytes) -> tuple[bytes, int]:
    """Returns the txid of a coinbase without witness, and the index of its largest output."""
    # Version, one input with its outpoint, the script behind its length, sequence.
    at = 4 + 1 + 36
    at += 1 + coinbase[at] + 4
    count, at = _compact_size(coinbase, at)
    values = []
    for _ in range(count):
        values.append(int.from_bytes(coinbase[at : at + 8], "little"))
        length, at = _compact_size(coinbase, at + 8)
        at += length
    return sha256d(coinbase), values.index(max(values))


def _compact_size(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 0xFD:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 3], "little"), at + 3
