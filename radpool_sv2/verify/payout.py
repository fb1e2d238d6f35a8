"""Recomputes what settlements pay.

Source: `spec/04-epoch-accounting.md`, "Payout".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["payouts_of"]

Owner = tuple[bytes, int]


def payouts_of(
    amount: int, work: Mapping[Owner, int], block: bytes
) -> tuple[dict[Owner, int], int]:
    """Splits an amount by largest remainder.

    Args:
        amount: What the block brings and what is carried, sats; may be negative.
        work: What counts, by commitment and rail: value or work.
        block: The block's hash, internal byte order.

    Returns:
        The payouts above zero, and what is carried on.
    """
    total = sum(work.values())
    if amount <= 0 or total == 0:
        return {}, amount
    whole = {owner: amount * own // total for owner, own in work.items()}

    def precedence(owner: Owner) -> tuple[int, bytes]:
        remainder = amount * work[owner] % total
        return -remainder, tagged_hash("radpool/tie", block, owner[0], bytes([owner[1]]))

    left = amount - sum(whole.values())
    for owner in sorted(work, key=precedence)[:left]:
        whole[owner] += 1
    return {owner: sats for owner, sats in whole.items() if sats}, 0
