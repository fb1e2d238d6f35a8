"""Does the arithmetic of secp256k1: points, BIP340 signatures and ElligatorSwift (BIP324).

Points are Jacobian triples of integers modulo p; None is infinity. Source: SEC 2; BIP340, sections
"Default Signing" and "Verification"; BIP324, section "ElligatorSwift encoding
of curve X coordinates".
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

P = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8

Jacobian = tuple[int, int, int]
INFINITY: Jacobian = (1, 1, 0)
G: Jacobian = (GX, GY, 1)


def square_root(value: int) -> int | None:
    """Returns a root modulo p, or None; p = 3 mod 4, so one power suffices."""
    root = pow(value, (P + 1) // 4, P)
    return root if root * root % P == value % P else None


def double(a: Jacobian) -> Jacobian:
    x, y, z = a
    if z == 0 or y == 0:
        return INFINITY
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def add(a: Jacobian, b: Jacobian) -> Jacobian:
    if a[2] == 0:
        return b
    if b[2] == 0:
        return a
    x1, y1, z1 = a
    x2, y2, z2 = b
    z1z1, z2z2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * z2z2 % P, x2 * z1z1 % P
    s1, s2 = y1 * z2 * z2z2 % P, y2 * z1 * z1z1 % P
    if u1 == u2:
        return double(a) if s1 == s2 else INFINITY
    h, r = (u2 - u1) % P, (s2 - s1) % P
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P


def table(point: Jacobian) -> list[Jacobian]:
    """Returns the multiples 0 to 15 of a point."""
    rows = [INFINITY, point]
    for _ in range(14):
        rows.append(add(rows[-1], point))
    return rows


@lru_cache(maxsize=1)
def base_tables() -> list[list[Jacobian]]:
    """Returns for each of the 64 digits of a scalar the multiples of G that it can stand for."""
    tables, point = [], G
    for _ in range(64):
        tables.append(table(point))
        for _ in range(4):
            point = double(point)
    return tables


def multiply_base(scalar: int) -> Jacobian:
    result, tables = INFINITY, base_tables()
    for digit in range(64):
        result = add(result, tables[digit][scalar >> (4 * digit) & 15])
    return result


def multiply(scalar: int, point: Jacobian) -> Jacobian:
    """Multiplies by windows of four bits."""
    rows, result = table(point), INFINITY
    for shift in range(252, -4, -4):
        for _ in range(4):
            result = double(result)
        result = add(result, rows[scalar >> shift & 15])
    return result


def affine(point: Jacobian) -> tuple[int, int]:
    assert point[2], "infinity has no coordinates"
    inverse = pow(point[2], -1, P)
    return point[0] * inverse**2 % P, point[1] * inverse**3 % P


def lift_x(x: int) -> Jacobian | None:
    """Returns the point of even y with this x, or None."""
    if x >= P:
        return None
    y = square_root(x**3 + 7)
    return None if y is None else (x, y if y % 2 == 0 else P - y, 1)


def tagged_hash(tag: str, data: bytes) -> bytes:
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


# --- BIP340 ---------------------------------------------------------------------------------------


def public_key(secret: bytes) -> bytes:
    """Returns the x-only public key of 32 secret bytes."""
    scalar = int.from_bytes(secret, "big")
    if not 0 < scalar < ORDER:
        raise ValueError("a secret key is between 1 and the curve's order")
    return affine(multiply_base(scalar))[0].to_bytes(32, "big")


def sign(secret: bytes, message: bytes, aux: bytes) -> bytes:
    scalar = int.from_bytes(secret, "big")
    x, y = affine(multiply_base(scalar))
    d = scalar if y % 2 == 0 else ORDER - scalar
    masked = (d ^ int.from_bytes(tagged_hash("BIP0340/aux", aux), "big")).to_bytes(32, "big")
    key = x.to_bytes(32, "big")
    nonce = int.from_bytes(tagged_hash("BIP0340/nonce", masked + key + message), "big") % ORDER
    rx, ry = affine(multiply_base(nonce))
    k = nonce if ry % 2 == 0 else ORDER - nonce
    r = rx.to_bytes(32, "big")
    e = int.from_bytes(tagged_hash("BIP0340/challenge", r + key + message), "big") % ORDER
    return r + ((k + e * d) % ORDER).to_bytes(32, "big")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    point = lift_x(int.from_bytes(key, "big"))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= P or s >= ORDER or len(key) != 32 or len(signature) != 64:
        return False
    e = int.from_bytes(tagged_hash("BIP0340/challenge", signature[:32] + key + message), "big")
    commitment = add(multiply_base(s), multiply(ORDER - e % ORDER, point))
    if commitment[2] == 0:
        return False
    x, y = affine(commitment)
    return y % 2 == 0 and x == r


# --- ElligatorSwift -------------------------------------------------------------------------------

MINUS_3_ROOT = square_root(-3 % P)
assert MINUS_3_ROOT is not None


def is_x(x: int) -> bool:
    """Tells whether a point of the curve has this x (Euler's criterion)."""
    return pow(x**3 + 7, (P - 1) // 2, P) != P - 1


def decode_x(u: int, t: int) -> int:
    """Maps any two field elements to the x of a point: XSwiftEC of BIP324."""
    u, t = u % P or 1, t % P or 1
    if (u**3 + t**2 + 7) % P == 0:
        t = 2 * t % P
    x = (u**3 + 7 - t**2) * pow(2 * t, -1, P) % P
    y = (x + t) * pow(MINUS_3_ROOT * u, -1, P) % P
    candidates = (u + 4 * y * y, (-x * pow(y, -1, P) - u) * pow(2, -1, P)) if y else ()
    for candidate in candidates:
        if is_x(candidate % P):
            return candidate % P
    return (x * pow(y, -1, P) - u) * pow(2, -1, P) % P


def encode_x(x: int, u: int, case: int) -> int | None:
    """Finds the t that with u decodes to x by one of the eight ways, or None: XSwiftECInv."""
    if case & 2 == 0:
        if is_x((-x - u) % P):
            return None
        v = x
        s = -(u**3 + 7) * pow(u * u + u * v + v * v, -1, P) % P
    else:
        s = (x - u) % P
        if s == 0:
            return None
        r = square_root(-s * (4 * (u**3 + 7) + 3 * s * u * u) % P)
        if r is None or (case & 1 and r == 0):
            return None
        v = (-u + r * pow(s, -1, P)) * pow(2, -1, P) % P
    w = square_root(s)
    if w is None:
        return None
    sign_ = -1 if case & 4 else 1
    factor = (1 + MINUS_3_ROOT) if case & 1 else (1 - MINUS_3_ROOT)
    half = pow(2, -1, P)
    base = factor * half % P * u + v
    # Cases 0 and 2 carry u(1-c)/2 with a minus sign; 1 and 3 u(1+c)/2 with a plus sign.
    return sign_ * w * (base if case & 1 else -base) % P


class EllSwiftKey:
    """Holds a secret scalar with its 64-byte encoding."""

    def __init__(self, randomness: random.Random) -> None:
        self.secret = randomness.randrange(1, ORDER)
        x = affine(multiply_base(self.secret))[0]
        while True:
            u = randomness.randrange(1, P)
            t = encode_x(x, u, randomness.randrange(8))
            # The inverse assumes generic u and t: what does not decode is drawn again.
            if t is not None and decode_x(u, t) == x:
                break
        self.encoded = u.to_bytes(32, "big") + t.to_bytes(32, "big")
        self.x = x.to_bytes(32, "big")


def decode(encoded: bytes) -> int:
    """Returns the x that 64 bytes stand for; every 64 bytes stand for one."""
    assert len(encoded) == 64
    return decode_x(int.from_bytes(encoded[:32], "big"), int.from_bytes(encoded[32:], "big"))


def shared_x(secret: int, theirs: bytes) -> bytes:
    point = lift_x(decode(theirs))
    assert point is not None, "decoding yields points only"
    return affine(multiply(secret, point))[0].to_bytes(32, "big")


def shared_secret(secret: int, theirs: bytes, initiator: bytes, responder: bytes) -> bytes:
    """Does the x-only exchange of BIP324: the hash covers both encodings, the initiator's first."""
    return tagged_hash(
        "bip324_ellswift_xonly_ecdh", initiator + responder + shared_x(secret, theirs)
    )
