"""Parses and assembles blocks: header, merkle path, witness commitment, leading zero bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.transaction import Reader, Transaction, TxOutput, compact_size
from radpool_sv2.consensus import merkle_root
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COMMITMENT_PREFIX",
    "HEADER_LEN",
    "WITNESS_RESERVED",
    "Block",
    "Header",
    "witness_commitment",
]

HEADER_LEN: Final = 80
# OP_RETURN, push of 36 bytes, and the mark of BIP 141.
COMMITMENT_PREFIX: Final = bytes.fromhex("6a24aa21a9ed")
# BIP 141 leaves the value open; every miner uses zeros, and so does the coinbase of each template.
WITNESS_RESERVED: Final = bytes(32)
_HEADER = struct.Struct("<I32s32sIII")


@dataclass(frozen=True)
class Header:
    """Is a block header; hashes are in internal byte order."""

    version: int
    previous: bytes
    merkle_root: bytes
    time: int
    nbits: int
    nonce: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Parses the 80 bytes of a header."""
        if len(data) != HEADER_LEN:
            raise LocalProtocolError(f"a header has {HEADER_LEN} bytes, not {len(data)}")
        return cls(*_HEADER.unpack(data))

    def to_bytes(self) -> bytes:
        """Returns the 80 bytes that are hashed."""
        return _HEADER.pack(
            self.version, self.previous, self.merkle_root, self.time, self.nbits, self.nonce
        )

    @cached_property
    def hash(self) -> bytes:
        """The block's hash, 32 bytes in internal order."""
        return sha256d(self.to_bytes())


@dataclass(frozen=True)
class Block:
    """Is a block: a header and its transactions, the coinbase first."""

    header: Header
    transactions: tuple[Transaction, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Block:
        """Parses a block and nothing else.

        Raises:
            LocalProtocolError: The bytes are not exactly one block.
        """
        reader = Reader(data)
        header = Header.from_bytes(reader.take(HEADER_LEN))
        count = reader.take_compact_size()
        transactions = tuple(Transaction.take_from(reader) for _ in range(count))
        reader.finish()
        if not transactions:
            raise LocalProtocolError("a block has no transactions")
        return cls(header, transactions)

    def to_bytes(self) -> bytes:
        """Returns the block as the consensus engine takes it."""
        parts = [self.header.to_bytes(), compact_size(len(self.transactions))]
        parts.extend(transaction.raw for transaction in self.transactions)
        return b"".join(parts)


def witness_commitment(wtxids: Sequence[bytes]) -> TxOutput:
    """Returns the output that commits to the witnesses (BIP 141).

    Args:
        wtxids: The witness ids of all transactions but the coinbase, whose own counts as zero.
    """
    root = merkle_root([bytes(32), *wtxids])
    return TxOutput(0, COMMITMENT_PREFIX + sha256d(root + WITNESS_RESERVED))
