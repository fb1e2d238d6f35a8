"""Lets few declarers send transactions at the same time, and sites take turns.

Theory of operation. A declaration whose transactions are not at hand may bring megabytes, and
declarations cost nothing. So it needs a place before the transactions are asked for, and holds it
until it is judged or given up:

    waiting -> placed -> left

There are PLACES in all, which bounds the memory that transactions take on their way, and few for
one site. Those of one site wait in line; a place that gets free goes to the site whose turn is the
longest ago. So whoever comes with many connections delays the others by one turn.

Bounds: the places; what waits is bounded by the connections and what each may have under way.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Final

import trio

__all__ = ["PLACES", "PLACES_PER_SITE", "Intake"]

PLACES: Final = 16
"""Of 4,000,000 bytes each at most; a node judges them one after the other anyway."""

PLACES_PER_SITE: Final = 2
"""One is judged while the other is sent."""


class Intake:
    """Is the door for transactions.

    Args:
        places: How many declarations may bring transactions at the same time.
        per_site: How many of one site.
    """

    def __init__(self, places: int = PLACES, per_site: int = PLACES_PER_SITE) -> None:
        self._free = places
        self._per_site = per_site
        self._held: Counter[str] = Counter()
        # The first had its turn the longest ago.
        self._waiting: OrderedDict[str, deque[trio.Event]] = OrderedDict()

    @property
    def held(self) -> int:
        """How many places are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """How many declarations wait for a place."""
        return sum(map(len, self._waiting.values()))

    async def enter(self, site: str) -> None:
        """Waits for a place; `leave` has to be called once, unless this call is cancelled."""
        called = trio.Event()
        self._waiting.setdefault(site, deque()).append(called)
        self._call()
        try:
            await called.wait()
        except trio.Cancelled:
            if called.is_set():
                self.leave(site)
            else:
                self._drop(site, called)
            raise

    def leave(self, site: str) -> None:
        """Gives a place back."""
        assert self._held[site] > 0, "who leaves has entered"
        self._held[site] -= 1
        if not self._held[site]:
            del self._held[site]
        self._free += 1
        self._call()

    def _call(self) -> None:
        """Gives free places to whose turn it is."""
        for site in list(self._waiting):
            if not self._free:
                return
            line = self._waiting[site]
            while line and self._free and self._held[site] < self._per_site:
                self._free -= 1
                self._held[site] += 1
                called = line.popleft()
                called.set()
                self._waiting.move_to_end(site)
                if not line:
                    del self._waiting[site]
                break  # the next one of this site comes behind the other sites

    def _drop(self, site: str, called: trio.Event) -> None:
        line = self._waiting[site]
        line.remove(called)
        if not line:
            del self._waiting[site]
