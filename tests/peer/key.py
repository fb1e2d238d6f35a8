"""Reads and writes authority keys in the text form of SV2: base58check."""

from __future__ import annotations

import hashlib

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
PUBLIC_VERSION = b"\x01\x00"


def checksum(body: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]


def from_base58check(text: str) -> bytes:
    number = 0
    for character in text:
        number = number * 58 + ALPHABET.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    raw = b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(raw) < 4 or checksum(raw[:-4]) != raw[-4:]:
        raise ValueError("the checksum of the key does not match")
    return raw[:-4]


def to_base58check(body: bytes) -> str:
    raw = body + checksum(body)
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def public_key_from_text(text: str) -> bytes:
    """Returns the 32 bytes of an authority's public key."""
    body = from_base58check(text)
    if len(body) != 34 or body[:2] != PUBLIC_VERSION:
        raise ValueError("an authority public key has version 1 and 32 bytes")
    return body[2:]


def public_key_to_text(key: bytes) -> str:
    return to_base58check(PUBLIC_VERSION + key)


def secret_key_to_text(secret: bytes) -> str:
    return to_base58check(secret)
