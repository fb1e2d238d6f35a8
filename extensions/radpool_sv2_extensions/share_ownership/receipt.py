"""Is the arithmetic of running receipts, for single shares; batches have it in the native module.

Source: `spec/11-owner-registration.md`, "Receipts".
"""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.units import tagged_hash

__all__ = ["Receipt"]

NO_SHARES = bytes(32)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Is what a receipt says of a channel's shares.

    Attributes:
        count: How many they are.
        work: The sum of their work, hashes.
        root: What commits to each and their order, 32 bytes.
    """

    count: int = 0
    work: int = 0
    root: bytes = NO_SHARES

    @property
    def state(self) -> tuple[int, int, bytes]:
        """The three as the native module takes them."""
        return self.count, self.work, self.root

    def extended(self, share_hash: bytes, exponent: int) -> Receipt:
        """Returns the receipt with one more share.

        Args:
            share_hash: Its header hash, 32 bytes, internal order.
            exponent: The step of its tag.
        """
        root = tagged_hash("radpool/owner-share", self.root, share_hash, bytes([exponent]))
        return Receipt(self.count + 1, self.work + (1 << exponent), root)

    def signed_hash(self, number: int) -> bytes:
        """Returns the hash that the MSP signs for a registration."""
        return tagged_hash(
            "radpool/owner-receipt",
            number.to_bytes(8, "little"),
            self.count.to_bytes(8, "little"),
            self.work.to_bytes(16, "little"),
            self.root,
        )
