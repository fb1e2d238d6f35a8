"""Decides which pool is mined for: the first of the list that works, else none of them.

Theory of operation. Each pool is a rung; the one of the highest rank (the lowest number) that works
is in use, and while there is none, blocks are mined solo. A pool works once it has accepted a job,
so that miners are never sent to one that only answers. The states, and what moves them:

    idle --due, and above the one in use--> tried --Worked--> in use
    tried, in use --Failed--> idle, due again after a pause
    in use --one of a higher rank worked--> idle, due at once

- One pool is tried at a time, of those that are due the one of the highest rank.
- A pause doubles with each failure up to a longest one, and starts small again once the pool was in
  use for `HEALTHY_S`. Whoever asks to be called again is, without a pause; but once in a row, so
  that nobody keeps the next pools from their turn.
- Who lost all trust is never tried again, even if it was idle by then.
- Whoever fails while in use leaves nobody in use until another works: what it mined for is void.

Only the machine's own count of failures decides, never the code of an error. Bounds: as many rungs
as pools, at most four effects for one event.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = ["Drop", "Effect", "Event", "Failed", "Ladder", "Try", "Use", "Worked"]

HEALTHY_S: Final = 60.0
"""A pool that worked this long and then fails most likely restarts: it is tried again soon."""
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Worked:
    """Says that the pool which is tried has accepted a job."""

    rung: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Says that a pool which was tried or in use is of no use now.

    Attributes:
        rung: The pool.
        at_once: Whether it asked itself to be tried again, so that there is no pause.
        for_good: Whether it did what ends all trust in it: it is not tried again.
    """

    rung: int
    at_once: bool = False
    for_good: bool = False


Event: TypeAlias = Worked | Failed


@dataclass(frozen=True, slots=True)
class Try:
    """Asks to connect to a pool and to declare to it."""

    rung: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Asks to leave a pool."""

    rung: int


@dataclass(frozen=True, slots=True)
class Use:
    """Asks to mine for a pool from now on, or solo when it is None."""

    rung: int | None


Effect: TypeAlias = Try | Drop | Use


@dataclass(slots=True)
class _Rung:
    due_s: float
    failures: int = 0


@dataclass
class Ladder:
    """Is the machine; see the module's head. Times are seconds of a clock that only goes on.

    Attributes:
        count: How many pools there are.
        pause_s: The first pause after a failure.
        pause_s_max: The longest.
        in_use: The pool that is mined for; None is solo.
        tried: The pool that is tried.
    """

    count: int
    pause_s: float
    pause_s_max: float
    in_use: int | None = None
    tried: int | None = None
    _rungs: list[_Rung] = field(init=False)
    _used_since_s: float = 0.0
    _effects: deque[Effect] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Makes every pool due."""
        self._rungs = [_Rung(float("-inf")) for _ in range(self.count)]

    def start(self, now_s: float) -> None:
        """Begins: solo, and with the first pool tried."""
        self._effects.append(Use(None))
        self._try_next(now_s)

    def handle(self, event: Event, now_s: float) -> None:
        """Takes in what became of a pool; of one that is idle, only the loss of trust is news."""
        if isinstance(event, Failed) and event.for_good:
            self._rungs[event.rung].due_s = NEVER
        if event.rung not in {self.tried, self.in_use}:
            return
        if isinstance(event, Worked):
            self._use(event.rung, now_s)
        else:
            self._give_up(event, now_s)
        self._try_next(now_s)

    def handle_deadline(self, now_s: float) -> None:
        """Tries whichever pool is due."""
        self._try_next(now_s)

    def next_deadline(self) -> float | None:
        """Returns when a pool becomes due that is to be tried; None while nothing is waited for."""
        if self.tried is not None:
            return None
        due_s = min((self._rungs[rung].due_s for rung in self._wanted()), default=NEVER)
        return None if due_s == NEVER else due_s

    def poll(self) -> Effect | None:
        """Returns the next effect, in order."""
        return self._effects.popleft() if self._effects else None

    def _wanted(self) -> range:
        """Returns the pools that would be better than what is in use."""
        return range(self.count if self.in_use is None else self.in_use)

    def _use(self, rung: int, now_s: float) -> None:
        if rung != self.tried:
            return
        left, self.tried, self.in_use = self.in_use, None, rung
        self._used_since_s = now_s
        self._effects.append(Use(rung))
        if left is not None:
            self._rungs[left] = _Rung(now_s)
            self._effects.append(Drop(left))

    def _give_up(self, event: Failed, now_s: float) -> None:
        rung = self._rungs[event.rung]
        if event.rung == self.in_use:
            self.in_use = None
            if now_s - self._used_since_s >= HEALTHY_S:
                rung.failures = 0
            self._effects.append(Use(None))
        else:
            self.tried = None
        doubled = self.pause_s * (1 << min(rung.failures, 32))
        pause_s = 0.0 if event.at_once and not rung.failures else min(doubled, self.pause_s_max)
        rung.due_s = NEVER if event.for_good else now_s + pause_s
        rung.failures += 1
        self._effects.append(Drop(event.rung))

    def _try_next(self, now_s: float) -> None:
        if self.tried is not None:
            return
        due = (rung for rung in self._wanted() if self._rungs[rung].due_s <= now_s)
        self.tried = next(due, None)
        if self.tried is not None:
            self._effects.append(Try(self.tried))
