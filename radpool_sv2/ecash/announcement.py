"""Writes and signs what the mint tells about keysets: EcashKeysetAnnounce and EcashEpochUpdate.

Source: `spec/05-ecash-messages.md`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Announcement", "MintKey", "Update"]

NO_BLOCK: Final = bytes(32)

GROUP_MAX: Final = 255
CONFIRMATIONS_MAX: Final = 0xFFFF


class MintKey(Protocol):
    """Is what the mint needs of the MSP's key, which is its identity."""

    @property
    def public(self) -> bytes:
        """The x-only public key, 32 bytes."""

    def sign(self, hash: bytes) -> bytes:  # noqa: A002 - the native class calls it so
        """Returns the BIP340 signature of a 32-byte hash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """Is the content of an EcashKeysetAnnounce; fee per input and expiry are always 0.

    Attributes:
        id: The keyset id, 33 bytes.
        unit: `work` or `sat`.
        policy: The policy's number; 255 for the sat keyset.
        epoch: The ledger's epoch.
        opened_height: The tip's height when it was opened.
        opened_block: The tip's hash, internal byte order.
        z0: The exponent of one unit; 0 for the sat keyset.
        keys: Compressed public keys for the amounts 2^0, 2^1 and so on.
        fee_ppm: Millionths of a settlement that the mint keeps.
        fee_fixed_msat: Millisats of a settlement that it keeps besides.
        price_num: Millisats per `price_den` units, policy fixed; else 0.
        price_den: See `price_num`.
        supersedes: The keyset that it follows, or nothing.
    """

    id: bytes
    unit: str
    policy: int
    epoch: int
    opened_height: int
    opened_block: bytes
    z0: int
    keys: Sequence[bytes]
    fee_ppm: int
    fee_fixed_msat: int
    price_num: int
    price_den: int
    supersedes: bytes

    def sign(self, key: MintKey) -> bytes:
        """Returns the payload of the message."""
        out = _bytes(self.id) + _bytes(self.unit.encode())
        out += struct.pack("<BII", self.policy, self.epoch, self.opened_height)
        out += self.opened_block + bytes([self.z0, len(self.keys)])
        for exponent, public in enumerate(self.keys):
            out += bytes([self.z0 + exponent]) + _bytes(public)
        out += struct.pack("<IQ", 0, 0)
        out += struct.pack(
            "<IQQQ", self.fee_ppm, self.fee_fixed_msat, self.price_num, self.price_den
        )
        out += _bytes(self.supersedes)
        return out + key.sign(tagged_hash("radpool/keyset", out))


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Is the content of an EcashEpochUpdate.

    Attributes:
        id: The keyset id, 33 bytes.
        state: The number of its state.
        block: The block that pays it or would, internal byte order; None when there is none.
        height: That block's height.
        confirmations: That block's confirmations.
        theta_msat: What the keyset is worth.
        work: The units of its claims.
        group: The ids of the other keysets that the same block pays.
        statement_hash: The hash of its settlement statement, or nothing.
        redeem_after_height: The tip at which it can be redeemed; 0 while that is not known.
        expires_at: When it expires, seconds since 1970; 0 while that is not known.
    """

    id: bytes
    state: int
    block: bytes | None
    height: int
    confirmations: int
    theta_msat: int
    work: int
    group: tuple[bytes, ...]
    statement_hash: bytes
    redeem_after_height: int
    expires_at: int

    def sign(self, key: MintKey) -> bytes:
        """Returns the payload of the message."""
        out = _bytes(self.id) + bytes([self.state]) + (self.block or NO_BLOCK)
        out += struct.pack(
            "<IHQQ",
            self.height,
            min(self.confirmations, CONFIRMATIONS_MAX),
            self.theta_msat,
            self.work,
        )
        group = self.group[:GROUP_MAX]
        out += bytes([len(group)]) + b"".join(map(_bytes, group))
        out += _bytes(self.statement_hash)
        out += struct.pack("<IQ", self.redeem_after_height, self.expires_at)
        return out + key.sign(tagged_hash("radpool/epoch-update", out))


def _bytes(data: bytes) -> bytes:
    return bytes([len(data)]) + data
