"""Connects to one pool and its declarator and drives the machine between them.

One task reads each connection, one writes each, and one waits for the machine's deadlines; whatever
they find goes into the machine, and its effects leave in order. Any fault of the network or of the
pool ends the link through the machine, so that the reason is told once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.jdc.upstream import (
    Constrain,
    Fails,
    Hidden,
    Publish,
    Retargets,
    ToDeclarator,
    ToPool,
    Upstream,
    Withdraws,
    Works,
)
from radpool_sv2.wire.message.connection import Protocol as Purpose
from radpool_sv2.wire.message.job_declaration import DECLARE_TX_DATA
from radpool_sv2.wire.message.mining import (
    REQUIRES_FIXED_VERSION,
    REQUIRES_VERSION_ROLLING,
    REQUIRES_WORK_SELECTION,
)
from radpool_sv2.wire.setup import request_extensions, set_up
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from radpool_sv2.config.jdc import PoolSection
    from radpool_sv2.jdc.job import Job
    from radpool_sv2.jdc.upstream import Effect
    from radpool_sv2.wire.frame import Frame
    from radpool_sv2.wire.message.base import Message

__all__ = ["LinkListener", "PoolLink", "PoolPlace"]

log = structlog.get_logger(__name__)

QUEUE_MAX: Final = 4_096
"""Messages that wait for one connection: shares of some minutes while a pool hangs."""

FRAME_BYTES_MAX: Final = 1 << 20
"""What a pool or declarator may send at once: a list of all positions of a block is 32 KiB."""


class PoolPlace:
    """Is where a pool and its declarator are, and by which keys they are known.

    Raises:
        ConfigError: A key cannot be read.
    """

    def __init__(self, section: PoolSection) -> None:
        self.section = section
        self.pool = section.address
        self.declarator = section.declarator
        self.pool_key = AuthorityPublicKey.from_text(section.authority_public_key)
        own = section.declarator_public_key
        self.declarator_key = AuthorityPublicKey.from_text(own) if own else self.pool_key

    @property
    def name(self) -> str:
        """How people call it."""
        return str(self.section.address)

    def move(self, host: str, port: int, *, of_declarator: bool = False) -> None:
        """Takes the word of pool or declarator for where it is to be called, once."""
        elsewhere = Endpoint(host, port) if host and port else None
        if of_declarator:
            self.declarator = elsewhere or self.section.declarator
        else:
            self.pool = elsewhere or self.section.address

    def settle(self) -> None:
        """Goes back to where the configuration says."""
        self.pool, self.declarator = self.section.address, self.section.declarator


class LinkListener(Protocol):
    """Is who uses links."""

    def published(self, link: PoolLink, job: Job) -> None:
        """Takes a job for the miners."""

    def withdrawn(self, link: PoolLink) -> None:
        """Takes that the pool pays for no job now: the miners are free until the next."""

    def retargeted(self, link: PoolLink) -> None:
        """Takes that another target is asked of shares."""

    def constrained(self, size: int, sigops: int) -> None:
        """Takes what room a coinbase needs."""

    def hidden(self, link: PoolLink, job: Job) -> None:
        """Takes that the pool is given a job whose transactions it has not seen."""

    def worked(self, link: PoolLink) -> None:
        """Takes that the pool has accepted its first job."""

    def failed(self, link: PoolLink, failure: Fails) -> None:
        """Takes that the pool is of no use."""


class PoolLink:
    """Is one try with one pool, from the first packet to its end.

    Args:
        place: Where the pool is.
        machine: The machine for this try.
        listener: Who is told.
        version_rolling: Whether miners roll the version.

    Attributes:
        since_s: When it began.
    """

    def __init__(
        self,
        place: PoolPlace,
        machine: Upstream,
        listener: LinkListener,
        *,
        version_rolling: bool,
    ) -> None:
        self.place = place
        self.machine = machine
        self._listener = listener
        self._rolling = version_rolling
        self._stirred = trio.Event()
        self._pool_send, self._pool_queue = trio.open_memory_channel["Message | Frame"](QUEUE_MAX)
        self._jd_send, self._jd_queue = trio.open_memory_channel["Message | Frame"](QUEUE_MAX)
        self.since_s = trio.current_time()

    async def run(self, rate: float, extension: int | None, deadline_s: float) -> None:
        """Serves until cancelled, or until the machine has failed.

        Args:
            rate: The hash rate to announce, hashes a second.
            extension: The extension that must be agreed on, if one carries the shares.
            deadline_s: How long connecting may take.
        """
        streams: list[Sv2Stream] = []
        try:
            try:
                with trio.fail_after(deadline_s):
                    await self._connect(streams, extension, deadline_s)
            except trio.TooSlowError:
                return self.fail(f"it could not be set up within {deadline_s:g} s")
            except RemoteProtocolError as error:
                return self.fail(str(error))
            await self._converse(*streams, rate=rate)
        finally:
            self.machine.leave()
            with trio.CancelScope(shield=True):
                for stream in streams:
                    await stream.aclose()
        return None

    def act(self) -> None:
        """Carries out what the machine wants; to be called after whatever was told to it."""
        while (effect := self.machine.poll()) is not None:
            match effect:
                case ToPool(message):
                    self._queue(self._pool_send, message)
                case ToDeclarator(message):
                    self._queue(self._jd_send, message)
                case _:
                    self._tell(effect)
        self._stirred.set()

    def _tell(self, effect: Effect) -> None:
        match effect:
            case Publish(job):
                self._listener.published(self, job)
            case Withdraws():
                self._listener.withdrawn(self)
            case Retargets():
                self._listener.retargeted(self)
            case Constrain(size, sigops):
                self._listener.constrained(size, sigops)
            case Hidden(job):
                self._listener.hidden(self, job)
            case Works():
                self._listener.worked(self)
            case Fails():
                self._listener.failed(self, effect)

    async def next_event(self) -> None:
        """Waits until something has happened."""
        await self._stirred.wait()

    def fail(self, reason: str) -> None:
        """Ends it."""
        self.machine.fail(reason)
        self.act()

    def _queue(
        self, queue: trio.MemorySendChannel[Message | Frame], message: Message | Frame
    ) -> None:
        try:
            queue.send_nowait(message)
        except trio.WouldBlock:
            self.machine.fail(f"it takes no messages: {QUEUE_MAX} wait")

    async def _connect(
        self, streams: list[Sv2Stream], extension: int | None, deadline_s: float
    ) -> None:
        """Connects to both and sets them up; `streams` gets what is open, the pool's first.

        Raises:
            RemoteProtocolError: One of them cannot be reached, or refused.
        """
        place = self.place
        pool = await Sv2Stream.connect(
            place.pool, place.pool_key, deadline_s, frame_bytes_max=FRAME_BYTES_MAX
        )
        streams.append(pool)
        rolling = REQUIRES_VERSION_ROLLING if self._rolling else 0
        answer = await set_up(
            pool, Purpose.MINING, flags=REQUIRES_WORK_SELECTION | rolling, endpoint=place.pool
        )
        if self._rolling and answer.flags & REQUIRES_FIXED_VERSION:
            raise RemoteProtocolError("it forbids miners to roll the version")
        if extension is not None:
            granted = await request_extensions(pool, [extension])
            if extension not in granted:
                raise RemoteProtocolError(
                    f"it does not speak the extension {extension:#06x}, which carries the shares"
                )
        declarator = await Sv2Stream.connect(
            place.declarator, place.declarator_key, deadline_s, frame_bytes_max=FRAME_BYTES_MAX
        )
        streams.append(declarator)
        flags = DECLARE_TX_DATA if self.machine.declares else 0
        await set_up(declarator, Purpose.JOB_DECLARATION, flags=flags, endpoint=place.declarator)

    async def _converse(self, pool: Sv2Stream, declarator: Sv2Stream, *, rate: float) -> None:
        machine = self.machine
        async with trio.open_nursery() as nursery:
            machine.start(rate, trio.current_time())
            self.act()
            nursery.start_soon(self._guard, self._read, pool, machine.hear_pool)
            nursery.start_soon(self._guard, self._read, declarator, machine.hear_declarator)
            nursery.start_soon(self._guard, self._write, pool, self._pool_queue)
            nursery.start_soon(self._guard, self._write, declarator, self._jd_queue)
            await self._keep_time()
            nursery.cancel_scope.cancel()

    async def _guard(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Runs a task of the link whose fault is the pool's."""
        try:
            await work(*arguments)
        except RemoteProtocolError as error:
            self.fail(str(error))
        except LocalProtocolError as error:
            # What it asks for, or the node offers, cannot be said on the wire.
            self.fail(f"it cannot be told what belongs on the wire: {error}")

    async def _read(self, stream: Sv2Stream, hear: Callable[[Frame, float], None]) -> None:
        while True:
            frame = await stream.receive()
            try:
                hear(frame, trio.current_time())
            finally:
                self.act()

    @staticmethod
    async def _write(stream: Sv2Stream, queue: trio.MemoryReceiveChannel[Message | Frame]) -> None:
        async for message in queue:
            waiting = [message]
            while len(waiting) < QUEUE_MAX:
                try:
                    waiting.append(queue.receive_nowait())
                except trio.WouldBlock:
                    break
            await stream.send(*waiting)

    async def _keep_time(self) -> None:
        """Waits for the machine's deadlines until it has failed."""
        while not self.machine.is_failed:
            self._stirred = trio.Event()
            due_s = self.machine.next_deadline()
            with trio.move_on_at(float("inf") if due_s is None else due_s):
                await self._stirred.wait()
            now_s = trio.current_time()
            if due_s is not None and now_s >= due_s:
                self.machine.handle_deadline(now_s)
                self.act()
