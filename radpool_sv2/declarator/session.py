"""Moves the machine of one declaring connection: reads, writes, waits, and asks the desk.

One task reads frames, one writes messages, one keeps the machine's deadlines; what takes time runs
in tasks of its own, as many as the machine lets be under way. When the connection ends, all of them
do. Reading is paced: a miner that sends more than its share of bytes is read more slowly, which
costs the others nothing. Long frames are taken up one at a time, whoever sent them, and between two
of them every other task of the node has its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import structlog
import trio

from radpool_sv2.config import Endpoint
from radpool_sv2.declarator.desk import Declarer
from radpool_sv2.declarator.effect import (
    Close,
    Effect,
    Event,
    FindOwner,
    Forget,
    Judge,
    Judged,
    OwnerFound,
    Publish,
    Received,
    Refused,
    Resolve,
    Resolved,
    Send,
)
from radpool_sv2.declarator.rate import Meter
from radpool_sv2.errors import ConnectionEnded, NodeError, RemoteProtocolError, StoreError
from radpool_sv2.wire.frame import HEADER_LEN, NEGOTIATION
from radpool_sv2.wire.listener import site_of
from radpool_sv2.wire.message.base import Message
from radpool_sv2.wire.setup import answer_extensions

if TYPE_CHECKING:
    from radpool_sv2.declarator.desk import DeclaratorDesk, Selected
    from radpool_sv2.declarator.machine import DeclaringMachine
    from radpool_sv2.wire.frame import Frame
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["Session"]

log = structlog.get_logger(__name__)

INTERNAL_ERROR: Final = "internal-error"

OUTBOX_MAX: Final = 256
"""Messages that wait for a client; it has asked for each, and each is small."""

LONG_FRAME_BYTES: Final = 16_384
"""It takes a tenth of a millisecond to read a frame of so many bytes."""

BYTES_BURST_SECONDS: Final = 8.0
"""So many seconds' worth of bytes are read at once: a whole block at the usual rate."""


class Session:
    """Is one declaring connection at work."""

    def __init__(  # noqa: PLR0913 - what a connection is made of
        self,
        *,
        number: int,
        whole: bool,
        stream: Sv2Stream,
        machine: DeclaringMachine,
        desk: DeclaratorDesk,
        bytes_per_second: int,
        frame_seconds_max: float,
        idle_seconds_max: float,
    ) -> None:
        """Takes what the connection joins.

        Args:
            number: The declarator's number of it.
            whole: Whether the client declares whole templates.
            stream: Behind its set-up.
            machine: What follows it.
            desk: Who does what takes time.
            bytes_per_second: What is read in the long run.
            frame_seconds_max: How long a message may take once it has begun; it may take twice
                that before it is noticed.
            idle_seconds_max: How long it may stay silent.
        """
        self.number = number
        self.peer = stream.peer
        self.machine = machine
        self._declarer = Declarer(number, site_of(Endpoint.parse(stream.peer).host))
        self._whole = whole
        self._stream = stream
        self._desk = desk
        self._frame_seconds_max = frame_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._meter = Meter(
            bytes_per_second * 60, bytes_per_second * BYTES_BURST_SECONDS, trio.current_time()
        )
        self._outbox, self._to_send = trio.open_memory_channel[Message](OUTBOX_MAX)
        self._selected: dict[int, Selected] = {}
        self._placed: set[int] = set()
        self._moved = trio.Event()
        self._reading = trio.CancelScope()
        self._reason = "peer-closed"

    async def run(self) -> str:
        """Follows the connection to its end; returns the reason."""
        self._adjust()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write)
                nursery.start_soon(self._wait)
                nursery.start_soon(self._read)
        finally:
            for ticket in tuple(self._selected):
                self._forget(ticket)
        return self._reason

    # The three tasks.

    async def _read(self) -> None:
        with self._reading:
            while True:
                frame = await self._receive()
                if frame is None:
                    return
                if frame.extension_type == NEGOTIATION:
                    self._negotiate(frame)
                elif len(frame.payload) < LONG_FRAME_BYTES:
                    self._handle(Received(frame))
                else:
                    async with self._desk.turn:
                        self._handle(Received(frame))
                owed = self._meter.owe(HEADER_LEN + len(frame.payload), trio.current_time())
                if owed:
                    await trio.sleep(owed)

    async def _receive(self) -> Frame | None:
        idle_at = trio.current_time() + self._idle_seconds_max
        had_begun = False
        try:
            while True:
                look_at = trio.current_time() + self._frame_seconds_max
                with trio.move_on_at(min(look_at, idle_at)):
                    return await self._stream.receive()
                if trio.current_time() >= idle_at:
                    self._end("idle", "nothing came for too long")
                    return None
                if had_begun and self._stream.inside_frame:
                    # What has come of it is held in memory, which many could do at once.
                    self._end("frame-timeout", "a message has begun and did not end")
                    return None
                had_begun = self._stream.inside_frame
        except ConnectionEnded:
            self._nursery.cancel_scope.cancel()
        except RemoteProtocolError as error:
            self._end("malformed-frame", str(error))
        return None

    def _negotiate(self, frame: Frame) -> None:
        try:
            self._do(Send(answer_extensions(frame, ())))
        except RemoteProtocolError as error:
            self._end("malformed-message", str(error))

    async def _write(self) -> None:
        try:
            async for message in self._to_send:
                await self._stream.send(message)
            await self._stream.leave()
        except ConnectionEnded:
            pass
        self._nursery.cancel_scope.cancel()

    async def _wait(self) -> None:
        while True:
            deadline = self.machine.next_deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline):
                await self._moved.wait()
            self._moved = trio.Event()
            self.machine.handle_deadline(trio.current_time())
            self._carry_out()

    # What the machine wants.

    def _handle(self, event: Event) -> None:
        self.machine.handle(event, trio.current_time())
        self._carry_out()
        self._moved.set()

    def _carry_out(self) -> None:
        while (effect := self.machine.poll()) is not None:
            self._do(effect)
        self._adjust()

    def _adjust(self) -> None:
        self._stream.frame_bytes_max = HEADER_LEN + self.machine.frame_bytes_max

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                try:
                    self._outbox.send_nowait(message)
                except trio.WouldBlock:
                    self._end("slow-reader", "answers are not read")
                except trio.ClosedResourceError:
                    pass  # the connection is being closed
            case Close(reason, detail):
                self._end(reason, detail)
            case FindOwner():
                self._nursery.start_soon(self._find_owner, effect)
            case Resolve():
                self._nursery.start_soon(self._resolve, effect)
            case Judge():
                self._nursery.start_soon(self._judge, effect)
            case Forget(ticket):
                self._forget(ticket)
            case Publish():
                self._nursery.start_soon(self._publish, effect)
            case _:
                assert_never(effect)

    def _end(self, reason: str, detail: str) -> None:
        """Closes the connection, once what was to be sent has been."""
        self._reason = reason
        log.warning("declarer closed", connection=self.number, peer=self.peer, reason=detail)
        self._reading.cancel()
        self._outbox.close()

    async def _find_owner(self, effect: FindOwner) -> None:
        try:
            owner, outputs = await self._desk.find_owner(effect.user_identifier, whole=self._whole)
        except (RemoteProtocolError, StoreError) as error:
            self._handle(_refused(effect.ticket, error))
        else:
            token = self._desk.fresh_token()
            self._handle(OwnerFound(effect.ticket, owner, outputs, token))

    async def _resolve(self, effect: Resolve) -> None:
        try:
            selected = await self._desk.select(effect.declaration)
            self._selected[effect.ticket] = selected
            if selected.missing:
                await self._desk.intake.enter(self._declarer.site)
                self._placed.add(effect.ticket)
                self._desk.check_tip(effect.declaration, selected)
        except (RemoteProtocolError, NodeError) as error:
            self._forget(effect.ticket)
            self._desk.refused(effect.declaration, error)
            self._handle(_refused(effect.ticket, error))
            return
        self._handle(Resolved(effect.ticket, selected.missing))

    def _forget(self, ticket: int) -> None:
        """Lets go of what a declaration holds."""
        self._selected.pop(ticket, None)
        if ticket in self._placed:
            self._placed.remove(ticket)
            self._desk.intake.leave(self._declarer.site)

    async def _judge(self, effect: Judge) -> None:
        selected, declaration = self._selected[effect.ticket], effect.declaration
        try:
            job = await self._desk.judge(selected, declaration, effect.provided, self._declarer)
        except (RemoteProtocolError, NodeError) as error:
            self._forget(effect.ticket)
            self._handle(_refused(effect.ticket, error))
            return
        self._forget(effect.ticket)
        token = declaration.token if job is None else self._desk.fresh_token()
        self._handle(Judged(effect.ticket, job, token))

    async def _publish(self, effect: Publish) -> None:
        # The block must go out even if the miner leaves now.
        with trio.CancelScope(shield=True):
            await self._desk.publish(effect)


def _refused(ticket: int, error: RemoteProtocolError | NodeError | StoreError) -> Refused:
    if isinstance(error, RemoteProtocolError):
        return Refused(ticket, error.error_code or INTERNAL_ERROR, str(error))
    log.error("a declarer cannot be served", reason=str(error))
    return Refused(ticket, INTERNAL_ERROR, "the pool's node or ledger does not answer: try again")
