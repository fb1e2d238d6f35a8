"""Keeps the mint in step with time, chain and ledger, and tells who follows it what has changed.

The mint itself is a machine that is moved by `advance`. This desk calls it each second, and at once
when something happened that may move it: another tip, a block, a settlement, shares. One call runs
at a time, and whatever happens meanwhile makes one more.

A mint that cannot write is tried again; what it has signed so far stays good, and shares go on
being stored with their claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2.ecash.keyset import ChainView, KeysetChange
    from radpool_sv2.ecash.mint import Mint

    Listener = Callable[[Sequence[KeysetChange]], Awaitable[None]]

__all__ = ["MintDesk"]

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 1.0
"""How late a keyset may close that closes by the clock."""

RETRY_SECONDS: Final = 1.0
"""How long a store that could not write is left alone."""


class MintDesk:
    """Moves the mint; `run` is the role.

    Attributes:
        problem: What keeps it from moving, in plain words; empty when nothing does.
    """

    def __init__(self, mint: Mint, chain: ChainView) -> None:
        self._mint = mint
        self._chain = chain
        self._listeners: list[Listener] = []
        self._woken = trio.Event()
        self.problem = ""

    def wake(self) -> None:
        """Says that something happened which may move the mint."""
        self._woken.set()

    def follow(self, listener: Listener) -> None:
        """Lets a listener know of every change from now on; it holds up the desk while it runs."""
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """Ends what `follow` began."""
        self._listeners.remove(listener)

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Opens the keysets that are missing, then moves the mint until `stop` is set.

        It serves once the chain is known and the mint has a keyset of each policy.

        Raises:
            StoreError: The mint cannot begin.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, task_status)
            await stop.wait()
            nursery.cancel_scope.cancel()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        while self._chain.tip is None or self._chain.block_target is None:
            await self._wait()
        await self._mint.start()
        task_status.started()
        await self._move()

    async def _wait(self) -> None:
        with trio.move_on_after(TICK_SECONDS):
            await self._woken.wait()
        self._woken = trio.Event()

    async def _move(self) -> None:
        while True:
            try:
                changes = await self._mint.advance()
            except StoreError as error:
                self.problem = f"the mint cannot move on: {error}"
                log.error("the mint cannot move on yet", reason=str(error))  # noqa: TRY400
                await trio.sleep(RETRY_SECONDS)
                continue
            self.problem = ""
            if changes:
                for listener in tuple(self._listeners):
                    await listener(changes)
            await self._wait()
