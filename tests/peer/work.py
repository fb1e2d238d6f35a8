"""Does the arithmetic of mining: hashes, targets, merkle roots, coinbases, the owner tag.

Hashes are 32 bytes in the order in which SHA-256 gives them; as a number they are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .curve import tagged_hash

if TYPE_CHECKING:
    from .message import Message

HASH_MAX = 2**256 - 1
VERSION_MASK = 0x1FFFFFE0  # BIP323


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def number(hash_: bytes) -> int:
    return int.from_bytes(hash_, "little")


def ladder_target(z: int) -> bytes:
    """Returns the target 2^(256-z)-1, little-endian as SV2 sends it."""
    return (2 ** (256 - z) - 1).to_bytes(32, "little")


def exponent(target: bytes) -> int:
    """Returns the z of a target on the power-of-two ladder."""
    value = number(target)
    z = 256 - value.bit_length()
    if value != 2 ** (256 - z) - 1:
        raise ValueError(f"{value:#x} is no power of two minus one")
    return z


def nbits_target(nbits: int) -> int:
    """Expands the compact form of a block's target."""
    size, mantissa = nbits >> 24, nbits & 0x007FFFFF
    return mantissa << 8 * (size - 3) if size >= 3 else mantissa >> 8 * (3 - size)


def merkle_root(coinbase: bytes, path: list[bytes]) -> bytes:
    """Hashes a coinbase without witness up along its path."""
    root = sha256d(coinbase)
    for sibling in path:
        root = sha256d(root + sibling)
    return root


def block_header(
    version: int, prev_hash: bytes, root: bytes, ntime: int, nbits: int, nonce: int
) -> bytes:
    return struct.pack("<I", version) + prev_hash + root + struct.pack("<III", ntime, nbits, nonce)


@dataclass(frozen=True)
class Output:
    value: int
    script: bytes


@dataclass(frozen=True)
class Coinbase:
    """Is a coinbase transaction taken apart."""

    version: int
    script_sig: bytes
    sequence: int
    outputs: list[Output]
    locktime: int


class TransactionReader:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.raw), "the transaction ends early"
        self.at += count
        return self.raw[self.at - count : self.at]

    def compact(self) -> int:
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        return int.from_bytes(self.take({0xFD: 2, 0xFE: 4, 0xFF: 8}[first]), "little")


def parse_coinbase(raw: bytes) -> Coinbase:
    """Takes a coinbase without witness apart and checks that it is one."""
    reader = TransactionReader(raw)
    version = struct.unpack("<I", reader.take(4))[0]
    assert reader.compact() == 1, "a coinbase has one input; a zero here would be a witness marker"
    assert reader.take(36) == bytes(32) + b"\xff" * 4, "a coinbase spends nothing"
    script_sig = reader.take(reader.compact())
    assert 2 <= len(script_sig) <= 100, "consensus allows 2 to 100 bytes"
    sequence = struct.unpack("<I", reader.take(4))[0]
    outputs = []
    for _ in range(reader.compact()):
        value = struct.unpack("<Q", reader.take(8))[0]
        outputs.append(Output(value, reader.take(reader.compact())))
    locktime = struct.unpack("<I", reader.take(4))[0]
    assert reader.at == len(raw), "bytes behind the lock time"
    return Coinbase(version, script_sig, sequence, outputs, locktime)


def custom_coinbase(offer: Message, extranonce_len: int) -> tuple[bytes, bytes]:
    """Returns what stands before and behind the extranonce in the coinbase of a custom job."""
    script_len = len(offer.coinbase_prefix) + extranonce_len
    prefix = struct.pack("<I", offer.coinbase_tx_version) + b"\1" + bytes(32) + b"\xff" * 4
    suffix = struct.pack("<I", offer.coinbase_tx_input_n_sequence) + offer.coinbase_tx_outputs
    return (
        prefix + bytes([script_len]) + offer.coinbase_prefix,
        suffix + struct.pack("<I", offer.coinbase_tx_locktime),
    )


def owner_output(msp_key: bytes, commitment: bytes, epoch: int, rail: int, z: int) -> bytes:
    """Serialises the output that an owner's jobs must have."""
    binding = owner_binding(msp_key, commitment, epoch, rail, z)
    return bytes(8) + b"\x28\x6a\x26RADP" + bytes([0x10 | rail, z]) + binding


@dataclass(frozen=True)
class OwnerTag:
    """Is the output that says whom a share belongs to and what it weighs."""

    version: int
    rail: int
    z: int
    binding: bytes


def find_owner_tag(coinbase: Coinbase) -> OwnerTag:
    """Returns the one owner tag of a coinbase."""
    found = [
        output
        for output in coinbase.outputs
        if output.script[:6] == b"\x6a\x26RADP" and len(output.script) == 40
    ]
    assert len(found) == 1, f"{len(found)} owner outputs, one is due"
    assert found[0].value == 0, "the owner output carries no money"
    script = found[0].script
    return OwnerTag(script[6] >> 4, script[6] & 15, script[7], script[8:])


def owner_commitment(account: str, salt: bytes) -> bytes:
    return tagged_hash("radpool/account", account.encode() + salt)


def owner_binding(msp_key: bytes, commitment: bytes, epoch: int, rail: int, z: int) -> bytes:
    """Returns what the tag of such an owner must bind."""
    return tagged_hash("radpool/owner", msp_key + commitment + struct.pack("<IBB", epoch, rail, z))
