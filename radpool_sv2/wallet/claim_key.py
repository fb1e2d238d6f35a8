"""Derives claim keys: what value belongs to that shares have earned and no token stands for yet.

A channel names the key when it opens; whoever can sign by it gets the value out. All keys follow
from the words, so what a lost wallet has left with a mint is found again.

Source: `spec/08-wallet-recovery.md`, "Claim keys"; `spec/05-ecash-messages.md`, "Cash-out"; BIP340.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from coincurve import PrivateKey

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CASH_OUT_TAG", "ClaimKey", "cash_out_digest"]

DOMAIN: Final = b"radpool/claim-key"
CASH_OUT_TAG: Final = "radpool/cash-out"
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
EVEN: Final = 2
COUNTER_MAX: Final = (1 << 64) - 1


class ClaimKey:
    """Is one claim key; its representation shows nothing secret.

    Attributes:
        counter: Which of the wallet's it is.
        public: The point, 33 bytes; its y is even, so that BIP340 knows it by x alone.
    """

    def __init__(self, counter: int, secret: PrivateKey) -> None:
        self.counter = counter
        self.public = secret.public_key.format()
        self._secret = secret

    @classmethod
    def derive(cls, seed: bytes, counter: int) -> ClaimKey:
        """Derives a key.

        Args:
            seed: The wallet's 64 bytes.
            counter: From 0 to 2^64 - 1.

        Raises:
            LocalProtocolError: The counter is out of range, or one of the 2^-128 that have no key.
        """
        if not 0 <= counter <= COUNTER_MAX:
            raise LocalProtocolError(f"claim key {counter}: counters have 64 bits")
        digest = hmac.digest(seed, DOMAIN + counter.to_bytes(8, "big"), sha256)
        scalar = int.from_bytes(digest, "big") % ORDER
        if not scalar:
            raise LocalProtocolError(f"claim key {counter} does not exist: take the next counter")
        secret = PrivateKey.from_int(scalar)
        if secret.public_key.format()[0] != EVEN:
            secret = PrivateKey.from_int(ORDER - scalar)
        return cls(counter, secret)

    def __repr__(self) -> str:
        return f"ClaimKey(counter={self.counter}, public={self.public.hex()})"

    def sign(self, keyset_id: bytes, outputs: Iterable[tuple[int, bytes]]) -> bytes:
        """Signs that value is to become tokens of a keyset, 64 bytes.

        Args:
            keyset_id: The keyset, 33 bytes.
            outputs: Amount and blinded message of each, in the order of the request.
        """
        return self._secret.sign_schnorr(cash_out_digest(self.public, keyset_id, outputs))


def cash_out_digest(
    claim_key: bytes, keyset_id: bytes, outputs: Iterable[tuple[int, bytes]]
) -> bytes:
    """Returns what a claim key signs to have value cashed out."""
    parts = (amount.to_bytes(8, "little") + blinded for amount, blinded in outputs)
    return tagged_hash(CASH_OUT_TAG, claim_key, keyset_id, *parts)
