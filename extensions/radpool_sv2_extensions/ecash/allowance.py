"""Bounds what one connection may ask for: a bucket of requests that fills by itself.

All integers: milliseconds, and parts of a request so small that each millisecond brings whole ones.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Allowance"]

MS_PER_MINUTE = 60_000
MS_PER_S = 1_000


@dataclass(slots=True)
class Allowance:
    """Is a bucket.

    Attributes:
        per_minute: How many requests it gets in a minute.
        burst: The most that it holds; it begins full.
        parts: What it holds as of `at_ms`, in parts of 1/60,000 of a request.
        at_ms: When it was last looked at.
    """

    per_minute: int
    burst: int
    parts: int
    at_ms: int

    @classmethod
    def full(cls, per_minute: int, burst: int, now_ms: int) -> Allowance:
        """Makes a full one."""
        return cls(per_minute, burst, burst * MS_PER_MINUTE, now_ms)

    def take(self, now_ms: int) -> int:
        """Takes a request out if there is one.

        Returns:
            0 when there was; else the whole seconds until there will be, at least 1.
        """
        # A clock that stands or goes back gives nothing.
        gained = max(0, now_ms - self.at_ms) * self.per_minute
        self.parts = min(self.burst * MS_PER_MINUTE, self.parts + gained)
        self.at_ms = max(self.at_ms, now_ms)
        missing = MS_PER_MINUTE - self.parts
        if missing > 0:
            return -(-missing // (self.per_minute * MS_PER_S))
        self.parts -= MS_PER_MINUTE
        return 0
