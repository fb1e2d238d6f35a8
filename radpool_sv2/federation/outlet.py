"""Gathers the effects of a member's machines in the order in which they come up."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from radpool_sv2.federation.effect import Blame, Halt, Send

if TYPE_CHECKING:
    from radpool_sv2.federation.effect import Effect
    from radpool_sv2.federation.evidence import Evidence
    from radpool_sv2.federation.messages import Message

__all__ = ["Outlet"]


class Outlet:
    """Is where machines of one member leave their effects, and which links are up.

    Attributes:
        linked: Members whose link is up.
        halted: Whether a machine found something that nobody may sign over.
        now: The time, in milliseconds of a clock that never goes back.
        accusations: Evidence that the own stream is to carry; one per member and kind.
    """

    def __init__(self) -> None:
        self.linked: set[int] = set()
        self.halted = False
        self.now = 0
        self.accusations: deque[Evidence] = deque()
        self._blamed: set[tuple[int, int]] = set()
        self._effects: deque[Effect] = deque()

    def emit(self, effect: Effect) -> None:
        """Adds an effect."""
        if not self.halted:
            self._effects.append(effect)

    def send(self, member: int, message: Message) -> None:
        """Sends a message to a member, if its link is up."""
        if member in self.linked:
            self.emit(Send(member, message))

    def tell(self, message: Message) -> None:
        """Sends a message to every member whose link is up."""
        for member in sorted(self.linked):
            self.emit(Send(member, message))

    def blame(self, evidence: Evidence) -> None:
        """Accuses a member, once for each kind of statement."""
        if self.is_news(evidence):
            self.emit(Blame(evidence.offender, evidence))
            self.accusations.append(evidence)

    def is_news(self, evidence: Evidence) -> bool:
        """Says whether a member is accused of this kind for the first time, and remembers it."""
        key = evidence.offender, evidence.first.NUMBER
        if key in self._blamed:
            return False
        self._blamed.add(key)
        return True

    def halt(self, reason: str) -> None:
        """Stops the member: nothing that comes behind is done."""
        self.emit(Halt(reason))
        self.halted = True

    def poll(self) -> Effect | None:
        """Takes the next effect out."""
        return self._effects.popleft() if self._effects else None
