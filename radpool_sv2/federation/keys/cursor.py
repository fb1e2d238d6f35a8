"""Walks over decided epochs: where in each stream the next segment begins.

Source: `spec/14-epoch-agreement.md`, "Cuts".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.record import Started

if TYPE_CHECKING:
    from radpool_sv2.federation.agreement.mark import Cut, Ending

__all__ = ["Cursor"]


class Cursor:
    """Is a place between two epochs.

    Args:
        start: The place to begin at; before epoch 0 without one.

    Attributes:
        epoch: The epoch behind it.
    """

    def __init__(self, start: Started | None = None) -> None:
        self.epoch = 0 if start is None else start.decided
        self._endings: dict[int, tuple[int, Ending]] = {}
        for epoch, ending in () if start is None else start.endings:
            self._endings[ending.member] = epoch, ending

    def first(self, member: int) -> int:
        """Returns the first entry of a member's next segment."""
        known = self._endings.get(member)
        return 0 if known is None else known[1].seq + 1

    def behind(self, cut: Cut) -> Cursor:
        """Returns the place behind the next epoch.

        Raises:
            LocalProtocolError: It is not the next one.
        """
        if cut.epoch != self.epoch:
            raise LocalProtocolError(f"epoch {self.epoch} is the next, not {cut.epoch}")
        cursor = Cursor()
        cursor.epoch = self.epoch + 1
        cursor._endings = self._endings | {each.member: (cut.epoch, each) for each in cut.endings}
        return cursor

    @property
    def start(self) -> Started:
        """The place as a record; checkpoints sign it with the state."""
        return Started(self.epoch, tuple(each for _, each in sorted(self._endings.items())))
