"""Shows a pool the templates that it has not seen, when lot falls on them.

In coinbase-only mode a pool sees no transactions. It may ask afterwards for some of the templates:
the hash of the next block and the job's token say which, so nobody chooses and both sides compute
the same. Such a template is declared late, with the job's token, on a connection of whole
templates. A pool that does not play this game refuses the token, and nothing is lost by it.

What is not shown in time costs its shares and a day of hiding, so each is shown on its own: a pool
that is away holds up nobody else's. And a job that is kept too late to be there when its tip goes
has its lot drawn at once.

Bounds: JOBS_MAX templates are kept, AT_ONCE_MAX are shown at a time, and a revelation is tried for
as long as the pool waits.

Source: `spec/10-job-declaration.md`, "Challenges".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.declarator.challenge import is_challenged
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import Protocol as Purpose
from radpool_sv2.wire.message.job_declaration import (
    DECLARE_TX_DATA,
    JOB_DECLARATION,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
)
from radpool_sv2.wire.setup import set_up
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from radpool_sv2.jdc.job import Job
    from radpool_sv2.jdc.link import PoolPlace

__all__ = ["RevealDesk"]

log = structlog.get_logger(__name__)

JOBS_MAX: Final = 512
"""As many as a pool of ours lets one owner hide; transactions are shared."""

AT_ONCE_MAX: Final = 16
"""Some pools that are away at once, and as many that are not; a few MB of a connection each."""

PATIENCE_S: Final = 540.0
"""A pool waits for ten slots of a minute; less one that clocks may differ by."""

CONNECT_S: Final = 10.0
ANSWER_S: Final = 30.0
RETRY_S: Final = 10.0
REFUSALS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class _Hidden:
    place: PoolPlace
    job: Job


@dataclass(frozen=True, slots=True)
class _Drawn:
    hidden: _Hidden
    due_s: float


class RevealDesk:
    """Keeps hidden templates and reveals those that must be; `run` does that."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._hidden: deque[_Hidden] = deque()
        self._last: tuple[bytes, frozenset[bytes]] = (b"", frozenset())
        self._send, self._receive = trio.open_memory_channel[_Drawn](JOBS_MAX)
        self.revealed = 0

    def keep(self, place: PoolPlace, job: Job) -> None:
        """Keeps a template that a pool is given unseen."""
        hidden = _Hidden(place, job)
        replaced, seen = self._last
        if job.prev_hash == replaced:
            self._draw([hidden], seen)
            return
        if len(self._hidden) == JOBS_MAX:
            log.warning("too many hidden templates are kept", pool=self._hidden[0].place.name)
            self._hidden.popleft()
        self._hidden.append(hidden)

    def tip_changed(self, hashes: Iterable[bytes], replaced: bytes) -> int:
        """Draws lots over the templates on the last tip; returns how many must be shown.

        Args:
            hashes: The blocks that have followed, 32 bytes each, internal order. The pool may have
                seen any of them as the next tip.
            replaced: The block that was the tip.
        """
        due = [each for each in self._hidden if each.job.prev_hash == replaced]
        self._hidden = deque(each for each in self._hidden if each.job.prev_hash != replaced)
        self._last = (replaced, frozenset(hashes))
        return self._draw(due, self._last[1])

    def _draw(self, due: Iterable[_Hidden], seen: frozenset[bytes]) -> int:
        wanted = [each for each in due if not each.job.denied]
        drawn = [
            each for each in wanted if any(is_challenged(block, each.job.token) for block in seen)
        ]
        due_s = trio.current_time() + PATIENCE_S
        for each in drawn:
            try:
                self._send.send_nowait(_Drawn(each, due_s))
            except trio.WouldBlock:
                log.warning("a template cannot be revealed: too many are", pool=each.place.name)
        return len(drawn)

    async def run(self) -> None:
        """Reveals what lot fell on, until cancelled."""
        at_once = trio.CapacityLimiter(AT_ONCE_MAX)
        async with trio.open_nursery() as nursery:
            async for each in self._receive:
                nursery.start_soon(self._see_through, each, at_once)

    async def _see_through(self, drawn: _Drawn, at_once: trio.CapacityLimiter) -> None:
        with trio.move_on_at(drawn.due_s) as scope:
            async with at_once:
                await self._reveal(drawn.hidden)
        if scope.cancelled_caught:
            name = drawn.hidden.place.name
            self._note(f"{name} could not be shown a template that it may ask for")

    async def _reveal(self, hidden: _Hidden) -> None:
        refusals = 0
        while True:
            try:
                answer = await self._declare(hidden)
            except (RemoteProtocolError, trio.TooSlowError) as error:
                log.warning(
                    "a template cannot be revealed yet",
                    pool=hidden.place.name,
                    reason=str(error) or f"no answer within {ANSWER_S:g} s",
                )
                await trio.sleep(RETRY_S)
            else:
                if isinstance(answer, DeclareMiningJobSuccess):
                    self.revealed += 1
                    return
                refusals += 1
                if refusals == REFUSALS_MAX:
                    self._note(
                        f"{hidden.place.name} did not want to see a template that lot fell on: "
                        f"{answer.error_code}"
                    )
                    return
                # Its node may not know the tip yet that calls for the template.
                await trio.sleep(RETRY_S)

    @staticmethod
    async def _declare(hidden: _Hidden) -> DeclareMiningJobSuccess | DeclareMiningJobError:
        place, job = hidden.place, hidden.job
        stream = await Sv2Stream.connect(place.declarator, place.declarator_key, CONNECT_S)
        try:
            await set_up(
                stream, Purpose.JOB_DECLARATION, flags=DECLARE_TX_DATA, endpoint=place.declarator
            )
            with trio.fail_after(ANSWER_S):
                await stream.send(job.declaration(job.token))
                while True:
                    message = decode(await stream.receive(), JOB_DECLARATION)
                    if isinstance(message, (DeclareMiningJobSuccess, DeclareMiningJobError)):
                        return message
                    if isinstance(message, ProvideMissingTransactions):
                        await stream.send(job.provide(message))
        finally:
            await trio.aclose_forcefully(stream)
