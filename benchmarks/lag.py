"""Measures how late an event loop is: what any of its tasks may have to wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

TICK_S: Final = 0.001
TICKS_MAX: Final = 1_000_000


@dataclass
class Lag:
    """Is how late the event loop was, tick by tick, s."""

    late: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        """Notes how much longer each short sleep takes than it should, as long as there is room."""
        while True:
            began = trio.current_time()
            await trio.sleep(TICK_S)
            if len(self.late) < TICKS_MAX:
                self.late.append(trio.current_time() - began - TICK_S)

    def p99_ms(self) -> float:
        """Returns what one tick in a hundred exceeds."""
        return sorted(self.late)[len(self.late) * 99 // 100] * 1_000

    def longest_ms(self) -> float:
        """Returns how late the latest tick was."""
        return max(self.late) * 1_000

    def take(self) -> dict[str, int]:
        """Returns the figures since the last call, us; begins anew."""
        if not self.late:
            return {}
        found = {
            "lag_p99_us": round(self.p99_ms() * 1_000),
            "lag_longest_us": round(self.longest_ms() * 1_000),
            "lag_ticks": len(self.late),
        }
        self.late.clear()
        return found
