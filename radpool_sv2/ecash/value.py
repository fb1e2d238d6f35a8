"""Says what shares and units are worth where keysets go by the value of templates.

Source: `spec/06-work-tokens.md`, "What a share earns".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ValueRule"]

MODE_VALUE: Final = 1


@dataclass(frozen=True, slots=True)
class ValueRule:
    """Is how a pool weighs its templates by value.

    Attributes:
        scale: Prices are in parts of 2^scale of a satoshi.
        base: The exponent of which a share is worth the price.
        subsidy_sats: Gives the subsidy of a block of a height.
    """

    scale: int
    base: int
    subsidy_sats: Callable[[int], int]

    @property
    def weight(self) -> tuple[int, int, int]:
        """The rule as batches have it: mode, scale, base."""
        return MODE_VALUE, self.scale, self.base

    def unit_value(self, z0: int, height: int, difficulty: int) -> int:
        """Returns what a unit of a keyset costs: a share of z0 on a template without fees.

        Args:
            z0: The exponent of the unit.
            height: The height of the block that is mined when the keyset opens.
            difficulty: How many hashes that block takes on average.
        """
        # There is a subsidy to go by even when there is none any more.
        price = (max(self.subsidy_sats(height), 1) << self.scale) // difficulty
        doublings = z0 - self.base
        return max(1, price << doublings if doublings >= 0 else price >> -doublings)

    def value(self, price: int, exponent: int) -> int:
        """Returns what a share of an exponent is worth on a template of a price."""
        return price << exponent - self.base
