"""Meters what a declarer may do in a while: so much at once, and then as much as time allows."""

from __future__ import annotations

__all__ = ["Meter"]


class Meter:
    """Is a bucket that fills with time; nothing paid depends on it.

    Args:
        per_minute: What flows in a minute.
        burst: What the bucket holds; it is full at the start.
        now: The time, s, of a clock that never goes back.
    """

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self._per_second = per_minute / 60
        self._burst = burst
        self._left = burst
        self._seen = now

    def take(self, amount: float, now: float) -> bool:
        """Takes an amount if there is so much."""
        self._flow(now)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def owe(self, amount: float, now: float) -> float:
        """Takes an amount even if there is less; returns the seconds until it is paid for."""
        self._flow(now)
        self._left -= amount
        return max(0.0, -self._left / self._per_second)

    def ready_at(self, amount: float) -> float:
        """Returns when there will be so much, by the clock of the calls before."""
        return self._seen + max(0.0, (amount - self._left) / self._per_second)

    def _flow(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._seen) * self._per_second)
        self._seen = max(self._seen, now)
