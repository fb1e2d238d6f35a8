"""Estimates hash rates from shares, with the interval that they leave open.

Shares come as a Poisson process: n shares of a given work determine the rate to about 1/sqrt(n).
The interval is Byar's approximation of the exact one, which it meets to some percent from one share
on; without any share the expected number is below 3.689, which is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Estimate", "Meter", "together"]

WINDOW_S: Final = 600.0
"""Over how long a rate is taken: a hundred shares of a device at the usual rate."""

SAMPLES_MAX: Final = 20
"""A translator has thousands of devices, and each keeps as many."""

DEVIATIONS: Final = 1.96
"""Standard deviations of a normal distribution on each side of 95 parts in 100."""

NONE_BELOW: Final = 3.689
"""With no event at all, the expected number is at most this at the same confidence."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Is a hash rate in hashes a second, and between what it lies in 95 cases of 100."""

    rate: float
    low: float
    high: float


@dataclass(slots=True)
class _Sample:
    time_s: float
    shares: int
    work: int


class Meter:
    """Watches counters that only grow."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: list[_Sample] = []

    def note(self, time_s: float, shares: int, work: int) -> None:
        """Takes the counters of a moment."""
        samples = self._samples
        if len(samples) >= 2:
            last, before = samples[-1], samples[-2]
            # Of a time without shares its two ends are enough.
            is_idle = before.shares == last.shares == shares
            if is_idle or time_s - before.time_s < WINDOW_S / SAMPLES_MAX:
                samples.pop()
        samples.append(_Sample(time_s, shares, work))
        while len(samples) > 2 and time_s - samples[1].time_s >= WINDOW_S:
            del samples[0]
        if len(samples) > 1 and samples[0].shares == samples[1].shares:
            samples[0].time_s = max(samples[0].time_s, time_s - WINDOW_S)

    def estimate(self) -> Estimate | None:
        """Returns the rate over the window; None before any time has passed."""
        if len(self._samples) < 2:
            return None
        first, last = self._samples[0], self._samples[-1]
        seconds = last.time_s - first.time_s
        if seconds <= 0:
            return None
        shares, work = last.shares - first.shares, last.work - first.work
        if shares == 0:
            return Estimate(0.0, 0.0, 0.0)
        each = work / shares / seconds
        low, high = interval(shares)
        return Estimate(work / seconds, low * each, high * each)


def together(estimates: Iterable[Estimate]) -> Estimate | None:
    """Returns the sum of rates that were estimated apart; None of none.

    Their errors are independent, so squares of them add up.
    """
    found = list(estimates)
    if not found:
        return None
    rate = sum(each.rate for each in found)
    below = math.hypot(*(each.rate - each.low for each in found))
    above = math.hypot(*(each.high - each.rate for each in found))
    return Estimate(rate, max(rate - below, 0.0), rate + above)


def interval(count: int) -> tuple[float, float]:
    """Returns between what the expected number of events lies when `count` have happened."""
    if count == 0:
        return 0.0, NONE_BELOW
    low = count * (1 - 1 / (9 * count) - DEVIATIONS / (3 * math.sqrt(count))) ** 3
    more = count + 1
    high = more * (1 - 1 / (9 * more) + DEVIATIONS / (3 * math.sqrt(more))) ** 3
    return max(low, 0.0), high
