"""Passes frames and repeated shares on to the extensions, within bounds.

Frames of all connections go one after another. Repeated shares wait until everything that was
drained before them is durable, since the share that they repeat may be in there; then several are
seen to at a time, because each costs a turn of the disk that they can share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2._native.engine import ExtensionFrame, RepeatedShare
from radpool_sv2.errors import StoreError
from radpool_sv2.pool.account import INTERNAL_ERROR

if TYPE_CHECKING:
    from radpool_sv2._native.engine import Engine
    from radpool_sv2.pool.registry import ExtensionRegistry

__all__ = ["ExtensionDesk"]

log = structlog.get_logger(__name__)

FRAMES_PENDING_MAX: Final = 1_024
"""Extension frames between the engine and the extensions; the engine bounds their bytes."""

REPEATS_PENDING_MAX: Final = 1_024
"""Repeated shares between the engine and the extensions; more are refused for the time being."""

REPEATS_AT_ONCE: Final = 16

TOO_MANY_REPEATS: Final = "submit-rate-exceeded"
"""What the engine, too, answers to a client that sends too much: it may try again."""


class ExtensionDesk:
    """Takes what the engine has for extensions; `run` passes it on."""

    def __init__(self, engine: Engine, extensions: ExtensionRegistry) -> None:
        self._engine = engine
        self._extensions = extensions
        self._held: list[RepeatedShare] = []
        self._frames, self._to_deliver = trio.open_memory_channel[ExtensionFrame](
            FRAMES_PENDING_MAX
        )
        self._repeats, self._to_repeat = trio.open_memory_channel[RepeatedShare](
            REPEATS_PENDING_MAX
        )

    def frame(self, frame: ExtensionFrame) -> None:
        """Takes a frame; whoever sends them faster than they are taken is disconnected."""
        try:
            self._frames.send_nowait(frame)
        except trio.WouldBlock:
            log.warning("extension frames come too fast", connection=frame.connection)
            self._engine.disconnect(frame.connection)

    def repeated(self, share: RepeatedShare) -> None:
        """Holds a repeated share until `release`."""
        if len(self._held) < REPEATS_PENDING_MAX:
            self._held.append(share)
        else:
            self._extensions.reject_repeated(share, TOO_MANY_REPEATS)

    def release(self) -> None:
        """Passes on the shares that are held: all that was drained before them is durable."""
        for share in self._held:
            try:
                self._repeats.send_nowait(share)
            except trio.WouldBlock:
                self._extensions.reject_repeated(share, TOO_MANY_REPEATS)
        self._held.clear()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Runs the extensions and passes on what comes for them, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver)
            for _ in range(REPEATS_AT_ONCE):
                nursery.start_soon(self._repeat)
            await nursery.start(self._extensions.run)
            task_status.started()

    async def _deliver(self) -> None:
        async for frame in self._to_deliver:
            await self._extensions.deliver(frame)

    async def _repeat(self) -> None:
        async for share in self._to_repeat:
            try:
                await self._extensions.repeat(share)
            except StoreError as error:
                log.error("a repeated share cannot be seen to", reason=str(error))  # noqa: TRY400
                self._extensions.reject_repeated(share, INTERNAL_ERROR)
