"""Connects to a server as a client: raw bytes, frames or messages, whatever a test needs."""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import TYPE_CHECKING

import trio

from . import message as wire
from .curve import EllSwiftKey
from .message import Message, RawFrame
from .noise import ACT_2_LEN, HEADER_LEN, TAG_LEN, Initiator, sealed_len

if TYPE_CHECKING:
    from .noise import Cipher

# How long a live server may take for anything; a test that waits so long has failed.
PATIENCE_S = 60.0

# One certificate is checked once, however many clients see it.
TRUSTED: set[bytes] = set()


class ConnectionClosed(Exception):
    """Says that the server has closed the connection, between two frames or in one."""


class Channel:
    """Sends and receives sealed frames over a stream; the base of both roles."""

    def __init__(self, stream: trio.SocketStream, send: Cipher, receive: Cipher) -> None:
        self.stream = stream
        self.send_cipher = send
        self.receive_cipher = receive
        self._buffer = bytearray()
        self._frame: tuple[int, bool, int, int] | None = None

    async def send(self, *messages: Message) -> None:
        """Sends messages in one write."""
        await self.send_frames(*(message.frame() for message in messages))

    async def send_frames(self, *frames: bytes) -> None:
        """Sends plain frames, header and payload, in one write."""
        await self.send_bytes(b"".join(self.send_cipher.seal_frame(frame) for frame in frames))

    async def send_bytes(self, raw: bytes) -> None:
        """Sends bytes as they are."""
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_all(raw)

    async def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            try:
                received = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosed from error
            if not received:
                raise ConnectionClosed
            self._buffer += received

    async def _take(self, count: int) -> bytes:
        """Takes bytes; a cancelled call has taken none."""
        await self._fill(count)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def receive_frame(self) -> tuple[int, bool, int, bytes]:
        """Returns extension, channel bit, message number and payload; may be cancelled."""
        if self._frame is None:
            sealed = await self._take(HEADER_LEN + TAG_LEN)
            self._frame = wire.header(self.receive_cipher.open(sealed))
        extension, channel, number, length = self._frame
        sealed = await self._take(sealed_len(length))
        self._frame = None
        step = 65535
        chunks = (sealed[start : start + step] for start in range(0, len(sealed), step))
        return extension, channel, number, b"".join(map(self.receive_cipher.open, chunks))

    async def receive(self) -> Message | RawFrame:
        """Returns the next message, strictly decoded.

        Raises:
            ConnectionClosed: The server has closed instead.
        """
        with trio.fail_after(PATIENCE_S):
            return wire.decode(*await self.receive_frame())

    async def expect(self, name: str) -> Message:
        """Returns the next message, which must be of this kind."""
        received = await self.receive()
        assert received.name == name, f"{name} was due, {received} came"
        assert isinstance(received, Message)
        return received

    async def closed(self) -> list[Message | RawFrame]:
        """Waits for the server to close and returns what it sent before."""
        received = []
        try:
            while True:
                received.append(await self.receive())
        except ConnectionClosed:
            return received

    async def aclose(self) -> None:
        """Closes in the ordinary way."""
        await trio.aclose_forcefully(self.stream)

    async def reset(self) -> None:
        """Closes with a TCP reset, as a device does that has lost its memory."""
        option = struct.pack("ii", 1, 0)
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        await trio.aclose_forcefully(self.stream)


async def open_stream(address: tuple[str, int]) -> trio.SocketStream:
    """Connects by TCP; the caller's writes are not delayed."""
    with trio.fail_after(PATIENCE_S):
        return await trio.open_tcp_stream(*address)


class Client(Channel):
    """Is a client behind its handshake."""

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        authority: bytes | None,
        *,
        ephemeral: EllSwiftKey | None = None,
        unix_s: int | None = None,
    ) -> Client:
        """Connects and shakes hands.

        Args:
            address: Host and port.
            authority: The key that must vouch for the server.
            ephemeral: The key of this handshake; drawn when left out.
            unix_s: The client's clock, when it is not the system's.

        Raises:
            ConnectionClosed: The server has closed before the end of the handshake.
            NoiseError: The server has not proved who it is.
        """
        stream = await open_stream(address)
        return await cls.over(stream, authority, ephemeral=ephemeral, unix_s=unix_s)

    @classmethod
    async def over(
        cls,
        stream: trio.SocketStream,
        authority: bytes | None,
        *,
        ephemeral: EllSwiftKey | None = None,
        unix_s: int | None = None,
    ) -> Client:
        """Shakes hands over a stream, which is closed when that fails."""
        initiator = Initiator(ephemeral or EllSwiftKey(random.SystemRandom()))
        try:
            with trio.fail_after(PATIENCE_S):
                await stream.send_all(initiator.act_1())
                act_2 = b""
                while len(act_2) < ACT_2_LEN:
                    received = await stream.receive_some(ACT_2_LEN - len(act_2))
                    if not received:
                        raise ConnectionClosed
                    act_2 += received
            now = int(time.time()) if unix_s is None else unix_s
            send, receive = initiator.finish(act_2, authority, now, trusted=TRUSTED)
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise ConnectionClosed from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return cls(stream, send, receive)

    async def set_up(self, flags: int = 0, **fields: object) -> Message:
        """Sends SetupConnection for mining and returns the answer."""
        await self.send(setup_message(flags, **fields))
        return await self.receive()  # type: ignore[return-value]


def setup_message(flags: int = 0, **fields: object) -> Message:
    """Makes a SetupConnection for mining, with some fields as given."""
    defaults: dict[str, object] = {
        "protocol": 0,
        "min_version": 2,
        "max_version": 2,
        "flags": flags,
        "endpoint_host": "pool.invalid",
        "endpoint_port": 3333,
        "vendor": "peer",
        "hardware_version": "",
        "firmware": "1",
        "device_id": "",
    }
    return Message("SetupConnection", **{**defaults, **fields})
