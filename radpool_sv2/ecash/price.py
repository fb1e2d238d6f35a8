"""Computes prices: what a settlement gives keysets, what tokens of a keyset are worth.

Everything is an integer, millisats and units, and products take as many bits as they need. Tokens
are rounded down once per redemption; rounding down is superadditive, so however tokens are parted
into redemptions, they are never worth more together than their keyset.

Source: `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MSAT_PER_SAT",
    "WORK_MAX",
    "Division",
    "divide",
    "fee_of",
    "share_out",
    "value_of",
    "value_of_each",
    "weights_of",
]

MSAT_PER_SAT: Final = 1_000

WORK_MAX: Final = (1 << 63) - 1
"""Units that a keyset's claims are worth at most: what a signed integer of 64 bits holds."""

_MILLION: Final = 1_000_000


class Paid(Protocol):
    """Is what the division of a settlement has to know of a keyset that it pays."""

    @property
    def work(self) -> int:
        """Units of its claims, above 0."""

    @property
    def unit_value(self) -> int:
        """What one of them costs; 0 where they are work."""

    @property
    def fee_ppm(self) -> int:
        """Announced fee, millionths of a settlement."""

    @property
    def fee_fixed_msat(self) -> int:
        """Announced fee of a settlement besides."""


@dataclass(frozen=True, slots=True)
class Division:
    """Is what becomes of a settlement's money and of what was carried, millisats.

    Attributes:
        fee_msat: What the mint keeps.
        carry_msat: What is carried to the next settlement.
        by_value: Whether the weights are what the units cost.
        weights: What each keyset counts.
        parts: What each keyset gets; empty when nothing is divided.
    """

    fee_msat: int
    carry_msat: int
    by_value: bool
    weights: Sequence[int]
    parts: Sequence[int]


def divide(theta_msat: int, carry_msat: int, keysets: Sequence[Paid]) -> Division:
    """Divides a settlement over the keysets that it pays: [ES-6] and [ES-7].

    Args:
        theta_msat: What the settlement brings.
        carry_msat: What earlier ones left over; below 0 when more was given than they brought.
        keysets: Those with work that take part, by their numbers.
    """
    fee = fee_of(theta_msat, ((each.fee_ppm, each.fee_fixed_msat) for each in keysets))
    by_value, weights = weights_of([(each.work, each.unit_value) for each in keysets])
    amount = theta_msat - fee + carry_msat
    if not keysets or amount <= 0:
        return Division(0, theta_msat + carry_msat, by_value, weights, ())
    return Division(fee, 0, by_value, weights, share_out(amount, weights))


def share_out(msat: int, works: Sequence[int]) -> list[int]:
    """Divides an amount by work: largest remainder, ties to whoever stands first.

    Args:
        msat: The amount, not negative.
        works: The work of each, of which at least one has some.

    Returns:
        The parts in order; they sum to the amount.
    """
    total = sum(works)
    divided = [divmod(msat * work, total) for work in works]
    parts = [part for part, _ in divided]
    # The sort is stable, so equal remainders stay in order.
    order = sorted(range(len(works)), key=lambda index: -divided[index][1])
    for index in order[: msat - sum(parts)]:
        parts[index] += 1
    return parts


def weights_of(keysets: Sequence[tuple[int, int]]) -> tuple[bool, list[int]]:
    """Returns what a settlement is divided over, and whether that is what units cost.

    Args:
        keysets: Units and what one of them costs, 0 where it is work, of each. Where one counts
            work, all are taken by their units.
    """
    by_value = bool(keysets) and all(unit_value for _, unit_value in keysets)
    return by_value, [work * (unit_value if by_value else 1) for work, unit_value in keysets]


def fee_of(theta_msat: int, terms: Iterable[tuple[int, int]]) -> int:
    """Computes the mint's part of a settlement: the least of what the paid keysets announced.

    Args:
        theta_msat: What the settlement brings.
        terms: Millionths and fixed millisats that each paid keyset announced.
    """
    fees = [theta_msat * ppm // _MILLION + fixed for ppm, fixed in terms]
    return min(*fees, theta_msat) if fees else 0


def value_of(price_num: int, price_den: int, units: int) -> int:
    """Returns what units are worth together, millisats, rounded down once."""
    return price_num * units // price_den


def value_of_each(price_num: int, price_den: int, amounts: Iterable[int]) -> int:
    """Returns what tokens are worth if each is rounded down by itself, as in the NUT-X draft."""
    return sum(price_num * amount // price_den for amount in amounts)
