"""Moves shares from the engine into the ledger, and what miners are told back.

Theory of operation. The engine wakes this loop through a file descriptor. Each turn takes out what
has gathered: events, which are handled first, and one batch of shares, which is committed and then
acknowledged. A batch is acknowledged once and only after it is durable, so a crash at any moment
loses no share that a miner was told of. Extensions that shares carry something for take part twice:
before the commit they enclose what is to be durable with the shares, after it they answer.

While a commit runs, the next batch gathers in the engine: that is the group commit. Under load a
pause makes batches larger, which is cheaper for a disk; when few shares come, there is none.

When the ledger cannot write, the batch is held and tried again. The engine then stops reading
sockets as soon as its ring is full, so memory stays bounded and no share is lost or doubled; it
goes on by itself once the disk does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog
import trio

from radpool_sv2.errors import InternalError, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2._native.engine import Engine, Event, ShareBatch
    from radpool_sv2.config.msp import LedgerSection
    from radpool_sv2.pool.extension import Enclosure
    from radpool_sv2.pool.registry import ExtensionRegistry

__all__ = ["Intake", "ShareLedger"]

T = TypeVar("T")

log = structlog.get_logger(__name__)

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
"""How long a full disk may have been mended without the pool noticing."""

GONE = "no-such-connection"
"""What the engine answers to a command for a client that has left: nobody's fault."""


class ShareLedger(Protocol):
    """Is what the intake needs of the ledger."""

    async def commit(
        self, batch: ShareBatch, enclosures: Sequence[Enclosure]
    ) -> Sequence[tuple[int, str]]:
        """Makes a batch and its enclosures durable; returns refused shares by index and error code.

        Raises:
            StoreError: Nothing of it is durable.
        """


class Intake:
    """Runs the loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that the loop joins
        self,
        engine: Engine,
        ledger: ShareLedger,
        extensions: ExtensionRegistry,
        settings: LedgerSection,
        handle: Callable[[Event], None],
        emptied: Callable[[], None],
    ) -> None:
        """Takes what the loop joins.

        Args:
            engine: Where shares and events come from.
            ledger: Where shares become durable.
            extensions: Who looks at attachments.
            settings: Sizes and waits.
            handle: Is called with each event, and must not wait.
            emptied: Is called when all that was in the engine is handled and durable.
        """
        self._engine = engine
        self._ledger = ledger
        self._extensions = extensions
        self._settings = settings
        self._handle = handle
        self._emptied = emptied
        self._finishing = False
        self._waiting = trio.CancelScope()
        self.problem = ""

    def finish(self) -> None:
        """Makes `run` return after the next drain; the engine must have paused its reads."""
        self._finishing = True
        self._waiting.cancel()

    async def run(self) -> None:
        """Runs until `finish`; all that was drained is then durable and acknowledged.

        Raises:
            InternalError: The engine stopped without being told to.
        """
        while True:
            # Looked at before the drain: whatever the engine accepted before it paused is in there.
            finishing = self._finishing
            largest = await self._drain()
            if finishing:
                return
            pause = largest >= self._settings.pace_shares
            with trio.CancelScope() as self._waiting:
                if self._finishing:
                    continue
                if pause:
                    await trio.sleep(self._settings.pace_ms / 1000)
                await trio.lowlevel.wait_readable(self._engine.event_fd())

    async def _drain(self) -> int:
        """Takes out everything; returns the size of the largest batch."""
        largest = 0
        while True:
            drained = self._engine.drain(self._settings.batch_shares)
            for event in drained.events:
                self._handle(event)
            for _token, failure in drained.completions:
                if failure not in (None, GONE):
                    log.warning("the engine could not carry out a command", reason=failure)
            if drained.batch is not None:
                largest = max(largest, len(drained.batch))
                await self._commit(drained.batch)
            if drained.stopped and not self._finishing:
                raise InternalError("the engine stopped although nobody had told it to")
            if not drained.more:
                self._emptied()
                return largest

    async def _commit(self, batch: ShareBatch) -> None:
        concerned = self._extensions.concerned(batch)
        enclosed = [
            (each, await self._stored(batch, partial(each.enclose, batch))) for each in concerned
        ]
        enclosures = [enclosure for _, enclosure in enclosed if enclosure is not None]
        # A share is refused once, with the code of whoever refused it first.
        refused = dict(await self._stored(batch, partial(self._ledger.commit, batch, enclosures)))
        for each, enclosure in enclosed:
            for share in await self._stored(batch, partial(each.accept, batch, enclosure)):
                refused.setdefault(share.index, share.error_code)
        self._engine.acknowledge(batch, sorted(refused.items()))

    async def _stored(self, batch: ShareBatch, write: Callable[[], Awaitable[T]]) -> T:
        """Does something that needs the store, again and again until the store does it."""
        wait_seconds = RETRY_SECONDS_MIN
        while True:
            try:
                done = await write()
                break
            except StoreError as error:
                self.problem = f"shares cannot be stored, miners wait: {error}"
                log.error(  # noqa: TRY400 - the message tells the cause, the place is always this
                    "shares cannot be stored; miners wait",
                    shares=len(batch),
                    reason=str(error),
                    wait_seconds=wait_seconds,
                )
            await trio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)
        if self.problem:
            self.problem = ""
            log.info("shares are stored again")
        return done
