"""Reads little-endian fields off bytes."""

from __future__ import annotations

__all__ = ["Reader", "TruncatedError"]


class TruncatedError(Exception):
    """Says that the bytes end inside a field, or that a length is not in its shortest form."""


class Reader:
    """Takes fields off the front of some bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self._data) - self.at

    def take(self, length: int) -> bytes:
        """Takes bytes.

        Raises:
            TruncatedError: There are not so many.
        """
        if length > self.left:
            raise TruncatedError
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self, length: int) -> int:
        """Takes an unsigned integer of so many bytes."""
        return int.from_bytes(self.take(length), "little")

    def compact_size(self) -> int:
        """Takes bitcoin's compact size, at most 65535, in its shortest form only."""
        first = self.number(1)
        if first < 0xFD:
            return first
        size = self.number(2) if first == 0xFD else 0
        if size < 0xFD:
            raise TruncatedError
        return size
