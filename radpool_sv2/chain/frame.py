"""Frames JSON messages on the chain's socket: a length, u32 little-endian, then that many bytes.

Each message is one JSON object. A request has `method` and may have `params` (an object) and `id`
(anything); its reply repeats the `id` and has either `result` or `error`. A message with `notify`
comes unasked, after `subscribe`. The methods stand in `docs/reference/embedded-chain.md`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from radpool_sv2.errors import RemoteProtocolError

if TYPE_CHECKING:
    import trio

__all__ = ["FRAME_LEN_MAX", "FrameReader", "decode", "encode"]

# The largest message is a block of 4,000,000 bytes in hex.
FRAME_LEN_MAX: Final = 9_000_000
_LENGTH_LEN: Final = 4
_CHUNK: Final = 65_536


def encode(message: dict[str, Any]) -> bytes:
    """Returns a message with its length in front."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH_LEN, "little") + body


def decode(body: bytes) -> dict[str, Any]:
    """Parses the body of a frame.

    Raises:
        RemoteProtocolError: It is not a JSON object; the peer is at fault.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a frame is not JSON: {error}", "bad-json") from error
    if not isinstance(message, dict):
        raise RemoteProtocolError("a frame is JSON but not an object", "bad-json")
    return message


class FrameReader:
    """Cuts a byte stream into frames.

    Memory grows with what has arrived, never with what was announced.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, limit: int = FRAME_LEN_MAX) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()

    async def begin(self) -> int | None:
        """Returns the length of the next frame, or None at the end of the stream.

        Raises:
            RemoteProtocolError: The length exceeds the limit, or the stream ends inside it.
        """
        if not await self._fill(_LENGTH_LEN):
            if self._buffer:
                raise RemoteProtocolError("the stream ended inside a frame", "truncated")
            return None
        length = int.from_bytes(self._buffer[:_LENGTH_LEN], "little")
        if length > self._limit:
            raise RemoteProtocolError(
                f"a frame of {length} bytes exceeds the limit of {self._limit}", "frame-too-long"
            )
        return length

    async def finish(self, length: int) -> bytes:
        """Returns the body of the frame that `begin` has announced."""
        end = _LENGTH_LEN + length
        if not await self._fill(end):
            raise RemoteProtocolError("the stream ended inside a frame", "truncated")
        body = bytes(self._buffer[_LENGTH_LEN:end])
        del self._buffer[:end]
        return body

    async def _fill(self, length: int) -> bool:
        """Reads until `length` bytes are there; False when the stream ends before."""
        while len(self._buffer) < length:
            piece = await self._stream.receive_some(_CHUNK)
            if not piece:
                return False
            self._buffer += piece
        return True
