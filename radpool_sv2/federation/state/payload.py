"""Defines what members tell each other for the books: tips, bodies, scripts, keys, blocks.

Source: `spec/15-checkpoint-state.md`, "Payloads".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coincurve import PublicKeyXOnly

from radpool_sv2._native.threshold import CHECKPOINT, ORACLE, TREASURY
from radpool_sv2.federation.codec import (
    HASH_LEN,
    KEY_LEN,
    CodecError,
    Reader,
    sized,
    u8,
    u16,
    u32,
    u64,
)

__all__ = [
    "BODY_BYTES_MAX",
    "NO_OUTPUT",
    "SCRIPT_BYTES_MAX",
    "Found",
    "KeySaid",
    "Tip",
    "decode_bodies",
    "decode_mature",
    "decode_script",
    "encode_bodies",
]

BODY_BYTES_MAX: Final = 4 + 32 + 4 + 4 + 3 * (2 + 0xFFFF) + 1 + 32 * 32
SCRIPT_BYTES_MAX: Final = 34

SCRIPT_FORMS: Final = (
    (b"\x76\xa9\x14", 20, b"\x88\xac"),
    (b"\xa9\x14", 20, b"\x87"),
    (b"\x00\x14", 20, b""),
    (b"\x00\x20", 32, b""),
    (b"\x51\x20", 32, b""),
)
"""Addresses of keys and scripts, and of witness programs of both kinds and of taproot. Every node
relays what pays them from 546 sats on: one member's script that none relays would hold up what all
are paid, and signature operations of scripts in a coinbase count against the block."""

BODIES_MAX: Final = 0xFFFF

SATS_MAX: Final = 21_000_000 * 100_000_000
"""What there will ever be; parts of it times weights of 16 bytes are numbers that add up."""

NO_OUTPUT: Final = 0xFFFF
"""Stands for the output of a block that pays the members themselves."""


@dataclass(frozen=True, slots=True)
class Tip:
    """Is what a member says of the block that is to be found next.

    Attributes:
        prev_hash: The block that it builds on, internal byte order.
        height: Its height.
        nbits: What its header must have.
        target: What its hash must not exceed; on a test chain it may be harder than `nbits`.
        fees_sats: The most that the member's own node has offered in fees.
    """

    prev_hash: bytes
    height: int
    nbits: int
    target: int
    fees_sats: int

    @property
    def facts(self) -> tuple[int, int, int]:
        """What honest members cannot differ about."""
        return self.height, self.nbits, self.target

    def encode(self) -> bytes:
        """Writes the tip, 80 bytes."""
        numbers = u32(self.height) + u32(self.nbits)
        return self.prev_hash + numbers + self.target.to_bytes(32, "little") + u64(self.fees_sats)

    @classmethod
    def decode(cls, data: bytes) -> Tip:
        """Reads a tip.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            return cls.read(reader)

    @classmethod
    def read(cls, reader: Reader) -> Tip:
        """Takes a tip off a reader."""
        prev_hash, height, nbits = reader.take(HASH_LEN), reader.u32(), reader.u32()
        target = int.from_bytes(reader.take(32), "little")
        if target == 0:
            raise CodecError("no block's hash can be at or below a target of 0")
        return cls(prev_hash, height, nbits, target, reader.u64())


@dataclass(frozen=True, slots=True)
class KeySaid:
    """Is what a member says of a key once it has been generated.

    Attributes:
        purpose: What it is for: `CHECKPOINT`, `TREASURY` or `ORACLE`.
        key: The key without a tweak, 32 bytes x-only.
        transcript: Digest of how it was generated, 32 bytes.
    """

    purpose: int
    key: bytes
    transcript: bytes

    def encode(self) -> bytes:
        """Writes it, 65 bytes."""
        return u8(self.purpose) + self.key + self.transcript

    @classmethod
    def decode(cls, data: bytes) -> KeySaid:
        """Reads it.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            said = cls.read(reader)
        try:
            PublicKeyXOnly(said.key)
        except ValueError as error:
            raise CodecError(f"{said.key.hex()} is no key: {error}") from error
        return said

    @classmethod
    def read(cls, reader: Reader) -> KeySaid:
        """Takes it off a reader."""
        purpose = reader.u8()
        if purpose not in {CHECKPOINT, TREASURY, ORACLE}:
            raise CodecError(f"no key is for purpose {purpose}; there are 1 to 3")
        return cls(purpose, reader.take(KEY_LEN), reader.take(HASH_LEN))


@dataclass(frozen=True, slots=True)
class Found:
    """Is what a member says of a block that its own node has and that pays the federation.

    Attributes:
        block_hash: The block, internal byte order.
        height: Its height.
        txid: Of its coinbase, internal byte order.
        vout: Which output pays the syndicate; `NO_OUTPUT` where members are paid themselves.
        value: What it pays, sats: that output, or all that is paid to members.
        paid: What it pays to, 32 bytes: the x-only key in the syndicate's output; where members are
            paid themselves, double SHA-256 of their outputs.
    """

    block_hash: bytes
    height: int
    txid: bytes
    vout: int
    value: int
    paid: bytes

    def encode(self) -> bytes:
        """Writes it, 110 bytes."""
        block = self.block_hash + u32(self.height)
        return block + self.txid + u16(self.vout) + u64(self.value) + self.paid

    @classmethod
    def decode(cls, data: bytes) -> Found:
        """Reads it.

        Raises:
            CodecError: The bytes are none.
        """
        with Reader(data) as reader:
            return cls.read(reader)

    @classmethod
    def read(cls, reader: Reader) -> Found:
        """Takes it off a reader."""
        block_hash, height, txid = reader.take(HASH_LEN), reader.u32(), reader.take(HASH_LEN)
        vout, value = reader.u16(), reader.u64()
        if value > SATS_MAX:
            raise CodecError(f"a block pays {value} sats: there are no more than {SATS_MAX}")
        return cls(block_hash, height, txid, vout, value, reader.take(KEY_LEN))


def decode_mature(data: bytes) -> bytes:
    """Reads which block is mature: its hash, internal byte order.

    Raises:
        CodecError: It is no hash.
    """
    if len(data) != HASH_LEN:
        raise CodecError(f"a block's hash has {HASH_LEN} bytes, not {len(data)}")
    return data


def encode_bodies(bodies: list[bytes]) -> bytes:
    """Writes template bodies for one payload."""
    return u16(len(bodies)) + b"".join(sized(body) for body in bodies)


def decode_bodies(data: bytes) -> list[bytes]:
    """Reads template bodies, which may be anything.

    Raises:
        CodecError: The bytes are no list of them.
    """
    with Reader(data) as reader:
        return [reader.sized(BODY_BYTES_MAX, "a template body") for _ in range(reader.u16())]


def decode_script(data: bytes) -> bytes:
    """Reads a payout script.

    Raises:
        CodecError: It has none of the forms that addresses stand for.
    """
    for start, hash_len, end in SCRIPT_FORMS:
        is_long_enough = len(data) == len(start) + hash_len + len(end)
        if is_long_enough and data.startswith(start) and data.endswith(end):
            return data
    raise CodecError(
        f"{data[:SCRIPT_BYTES_MAX].hex()} is no payout script: it must be one that an address "
        "stands for, of a key, a script, or a witness of version 0 or 1"
    )
