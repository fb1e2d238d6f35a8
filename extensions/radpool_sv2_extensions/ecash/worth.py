"""Counts what shares should have brought against what tokens they brought.

Where a keyset counts work, a share of exponent z brings a token of exponent z, or one is owed.

Where it counts value, a share is worth its work times the price of its template, which the miner of
a pool's templates is not told. The token is the largest power of two that value and residue make
up, and the rest waits; so single tokens say little. But three things are known. A unit costs what
it is worth on a template that pays the subsidy alone, and no template pays less while subsidy and
difficulty stay. What waits is always less than the last token. So, over all shares of a keyset,

    value < tokens + last token     and     value >= work, at the subsidy's price.

Below half of that, which takes a halving or a doubled difficulty within hours, a share counts as
one that its token did not pay for. Whatever is missing below the whole is said, and is for the
mint's books to explain: these name the price of each share, and anybody can add them up.

Source: `spec/06-work-tokens.md`, "What a share earns"; `spec/08-wallet-recovery.md`, "What is
checked".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Worth"]

ENOUGH: Final = 32
"""Before so many shares a word about the sum would be about chance."""


@dataclass(slots=True)
class Worth:
    """Is the count for one keyset. Work is in hashes, at the subsidy's price where it is value.

    Attributes:
        z0: The exponent of one unit.
        unit_value: What a unit costs of value; 0 where it counts work, None while nobody knows.
        shares: How many shares were counted.
        without: How many of them brought no token of their own.
        work: What they were worth at least.
        tokens: What their tokens are worth.
        last: The last token, or a unit where there was none.
    """

    z0: int
    unit_value: int | None
    shares: int = 0
    without: int = 0
    work: int = 0
    tokens: int = 0
    last: int = 0

    @property
    def by_value(self) -> bool:
        """Whether shares are worth what their templates pay."""
        return bool(self.unit_value)

    def take(self, exponent: int, units: int, *, in_turn: bool = True) -> bool:
        """Counts a share that was answered.

        Args:
            exponent: The share's.
            units: Those of its token; 0 if it brought none.
            in_turn: Whether it was answered in the order in which the mint counted.

        Returns:
            Whether the answer is good for the share.
        """
        work, token = 1 << exponent, units << self.z0
        if not self.by_value:
            return token >= work
        last = token or 1 << self.z0
        if not in_turn:
            last = max(last, self.last)
        if 2 * (self.tokens + token + last) <= self.work + work:
            return False
        self.shares += 1
        self.without += not units
        self.work += work
        self.tokens += token
        self.last = last
        return True

    @property
    def percent_max(self) -> int | None:
        """What the mint can have counted at most, in percent of the work at the subsidy's price.

        None while there are too few shares to tell.
        """
        if not self.by_value or self.shares < ENOUGH:
            return None
        return 100 * (self.tokens + self.last) // self.work

    @property
    def left_over_min(self) -> int:
        """What must be left over at the least, in units of value."""
        missing = max(0, self.work - self.tokens)
        return (missing * (self.unit_value or 0)) >> self.z0
