"""Keeps job tokens ready, so that a new tip needs no question first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from radpool_sv2.jdc.coinbase import JobOutputs

__all__ = ["Token", "TokenStock"]

FRESH_S: Final = 60.0
"""An older token is passed over for a newer one, whose tag has the exponent of now."""


@dataclass(frozen=True, slots=True)
class Token:
    """Is a token, what it asks of the coinbase's outputs, and when it came."""

    token: bytes
    outputs: JobOutputs
    since_s: float


@dataclass
class TokenStock:
    """Is the tokens of one connection.

    Attributes:
        ahead: How many are kept or asked for at a time.
        deadline_s: How long the pool may take for one.
    """

    ahead: int
    deadline_s: float
    _ready: deque[Token] = field(default_factory=deque)
    _asked: dict[int, float] = field(default_factory=dict)
    _requests: int = 0

    def ask(self, now_s: float) -> list[int]:
        """Returns the numbers of the requests that are to be sent now."""
        numbers = []
        while len(self._ready) + len(self._asked) < self.ahead:
            self._requests += 1
            self._asked[self._requests] = now_s
            numbers.append(self._requests)
        return numbers

    def renew(self) -> None:
        """Throws away what is ready or under way, so that tokens of now are asked for."""
        self._ready.clear()
        self._asked.clear()

    def take_in(self, request: int, token: bytes, outputs: JobOutputs, now_s: float) -> bool:
        """Keeps a token; tells whether it was asked for."""
        if self._asked.pop(request, None) is None:
            return False
        self._ready.append(Token(token, outputs, now_s))
        return True

    def draw(self, now_s: float) -> Token | None:
        """Takes a token; each is used once."""
        while len(self._ready) > 1 and now_s - self._ready[0].since_s > FRESH_S:
            self._ready.popleft()
        return self._ready.popleft() if self._ready else None

    @property
    def is_ready(self) -> bool:
        """Whether there is one to draw."""
        return bool(self._ready)

    def next_deadline(self) -> float | None:
        """Returns when the pool is late with a token."""
        if not self._asked:
            return None
        return min(self._asked.values()) + self.deadline_s
