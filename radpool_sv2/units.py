"""Defines the integers of the project: the ladder of targets, work, and the hashes that bind them.

Source: `spec/01-conventions.md`.
"""

from __future__ import annotations

from hashlib import sha256

__all__ = [
    "EXPONENT_MAX",
    "HASH_LEN",
    "check_exponent",
    "leading_zero_bits",
    "sha256d",
    "tagged_hash",
    "target_of",
    "work_of",
]

EXPONENT_MAX = 120
"""The hardest step: 2^120 hashes are some 2^40 times what the network does for a block."""

HASH_LEN = 32


def sha256d(data: bytes) -> bytes:
    """Computes SHA-256 of SHA-256."""
    return sha256(sha256(data).digest()).digest()


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Computes the BIP340 tagged hash of the concatenation of `parts`."""
    tag_hash = sha256(tag.encode()).digest()
    state = sha256(tag_hash + tag_hash)
    for part in parts:
        state.update(part)
    return state.digest()


def check_exponent(exponent: int) -> int:
    """Returns an exponent that is on the ladder.

    Raises:
        ValueError: It is below 0 or above 120.
    """
    if not 0 <= exponent <= EXPONENT_MAX:
        raise ValueError(f"exponent z = {exponent} is outside the ladder: give 0 to {EXPONENT_MAX}")
    return exponent


def target_of(exponent: int) -> int:
    """Returns the target of a step: the largest hash that is a share, 2^(256-z) - 1."""
    return (1 << (256 - check_exponent(exponent))) - 1


def work_of(exponent: int) -> int:
    """Returns the work of one share at a step: exactly 2^z expected hashes."""
    return 1 << check_exponent(exponent)


def leading_zero_bits(block_hash: bytes) -> int:
    """Counts the leading zero bits of a hash in internal byte order, read as a number: 0 to 256."""
    return 8 * HASH_LEN - int.from_bytes(block_hash, "little").bit_length()
