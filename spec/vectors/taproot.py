"""Builds taproot outputs and spends as page 17 has them, for the vectors' generators.

Source: BIP340, "lift_x"; BIP341; BIP342.
"""

from __future__ import annotations

from hashlib import sha256
from struct import pack

from secp256k1 import FIELD, ORDER, add, multiply, tagged_hash


def compact(value: int) -> bytes:
    """Writes a CompactSize."""
    if value < 0xFD:
        return bytes([value])
    return b"\xfd" + pack("<H", value)


def pushed(number: int) -> bytes:
    """Writes what puts a number above 0 on the stack."""
    if number <= 16:
        return bytes([80 + number])
    data = b""
    while number:
        data += bytes([number & 0xFF])
        number >>= 8
    if data[-1] & 0x80:
        data += b"\0"
    return bytes([len(data)]) + data


def recovery(blocks: int, threshold: int, keys: list[bytes]) -> bytes:
    """Writes the script of a leaf."""
    script = b"\x20" + keys[0] + b"\xac"
    script += b"".join(b"\x20" + key + b"\xba" for key in keys[1:])
    return script + pushed(threshold) + b"\x9d" + pushed(blocks) + b"\xb2"


def leaf_hash(script: bytes) -> bytes:
    """Hashes a leaf."""
    return tagged_hash("TapLeaf", b"\xc0", compact(len(script)), script)


def root_of(leaves: list[bytes]) -> bytes:
    """Hashes one leaf, or two."""
    if len(leaves) == 1:
        return leaves[0]
    return tagged_hash("TapBranch", *sorted(leaves))


def tweak(key: bytes, root: bytes) -> tuple[bytes, int]:
    """Returns the output key and whether its other coordinate is odd."""
    x = int.from_bytes(key, "big")
    y = pow(x**3 + 7, (FIELD + 1) // 4, FIELD)
    assert y * y % FIELD == (x**3 + 7) % FIELD, "the key is none"
    if y % 2:
        y = FIELD - y
    factor = int.from_bytes(tagged_hash("TapTweak", key, root), "big")
    assert factor < ORDER, "one in 2^128 is not"
    point = add((x, y), multiply(factor))
    assert point is not None, "the tweak is not the key's negative"
    return point[0].to_bytes(32, "big"), point[1] % 2


def spending(
    point: tuple[bytes, int], parts: list[tuple[bytes, int]], witness: bytes = b""
) -> bytes:
    """Writes a transaction with one final input."""
    inputs = b"\x01" + point[0] + pack("<I", point[1]) + b"\0" + b"\xff" * 4
    mark = b"\0\x01" if witness else b""
    return pack("<I", 2) + mark + inputs + outputs(parts) + witness + pack("<I", 0)


def outputs(parts: list[tuple[bytes, int]]) -> bytes:
    """Writes outputs with their count."""
    return compact(len(parts)) + b"".join(map(output, parts))


def output(part: tuple[bytes, int]) -> bytes:
    """Writes an output."""
    return pack("<Q", part[1]) + compact(len(part[0])) + part[0]


def key_path_hash(
    point: tuple[bytes, int], value: int, script: bytes, parts: list[tuple[bytes, int]]
) -> bytes:
    """Returns what the one final input signs."""
    fields = [
        point[0] + pack("<I", point[1]),
        pack("<Q", value),
        compact(len(script)) + script,
        b"\xff" * 4,
        b"".join(map(output, parts)),
    ]
    digests = b"".join(sha256(field).digest() for field in fields)
    # Epoch and hash type; version and locktime; how it is spent, and the input's place.
    head, tail = b"\0\0" + pack("<II", 2, 0), b"\0" + pack("<I", 0)
    return tagged_hash("TapSighash", head, digests, tail)
