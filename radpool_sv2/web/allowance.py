"""Bounds what strangers may have the mint compute: a bucket for each address, one for all.

Checking a token costs the mint some hundred microseconds and the one who sent it nothing. So each
request is charged by its items, and who is out of allowance is told when to come back.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

__all__ = ["Allowance"]

ITEMS_PER_SECOND = 500
"""What one address may ask for in the long run: some 5 % of a processor."""

BURST_ITEMS = 5_000
"""Five full requests at once: a wallet that merges a week's tokens."""

ALL_FACTOR = 8
"""All addresses together may ask for as much as eight."""

ADDRESSES_MAX = 4_096
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
