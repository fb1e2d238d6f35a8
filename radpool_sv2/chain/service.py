"""Serves one embedded chain on a unix socket: connections, notifications, demo payments.

The socket answers from the first moment: while the block log is replayed, `ping` tells how far it
is and every other method gets the error `starting`. Each connection is served in order. Bad input
is answered with an error; a frame that is too long, or does not come, also ends the connection.

A subscriber gets each new template, the newest at once. Notifications tell the whole state, so one
that is slow loses its connection rather than a message, and subscribes again.

Blocks without proof of work are judged one at a time in a fork of this process, so that whoever
asks waits on a connection of his own, and nobody else does.

Bounds: `CONNECTIONS_MAX` connections; per connection one request, `OUTBOX_MAX` waiting messages,
and `FRAME_SECONDS` for an announced frame to arrive.
"""

from __future__ import annotations

import hashlib
import random
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.chain.faucet import TaprootKey
from radpool_sv2.chain.frame import FrameReader, decode, encode
from radpool_sv2.chain.kernel import Verdict
from radpool_sv2.chain.mempool import RefusedError
from radpool_sv2.chain.method import ASYNC_METHODS, METHODS, template_message
from radpool_sv2.errors import (
    InternalError,
    LocalProtocolError,
    NodeError,
    RemoteProtocolError,
    StoreError,
)

if TYPE_CHECKING:
    from radpool_sv2.chain.assembly import BlockTemplate, Room
    from radpool_sv2.chain.node import Node

__all__ = ["ChainService"]

CONNECTIONS_MAX: Final = 32
OUTBOX_MAX: Final = 64
FRAME_SECONDS: Final = 10
# The slowest blocks known take some seconds to judge; honest ones milliseconds.
JUDGE_SECONDS_MAX: Final = 20
# Time for the last answer to leave before the process ends on a disk that refuses.
_FAREWELL_SECONDS: Final = 0.2
_DEMO_WALLETS: Final = 8


class ChainService:
    """Is the chain's process behind its socket."""

    def __init__(self, node: Node, *, payments_per_minute: int, template_interval_s: int) -> None:
        self.node = node
        self.payments_per_minute = payments_per_minute
        self._interval_s = template_interval_s
        self._replayed = (0, 1)
        self._serving = False
        self._connections = 0
        self._subscribers: set[_Connection] = set()
        self._payments_changed = trio.Event()
        self._judging = trio.Lock()

    async def run(self, listener: trio.SocketListener) -> None:
        """Replays and serves until cancelled, or until the disk or the engine fails."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            # Each step is a block; a checkpoint between them lets pings be answered.
            for step in self.node.replay():
                self._replayed = step
                await trio.lowlevel.checkpoint()
            self._serving = True
            print(f"serving at height {self.node.chain.height}", file=sys.stderr, flush=True)  # noqa: T201 - the log file
            nursery.start_soon(self._renew_templates)
            nursery.start_soon(self._make_payments)

    def template(self) -> BlockTemplate:
        """Returns the newest template."""
        if self.node.template is None:
            raise InternalError("no template was made after the replay")
        return self.node.template

    def tip_may_have_changed(self) -> None:
        """Makes and announces a new template when the tip is another than the template's."""
        if self.template().previous != self.node.chain.tip.hash:
            self._announce(self.node.renew_template())

    def widen_room(self, room: Room) -> None:
        """Makes templates leave this much for the coinbase's outputs; announces one that does.

        What was asked for before still holds: several pools may take templates of one chain.
        """
        widest = self.node.room.joined(room)
        if widest != self.node.room:
            self.node.room = widest
            self._announce(self.node.renew_template())

    async def judge(self, raw: bytes) -> Verdict:
        """Judges a block that need not have proof of work; one after the other.

        Raises:
            NodeError: There is no verdict within `JUDGE_SECONDS_MAX`.
        """
        async with self._judging:
            with trio.move_on_after(JUDGE_SECONDS_MAX):
                while True:
                    judgement = self.node.judge(raw)
                    if isinstance(judgement, Verdict):
                        return judgement
                    try:
                        await trio.lowlevel.wait_readable(judgement.fd)
                    except trio.Cancelled:
                        judgement.give_up()
                        raise
                    finally:
                        verdict = judgement.end()
                    if verdict is not None:
                        return verdict
                    # A block came meanwhile. It is the tip now, or this is judged once more.
        raise NodeError(f"no verdict within {JUDGE_SECONDS_MAX} s")

    def set_payments(self, per_minute: int) -> None:
        """Changes how many demo payments the faucet makes per minute."""
        self.payments_per_minute = per_minute
        self._payments_changed.set()
        self._payments_changed = trio.Event()

    def _announce(self, template: BlockTemplate) -> None:
        frame = encode({"notify": "template", "params": template_message(self.node, template)})
        for connection in tuple(self._subscribers):
            try:
                connection.outbox.send_nowait(frame)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._subscribers.discard(connection)
                connection.scope.cancel()

    async def _renew_templates(self) -> None:
        while True:
            await trio.sleep(self._interval_s)
            if self.node.template_is_stale():
                self._announce(self.node.renew_template())

    async def _make_payments(self) -> None:
        """Pays demo wallets now and then, at fee rates that differ."""
        scripts = [
            TaprootKey(hashlib.sha256(b"radpool demo wallet %d" % i).digest()).script
            for i in range(_DEMO_WALLETS)
        ]
        chance = random.Random()  # noqa: S311 - who gets demo coins is no secret
        while True:
            changed, rate = self._payments_changed, self.payments_per_minute
            with trio.move_on_after(60 / rate if rate else float("inf")):
                await changed.wait()
                continue
            amount = chance.randint(1_000, 2_000_000)
            try:
                self.node.send(chance.choice(scripts), amount, chance.randint(1, 20))
            except RefusedError:
                continue  # too many payments wait for a block already: the next one may fit

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        connection: _Connection | None = None
        try:
            if self._connections > CONNECTIONS_MAX:
                error = _error(None, "too-many-connections", f"{CONNECTIONS_MAX} is the limit")
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(encode(error))
                return
            async with trio.open_nursery() as nursery:
                connection = _Connection(stream, nursery.cancel_scope)
                nursery.start_soon(connection.write)
                await self._read(connection)
                # Answers that wait are still sent; the writer ends when the outbox is empty.
                connection.outbox.close()
        finally:
            self._connections -= 1
            if connection is not None:
                self._subscribers.discard(connection)
            await trio.aclose_forcefully(stream)

    async def _read(self, connection: _Connection) -> None:
        """Answers one request after the other until the client, or its bad input, ends it."""
        reader = FrameReader(connection.stream)
        try:
            while (body := await _next_frame(reader)) is not None:
                await connection.send(await self._answer(body, connection))
        except RemoteProtocolError as error:
            await connection.send(_error(None, error.error_code, str(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client has gone

    async def _answer(self, body: bytes, connection: _Connection) -> dict[str, Any]:
        number: object = None
        try:
            message = decode(body)
            number, method = message.get("id"), message.get("method")
            result = await self._call(method, message.get("params", {}), connection)
        except RemoteProtocolError as error:
            return _error(number, error.error_code, str(error))
        except _StartingError as error:
            return _error(number, "starting", str(error))
        except RefusedError as error:
            return _error(number, "refused", str(error), error.reason)
        except NodeError as error:
            return _error(number, "no-verdict", str(error))
        except LocalProtocolError as error:
            return _error(number, "bad-request", str(error))
        except StoreError as error:
            # The engine may be ahead of the log now: answer, then start again from the log.
            await connection.send(_error(number, "store", str(error)))
            await trio.sleep(_FAREWELL_SECONDS)
            raise
        return {"id": number, "result": result}

    async def _call(
        self, method: object, params: object, connection: _Connection
    ) -> dict[str, Any]:
        if method == "ping":
            done, total = self._replayed
            return {"serving": self._serving, "done": done, "total": total}
        if not isinstance(params, dict):
            raise LocalProtocolError("params must be an object")
        if not isinstance(method, str):
            raise LocalProtocolError("method must be a string")
        known = method in METHODS or method in ASYNC_METHODS or method == "subscribe"
        if not known:
            raise LocalProtocolError(f"there is no method {method!r:.60}")
        if not self._serving:
            raise _StartingError("the block log is being replayed; ask again soon")
        if method == "subscribe":
            # First on the list, then the answer: nothing is announced in between unheard.
            self._subscribers.add(connection)
            return template_message(self.node, self.template())
        if method in ASYNC_METHODS:
            return await ASYNC_METHODS[method](self, params)
        return METHODS[method](self, params)


class _StartingError(LocalProtocolError):
    """Says that the chain is not ready to answer yet; nobody is at fault."""


class _Connection:
    """Is one client: its stream, the messages that wait for it, and what ends it."""

    def __init__(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        self.stream = stream
        self.scope = scope
        self.outbox, self._waiting = trio.open_memory_channel[bytes](OUTBOX_MAX)

    async def send(self, message: dict[str, Any]) -> None:
        """Puts a message into the outbox, waiting while it is full."""
        await self.outbox.send(encode(message))

    async def write(self) -> None:
        """Sends what is in the outbox until it is closed and empty."""
        try:
            async for frame in self._waiting:
                await self.stream.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.scope.cancel()


def _error(number: object, code: str, text: str, reason: str = "") -> dict[str, Any]:
    return {"id": number, "error": {"code": code, "message": text, "reason": reason}}


async def _next_frame(reader: FrameReader) -> bytes | None:
    """Returns the next frame's body, or None at the end; an announced frame has to come soon."""
    length = await reader.begin()
    if length is None:
        return None
    with trio.move_on_after(FRAME_SECONDS):
        return await reader.finish(length)
    raise RemoteProtocolError(f"a frame did not arrive in {FRAME_SECONDS} s", "timeout")
