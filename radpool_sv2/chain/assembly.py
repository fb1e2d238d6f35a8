"""Chooses transactions for the next block and turns a template and its solution into a block."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.block import Block, Header, witness_commitment
from radpool_sv2.consensus import merkle_path, push_height, root_from_path

if TYPE_CHECKING:
    from radpool_sv2.chain.mempool import Entry, Mempool
    from radpool_sv2.chain.transaction import Transaction, TxOutput

__all__ = [
    "BLOCK_VERSION",
    "COINBASE_SEQUENCE",
    "COINBASE_VERSION",
    "BlockTemplate",
    "Room",
    "choose",
]

BLOCK_VERSION: Final = 0x20000000
COINBASE_VERSION: Final = 2
# Not final, so that a locktime could count; the locktime is 0.
COINBASE_SEQUENCE: Final = 0xFFFFFFFE
BLOCK_WEIGHT_MAX: Final = 4_000_000
BLOCK_SIGOP_COST_MAX: Final = 80_000
_ROOM_WEIGHT_MIN: Final = 8_000
_ROOM_SIGOP_COST_MIN: Final = 400
# Header, counts, and a coinbase with the longest script but without the pool's outputs.
_ROOM_WEIGHT_BARE: Final = 1_168
_SCALE: Final = 4


@dataclass(frozen=True)
class Room:
    """Is what the pool's outputs need in the coinbase, at most.

    `size` are their bytes, `sigops` their legacy signature operations; zeros leave as much as
    bitcoin nodes do by default.

    Source: sv2-spec 7.1 (CoinbaseOutputConstraints); Bitcoin Core's `-blockreservedweight`.
    """

    size: int = 0
    sigops: int = 0

    def joined(self, other: Room) -> Room:
        """Returns what is enough for either."""
        return Room(max(self.size, other.size), max(self.sigops, other.sigops))

    @property
    def weight(self) -> int:
        """The weight to leave, with the header, the counts and the rest of the coinbase."""
        return max(_ROOM_WEIGHT_MIN, _ROOM_WEIGHT_BARE + _SCALE * self.size)

    @property
    def sigop_cost(self) -> int:
        """The signature operation cost to leave."""
        return max(_ROOM_SIGOP_COST_MIN, _SCALE * self.sigops)


@dataclass(frozen=True)
class BlockTemplate:
    """Is everything of a block but the coinbase, the time, the nonce and the rolled version bits.

    `transactions` are in block order without the coinbase; hashes are in internal byte order;
    `time_min` is the earliest time the consensus allows, `time` the one to start from.
    `tx_fees_sats` are the transactions' fees in order, None in a template that an earlier version
    has written down.
    """

    id: int
    previous: bytes
    height: int
    nbits: int
    time_min: int
    time: int
    value_sats: int
    fees_sats: int
    transactions: tuple[Transaction, ...]
    weight: int
    tx_fees_sats: tuple[int, ...] | None = None
    room: Room = Room()

    @cached_property
    def path(self) -> tuple[bytes, ...]:
        """The merkle path for the coinbase."""
        return merkle_path([each.txid for each in self.transactions])

    @cached_property
    def commitment(self) -> TxOutput:
        """The witness commitment output."""
        return witness_commitment([each.wtxid for each in self.transactions])

    @property
    def coinbase_prefix(self) -> bytes:
        """The start of the coinbase's script: the height."""
        return push_height(self.height)

    def block(self, coinbase: Transaction, *, version: int, time: int, nonce: int) -> Block:
        """Returns the block that a solution makes of this template."""
        root = root_from_path(coinbase.txid, self.path)
        header = Header(version, self.previous, root, time, self.nbits, nonce)
        return Block(header, (coinbase, *self.transactions))


def choose(mempool: Mempool, room: Room) -> list[Entry]:
    """Chooses transactions by the fee rate of each with its ancestors, parents first.

    The best package still outside goes in while weight and signature operations allow; a package
    that does not fit is left out. Rates are compared as exact fractions.
    """
    chosen: dict[bytes, Entry] = {}
    weight, cost = room.weight, room.sigop_cost
    version = dict.fromkeys(mempool.entries, 0)
    queue = [_Candidate.of(mempool, txid, chosen, 0) for txid in mempool.entries]
    heapq.heapify(queue)
    while queue:
        candidate = heapq.heappop(queue)
        if candidate.txid in chosen or candidate.version != version[candidate.txid]:
            continue
        package = [mempool.entries[txid] for txid in candidate.package]
        package_weight = sum(entry.weight for entry in package)
        package_cost = sum(entry.sigop_cost for entry in package)
        if weight + package_weight > BLOCK_WEIGHT_MAX or cost + package_cost > BLOCK_SIGOP_COST_MAX:
            continue
        weight, cost = weight + package_weight, cost + package_cost
        affected: set[bytes] = set()
        # An ancestor of an entry has fewer ancestors than it, so this order puts parents first.
        for entry in sorted(package, key=lambda each: len(mempool.ancestors(each))):
            chosen[entry.transaction.txid] = entry
            affected |= mempool.descendants(entry)
        for txid in affected - chosen.keys():
            version[txid] += 1
            heapq.heappush(queue, _Candidate.of(mempool, txid, chosen, version[txid]))
    return list(chosen.values())


@dataclass(frozen=True)
class _Candidate:
    """Is a transaction with those of its ancestors that are not chosen yet."""

    txid: bytes
    package: tuple[bytes, ...]
    fee_sats: int
    weight: int
    version: int

    @classmethod
    def of(
        cls, mempool: Mempool, txid: bytes, chosen: dict[bytes, Entry], version: int
    ) -> _Candidate:
        ancestors = mempool.ancestors(mempool.entries[txid]) - chosen.keys()
        package = (*sorted(ancestors), txid)
        entries = [mempool.entries[each] for each in package]
        fee = sum(entry.fee_sats for entry in entries)
        return cls(txid, package, fee, sum(entry.weight for entry in entries), version)

    def __lt__(self, other: _Candidate) -> bool:
        mine, theirs = self.fee_sats * other.weight, other.fee_sats * self.weight
        return mine > theirs or (mine == theirs and self.txid < other.txid)
