"""Hears from a bitcoin node by ZeroMQ when it has a new tip.

`ZmtpReader` is the protocol without IO: ZMTP 3.0 with the NULL mechanism, as far as a subscriber
needs it. `follow_blocks` runs it on a TCP connection. What is heard is a hint and nothing more: it
carries no authentication and may be lost, so it only makes the source look.

Source: ZMTP 3.0 (ZeroMQ RFC 23), bitcoind's doc/zmq.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Never
from urllib.parse import urlsplit

import trio

from radpool_sv2.errors import NodeError, RemoteProtocolError
from radpool_sv2.units import HASH_LEN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GREETING", "HASHBLOCK", "HELLO", "ZmtpReader", "follow_blocks"]

HASHBLOCK: Final = b"hashblock"

CONNECT_DEADLINE_S: Final = 10.0

FRAME_BYTES_MAX: Final = 1_024
"""A notice has frames of 9, 32 and 4 bytes; a READY of libzmq some 60."""

FRAMES_MAX: Final = 8
"""Frames of one message; a notice has three."""

_GREETING_LEN: Final = 64
_MORE, _LONG, _COMMAND = 1, 2, 4
_READ_LEN: Final = 4_096

GREETING: Final = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Signature, version 3.0, mechanism, not a server, filler."""

_READY: Final = b"\x05READY\x0bSocket-Type" + (3).to_bytes(4, "big") + b"SUB"
_SUBSCRIBE: Final = b"\x01" + HASHBLOCK

HELLO: Final = bytes([_COMMAND, len(_READY)]) + _READY + bytes([0, len(_SUBSCRIBE)]) + _SUBSCRIBE
"""What a subscriber sends behind its greeting: READY, and the subscription as ZMTP 3.0 has it."""


class ZmtpReader:
    """Takes a publisher's bytes apart into messages, each a list of frames.

    Attributes:
        has_greeted: Whether the publisher's greeting is whole.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.has_greeted = False
        self._frames: list[bytes] = []

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Takes bytes as they come; returns the messages that they complete.

        Raises:
            RemoteProtocolError: This is no ZeroMQ publisher, or a message is too long.
        """
        self._data += data
        if not self.has_greeted and not self._greet():
            return []
        messages = []
        while (frame := self._take_frame()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                continue
            self._frames.append(body)
            if len(self._frames) > FRAMES_MAX:
                raise RemoteProtocolError(f"a message has more than {FRAMES_MAX} frames")
            if not flags & _MORE:
                messages.append(self._frames)
                self._frames = []
        return messages

    def _greet(self) -> bool:
        head = bytes(self._data[:_GREETING_LEN])
        if head[:1] not in (b"", b"\xff") or head[9:10] not in (b"", b"\x7f"):
            raise RemoteProtocolError("this does not speak ZeroMQ")
        if len(head) < _GREETING_LEN:
            return False
        if head[10] < 3 or head[12:32].rstrip(b"\0") != b"NULL":
            raise RemoteProtocolError("this speaks another ZeroMQ than version 3 without a key")
        del self._data[:_GREETING_LEN]
        self.has_greeted = True
        return True

    def _take_frame(self) -> tuple[int, bytes] | None:
        if not self._data:
            return None
        flags = self._data[0]
        if flags > _MORE | _LONG | _COMMAND:
            raise RemoteProtocolError("a frame has flags that ZeroMQ does not know")
        head = 9 if flags & _LONG else 2
        if len(self._data) < head:
            return None
        length = int.from_bytes(self._data[1:head], "big")
        if length > FRAME_BYTES_MAX:
            raise RemoteProtocolError(f"a frame of {length} bytes is no notice of a block")
        if len(self._data) < head + length:
            return None
        body = bytes(self._data[head : head + length])
        del self._data[: head + length]
        return flags, body


async def follow_blocks(url: str, told: Callable[[bytes], None]) -> Never:
    """Connects to a node's publisher and passes on the hash of each new tip, as long as it can.

    Args:
        url: tcp://HOST:PORT.
        told: Is called with the hash in internal byte order; must not wait.

    Raises:
        NodeError: There is no publisher, it closed the connection, or it broke the protocol.
    """
    parts = urlsplit(url)
    try:
        with trio.fail_after(CONNECT_DEADLINE_S):
            stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
    except (OSError, trio.TooSlowError) as error:
        raise NodeError(f"nobody tells of new blocks at {url}: {error}", url) from error
    async with stream:
        reader = ZmtpReader()
        try:
            await stream.send_all(GREETING)
            is_subscribed = False
            while data := await stream.receive_some(_READ_LEN):
                for message in reader.feed(data):
                    if message[0] == HASHBLOCK:
                        told(_hash(message))
                # libzmq closes on who sends more than a greeting before it has sent its own.
                if reader.has_greeted and not is_subscribed:
                    is_subscribed = True
                    await stream.send_all(HELLO)
        except (trio.BrokenResourceError, RemoteProtocolError) as error:
            raise NodeError(f"{url} does not tell of blocks: {error}", url) from error
    raise NodeError(f"{url} closed the connection", url)


def _hash(message: list[bytes]) -> bytes:
    if len(message) < 2 or len(message[1]) != HASH_LEN:
        raise RemoteProtocolError("a notice of a block has no hash")
    return message[1][::-1]
