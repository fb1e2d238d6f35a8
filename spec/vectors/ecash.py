"""Blinds, signs, proves and unblinds as the Cashu NUTs have it, for the vectors of pages 05 to 08.

Nothing here takes constant time: the keys of vectors are no secrets.

Source: NUT-00, NUT-02 (version 2), NUT-12, NUT-13 (version 2); pages 06 and 08.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256, sha512

from layout import le
from secp256k1 import FIELD, GENERATOR, ORDER, tagged_hash

Jacobian = tuple[int, int, int]

INFINITY: Jacobian = (1, 1, 0)
BASE: Jacobian = (*GENERATOR, 1)
KEYS_MAX = 64
EXPONENT_MAX = 120


def doubled(point: Jacobian) -> Jacobian:
    x, y, z = point
    if not z:
        return INFINITY
    square = y * y % FIELD
    s, m = 4 * x * square % FIELD, 3 * x * x % FIELD
    above = (m * m - 2 * s) % FIELD
    return above, (m * (s - above) - 8 * square * square) % FIELD, 2 * y * z % FIELD


def add(left: Jacobian, right: Jacobian) -> Jacobian:
    if not left[2] or not right[2]:
        return right if not left[2] else left
    (x1, y1, z1), (x2, y2, z2) = left, right
    square1, square2 = z1 * z1 % FIELD, z2 * z2 % FIELD
    u1, u2 = x1 * square2 % FIELD, x2 * square1 % FIELD
    s1, s2 = y1 * z2 * square2 % FIELD, y2 * z1 * square1 % FIELD
    if u1 == u2:
        return doubled(left) if s1 == s2 else INFINITY
    h, r = (u2 - u1) % FIELD, (s2 - s1) % FIELD
    cube, v = h * h * h % FIELD, u1 * h * h % FIELD
    x = (r * r - cube - 2 * v) % FIELD
    return x, (r * (v - x) - s1 * cube) % FIELD, z1 * z2 * h % FIELD


def times(factor: int, point: Jacobian) -> Jacobian:
    result = INFINITY
    for bit in f"{factor % ORDER:b}":
        result = doubled(result)
        if bit == "1":
            result = add(result, point)
    return result


def minus(point: Jacobian) -> Jacobian:
    return point[0], -point[1] % FIELD, point[2]


def affine(point: Jacobian) -> tuple[int, int]:
    inverse = pow(point[2], -1, FIELD)
    return point[0] * inverse**2 % FIELD, point[1] * inverse**3 % FIELD


def compressed(point: Jacobian) -> bytes:
    x, y = affine(point)
    return bytes([2 + y % 2]) + x.to_bytes(32, "big")


def uncompressed(point: Jacobian) -> bytes:
    x, y = affine(point)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def parsed(encoded: bytes) -> Jacobian | None:
    """Reads 33 compressed bytes; None when they are no point."""
    x = int.from_bytes(encoded[1:], "big")
    if len(encoded) != 33 or encoded[0] not in (2, 3) or x >= FIELD:
        return None
    y = pow(x**3 + 7, (FIELD + 1) // 4, FIELD)
    if y * y % FIELD != (x**3 + 7) % FIELD:
        return None
    return x, y if y % 2 == encoded[0] % 2 else FIELD - y, 1


def point(encoded: bytes) -> Jacobian:
    found = parsed(encoded)
    assert found is not None, "not a point"
    return found


# NUT-00.


def hash_to_curve(message: bytes) -> Jacobian:
    start = sha256(b"Secp256k1_HashToCurve_Cashu_" + message).digest()
    for counter in range(2**16):
        found = parsed(b"\x02" + sha256(start + le(counter, 4)).digest())
        if found is not None:
            return found
    raise AssertionError("one in 2^65536 messages has no point")


def blinded(secret: str, factor: int) -> bytes:
    return compressed(add(hash_to_curve(secret.encode()), times(factor, BASE)))


# NUT-12.


def dleq_nonce(key: int, *points: Jacobian) -> int:
    start = b"Cashu_DLEQ_R_v1" + b"".join(map(uncompressed, points))
    for counter in range(256):
        digest = hmac.digest(key.to_bytes(32, "big"), start + bytes([counter]), "sha256")
        if 0 < int.from_bytes(digest, "big") < ORDER:
            return int.from_bytes(digest, "big")
    raise AssertionError("256 digests in a row are no scalars")


def dleq_challenge(*points: Jacobian) -> bytes:
    return sha256("".join(uncompressed(each).hex() for each in points).encode()).digest()


@dataclass(frozen=True)
class Signature:
    c: bytes
    e: bytes
    s: bytes


@cache
def sign(key: int, blinded_message: bytes) -> Signature:
    public, message = times(key, BASE), point(blinded_message)
    signed = times(key, message)
    nonce = dleq_nonce(key, public, message, signed)
    challenge = dleq_challenge(times(nonce, BASE), times(nonce, message), public, signed)
    answer = (nonce + int.from_bytes(challenge, "big") * key) % ORDER
    return Signature(compressed(signed), challenge, answer.to_bytes(32, "big"))


def is_proved(public: bytes, blinded_message: bytes, signature: Signature) -> bool:
    e, s = int.from_bytes(signature.e, "big"), int.from_bytes(signature.s, "big")
    key, message, signed = point(public), point(blinded_message), point(signature.c)
    first = add(times(s, BASE), minus(times(e, key)))
    second = add(times(s, message), minus(times(e, signed)))
    if not first[2] or not second[2]:
        return False
    return dleq_challenge(first, second, key, signed) == signature.e


def unblinded(signature: bytes, factor: int, public: bytes) -> bytes:
    return compressed(add(point(signature), minus(times(factor, point(public)))))


# Page 06: keysets.


def exponents(z0: int) -> range:
    return range(z0, min(z0 + KEYS_MAX - 1, EXPONENT_MAX) + 1)


def keyset_secret(seed: bytes, unit: str, number: int, exponent: int) -> int:
    """Derives the key of the amount 2^exponent."""
    for counter in range(256):
        place = unit.encode() + number.to_bytes(8, "big") + bytes([exponent, counter])
        digest = hmac.digest(seed, b"radpool/keyset" + place, sha512)
        if int.from_bytes(digest, "big") % ORDER:
            return int.from_bytes(digest, "big") % ORDER
    raise AssertionError("256 digests in a row are multiples of the order")


def keyset_id(keys: list[tuple[int, bytes]], unit: str, fee_ppk: int = 0, expiry: int = 0) -> bytes:
    text = ",".join(f"{amount}:{key.hex()}" for amount, key in sorted(keys)) + f"|unit:{unit}"
    if fee_ppk:
        text += f"|input_fee_ppk:{fee_ppk}"
    if expiry:
        text += f"|final_expiry:{expiry}"
    return b"\x01" + sha256(text.encode()).digest()


@dataclass(frozen=True)
class Keyset:
    seed: bytes
    unit: str
    number: int
    z0: int = 0

    @property
    def count(self) -> int:
        return KEYS_MAX if self.unit == "sat" else len(exponents(self.z0))

    @cached_property
    def secrets(self) -> list[int]:
        return [keyset_secret(self.seed, self.unit, self.number, i) for i in range(self.count)]

    @cached_property
    def publics(self) -> list[bytes]:
        return [compressed(times(secret, BASE)) for secret in self.secrets]

    @cached_property
    def id(self) -> bytes:
        return keyset_id([(2**i, key) for i, key in enumerate(self.publics)], self.unit)

    @property
    def short(self) -> bytes:
        return self.id[:8]

    def sign(self, z: int, blinded_message: bytes) -> Signature:
        return sign(self.secrets[z - self.z0], blinded_message)

    def public(self, z: int) -> bytes:
        return self.publics[z - self.z0]


# Page 08: NUT-13, version 2.


@dataclass(frozen=True)
class Output:
    secret: str
    factor: int
    blinded: bytes


@cache
def derived(seed: bytes, keyset: bytes, counter: int) -> Output:
    message = b"Cashu_KDF_HMAC_SHA256" + keyset + counter.to_bytes(8, "big")
    secret = hmac.digest(seed, message + b"\x00", sha256).hex()
    factor = int.from_bytes(hmac.digest(seed, message + b"\x01", sha256), "big") % ORDER
    assert factor, "one in 2^256 counters has no blinding factor"
    return Output(secret, factor, blinded(secret, factor))


# Page 06: receipts and residues.


def receipt_root(previous: bytes, blinded_message: bytes, z: int, share_hash: bytes) -> bytes:
    return tagged_hash("radpool/receipt", previous, blinded_message, le(z, 1), share_hash)


def receipt_digest(channel: int, last_sequence: int, root: bytes) -> bytes:
    return tagged_hash("radpool/receipts", le(channel, 4), le(last_sequence, 4), root)


def denominated(residue: int, value: int, z0: int, unit_value: int) -> tuple[int | None, int]:
    """Splits a value into the exponent of a token and the residue that stays."""
    total = residue + value
    units = total // unit_value
    if not units:
        return None, total
    z = min(z0 + units.bit_length() - 1, exponents(z0)[-1])
    return z, total - (unit_value << z - z0)


# Page 05: cash-outs.


def cash_out_digest(claim_key: bytes, keyset: bytes, outputs: list[tuple[int, bytes]]) -> bytes:
    parts = [part for amount, blinded in outputs for part in (le(amount, 8), blinded)]
    return tagged_hash("radpool/cash-out", claim_key, keyset, *parts)
