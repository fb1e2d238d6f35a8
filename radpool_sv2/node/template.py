"""Reads the block templates of `getblocktemplate`.

The node's transactions stand in an order in which each comes after those it spends from, so that
the last ones can be left out when the coinbase needs more room than the node has left it.

Source: BIP 22, BIP 23, BIP 34, BIP 141, BIP 145.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from radpool_sv2.consensus import MONEY_SATS_MAX, merkle_path, root_from_path, target_of_nbits
from radpool_sv2.errors import NodeError
from radpool_sv2.network import SIGNET
from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radpool_sv2.network import Network

__all__ = [
    "COINBASE_SEQUENCE",
    "COINBASE_VERSION",
    "BlockTransaction",
    "CoinbaseRoom",
    "NodeTemplate",
    "RawTemplate",
    "read_template",
    "rules_of",
]

COINBASE_VERSION: Final = 2
COINBASE_SEQUENCE: Final = 0xFFFFFFFE
"""Not final, so that a locktime could count; the locktime is 0."""

KNOWN_RULES: Final = {"csv", "segwit", "signet", "taproot", "testdummy"}
"""Rules that change how a template is to be read, as far as this reader heeds them (BIP 9)."""

TIME_MAX: Final = 0xFFFF_FFFF
"""The last second that a header can tell."""

HEADER_LEN: Final = 80
BLOCK_WEIGHT_MAX: Final = 4_000_000
BLOCK_SIGOP_COST_MAX: Final = 80_000
SCALE: Final = 4
"""Weight units and signature operations' cost of what is outside witnesses (BIP 141)."""

BARE_WEIGHT: Final = 4 * (HEADER_LEN + 9 + 4 + 1 + 36 + 1 + 100 + 4 + 9 + 47 + 4) + 38
"""Header, count, and a coinbase with the longest script, the commitment and no other output."""

_COMMITMENT_HEAD: Final = bytes.fromhex("6a24aa21a9ed")
_WITNESS_RESERVED: Final = bytes(32)


class RawTransaction(msgspec.Struct):
    """Is a transaction as `getblocktemplate` gives it."""

    data: str
    txid: str
    hash: str
    fee: int = 0
    sigops: int = 0
    weight: int = 0


class RawTemplate(msgspec.Struct):
    """Is the result of `getblocktemplate`, as far as it is used."""

    version: int
    previousblockhash: str
    transactions: list[RawTransaction]
    coinbasevalue: int
    bits: str
    height: int
    curtime: int
    mintime: int
    rules: list[str] = []
    longpollid: str = ""
    signet_challenge: str = ""
    weightlimit: int = BLOCK_WEIGHT_MAX
    sigoplimit: int = BLOCK_SIGOP_COST_MAX


@dataclass(frozen=True, slots=True)
class CoinbaseRoom:
    """Is the room that outputs of the coinbase need besides the witness commitment.

    Args:
        size: Their bytes.
        sigops: Their legacy signature operations.
    """

    size: int = 1_000
    sigops: int = 100

    @property
    def weight(self) -> int:
        """What header and coinbase weigh with them at most."""
        return BARE_WEIGHT + SCALE * self.size

    @property
    def sigop_cost(self) -> int:
        """What they cost of the block's signature operations."""
        return SCALE * self.sigops


@dataclass(frozen=True, slots=True)
class BlockTransaction:
    """Is a transaction of a template; ids are in internal byte order."""

    raw: bytes
    txid: bytes
    wtxid: bytes
    fee_sats: int
    sigop_cost: int
    weight: int


@dataclass(frozen=True, kw_only=True)
class NodeTemplate:
    """Is a block that a node proposes, without coinbase; hashes are in internal byte order.

    Args:
        height: The block's height.
        prev_hash: The block that it builds on.
        version: The header's version.
        nbits: The header's compact target.
        time: The node's time, s.
        time_min: The earliest time that consensus allows, s.
        value_sats: What the coinbase may pay.
        transactions: In the order of the block.
        weight: With the room for the coinbase.
        left_out: How many transactions of the node's had to make room.
        room: The room that was left for the coinbase.
        long_poll_id: What the node knows the template by.
        signet_challenge: The script that a signet's blocks must satisfy, in hex; else empty.
    """

    height: int
    prev_hash: bytes
    version: int
    nbits: int
    time: int
    time_min: int
    value_sats: int
    transactions: tuple[BlockTransaction, ...]
    weight: int
    left_out: int
    room: CoinbaseRoom
    long_poll_id: str
    signet_challenge: str

    @cached_property
    def fees_sats(self) -> int:
        """The fees of all transactions."""
        return sum(each.fee_sats for each in self.transactions)

    @cached_property
    def path(self) -> tuple[bytes, ...]:
        """The siblings of the coinbase, from the leaves up."""
        return merkle_path([each.txid for each in self.transactions])

    @cached_property
    def commitment_output(self) -> bytes:
        """The serialised output that commits to the witnesses."""
        # The coinbase counts as zero, and its siblings are the path as above.
        path = merkle_path([each.wtxid for each in self.transactions])
        root = root_from_path(bytes(HASH_LEN), path)
        script = _COMMITMENT_HEAD + sha256d(root + _WITNESS_RESERVED)
        return bytes(8) + bytes([len(script)]) + script


def rules_of(network: Network) -> list[str]:
    """Returns the rules that a node wants to hear of whoever asks it for a template (BIP 9)."""
    return ["segwit", "signet"] if network.name == SIGNET.name else ["segwit"]


def read_template(
    raw: RawTemplate,
    room: CoinbaseRoom,
    node: str,
    known: Mapping[bytes, BlockTransaction] | None = None,
) -> NodeTemplate:
    """Reads a template; leaves out what does not fit beside the coinbase.

    Args:
        raw: The node's answer.
        room: What the coinbase's outputs need.
        node: The node's name, for errors.
        known: Transactions of an earlier template by witness id: those are taken as they are, so
            that templates which share most of their transactions share the memory, too.

    Raises:
        NodeError: It is no template that a block can be made of, or one of another chain.
    """
    unknown = [rule for rule in raw.rules if rule[:1] == "!" and rule[1:] not in KNOWN_RULES]
    if unknown:
        raise NodeError(
            f"the node {node} makes templates by rules that are not Bitcoin's, or newer than this "
            f"version: {', '.join(unknown)}. It is not used",
            node,
        )
    try:
        _check_numbers(raw)
        nbits = int.from_bytes(bytes.fromhex(raw.bits))
        target_of_nbits(nbits)
        prev_hash = _hash(raw.previousblockhash)
        transactions = [_transaction(each, known or {}) for each in raw.transactions]
    except ValueError as error:
        raise NodeError(f"the node {node} gives no template: {error}", node) from error
    fitting = _fitting(transactions, raw, room)
    lost = sum(each.fee_sats for each in transactions[fitting:])
    if raw.coinbasevalue < lost:
        raise NodeError(
            f"the node {node} gives no template: fees of {lost} sat and a value of "
            f"{raw.coinbasevalue}",
            node,
        )
    return NodeTemplate(
        height=raw.height,
        prev_hash=prev_hash,
        version=raw.version & 0xFFFF_FFFF,
        nbits=nbits,
        time=max(raw.curtime, raw.mintime),
        time_min=raw.mintime,
        value_sats=raw.coinbasevalue - lost,
        transactions=tuple(transactions[:fitting]),
        weight=room.weight + sum(each.weight for each in transactions[:fitting]),
        left_out=len(transactions) - fitting,
        room=room,
        long_poll_id=raw.longpollid,
        signet_challenge=raw.signet_challenge,
    )


def _check_numbers(raw: RawTemplate) -> None:
    """Checks what no block can have otherwise.

    Raises:
        ValueError: A number is out of its bounds.
    """
    for name, value, least, most in (
        ("height", raw.height, 1, (1 << 31) - 1),
        ("coinbasevalue", raw.coinbasevalue, 0, MONEY_SATS_MAX),
        ("curtime", raw.curtime, 0, TIME_MAX),
        ("mintime", raw.mintime, 0, TIME_MAX),
        ("bits", len(raw.bits), 8, 8),
        *(("fee", each.fee, 0, MONEY_SATS_MAX) for each in raw.transactions),
        *(("sigops", each.sigops, 0, BLOCK_SIGOP_COST_MAX) for each in raw.transactions),
        *(("weight", each.weight, 0, BLOCK_WEIGHT_MAX) for each in raw.transactions),
    ):
        if not least <= value <= most:
            raise ValueError(f"its {name} is {value!r:.40}")


def _fitting(transactions: Sequence[BlockTransaction], raw: RawTemplate, room: CoinbaseRoom) -> int:
    """Counts how many transactions from the first on fit beside the coinbase."""
    weight, cost = room.weight, room.sigop_cost
    for number, each in enumerate(transactions):
        weight, cost = weight + each.weight, cost + each.sigop_cost
        if weight > raw.weightlimit or cost > raw.sigoplimit:
            return number
    return len(transactions)


def _transaction(raw: RawTransaction, known: Mapping[bytes, BlockTransaction]) -> BlockTransaction:
    wtxid = _hash(raw.hash)
    seen = known.get(wtxid)
    if seen is not None:
        return seen
    data = bytes.fromhex(raw.data)
    # Nodes before segregated witness gave no weight; four times the bytes is never too little.
    weight = raw.weight or SCALE * len(data)
    return BlockTransaction(data, _hash(raw.txid), wtxid, raw.fee, raw.sigops, weight)


def _hash(shown: str) -> bytes:
    value = bytes.fromhex(shown)
    if len(value) != HASH_LEN:
        raise ValueError(f"{shown[:70]!r} is no hash")
    return value[::-1]
