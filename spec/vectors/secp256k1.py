"""Signs as BIP340 has it, with Python's integers alone, for the vectors' generators.

Nothing here takes constant time: the keys of vectors are no secrets.

Source: BIP340, "Default Signing".
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)

Point = tuple[int, int] | None


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Computes the BIP340 tagged hash of the concatenation of `parts`."""
    prefix = sha256(tag.encode()).digest()
    return sha256(prefix + prefix + b"".join(parts)).digest()


def add(left: Point, right: Point) -> Point:
    """Adds two points of the curve; None is the point at infinity."""
    if left is None or right is None:
        return left or right
    if left[0] == right[0]:
        if (left[1] + right[1]) % FIELD == 0:
            return None
        slope = 3 * left[0] * left[0] * pow(2 * left[1], -1, FIELD)
    else:
        slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, FIELD)
    x = (slope * slope - left[0] - right[0]) % FIELD
    return x, (slope * (left[0] - x) - left[1]) % FIELD


def multiply(factor: int) -> tuple[int, int]:
    """Multiplies the generator by a factor between 1 and the order."""
    result: Point = None
    addend: Point = GENERATOR
    while factor:
        if factor & 1:
            result = add(result, addend)
        addend = add(addend, addend)
        factor >>= 1
    assert result is not None, "a factor below the order leads to no point at infinity"
    return result


@cache
def public_key(secret: bytes) -> bytes:
    """Computes the x-only public key of a secret key."""
    return multiply(int.from_bytes(secret, "big"))[0].to_bytes(32, "big")


@cache
def sign(secret: bytes, message: bytes, auxiliary: bytes = bytes(32)) -> bytes:
    """Signs a message; the auxiliary randomness is zeros unless something else is given."""
    key = int.from_bytes(secret, "big")
    public_x, public_y = multiply(key)
    if public_y % 2:
        key = ORDER - key
    public = public_x.to_bytes(32, "big")
    mask = int.from_bytes(tagged_hash("BIP0340/aux", auxiliary), "big")
    masked = (key ^ mask).to_bytes(32, "big")
    nonce = int.from_bytes(tagged_hash("BIP0340/nonce", masked, public, message), "big") % ORDER
    nonce_x, nonce_y = multiply(nonce)
    if nonce_y % 2:
        nonce = ORDER - nonce
    start = nonce_x.to_bytes(32, "big")
    challenge = int.from_bytes(tagged_hash("BIP0340/challenge", start, public, message), "big")
    return start + ((nonce + challenge * key) % ORDER).to_bytes(32, "big")
