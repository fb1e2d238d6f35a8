"""Tells whoever waits which block is being mined now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.templates.declared import TipView

__all__ = ["TipBoard"]


class TipBoard:
    """Holds what the pool mines on, and what it mined on before.

    Attributes:
        now: The block to be found; None until a template is known.
        before: The one before, whose miners may still be heard of.
    """

    def __init__(self) -> None:
        self.now: TipView | None = None
        self.before: TipView | None = None
        self._changed = trio.Event()

    @property
    def tips(self) -> tuple[bytes, ...]:
        """The blocks that jobs may build on: the tip and the one before."""
        return tuple(each.prev_hash for each in (self.now, self.before) if each is not None)

    def post(self, tip: TipView) -> bool:
        """Takes up what is mined now; returns whether it builds on another block than before."""
        moved = self.now is None or self.now.prev_hash != tip.prev_hash
        if moved:
            self.before = self.now
        self.now = tip
        if moved:
            self._changed.set()
            self._changed = trio.Event()
        return moved

    async def until(self, fits: Callable[[TipView], bool], seconds_max: float) -> TipView | None:
        """Waits until the tip fits; returns None when it does not within a time."""
        with trio.move_on_after(seconds_max):
            while True:
                if self.now is not None and fits(self.now):
                    return self.now
                await self._changed.wait()
        return None
