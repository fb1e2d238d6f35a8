"""Splits a reward by weight: largest remainder, exact to the satoshi.

Source: `spec/04-epoch-accounting.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Claim", "split_reward"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Is whom a part of a reward goes to, and for how much.

    Attributes:
        commitment: The owner's commitment, 32 bytes.
        rail: How the owner is paid.
        weight: The owner's value, or work, in the epochs that are paid.
    """

    commitment: bytes
    rail: int
    weight: int


def split_reward(sats: int, claims: Sequence[Claim], block_hash: bytes) -> list[int] | None:
    """Splits an amount in proportion to weight.

    Equal remainders go by a hash over block, owner and rail: nobody can aim at it, and no name is
    favoured for long.

    Args:
        sats: The amount, not negative.
        claims: Who shares in it.
        block_hash: The block that pays, internal byte order.

    Returns:
        The parts in the order of the claims, which sum to the amount; None when none has weight.
    """
    total = sum(claim.weight for claim in claims)
    if total == 0:
        return None
    divided = [divmod(sats * claim.weight, total) for claim in claims]
    parts = [part for part, _ in divided]

    def place(index: int) -> tuple[int, bytes]:
        claim = claims[index]
        lot = tagged_hash("radpool/tie", block_hash, claim.commitment, bytes([claim.rail]))
        return -divided[index][1], lot

    for index in sorted(range(len(claims)), key=place)[: sats - sum(parts)]:
        parts[index] += 1
    return parts
