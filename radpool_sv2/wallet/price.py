"""Computes what tokens are worth and which tokens make up an amount; integers only.

Source: `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.wallet.announcement import EXPONENTS, EpochState, Policy

if TYPE_CHECKING:
    from radpool_sv2.wallet.store import Keyset

__all__ = ["MSAT_PER_SAT", "Price", "price_of", "split"]

MSAT_PER_SAT: Final = 1000


@dataclass(frozen=True, slots=True)
class Price:
    """Is what a keyset's units are worth: `num` millisatoshis for `den` units.

    Attributes:
        num: theta, what is paid for the keyset's whole work.
        den: W, the keyset's whole work in units.
        final: Whether it stays as it is.
    """

    num: int
    den: int
    final: bool

    def msat(self, units: int) -> int:
        """Returns floor(theta * n / W): one rounding down for one redemption."""
        return self.num * units // self.den

    def sats(self, units: int) -> int:
        """Returns the whole satoshis that a redemption of so many units gives."""
        return self.msat(units) // MSAT_PER_SAT


def price_of(keyset: Keyset) -> Price | None:
    """Returns what a keyset's units are worth as things stand; None if nothing pays them yet."""
    found = keyset.announcement
    if found.policy is Policy.FIXED:
        return Price(found.price_num, found.price_den, final=True)
    update = keyset.update
    if update is None or not update.work_total or not update.theta_msat:
        return None
    return Price(update.theta_msat, update.work_total, final=update.state >= EpochState.FINAL)


def split(amount: int) -> list[int]:
    """Returns the exponents of the powers of two that an amount is the sum of, ascending.

    Each amount has one such split, so it tells nothing about where the amount comes from.

    Raises:
        LocalProtocolError: No 64 tokens make up so much.
    """
    if not 0 < amount < 1 << EXPONENTS:
        raise LocalProtocolError(f"an amount of {amount}: 1 to 2^{EXPONENTS} - 1 can be split")
    return [exponent for exponent in range(amount.bit_length()) if amount >> exponent & 1]
