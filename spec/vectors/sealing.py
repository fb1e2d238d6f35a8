"""Seals secrets as page 16 has it, with Python's integers alone, for the vectors' generators.

X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439), its variant with a nonce of 24 bytes, and HPKE in
base mode (RFC 9180). Nothing here takes constant time: the keys of vectors are no secrets.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from struct import pack, unpack

PRIME = 2**255 - 19
MASK = 2**32 - 1
BASE = (9).to_bytes(32, "little")

KEM_SUITE = b"KEM" + pack(">H", 0x0020)
SUITE = b"HPKE" + pack(">HHH", 0x0020, 0x0001, 0x0003)


def x25519(secret: bytes, public: bytes = BASE) -> bytes:
    """Multiplies a point by a secret; without a point, computes the secret's public key."""
    scalar = int.from_bytes(secret, "little") & ~7 & (2**255 - 1) | 2**254
    start = int.from_bytes(public, "little") & (2**255 - 1)
    x2, z2, x3, z3 = 1, 0, start, 1
    for bit in reversed(range(255)):
        swap = scalar >> bit & 1
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, start * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, -1, PRIME) % PRIME).to_bytes(32, "little")


def _rounds(state: list[int]) -> list[int]:
    words = list(state)

    def turn(a: int, b: int, c: int, d: int) -> None:
        for into, by, other, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            words[into] = (words[into] + words[by]) & MASK
            mixed = words[other] ^ words[into]
            words[other] = (mixed << left | mixed >> (32 - left)) & MASK

    for _ in range(10):
        for column in range(4):
            turn(column, column + 4, column + 8, column + 12)
        for first in range(4):
            turn(first, 4 + (first + 1) % 4, 8 + (first + 2) % 4, 12 + (first + 3) % 4)
    return words


CONSTANT = list(unpack("<4I", b"expand 32-byte k"))


def _block(key: bytes, counter: int, nonce: bytes) -> bytes:
    state = [*CONSTANT, *unpack("<8I", key), counter, *unpack("<3I", nonce)]
    added = zip(_rounds(state), state, strict=True)
    return pack("<16I", *((word + start) & MASK for word, start in added))


def chacha20_poly1305(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    """Encrypts, and puts the tag behind."""
    stream = b"".join(_block(key, 1 + n, nonce) for n in range(len(plain) // 64 + 1))
    text = bytes(byte ^ mask for byte, mask in zip(plain, stream, strict=False))
    once = _block(key, 0, nonce)
    factor = int.from_bytes(once[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    padded = aad + bytes(-len(aad) % 16) + text + bytes(-len(text) % 16)
    padded += pack("<QQ", len(aad), len(text))
    total = 0
    for at in range(0, len(padded), 16):
        chunk = int.from_bytes(padded[at : at + 16] + b"\1", "little")
        total = (total + chunk) * factor % (2**130 - 5)
    tag = (total + int.from_bytes(once[16:32], "little")) % 2**128
    return text + tag.to_bytes(16, "little")


def xchacha20_poly1305(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    """Encrypts with a nonce of 24 bytes, and puts the tag behind."""
    words = _rounds([*CONSTANT, *unpack("<8I", key), *unpack("<4I", nonce[:16])])
    subkey = pack("<8I", *words[:4], *words[12:])
    return chacha20_poly1305(subkey, bytes(4) + nonce[16:], plain, aad)


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, sha256)


def _expand(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = pack(">H", length) + b"HPKE-v1" + suite + label + info
    assert length <= 32, "one block of the hash is enough here"
    return hmac.digest(secret, labelled + b"\1", sha256)[:length]


def seal(recipient: bytes, ephemeral_secret: bytes, info: bytes, plain: bytes) -> bytes:
    """Seals a message in HPKE's base mode: encapsulated key, ciphertext, tag."""
    encapsulated = x25519(ephemeral_secret)
    agreed = _extract(KEM_SUITE, b"", b"eae_prk", x25519(ephemeral_secret, recipient))
    shared = _expand(KEM_SUITE, agreed, b"shared_secret", encapsulated + recipient, 32)
    context = b"\0" + _extract(SUITE, b"", b"psk_id_hash", b"")
    context += _extract(SUITE, b"", b"info_hash", info)
    secret = _extract(SUITE, shared, b"secret", b"")
    key = _expand(SUITE, secret, b"key", context, 32)
    nonce = _expand(SUITE, secret, b"base_nonce", context, 12)
    return encapsulated + chacha20_poly1305(key, nonce, plain, b"")
