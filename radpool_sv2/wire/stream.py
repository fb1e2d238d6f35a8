"""Carries frames over one encrypted connection.

A stream may be read by one task and written by others. What is received is bounded by
`frame_bytes_max`, judged by a frame's header; a peer that takes nothing ends the connection after
`SEND_SECONDS_MAX`, so that nobody waits for it for ever.

Source: sv2-spec, sections 3.2 and 4.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Self

import trio

from radpool_sv2._native.wire import Initiator, Responder, Transport
from radpool_sv2.errors import ConnectionEnded, RemoteProtocolError
from radpool_sv2.wire.frame import HEADER_LEN, PAYLOAD_LEN_MAX, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2._native.keys import AuthorityPublicKey, ServerIdentity
    from radpool_sv2.config import Endpoint
    from radpool_sv2.wire.message.base import Message

__all__ = ["SERVER_FRAME_BYTES_MAX", "Sv2Stream"]

ACT1_LEN: Final = 64
ACT2_LEN: Final = 234

SERVER_FRAME_BYTES_MAX: Final = 4096
"""What a server takes from a client that it knows nothing of yet: a set-up has at most 1.3 KiB."""

CLIENT_FRAME_BYTES_MAX: Final = HEADER_LEN + PAYLOAD_LEN_MAX
"""What a client takes from a server that it has chosen: all that a header can announce."""

RECEIVE_BYTES: Final = 65_536
"""Read at once: a few hundred small frames, or one chunk of a large one."""

RECEIVE_BYTES_LONG: Final = 1 << 20
"""Read at once in the middle of a long frame: each piece of one costs a turn of a worker thread."""

WORKER_BYTES_MIN: Final = 262_144
"""From here on opening or sealing goes to a worker thread: it takes about a millisecond for 1 MiB,
in which no other task would run."""

SEND_SECONDS_MAX: Final = 30.0
"""A peer that takes no bytes for this long is gone: TCP alone would wait for 15 minutes."""

LEAVE_SECONDS_MAX: Final = 1.0
LEAVE_BYTES_MAX: Final = 1 << 20
"""What is read, and for how long, after the last word, so that the word arrives: a socket that is
closed with unread bytes in it takes back what it sent."""


class Sv2Stream(trio.abc.AsyncResource):
    """Is one end of an encrypted connection.

    Attributes:
        peer: Whom to name in the log.
    """

    def __init__(self, stream: trio.abc.Stream, transport: Transport, peer: str) -> None:
        self.peer = peer
        self._stream = stream
        self._transport = transport
        self._frames: deque[Frame] = deque()
        self._unfed = b""
        self._sending = trio.StrictFIFOLock()
        self._ended = False

    @classmethod
    async def connect(
        cls,
        endpoint: Endpoint,
        authority_key: AuthorityPublicKey | None,
        deadline_s: float,
        *,
        frame_bytes_max: int = CLIENT_FRAME_BYTES_MAX,
    ) -> Self:
        """Connects to a server and shakes hands.

        Args:
            endpoint: Where it listens.
            authority_key: Who must have certified it; without it anybody is taken for the server.
            deadline_s: What all of it may take.
            frame_bytes_max: The longest frame to take, in bytes with its header.

        Raises:
            ConnectionEnded: It cannot be reached, or did not answer in time.
            RemoteProtocolError: It is not certified by the authority, or speaks something else.
        """
        peer = str(endpoint)
        initiator = Initiator(None if authority_key is None else authority_key.to_bytes())
        stream: trio.SocketStream | None = None
        try:
            with trio.fail_after(deadline_s):
                stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
                await stream.send_all(initiator.act1())
                transport = initiator.finish(await _receive_exactly(stream, ACT2_LEN, peer))
        except BaseException as error:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            reason = _reason(error, peer, deadline_s)
            if reason is None:
                raise
            raise reason from error
        transport.frame_bytes_max = frame_bytes_max
        return cls(stream, transport, peer)

    @classmethod
    async def accept(
        cls,
        stream: trio.abc.Stream,
        identity: ServerIdentity,
        deadline_s: float,
        *,
        peer: str = "",
        frame_bytes_max: int = SERVER_FRAME_BYTES_MAX,
    ) -> Self:
        """Shakes hands with a client that has connected; closes the stream when that fails.

        Raises:
            ConnectionEnded: It did not send its part in time.
        """
        try:
            with trio.fail_after(deadline_s):
                act1 = await _receive_exactly(stream, ACT1_LEN, peer)
                act2, transport = Responder(identity).respond(act1)
                await stream.send_all(act2)
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            reason = _reason(error, peer, deadline_s)
            if reason is None:
                raise
            raise reason from error
        transport.frame_bytes_max = frame_bytes_max
        return cls(stream, transport, peer)

    @property
    def frame_bytes_max(self) -> int:
        """The longest frame to take, in bytes with its header; holds for what is not read yet."""
        return self._transport.frame_bytes_max

    @frame_bytes_max.setter
    def frame_bytes_max(self, value: int) -> None:
        self._transport.frame_bytes_max = value

    @property
    def inside_frame(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._transport.inside_frame or bool(self._unfed)

    async def receive(self) -> Frame:
        """Waits for the next frame; nothing is lost when the wait is cancelled.

        Raises:
            ConnectionEnded: There will be none.
            RemoteProtocolError: It is too long, or was altered; the connection is of no use.
        """
        while not self._frames:
            await self._feed()
            if self._frames:
                break
            try:
                is_long = self._transport.pending_bytes >= WORKER_BYTES_MIN
                size = RECEIVE_BYTES_LONG if is_long else RECEIVE_BYTES
                data = await self._stream.receive_some(size)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionEnded(
                    f"the connection with {self.peer} broke", peer=self.peer
                ) from error
            if not data:
                where = " in the middle of a message" if self._transport.inside_frame else ""
                raise ConnectionEnded(f"{self.peer} closed the connection{where}", peer=self.peer)
            self._unfed = bytes(data)
        return self._frames.popleft()

    def put_back(self, frames: Iterable[Frame]) -> None:
        """Makes frames the next that are received, in their order."""
        self._frames.extendleft(reversed(tuple(frames)))

    async def send(self, *messages: Frame | Message) -> None:
        """Sends messages back to back, whole before those of other tasks.

        A send that is cancelled midway ends the connection, as half a message cannot be taken back.

        Raises:
            ConnectionEnded: The peer has gone, or takes nothing.
            LocalProtocolError: A value does not fit its field; nothing was sent.
        """
        frames = (each if isinstance(each, Frame) else each.encode() for each in messages)
        plain = b"".join(frame.to_bytes() for frame in frames)
        async with self._sending:
            if self._ended:
                raise ConnectionEnded(f"the connection with {self.peer} is over", peer=self.peer)
            await self._send_all(await self._sealed(plain))

    async def leave(self) -> None:
        """Closes the connection so that what was sent last still arrives."""
        with trio.move_on_after(LEAVE_SECONDS_MAX):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                left = LEAVE_BYTES_MAX
                while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                    left -= len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection."""
        self._ended = True
        await self._stream.aclose()

    async def _feed(self) -> None:
        data, pending = self._unfed, self._transport.pending_bytes
        try:
            if pending + len(data) < WORKER_BYTES_MIN:
                received = self._transport.feed(data)
            else:
                received = await trio.to_thread.run_sync(self._transport.feed, data)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{self.peer}: {error}", peer=self.peer) from error
        self._unfed = b""
        self._frames.extend(Frame(*each) for each in received)

    async def _sealed(self, plain: bytes) -> bytes:
        if len(plain) < WORKER_BYTES_MIN:
            sealed = self._transport.seal(plain)
        else:
            # Frames are numbered when they are sealed, so whatever is sealed must be sent.
            with trio.CancelScope(shield=True):
                sealed = await trio.to_thread.run_sync(self._transport.seal, plain)
        return sealed

    async def _send_all(self, sealed: bytes) -> None:
        sent = False
        try:
            with trio.fail_after(SEND_SECONDS_MAX):
                await self._stream.send_all(sealed)
            sent = True
        except trio.TooSlowError as error:
            raise ConnectionEnded(
                f"{self.peer} took no message for {SEND_SECONDS_MAX:.0f} s", peer=self.peer
            ) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionEnded(
                f"the connection with {self.peer} broke", peer=self.peer
            ) from error
        finally:
            if not sent:
                self._ended = True
                await trio.aclose_forcefully(self._stream)


async def _receive_exactly(stream: trio.abc.Stream, length: int, peer: str) -> bytes:
    received = bytearray()
    while len(received) < length:
        data = await stream.receive_some(length - len(received))
        if not data:
            raise ConnectionEnded(f"{peer} closed the connection during the handshake", peer=peer)
        received += data
    return bytes(received)


def _reason(error: BaseException, peer: str, deadline_s: float) -> RemoteProtocolError | None:
    """Returns what to raise for a handshake that came to nothing; None: what was raised."""
    if isinstance(error, trio.TooSlowError):
        return ConnectionEnded(
            f"{peer} did not shake hands within {deadline_s:g} s: is it a Stratum V2 port?",
            peer=peer,
        )
    if isinstance(error, (OSError, trio.BrokenResourceError)):
        return ConnectionEnded(f"cannot reach {peer}: {error}", peer=peer)
    if isinstance(error, RemoteProtocolError) and not error.peer:
        return RemoteProtocolError(f"{peer}: {error}", error.error_code, peer)
    return None
