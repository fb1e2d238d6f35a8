"""Writes receipts: what a miner gets for a share whose claim is durable.

On an eager channel a receipt has the blind signature. On a lazy one signatures are made when they
are fetched; the mint signs a running hash over the channel's receipts instead, so that a claim that
it has confirmed cannot be denied.

Source: `spec/05-ecash-messages.md`, "SubmitSharesEcashExtended.Success".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from radpool_sv2.ecash.policy import WORK_UNIT
from radpool_sv2.store.ecash_schema import NO_TOKEN
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Collection

    from radpool_sv2._native.engine import RepeatedShare
    from radpool_sv2._native.ledger import MspKey
    from radpool_sv2.ecash.claim import ClaimEnclosure, ClaimRegister
    from radpool_sv2.ecash.keyring import Keyring

__all__ = ["ReceiptBook"]

NO_ROOT: Final = bytes(32)


class ReceiptBook:
    """Writes receipts, one call at a time."""

    def __init__(self, key: MspKey, keyring: Keyring, register: ClaimRegister) -> None:
        """Takes what stays the same.

        Args:
            key: The MSP's key, which signs the running hashes.
            keyring: The mint's keys.
            register: Who books claims.
        """
        self._key = key
        self._keyring = keyring
        self._register = register
        self._roots: dict[tuple[int, int], bytes] = {}

    def sign(
        self, enclosure: ClaimEnclosure, lazy_channels: Collection[tuple[int, int]]
    ) -> list[tuple[int, bytes]]:
        """Signs the claims of a batch that is durable; see `Mint.sign`."""
        lazy = frozenset(lazy_channels)
        claims = enclosure.claims
        keys = {number: self._keyring.keys(number, WORK_UNIT) for number in enclosure.keysets}
        claims.sign(keys, lazy=lazy)
        roots = {channel: self._roots.get(channel, NO_ROOT) for channel in lazy}
        payloads, after = claims.replies(self._key, roots)
        self._roots.update(after)
        return payloads

    def repeat(self, share: RepeatedShare, *, lazy: bool) -> bytes:
        """Books the claim of a share that is in the ledger; see `Mint.claim_repeated`."""
        claimed = self._register.claim(share)
        z = NO_TOKEN if claimed.exponent == NO_TOKEN else claimed.exponent + claimed.z0
        out = struct.pack("<IIIQH", share.channel, share.sequence, 0, 0, 1)
        out += struct.pack("<IB", share.sequence, z)
        if not lazy and z == NO_TOKEN:
            return out + 5 * _bytes(b"")
        if not lazy:
            keys = self._keyring.keys(claimed.keyset, WORK_UNIT)
            [signature] = keys.sign([(1 << claimed.exponent, claimed.message)])
            return out + b"".join(map(_bytes, signature)) + _bytes(b"") + _bytes(b"")
        channel = share.connection, share.channel
        root = self._roots.get(channel, NO_ROOT)
        if claimed.new:
            root = tagged_hash("radpool/receipt", root, claimed.message, bytes([z]), share.hash)
            self._roots[channel] = root
        head = struct.pack("<II", share.channel, share.sequence)
        signed = self._key.sign(tagged_hash("radpool/receipts", head, root))
        return out + 3 * _bytes(b"") + _bytes(root) + _bytes(signed)

    def forget(self, connection: int, channel: int) -> None:
        """Forgets the running hash of a channel that is gone; any thread may say so."""
        self._roots.pop((connection, channel), None)


def _bytes(data: bytes) -> bytes:
    return bytes([len(data)]) + data
