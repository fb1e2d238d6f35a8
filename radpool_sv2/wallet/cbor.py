"""Writes and reads the part of CBOR that tokens are written in.

Integers, bytes, texts, lists, and maps with texts as keys; each length is definite and written in
the shortest form, so that a value has one encoding. `true`, `false` and `null` are read, because
fields that we do not know may hold them. Everything else (floats, tags, indefinite lengths) is
refused.

Source: RFC 8949.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Value", "decode", "encode"]

Value = int | bytes | str | bool | None | list["Value"] | dict[str, "Value"]
"""What can be read."""

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
CONSTANTS: Final = {20: False, 21: True, 22: None}
LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
DEPTH_MAX: Final = 8
"""Tokens need six."""


def encode(value: int | bytes | str | Sequence[object] | Mapping[str, object]) -> bytes:
    """Writes a value; maps keep the order of their keys.

    Raises:
        LocalProtocolError: It is of no type that tokens are made of.
    """
    match value:
        case bool():
            pass
        case int() if 0 <= value < 1 << 64:
            return _head(UNSIGNED, value)
        case bytes():
            return _head(BYTES, len(value)) + value
        case str():
            raw = value.encode()
            return _head(TEXT, len(raw)) + raw
        case list():
            return _head(ARRAY, len(value)) + b"".join(map(encode, value))
        case dict():
            parts = (encode(key) + encode(item) for key, item in value.items())
            return _head(MAP, len(value)) + b"".join(parts)
    raise LocalProtocolError(f"a {type(value).__name__} has no place in a token")


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    code = next(code for code, size in LENGTHS.items() if number < 1 << 8 * size)
    return bytes([kind << 5 | code]) + number.to_bytes(LENGTHS[code], "big")


def decode(data: bytes) -> Value:
    """Reads a value that fills all of `data`.

    Raises:
        RemoteProtocolError: It is cut off, followed by something, or not of the part that is read.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise RemoteProtocolError(f"the token goes on for {len(data) - reader.at} bytes too many")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise RemoteProtocolError(f"the token is cut off after {len(self._data)} bytes")
        self.at += count
        return self._data[self.at - count : self.at]

    def _number(self, code: int) -> int:
        if code < 24:
            return code
        if code not in LENGTHS:
            raise RemoteProtocolError("the token has a length that is not definite")
        size = LENGTHS[code]
        number = int.from_bytes(self._take(size), "big")
        if number < (24 if size == 1 else 1 << 4 * size):
            raise RemoteProtocolError("the token has a number that is not in its shortest form")
        return number

    def value(self, depth: int) -> Value:
        if depth > DEPTH_MAX:
            raise RemoteProtocolError("the token is nested too deeply")
        kind, code = divmod(self._take(1)[0], 32)
        if kind == SIMPLE and code in CONSTANTS:
            return CONSTANTS[code]
        if kind in {SIMPLE, TAG}:
            raise RemoteProtocolError("the token has a float or a tag, which tokens never have")
        number = self._number(code)
        if kind in {UNSIGNED, NEGATIVE}:
            return number if kind == UNSIGNED else -1 - number
        if kind == BYTES:
            return self._take(number)
        if kind == TEXT:
            return self._text(number)
        if kind == ARRAY:
            return [self.value(depth + 1) for _ in range(self._left(number))]
        return self._map(number, depth)

    def _left(self, number: int) -> int:
        # Each item has a byte at least: a false count must not make anybody wait or allocate.
        if number > len(self._data) - self.at:
            raise RemoteProtocolError("the token announces more items than it has bytes")
        return number

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("the token has a text that is not UTF-8") from error

    def _map(self, number: int, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for _ in range(self._left(number)):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise RemoteProtocolError("the token has a key that is no text, or one twice")
            found[key] = self.value(depth + 1)
        return found
