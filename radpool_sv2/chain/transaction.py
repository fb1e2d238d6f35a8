"""Parses and serialises bitcoin transactions, and computes their ids and weight.

The parser is strict where consensus is: a transaction has exactly one serialisation, so what
parses serialises to the same bytes. It allocates nothing that the input does not pay for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import sha256d

__all__ = [
    "WITNESS_SCALE_FACTOR",
    "OutPoint",
    "Reader",
    "Transaction",
    "TxInput",
    "TxOutput",
    "compact_size",
    "sha256d",
]

WITNESS_SCALE_FACTOR: Final = 4
_COMPACT_SIZE_MAX: Final = 0x02000000

# txid (internal byte order) and output index.
OutPoint = tuple[bytes, int]


def compact_size(value: int) -> bytes:
    """Returns a length in bitcoin's CompactSize form."""
    if value < 0xFD:
        return bytes([value])
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    return b"\xfe" + value.to_bytes(4, "little")


class Reader:
    """Takes fields off the front of a byte string and refuses to read past its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, length: int) -> bytes:
        """Returns the next `length` bytes."""
        end = self.offset + length
        if end > len(self.data):
            raise LocalProtocolError(f"the data ends at byte {len(self.data)}, {end} are needed")
        taken = self.data[self.offset : end]
        self.offset = end
        return taken

    def take_u32(self) -> int:
        """Returns the next 4 bytes as a little-endian integer."""
        return int.from_bytes(self.take(4), "little")

    def take_compact_size(self) -> int:
        """Returns the next CompactSize; only its shortest form is allowed."""
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        length, least = {0xFD: (2, 0xFD), 0xFE: (4, 0x10000), 0xFF: (8, 0x100000000)}[first]
        value = int.from_bytes(self.take(length), "little")
        if value < least:
            raise LocalProtocolError(f"a length is not in its shortest form at byte {self.offset}")
        if value > _COMPACT_SIZE_MAX:
            raise LocalProtocolError(f"a length of {value} exceeds {_COMPACT_SIZE_MAX}")
        return value

    def take_bytes(self) -> bytes:
        """Returns the next byte string with its length in front."""
        return self.take(self.take_compact_size())

    def finish(self) -> None:
        """Checks that nothing is left."""
        if self.offset != len(self.data):
            left = len(self.data) - self.offset
            raise LocalProtocolError(f"{left} bytes too many behind the end")


@dataclass(frozen=True)
class TxInput:
    """Is one input; `witness` is empty when it has none."""

    previous: OutPoint
    script: bytes
    sequence: int
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class TxOutput:
    """Is one output: an amount in satoshi and a script."""

    value_sats: int
    script: bytes

    def to_bytes(self) -> bytes:
        """Returns the output as it stands in a transaction."""
        value = struct.pack("<q", self.value_sats)
        return value + compact_size(len(self.script)) + self.script


@dataclass(frozen=True)
class Transaction:
    """Is a whole transaction."""

    version: int
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    locktime: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Transaction:
        """Parses a transaction and nothing else.

        Raises:
            LocalProtocolError: The bytes are not exactly one transaction.
        """
        reader = Reader(data)
        transaction = cls.take_from(reader)
        reader.finish()
        return transaction

    @classmethod
    def take_from(cls, reader: Reader) -> Transaction:
        """Takes one transaction off a reader."""
        version = reader.take_u32()
        segwit = reader.data[reader.offset : reader.offset + 2] == b"\x00\x01"
        if segwit:
            reader.take(2)
        inputs = [_take_input(reader) for _ in range(reader.take_compact_size())]
        outputs = [_take_output(reader) for _ in range(reader.take_compact_size())]
        if segwit:
            inputs = [_take_witness(reader, each) for each in inputs]
            if not any(each.witness for each in inputs):
                raise LocalProtocolError("a transaction with the witness mark has no witness")
        if not inputs:
            raise LocalProtocolError("a transaction has no inputs")
        return cls(version, tuple(inputs), tuple(outputs), reader.take_u32())

    def to_bytes(self, *, witness: bool = True) -> bytes:
        """Returns the serialisation, with the witnesses unless told otherwise."""
        witness = witness and any(each.witness for each in self.inputs)
        parts = [struct.pack("<I", self.version), b"\x00\x01" if witness else b""]
        parts.append(compact_size(len(self.inputs)))
        for each in self.inputs:
            parts.append(each.previous[0] + struct.pack("<I", each.previous[1]))
            parts.append(compact_size(len(each.script)) + each.script)
            parts.append(struct.pack("<I", each.sequence))
        parts.append(compact_size(len(self.outputs)))
        parts.extend(output.to_bytes() for output in self.outputs)
        if witness:
            for each in self.inputs:
                parts.append(compact_size(len(each.witness)))
                parts.extend(compact_size(len(item)) + item for item in each.witness)
        parts.append(struct.pack("<I", self.locktime))
        return b"".join(parts)

    @cached_property
    def raw(self) -> bytes:
        """The serialisation with the witnesses, kept."""
        return self.to_bytes()

    @cached_property
    def txid(self) -> bytes:
        """The hash that other transactions name it by, 32 bytes in internal order."""
        return sha256d(self.to_bytes(witness=False))

    @cached_property
    def wtxid(self) -> bytes:
        """The hash over the witnesses too, 32 bytes in internal order."""
        return sha256d(self.raw)

    @cached_property
    def weight(self) -> int:
        """The weight in weight units."""
        bare = len(self.to_bytes(witness=False))
        return bare * (WITNESS_SCALE_FACTOR - 1) + len(self.raw)

    @property
    def is_coinbase(self) -> bool:
        """Whether it spends the null output, which only a coinbase does."""
        return len(self.inputs) == 1 and self.inputs[0].previous == (bytes(32), 0xFFFFFFFF)


def _take_input(reader: Reader) -> TxInput:
    previous = (reader.take(32), reader.take_u32())
    return TxInput(previous, reader.take_bytes(), reader.take_u32())


def _take_output(reader: Reader) -> TxOutput:
    value = int.from_bytes(reader.take(8), "little", signed=True)
    return TxOutput(value, reader.take_bytes())


def _take_witness(reader: Reader, bare: TxInput) -> TxInput:
    items = tuple(reader.take_bytes() for _ in range(reader.take_compact_size()))
    return TxInput(bare.previous, bare.script, bare.sequence, items)
