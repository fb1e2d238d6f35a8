"""Verifies BIP340 signatures, and points of their curve, with Python's integers alone.

A verification takes some milliseconds: fine for one per batch. Nothing here is secret, so nothing
needs to take constant time.

Source: BIP340, "Verification"; BIP341, "Script validation rules".
"""

from __future__ import annotations

from radpool_sv2.units import tagged_hash

__all__ = ["is_point", "is_signed_by", "tweaked_key"]

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GENERATOR_Y = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8

PUBLIC_KEY_LEN = 32
SIGNATURE_LEN = 64

Point = tuple[int, int, int]
"""A point in Jacobian coordinates: x / z^2, y / z^3; z = 0 is the point at infinity."""

INFINITY: Point = (0, 1, 0)
GENERATOR: Point = (GENERATOR_X, GENERATOR_Y, 1)


def is_signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Says whether a signature is one of a message under an x-only public key.

    Args:
        public_key: 32 bytes.
        message: What was signed: in this project always a 32-byte hash.
        signature: 64 bytes.
    """
    if len(public_key) != PUBLIC_KEY_LEN or len(signature) != SIGNATURE_LEN:
        return False
    public = _lift_x(int.from_bytes(public_key, "big"))
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if public is None or r >= FIELD or s >= ORDER:
        return False
    challenge = tagged_hash("BIP0340/challenge", signature[:32], public_key, message)
    e = int.from_bytes(challenge, "big") % ORDER
    point = _sum_of_products(s, GENERATOR, ORDER - e, public)
    if point[2] == 0:
        return False
    inverse = pow(point[2], -1, FIELD)
    x = point[0] * inverse * inverse % FIELD
    y = point[1] * inverse * inverse * inverse % FIELD
    return y % 2 == 0 and x == r


def is_point(compressed: bytes) -> bool:
    """Says whether 33 bytes are a point of the curve in compressed form."""
    if len(compressed) != 1 + PUBLIC_KEY_LEN or compressed[0] not in (2, 3):
        return False
    return _lift_x(int.from_bytes(compressed[1:], "big")) is not None


def tweaked_key(public_key: bytes, tweak: bytes) -> bytes:
    """Adds a tweak to a key, as BIP341 does for outputs.

    Args:
        public_key: 32 bytes, x-only.
        tweak: 32 bytes.

    Returns:
        The sum, x-only.

    Raises:
        ValueError: The key is none, or the two have no sum that is one.
    """
    point, scalar = _lift_x(int.from_bytes(public_key, "big")), int.from_bytes(tweak, "big")
    if point is None or scalar >= ORDER:
        raise ValueError(f"{public_key.hex()} cannot be tweaked")
    x, _, z = _sum_of_products(scalar, GENERATOR, 1, point)
    if z == 0:
        raise ValueError(f"{public_key.hex()} cannot be tweaked")
    inverse = pow(z, -1, FIELD)
    return (x * inverse * inverse % FIELD).to_bytes(32, "big")


def _lift_x(x: int) -> Point | None:
    """Finds the point of an x coordinate whose y is even."""
    if x >= FIELD:
        return None
    square = (pow(x, 3, FIELD) + 7) % FIELD
    y = pow(square, (FIELD + 1) // 4, FIELD)
    if y * y % FIELD != square:
        return None
    return x, y if y % 2 == 0 else FIELD - y, 1


def _sum_of_products(a: int, left: Point, b: int, right: Point) -> Point:
    """Computes a * left + b * right, doubling once for both (Shamir's trick)."""
    both = _add(left, right)
    choice = (INFINITY, left, right, both)
    result = INFINITY
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        result = _double(result)
        index = (a >> bit & 1) | (b >> bit & 1) << 1
        if index:
            result = _add(result, choice[index])
    return result


def _double(point: Point) -> Point:
    x, y, z = point
    if z == 0:
        return INFINITY
    yy = y * y % FIELD
    s = 4 * x * yy % FIELD
    m = 3 * x * x % FIELD
    x2 = (m * m - 2 * s) % FIELD
    return x2, (m * (s - x2) - 8 * yy * yy) % FIELD, 2 * y * z % FIELD


def _add(left: Point, right: Point) -> Point:
    if left[2] == 0:
        return right
    if right[2] == 0:
        return left
    z1, z2 = left[2] * left[2] % FIELD, right[2] * right[2] % FIELD
    u1, u2 = left[0] * z2 % FIELD, right[0] * z1 % FIELD
    s1, s2 = left[1] * z2 * right[2] % FIELD, right[1] * z1 * left[2] % FIELD
    if u1 == u2:
        return _double(left) if s1 == s2 else INFINITY
    h, r = (u2 - u1) % FIELD, (s2 - s1) % FIELD
    hh = h * h % FIELD
    hhh, v = h * hh % FIELD, u1 * hh % FIELD
    x = (r * r - hhh - 2 * v) % FIELD
    return x, (r * (v - x) - s1 * hhh) % FIELD, h * left[2] * right[2] % FIELD
