"""Computes prices, caps and quality: one floor each, no fractions.

Source: `spec/09-template-value.md`, "Price".
"""

from __future__ import annotations

from typing import Final

from radpool_sv2.weight.scale import Scale, WeightMode

__all__ = [
    "QUALITY_ONE",
    "cap_sats",
    "hashes_of_target",
    "price_of",
    "quality_q32",
]

EXTRA_SATS_MIN: Final = 50_000
"""What a template may always have above the reference: blocks with few fees differ by luck."""

EXTRA_SHIFT: Final = 2
"""A template may have a quarter of the reference fees more than these."""

QUALITY_ONE: Final = 1 << 32
"""The quality of a template that pays what the reference does."""


def hashes_of_target(target: int) -> int:
    """Returns how many hashes a block of this target takes on average, rounded down."""
    return (1 << 256) // (target + 1)


def cap_sats(subsidy: int, reference_sats: int, *, upside: bool = True) -> int:
    """Returns what of a coinbase's payment to the pool counts at most.

    Args:
        subsidy: The block's subsidy, sats.
        reference_sats: The fees that honest nodes offer.
        upside: Whether a better template than the reference may earn more. One of which nobody has
            seen the transactions may not.
    """
    extra = max(reference_sats >> EXTRA_SHIFT, EXTRA_SATS_MIN) if upside else 0
    return subsidy + reference_sats + extra


def price_of(  # noqa: PLR0913 - the inputs of the formula
    mode: WeightMode, scale: Scale, *, target: int, subsidy: int, paid_sats: int, cap: int
) -> int:
    """Returns what a share of the scale's base exponent is worth.

    Args:
        mode: What the price is made of.
        scale: The network's unit.
        target: What the block's hash must not exceed.
        subsidy: The block's subsidy, sats.
        paid_sats: What the coinbase pays to the pool's script.
        cap: What counts of it at most, from `cap_sats`.
    """
    counted = min(paid_sats, cap)
    if mode is WeightMode.SLICE:
        return max(counted - subsidy, 0)
    parts = counted if mode is WeightMode.VALUE else 1
    return (parts << scale.bits) // hashes_of_target(target)


def quality_q32(paid_sats: int, *, subsidy: int, reference_sats: int) -> int:
    """Returns how good a template is: `QUALITY_ONE` when it pays what the reference does.

    A template above the cap has the quality of the cap.
    """
    counted = min(paid_sats, cap_sats(subsidy, reference_sats))
    whole = subsidy + reference_sats
    return 0 if whole == 0 else (counted << 32) // whole
