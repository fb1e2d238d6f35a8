"""Frames JSON messages on the chain's socket: a length, u32 little-endian, then that many bytes.

Each message is one JSON object. A request has `method` and may have `params` (an object) and `id`
(anything); its reply repeats the `id` and has either `result` or `error`. A message with `notify`
comes unasked, after `subscribe`. The methods stand in `docs/reference/embedded-chain.md`.

`blob` in `params` or in `result` holds bytes and travels raw behind the JSON: megabytes of blocks
in hex would keep both event loops busy. Such a body begins with a zero byte, which no JSON does,
and the JSON's length, u32 little-endian.
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
_BLOB_MARK: Final = b"\x00"
_BLOB_PARTS: Final = ("params", "result")


def encode(message: dict[str, Any]) -> bytes:
    """Returns a message with its length in front."""
    for part in _BLOB_PARTS:
        inner = message.get(part)
        if isinstance(inner, dict) and isinstance(inner.get("blob"), bytes):
            rest = {name: value for name, value in inner.items() if name != "blob"}
            return _join(_dump({**message, part: rest}), inner["blob"])
    body = _dump(message)
    return len(body).to_bytes(_LENGTH_LEN, "little") + body


def decode(body: bytes) -> dict[str, Any]:
    """Parses the body of a frame.

    Raises:
        RemoteProtocolError: It is not a JSON object, or has a blob in no part; the peer is at
            fault.
    """
    if body[:1] != _BLOB_MARK:
        return _load(body)
    start = len(_BLOB_MARK) + _LENGTH_LEN
    end = start + int.from_bytes(body[len(_BLOB_MARK) : start], "little")
    if end > len(body):
        raise RemoteProtocolError("a frame's blob begins behind its end", "bad-json")
    message = _load(body[start:end])
    for part in _BLOB_PARTS:
        if isinstance(message.get(part), dict):
            message[part]["blob"] = body[end:]
            return message
    raise RemoteProtocolError("a frame has a blob, and no params or result for it", "bad-json")


def _dump(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _join(body: bytes, blob: bytes) -> bytes:
    length = len(_BLOB_MARK) + _LENGTH_LEN + len(body) + len(blob)
    sizes = (length.to_bytes(_LENGTH_LEN, "little"), len(body).to_bytes(_LENGTH_LEN, "little"))
    return b"".join((sizes[0], _BLOB_MARK, sizes[1], body, blob))


def _load(body: bytes) -> dict[str, Any]:
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
