"""Runs the native Noise machine of one link over a stream.

Theory of operation. A link is born of a handshake (`dial`, `accept`) and then has two tasks. The
reader takes bytes, has them decrypted and hands whole messages over; it reads on only when they
have been dealt with, so a peer that sends more than we can take fills its own socket and nothing
else. The writer takes what was posted. Nobody who posts ever waits: what a peer does not take
collects in its outbox, and an outbox that is full ends the link; the next one begins with SYNC.

A message of the one byte 0 keeps a silent link alive. It is also the first that the dialled end
sends: only then does the dialler know that it was let in.

Bounds: `outbox_bytes_max`; one read of messages that are not dealt with; what a peer may send in a
second, above which it is not read: a flood stops in its own socket; deadlines for the handshake,
for silence and for each write.

Source: `spec/12-federation-transport.md`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native import threshold
from radpool_sv2.errors import ConnectionEnded, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2._native.threshold import TransportKey

__all__ = ["KEEP_ALIVE", "Link", "LinkLimits", "Opened", "accept", "dial"]

KEEP_ALIVE: Final = b"\0"
"""The message that says nothing; kinds of messages of members begin with 1."""

READ_BYTES: Final = 1 << 16
"""A Noise message at a time, more or less: what it holds is dealt with in milliseconds."""

WRITE_BYTES: Final = 1 << 16
"""What one write deadline is for: slow but living links, such as Tor's, pass that in seconds."""

ENCRYPT_BYTES: Final = 1 << 18
"""How much is encrypted at once, unless one message is longer: more would hold up other links."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLimits:
    """Bounds a link.

    Attributes:
        handshake_seconds: From the connection to the end of the handshake, and to being let in.
        keep_alive_seconds: How long nothing is sent before a keep-alive is.
        silence_seconds: How long nothing may come: three keep-alives.
        write_seconds: How long a peer may take no 64 KiB while some wait for it.
        age_seconds: When a link is replaced by one with new keys.
        outbox_bytes_max: What may wait to be sent; a window of the largest entries fits four times.
        received_per_second: How many bytes are read in a second, over time.
        received_at_once: How many may come before that counts: what a member that was away asks
            for comes in such heaps.
    """

    handshake_seconds: float = 30.0
    keep_alive_seconds: float = 15.0
    silence_seconds: float = 45.0
    write_seconds: float = 30.0
    age_seconds: float = 86_400.0
    outbox_bytes_max: int = 32 << 20
    received_per_second: int = 16 << 20
    received_at_once: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """Is a stream whose handshake is over.

    Attributes:
        stream: The stream.
        machine: The native machine.
        remote: The transport key of the other end.
        messages: Those that have come already.
    """

    stream: trio.abc.Stream
    machine: threshold.Link
    remote: bytes
    messages: list[bytes]


async def dial(
    stream: trio.abc.Stream, key: TransportKey, remote: bytes, committee: bytes
) -> Opened:
    """Opens a link on a stream that was connected to a member, and waits until it is let in.

    Args:
        stream: The stream.
        key: Our transport key.
        remote: The member's transport key.
        committee: The committee's id.

    Raises:
        RemoteProtocolError: The other end is another one, or did not let us in.
    """
    machine, first = threshold.Link.dial(key, remote, committee)
    await _send(stream, first)
    messages: list[bytes] = []
    while not messages:
        messages += await _step(stream, machine)
    return Opened(stream, machine, remote, messages)


async def accept(
    stream: trio.abc.Stream, key: TransportKey, allowed: Sequence[bytes], committee: bytes
) -> Opened:
    """Answers whoever dials, if it is a member.

    Args:
        stream: The stream.
        key: Our transport key.
        allowed: The transport keys of members.
        committee: The committee's id.

    Raises:
        RemoteProtocolError: It is a stranger.
    """
    machine = threshold.Link.accept(key, list(allowed), committee)
    messages: list[bytes] = []
    while not machine.is_open:
        messages += await _step(stream, machine)
    remote = machine.remote
    assert remote is not None, "an open link knows whom it is with"
    return Opened(stream, machine, remote, messages)


async def _step(stream: trio.abc.Stream, machine: threshold.Link) -> list[bytes]:
    answer, messages = machine.receive(await _receive(stream))
    if answer:
        await _send(stream, answer)
    return messages


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionEnded("the connection broke while it was written to") from error


async def _receive(stream: trio.abc.Stream) -> bytes:
    try:
        data = await stream.receive_some(READ_BYTES)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionEnded("the connection broke") from error
    if not data:
        raise ConnectionEnded("the other end closed the connection")
    return bytes(data)


class Link:
    """Is an open link to a member.

    Args:
        opened: What the handshake made.
        member: The member's number.
        dialler: The number of the member that dialled: the own one, or `member`.
        limits: Its bounds.

    Attributes:
        opened_at: When it was opened, in trio's time.
        outbox_bytes: What waits to be sent.
        sent_bytes: What was posted, in all.
        received_bytes: What messages have come to, in all.
        held_back_seconds: How long the peer was not read because it sends too much.
        reason: Why it ended; empty while it has not.
    """

    def __init__(self, opened: Opened, member: int, dialler: int, limits: LinkLimits) -> None:
        self.member = member
        self.dialler = dialler
        self.opened_at = trio.current_time()
        self.outbox_bytes = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.held_back_seconds = 0.0
        self.reason = ""
        self._stream = opened.stream
        self._machine = opened.machine
        self._early = opened.messages
        self._limits = limits
        self._free_at = 0.0
        self._outbox: deque[bytes] = deque()
        self._posted = trio.Event()
        self._drained = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is sent on it any more."""
        return bool(self.reason)

    def post(self, message: bytes) -> None:
        """Puts a message into the outbox; a closed link forgets it.

        An outbox without room ends the link: the peer is too slow, and is told all on the next one.
        """
        if self.is_closed:
            return
        if self.outbox_bytes + len(message) > self._limits.outbox_bytes_max:
            self.close("the peer takes less than there is to say")
            return
        self.outbox_bytes += len(message)
        self.sent_bytes += len(message)
        self._outbox.append(message)
        self._posted.set()

    async def wait_below(self, count: int) -> None:
        """Waits until fewer bytes than that wait to be sent, or the link is closed."""
        while not self.is_closed and self.outbox_bytes >= count:
            await self._drained.wait()

    def close(self, reason: str) -> None:
        """Ends the link; nothing more is sent or taken."""
        if self.is_closed:
            return
        self.reason = reason
        self._outbox.clear()
        self.outbox_bytes = 0
        self._drained.set()
        self._scope.cancel()

    async def run(self, take: Callable[[Link, list[bytes]], Awaitable[None]]) -> None:
        """Runs the link until it ends, for whatever reason.

        Args:
            take: Deals with messages; the next are read when it returns.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, take)
                    nursery.start_soon(self._write)
                    await trio.sleep(self._limits.age_seconds)
                    self.close("it is old: the next one has new keys")
        finally:
            self.close("we leave")
            self._machine.close()
            await trio.aclose_forcefully(self._stream)

    async def _read(self, take: Callable[[Link, list[bytes]], Awaitable[None]]) -> None:
        try:
            await self._hand_over(self._early, take)
            while True:
                with trio.fail_after(self._limits.silence_seconds):
                    data = await _receive(self._stream)
                answer, messages = self._machine.receive(data)
                assert not answer, "after the handshake nothing is answered"
                await self._hand_over(messages, take)
                await self._hold_back(len(data))
        except trio.TooSlowError:
            self.close("the peer is silent")
        except RemoteProtocolError as error:
            self.close(str(error))

    async def _hold_back(self, count: int) -> None:
        """Waits when a peer has sent more than it may."""
        rate, heap = self._limits.received_per_second, self._limits.received_at_once
        now = trio.current_time()
        # When all that has come would be paid for at the rate; a heap of it is lent.
        self._free_at = max(self._free_at, now) + count / rate
        pause = self._free_at - now - heap / rate
        if pause > 0:
            self.held_back_seconds += pause
            await trio.sleep(pause)

    async def _hand_over(
        self, messages: list[bytes], take: Callable[[Link, list[bytes]], Awaitable[None]]
    ) -> None:
        told = [message for message in messages if message != KEEP_ALIVE]
        if told:
            self.received_bytes += sum(map(len, told))
            await take(self, told)

    async def _write(self) -> None:
        try:
            while True:
                with trio.move_on_after(self._limits.keep_alive_seconds):
                    await self._posted.wait()
                if self.is_closed:
                    # The reader has found out; we are cancelled in a moment.
                    return
                await self._write_some(self._next())
        except trio.TooSlowError:
            self.close("the peer takes nothing")
        except RemoteProtocolError as error:
            self.close(str(error))

    def _next(self) -> list[bytes]:
        messages: list[bytes] = []
        size = 0
        while self._outbox and (not messages or size + len(self._outbox[0]) <= ENCRYPT_BYTES):
            messages.append(self._outbox.popleft())
            size += len(messages[-1])
        if not self._outbox:
            self._posted = trio.Event()
        return messages

    async def _write_some(self, messages: list[bytes]) -> None:
        data = memoryview(self._machine.send(messages or [KEEP_ALIVE]))
        for start in range(0, len(data), WRITE_BYTES):
            with trio.fail_after(self._limits.write_seconds):
                await _send(self._stream, bytes(data[start : start + WRITE_BYTES]))
        if not self.is_closed:
            self.outbox_bytes -= sum(map(len, messages))
        self._drained.set()
        self._drained = trio.Event()
