"""Reads single fields of signed JSON: each value has exactly one form."""

from __future__ import annotations

import json

__all__ = ["block_hash", "canonical", "decimal", "integer", "natural", "octets"]


def canonical(value: object) -> bytes:
    """Writes JSON in the one form that is signed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode()


def integer(value: object) -> int:
    """Reads an integer.

    Raises:
        ValueError: It is none.
    """
    # JSON has true and 1.0, which Python would take for integers.
    if type(value) is not int:
        raise ValueError(f"{value!r} is no integer")
    return value


def natural(value: object) -> int:
    """Reads an integer of 0 or more.

    Raises:
        ValueError: It is none.
    """
    number = integer(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def decimal(value: object) -> int:
    """Reads a number that is written as a string, since it may exceed what JSON readers take.

    Raises:
        ValueError: It is none, or has superfluous digits.
    """
    number = int(value) if isinstance(value, str) else -1
    if number < 0 or str(number) != value:
        raise ValueError(f"{value!r} is no decimal number")
    return number


def octets(value: object, length: int) -> bytes:
    """Reads bytes in lower-case hex.

    Raises:
        ValueError: They are not, or not so many.
    """
    data = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(data) != length or data.hex() != value:
        raise ValueError(f"{value!r} is not {length} bytes in lower-case hex")
    return data


def block_hash(value: object) -> bytes:
    """Reads a displayed hash into internal byte order.

    Raises:
        ValueError: It is none.
    """
    return octets(value, 32)[::-1]
