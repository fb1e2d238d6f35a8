"""Bounds what strangers may have the mint compute: a bucket for each address, one for all.

Checking a token, or signing for one, costs the mint some hundred microseconds and the one who asks
nothing. So each request is charged by what it makes the mint compute, and who is out of allowance
is told when to come back. Looking something up in the database costs a small part of that.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

__all__ = ["LOOKUPS_PER_ITEM", "Allowance"]

ITEMS_PER_SECOND: Final = 2_000
"""What one address may ask for in the long run: some 15 % of a processor."""

BURST_ITEMS: Final = 40_000
"""Several households behind one address that each merge a week's thousands of tokens."""

ALL_FACTOR: Final = 4
"""All addresses together may ask for as much as four: less than one processor."""

LOOKUPS_PER_ITEM: Final = 16
"""So many look-ups of claims or spent tokens cost as much as one signature."""

ADDRESSES_MAX: Final = 4_096
"""Of more addresses the one that has not asked for longest is forgotten."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float

    def seconds_until(self, cost: int, now: float, rate: float, size: float) -> float:
        self.level = min(size, self.level + (now - self.at) * rate)
        self.at = now
        return max(0.0, (cost - self.level) / rate)


class Allowance:
    """Grants requests by what they cost."""

    def __init__(
        self,
        *,
        items_per_second: int = ITEMS_PER_SECOND,
        burst_items: int = BURST_ITEMS,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._rate = items_per_second
        self._burst = burst_items
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None

    def take(self, address: str, items: int) -> int:
        """Charges a request; returns 0, or the seconds after which it may be tried again.

        A request that is not granted costs nothing. One that costs more than a whole bucket costs
        a whole bucket.
        """
        now = self._now()
        cost = min(items, self._burst)
        all_rate, all_size = ALL_FACTOR * self._rate, ALL_FACTOR * self._burst
        if self._all is None:
            self._all = _Bucket(all_size, now)
        own = self._buckets.setdefault(address, _Bucket(self._burst, now))
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        wait = max(
            own.seconds_until(cost, now, self._rate, self._burst),
            self._all.seconds_until(cost, now, all_rate, all_size),
        )
        if wait > 0:
            return int(wait) + 1
        own.level -= cost
        self._all.level -= cost
        return 0

    def charge(self, address: str, items: int) -> None:
        """Charges what a request that was granted turned out to cost besides."""
        for bucket in (self._buckets.get(address), self._all):
            if bucket is not None:
                bucket.level -= items
